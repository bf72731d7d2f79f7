"""OpenVINO against torch: conversions, what is remembered of them, and many networks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from sktransfer import CNNCodes
from sktransfer.engines import _conversions, _make
from sktransfer.exceptions import EngineError, EngineWarning

openvino = pytest.importorskip("openvino")


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture(autouse=True)
def nothing_converted(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    _make._engines.clear()


def test_auto_takes_it_and_gives_the_codes_of_torch(sample, tmp_path, monkeypatch):
    X = sample.data[:20]
    expected = CNNCodes(image_size=96, engine="torch", cache=None).fit_transform(X)
    assert not list(tmp_path.rglob("*.xml"))
    codes = CNNCodes(image_size=96, cache=None)
    assert relative(codes.fit_transform(X), expected) < 1e-5
    assert list(tmp_path.rglob("*.xml")) and list(tmp_path.rglob("*.bin"))
    # Another process neither converts nor probes again.
    monkeypatch.setattr(_conversions, "convert", None)
    _make._engines.clear()
    assert relative(codes.fit_transform(X), expected) < 1e-5


def test_auto_is_torch_where_it_is_not_installed(sample, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    hidden = lambda name: None if name == "openvino" else find(name)  # noqa: E731
    monkeypatch.setattr("sktransfer.engines._make.find_spec", hidden)
    CNNCodes(image_size=32, cache=None).fit_transform(sample.data[:2])
    assert not list(tmp_path.rglob("*.xml"))
    with pytest.raises(EngineError, match=r"sktransfer\[openvino\]"):
        CNNCodes(image_size=32, engine="openvino", cache=None).fit_transform(sample.data[:2])


def test_a_damaged_conversion_is_made_again(sample, tmp_path):
    codes = CNNCodes(image_size=64, engine="openvino", cache=None)
    expected = codes.fit_transform(sample.data[:4])
    for path in tmp_path.rglob("*.xml"):
        path.write_text("<net")
    _make._engines.clear()
    np.testing.assert_allclose(codes.transform(sample.data[:4]), expected, rtol=1e-5, atol=1e-6)


def test_it_does_not_share_rows_with_torch(sample, passes):
    X = sample.data[:4]
    CNNCodes(image_size=64, engine="openvino").fit_transform(X)
    CNNCodes(image_size=64, engine="torch").fit_transform(X)
    assert passes["images"] == 2 * len(X)


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_what_it_computes_differently_runs_on_torch(sample, monkeypatch, engine):
    monkeypatch.setattr("sktransfer.engines._probe._TOLERANCE", 0.0)
    X = sample.data[:4]
    codes = CNNCodes(image_size=72, engine=engine, cache=None)
    with pytest.warns(EngineWarning, match=r"differ by .*Going on with torch"):
        found = codes.fit_transform(X)
    expected = CNNCodes(image_size=72, engine="torch", cache=None).fit_transform(X)
    np.testing.assert_array_equal(found, expected)
    # Said once; remembered by the next process, which does not try again but says so too.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes.transform(X)
    monkeypatch.setattr(_conversions, "convert", None)
    _make._engines.clear()
    with pytest.warns(EngineWarning, match="Going on with torch"):
        codes.transform(X)


def test_what_it_cannot_convert_runs_on_torch(sample, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr("torch.jit.trace", fail)
    with pytest.warns(EngineWarning, match=r"cannot convert the network: no such operation\. Goi"):
        codes = CNNCodes(image_size=40, cache=None).fit_transform(sample.data[:2])
    assert np.isfinite(codes).all()


def test_a_wrong_conversion_is_found_in_bfloat16_too(sample, monkeypatch):
    """Though bfloat16 itself is further from float32 than the probe allows."""
    X = sample.data[:4]
    codes = CNNCodes(image_size=48, precision="bfloat16", engine="openvino", cache=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = codes.fit_transform(X)
    exact = CNNCodes(image_size=48, engine="torch", cache=None).fit_transform(X)
    assert relative(found, exact) < 0.2
    monkeypatch.setattr("sktransfer.engines._probe._TOLERANCE", 0.0)
    with pytest.warns(EngineWarning, match="differ by"):
        codes.set_params(image_size=56).fit_transform(X)


def test_what_it_cannot_be_combined_with(sample):
    codes = CNNCodes(engine="openvino", compile=True, cache=None).fit(sample.data[:1])
    with pytest.raises(EngineError, match="compile=True is torch's"):
        codes.transform(sample.data[:1])


NETWORKS = [
    ("alexnet", 96),
    ("convnext_tiny", 64),
    ("densenet121", 64),
    ("efficientnet_lite0", 96),
    ("googlenet", 96),
    ("inception_v3", 128),
    ("mobilenet_v2", 96),
    ("mobilenet_v3_small", 96),
    ("regnet_y_400mf", 64),
    ("resnet18", 96),
    ("resnet50", 64),
    ("shufflenet_v2_x1_0", 64),
    ("squeezenet1_1", 96),
    ("swin_t", 64),
    ("vgg11_bn", 64),
    ("vit_b_16", 224),
    ("timm:vit_small_patch14_reg4_dinov2", 98),
    ("timm:tf_efficientnetv2_s", 64),
    ("timm:nf_resnet50", 64),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_networks_of_every_family(sample, name, size):
    """Within 1e-3 of torch: converted, or run by torch after all, and then it was said."""
    X = sample.data[:8]
    parameters = {"weights": None, "image_size": size, "cache": None, "preprocessing": "default"}
    expected = CNNCodes(name, engine="torch", **parameters).fit_transform(X)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = CNNCodes(name, engine="auto", **parameters).fit_transform(X)
    told = [str(one.message) for one in said if "Going on with torch" in str(one.message)]
    print(name, relative(found, expected), told)
    assert relative(found, expected) < 1e-3


TWO_AT_ONCE = """
import os, sys, threading
import numpy as np, openvino
from sktransfer.engines._openvino import OpenVinoEngine
sys.setswitchinterval(1e-5)
engine = OpenVinoEngine(openvino.Core().read_model(sys.argv[1]), "float32")
pixels, start = np.zeros((1, 4), np.float32), threading.Barrier(2)
def run():
    start.wait()
    engine.run(pixels)
threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join(20) for thread in threads]
print(sum(thread.is_alive() for thread in threads), flush=True)
os._exit(0)
"""


@pytest.mark.slow  # ten processes: without the precaution about every second one hangs
def test_first_passes_of_two_threads_do_not_wait_for_each_other(tmp_path):
    ops = pytest.importorskip("openvino.opset13")
    row = ops.parameter([-1, 4], np.float32)
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([ops.relu(row)], [row]), path)
    command = [sys.executable, "-c", TWO_AT_ONCE, os.fspath(path)]
    for _ in range(10):
        child = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert child.stdout == "0\n", child.stderr
