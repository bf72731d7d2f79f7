"""What the tests share: images, an empty store, and a count of forward passes."""

from __future__ import annotations

import os

if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)) > 1:
    # Before torch is imported: threads of two processes that wait for each other on the same cores
    # make training ten times as slow.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture(scope="session")
def sample():
    from sktransfer.datasets import load_cifar10_sample

    return load_cifar10_sample()


@pytest.fixture(scope="session")
def thirty(sample):
    """Thirty images of three classes that nothing tells apart."""
    return sample.data[:30], sample.target[:30] % 3


@pytest.fixture(scope="session")
def forty(sample):
    """Forty images and two labels."""
    return sample.data[:40], sample.target[:40] % 2


@pytest.fixture(scope="session")
def labelled(sample):
    """Animals and vehicles, which a network tells apart well."""
    return sample.data[:90], np.isin(sample.target[:90], [2, 3, 4, 5, 6, 7]).astype(int)


@pytest.fixture
def folder(tmp_path):
    """Where a store on disk may be."""
    return tmp_path / "store"


@pytest.fixture(scope="session")
def text_network(tmp_path_factory):
    """A small network for text as save_pretrained writes it, of three blocks and 40 places."""
    from networks_for_text import small_model, small_tokenizer

    path = tmp_path_factory.mktemp("network")
    small_model().save_pretrained(path)
    small_tokenizer().save(str(path / "tokenizer.json"))
    return str(path)


@pytest.fixture(scope="session")
def images():
    """Images of several sizes and proportions, tall, wide, small and large."""
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


@pytest.fixture(autouse=True)
def registered():
    """Registers networks, which are unknown to the next test, as are those of an example."""
    from sktransfer import register_backbone
    from sktransfer.networks._registry import LEFT_BEHIND, REGISTERED

    before = dict(REGISTERED)
    yield register_backbone
    REGISTERED.clear()
    REGISTERED.update(before)
    LEFT_BEHIND.clear()


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


class _Counted:
    """What was computed since the test began."""

    def __init__(self, counter):
        self._counter = counter

    def __getitem__(self, what):
        return {"images": self._counter.n_items, "batches": self._counter.n_batches}[what]


@pytest.fixture
def passes():
    """Counts the images that go through a network in this process."""
    from sktransfer import count_computed

    with count_computed() as counter:
        yield _Counted(counter)


@pytest.fixture
def fresh_workers():
    """Workers of joblib that know where this test imports from; others may be left over."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)
