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


@pytest.fixture(autouse=True)
def empty_store():
    """Codes computed by one test are not there in the next."""
    from sktransfer.store import open_store

    open_store("memory").clear()


@pytest.fixture
def passes(monkeypatch):
    """Counts the images that go through a network in this process."""
    from sktransfer.engines import Engine
    from sktransfer.engines._torch import TorchEngine

    counted = {"images": 0, "batches": 0}
    plain = TorchEngine.run

    def run(self: Engine, pixels: np.ndarray):
        counted["images"] += len(pixels)
        counted["batches"] += 1
        return plain(self, pixels)

    monkeypatch.setattr(TorchEngine, "run", run)
    return counted
