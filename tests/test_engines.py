"""Engines: folding, devices, precision, and OpenVINO against torch with real weights."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from common import relative

from sktransfer import CNNCodes
from sktransfer.compute import (
    available_cores,
    resolve_devices,
    resolve_precision,
    usable_devices,
    worker_pool,
)
from sktransfer.compute._torch import TorchEngine
from sktransfer.exceptions import EngineError, EngineWarning
from sktransfer.networks import load_backbone
from sktransfer.networks._layers import trace_cuts
from sktransfer.networks._split import fold_batch_norms


@pytest.fixture
def network():
    backbone = load_backbone("efficientnet_lite0")
    table = trace_cuts(backbone, (96, 96))
    return table.prefix([table.resolve("blocks.3"), table.resolve(None)], "avg")


@pytest.fixture
def pixels(sample):
    from PIL import Image

    images = (Image.fromarray(photo).resize((96, 96)) for photo in sample.data[:6])
    return np.stack([np.asarray(image) for image in images])


def test_the_engine_is_the_frozen_network(network, pixels):
    """Folding and channels-last change the last digits alone, and not the network itself."""
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels))
    engine = TorchEngine(network, torch.device("cpu"), "float32")
    for found, plain in zip(engine.run(pixels), expected, strict=True):
        assert found.dtype == np.float32
        assert relative(found, plain.numpy()) < 1e-5
    with torch.inference_mode():
        assert all(
            a.equal(b) for a, b in zip(network(torch.from_numpy(pixels)), expected, strict=True)
        )


def test_no_batch_norm_is_left(network):
    def norms(module):
        return [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]

    assert len(norms(network)) > 20
    fold_batch_norms(network.prefix)
    assert not norms(network)


def test_bfloat16_is_near_and_a_choice(network, pixels):
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == "float32"
    exact = TorchEngine(network, cpu, "float32").run(pixels)[1]
    rough = TorchEngine(network, cpu, "bfloat16").run(pixels)[1]
    assert rough.dtype == np.float32
    assert 1e-4 < relative(rough, exact) < 0.15


def test_devices_that_are_not_there():
    with pytest.raises(EngineError, match="not a device torch knows"):
        resolve_devices("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="was not found on this machine"):
            CNNCodes(device="cuda").fit(np.zeros((1, 8, 8, 3), np.uint8))


def test_each_thread_computes_on_one_core():
    pool = worker_pool()
    assert pool is worker_pool()
    assert pool.submit(torch.get_num_threads).result() == 1
    assert 1 <= available_cores() == torch.get_num_threads()


def test_several_devices_share_the_batches(sample):
    """Two engines side by side; on a machine with one device, both are on it."""
    from sktransfer.compute import Engine
    from sktransfer.compute._torch import SeveralDevices

    met = threading.Barrier(2, timeout=30)

    class One(Engine):
        name, precision, batch_size, batch_tokens = "torch-cuda", "float16", 64, 8192

        def __init__(self, number):
            self.number = number

        def run(self, pixels):
            if self.number is not None:
                met.wait()  # passes only if both devices work at the same time
            return (np.full((len(pixels), 1), pixels[0, 0, 0, 0], np.float32),)

    several = SeveralDevices([One(0), One(1)])
    assert (several.name, several.precision, several.batch_size) == ("torch-cuda", "float16", 64)
    batches = [np.full((2, 4, 4, 3), i, np.uint8) for i in range(8)]
    with ThreadPoolExecutor(2) as pool:
        found = [out[0] for out in pool.map(several.run, batches)]
    assert [out[0, 0] for out in found] == list(range(8))


def test_lists_of_devices(sample):
    assert [str(one) for one in resolve_devices(["cpu"])] == ["cpu"]
    for wrong in ([], ["cpu", "cpu"]):
        with pytest.raises(EngineError, match="different devices of one kind"):
            resolve_devices(wrong)
    codes = CNNCodes(image_size=32, device=["cpu"], cache=None).fit_transform(sample.data[:2])
    plain = CNNCodes(image_size=32, device="cpu", cache=None).fit_transform(sample.data[:2])
    np.testing.assert_array_equal(codes, plain)


def test_devices_that_are_gone_after_fitting(sample, monkeypatch):
    monkeypatch.setattr("sktransfer.compute._base._present", lambda one: one.index != 1)
    with pytest.warns(EngineWarning, match="Continuing with cuda:0"):
        assert usable_devices(["cuda:0", "cuda:1"]) == ["cuda:0"]
    with pytest.warns(EngineWarning, match="Continuing with the CPU"):
        assert usable_devices("cuda:1") == ["cpu"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_codes_are_the_same(sample):
    """At one batch size: 1, 8 and 21 images compile nothing again."""
    import torch._dynamo.utils

    X = sample.data[:21]
    expected = CNNCodes(image_size=32, engine="torch", cache=None).fit_transform(X)
    codes = CNNCodes(image_size=32, compile=True, cache=None).fit(X)
    assert relative(codes.transform(X), expected) < 1e-5
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for n in (1, 8, 13):
        assert relative(codes.transform(X[:n]), expected[:n]) < 1e-5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled > 0


def test_compiling_that_fails(sample, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    codes = CNNCodes(image_size=32, compile=True, cache=None).fit(sample.data[:2])
    with pytest.raises(EngineError, match=r"no compiler.*C\+\+ compiler.*compile=False"):
        codes.transform(sample.data[:2])


@pytest.mark.parametrize("cache", [None, "memory"])
def test_networks_that_differ_in_mean_and_std_alone(sample, cache):
    """Normalisation is part of the network that runs: each preprocessing has its own."""
    X, found = sample.data[:3], []
    for mean, std in [(0.5, 0.5), (0.1, 0.9), (0.5, 0.5)]:
        facts = {"image_size": 32, "mean": mean, "std": std}
        codes = CNNCodes(preprocessing=facts, image_size=32, cache=cache)
        found.append(codes.fit_transform(X))
        backbone = load_backbone("efficientnet_lite0", preprocessing=facts)
        pixels = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            features = backbone.module.forward_features((pixels - mean) / std)
        expected = backbone.module.forward_head(features, pre_logits=True).numpy()
        np.testing.assert_allclose(found[-1], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[0], found[2])
