"""Engines: folding, devices, precision, and OpenVINO against torch with real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import CNNCodes
from sktransfer.backbones import load_backbone
from sktransfer.backbones._frozen import freeze, layer_table
from sktransfer.engines import available_cores, resolve_device, resolve_precision, worker_pool
from sktransfer.engines._fold import fold_batch_norms
from sktransfer.engines._torch import TorchEngine
from sktransfer.exceptions import EngineError, EngineWarning


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture
def network():
    backbone = load_backbone("efficientnet_lite0")
    table = layer_table(backbone, (96, 96))
    return freeze(backbone, table, [table.resolve("blocks.3"), table.resolve(None)], "avg")


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
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="not on this machine"):
            CNNCodes(device="cuda").fit(np.zeros((1, 8, 8, 3), np.uint8))


def test_each_thread_computes_on_one_core():
    pool = worker_pool()
    assert pool is worker_pool()
    assert pool.submit(torch.get_num_threads).result() == 1
    assert 1 <= available_cores() == torch.get_num_threads()


def test_openvino_that_is_not_installed(monkeypatch, sample):
    monkeypatch.setattr("sktransfer.engines._make.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"sktransfer\[openvino\]"):
        CNNCodes(image_size=32, engine="openvino", cache=None).fit_transform(sample.data[:2])


@pytest.fixture
def openvino(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    return pytest.importorskip("openvino")


def test_openvino_gives_the_codes_of_torch(openvino, sample, tmp_path, monkeypatch):
    X = sample.data[:20]
    expected = CNNCodes(image_size=96, engine="torch", cache=None).fit_transform(X)
    codes = CNNCodes(image_size=96, engine="openvino", cache=None)
    assert relative(codes.fit_transform(X), expected) < 1e-5
    assert list(tmp_path.rglob("*.xml")) and list(tmp_path.rglob("*.bin"))
    # Another process does not convert again.
    from sktransfer.engines import _make, _openvino

    monkeypatch.setattr(_openvino, "_convert", None)
    _make._engines.clear()
    assert relative(codes.fit_transform(X), expected) < 1e-5


def test_a_damaged_conversion_is_made_again(openvino, sample, tmp_path):
    from sktransfer.engines import _make

    codes = CNNCodes(image_size=64, engine="openvino", cache=None)
    expected = codes.fit_transform(sample.data[:4])
    for path in tmp_path.rglob("*.xml"):
        path.write_text("<net")
    _make._engines.clear()
    np.testing.assert_allclose(codes.transform(sample.data[:4]), expected, rtol=1e-5, atol=1e-6)


def test_openvino_and_torch_do_not_share_rows(openvino, sample, passes):
    X = sample.data[:4]
    CNNCodes(image_size=64, engine="openvino").fit_transform(X)
    computed = passes["images"]
    CNNCodes(image_size=64, engine="torch").fit_transform(X)
    assert passes["images"] == computed + len(X)


def test_what_openvino_computes_differently_runs_on_torch(openvino, sample, monkeypatch):
    monkeypatch.setattr("sktransfer.engines._probe._TOLERANCE", 0.0)
    X = sample.data[:4]
    with pytest.warns(EngineWarning, match="Going on with torch"):
        found = CNNCodes(image_size=72, engine="openvino", cache=None).fit_transform(X)
    expected = CNNCodes(image_size=72, engine="torch", cache=None).fit_transform(X)
    np.testing.assert_array_equal(found, expected)


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
