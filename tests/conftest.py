"""What the tests share: photographs, an empty store, and a count of forward passes."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def sample():
    from sktransfer.datasets import load_cifar10_sample

    return load_cifar10_sample()


@pytest.fixture(scope="session")
def photographs():
    """Photographs of several sizes and proportions, tall, wide, small and large."""
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    return [china, flower[:, :300], china[40:180, 100:260], flower[::3, ::3], china[:, 200:297]]


@pytest.fixture(scope="session", autouse=True)
def own_conversions(tmp_path_factory):
    """Converted networks are kept for one run of the tests, also by processes they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKTRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def empty_store():
    """Codes computed by one test are not there in the next."""
    from sktransfer.store import open_store

    open_store("memory").clear()


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user without a home folder, as in many containers, in an empty folder."""
    import pwd

    def unknown(user):
        raise KeyError(f"{user} not found")

    for name in ("HOME", "XDG_CACHE_HOME", "SKTRANSFER_CACHE", "SCIKIT_LEARN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []  # nor a folder called ~


@pytest.fixture
def passes(monkeypatch):
    """Counts the images that go through a network in this process."""
    from sktransfer.compute import _openvino
    from sktransfer.compute._openvino import OpenVinoEngine
    from sktransfer.compute._torch import TorchEngine

    counted = {"images": 0, "batches": 0}

    def counting(plain):
        def run(self, pixels: np.ndarray):
            counted["images"] += len(pixels)
            counted["batches"] += 1
            return plain(self, pixels)

        return run

    for kind in (TorchEngine, OpenVinoEngine):
        monkeypatch.setattr(kind, "run", counting(kind.run))
    # The probe of a network that is converted is no photograph.
    probe = _openvino.check_agreement

    def uncounted(*args):
        before = dict(counted)
        probe(*args)
        counted.update(before)

    monkeypatch.setattr(_openvino, "check_agreement", uncounted)
    return counted
