"""Saving and loading fitted pipelines."""

from __future__ import annotations

import hashlib
import os
import pickle
import pickletools
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from torch import nn
from torchvision import models

from sktransfer import CNNCodes, FineTuneClassifier, rank_backbones
from sktransfer.exceptions import EngineWarning, WeightsMismatchError
from sktransfer.networks._load import CACHE

FACTS = {
    "image_size": 32,
    "crop_pct": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
}


class Small(nn.Module):
    """A network of one's own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU()
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.act(self.norm(self.conv(x))).mean((2, 3)))


def globals_in(thing) -> set[str]:
    """Names of everything a pickle refers to, and every string in it."""
    strings = set()
    for opcode, argument, _ in pickletools.genops(pickle.dumps(thing)):
        if isinstance(argument, str) or opcode.name in ("GLOBAL", "STACK_GLOBAL"):
            strings.add(str(argument))
    return strings


def test_a_pipeline_is_small_and_refers_to_its_weights(sample, tmp_path):
    X, y = sample.data[:60], sample.target[:60]
    pipe = make_pipeline(CNNCodes(image_size=32), LinearSVC()).fit(X, y)
    path = tmp_path / "model.joblib"
    joblib.dump(pipe, path)
    assert path.stat().st_size < 1e6
    assert not any("torch" in string for string in globals_in(pipe))
    np.testing.assert_array_equal(joblib.load(path).predict(X), pipe.predict(X))


@pytest.mark.slow
def test_a_fresh_process_gives_bit_equal_codes(sample, tmp_path):
    X = sample.data[:16]
    codes = CNNCodes(image_size=64, cache=None).fit(X)
    joblib.dump(codes, tmp_path / "codes.joblib")
    np.save(tmp_path / "X.npy", X)
    script = f"""
        import joblib, numpy as np
        codes = joblib.load({os.fspath(tmp_path / "codes.joblib")!r})
        X = np.load({os.fspath(tmp_path / "X.npy")!r})
        np.save({os.fspath(tmp_path / "codes.npy")!r}, codes.transform(X))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes.transform(X))


def test_a_module_is_held_without_torch_storages(sample, tmp_path):
    module = Small()
    X = sample.data[:8]
    codes = CNNCodes(module, preprocessing=FACTS, cache=None).fit(X)
    expected = codes.transform(X)
    path = tmp_path / "codes.joblib"
    joblib.dump(codes, path)
    assert not any("torch" in string and "torage" in string for string in globals_in(codes))
    loaded = joblib.load(path)
    np.testing.assert_array_equal(loaded.transform(X), expected)
    # A clone of what was loaded can be fitted again.
    np.testing.assert_array_equal(clone(loaded).fit(X).transform(X), expected)


def test_a_module_is_never_changed(sample):
    module = Small().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    codes = CNNCodes(module, preprocessing=FACTS, cache=None).fit(sample.data[:8])
    first = codes.transform(sample.data[:8])
    assert module.training and all(p.requires_grad for p in module.parameters())
    for name, value in module.state_dict().items():
        assert value.equal(before[name])
    # And a module that is changed after `fit` changes nothing fitted.
    with torch.no_grad():
        module.conv.weight.zero_()
    np.testing.assert_array_equal(codes.transform(sample.data[:8]), first)


def test_a_local_file_is_held_by_the_pickle(sample, tmp_path):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    file = tmp_path / "mine.pth"
    torch.save(squeezenet1_1(num_classes=7).state_dict(), file)
    X = sample.data[:4]
    codes = CNNCodes(
        "squeezenet1_1", weights=file, preprocessing="default", image_size=64, cache=None
    ).fit(X)
    expected = codes.transform(X)
    content = pickle.dumps(codes)
    file.unlink()
    np.testing.assert_array_equal(pickle.loads(content).transform(X), expected)


def test_bundled_weights_are_in_the_pickle(sample, monkeypatch):
    X = sample.data[:4]
    codes = CNNCodes(image_size=32, bundle_weights=True, cache=None).fit(X)
    expected = codes.transform(X)
    content = pickle.dumps(codes)
    assert 10e6 < len(content) < 25e6
    loaded = pickle.loads(content)
    monkeypatch.setattr("sktransfer.networks._load.load_backbone", None)
    np.testing.assert_array_equal(loaded.transform(X), expected)
    # It stays bundled when it is saved once more.
    assert len(pickle.dumps(loaded)) > 10e6


def test_other_weights_than_those_of_the_fit_are_an_error(sample):
    from dataclasses import replace

    codes = CNNCodes(image_size=32, cache=None).fit(sample.data[:2])
    codes.backbone_ = replace(codes.backbone_, fingerprint="0" * 32)
    with pytest.raises(WeightsMismatchError, match="fingerprint must be 0000"):
        pickle.loads(pickle.dumps(codes)).transform(sample.data[:2])


def test_a_model_from_a_gpu_works_on_a_cpu(sample):
    if torch.cuda.is_available():
        pytest.skip("this machine has the GPU that the test wants to be missing")
    X = sample.data[:2]
    codes = CNNCodes(image_size=32, cache=None).fit(X)
    expected = codes.transform(X)
    with pytest.warns(EngineWarning, match="Continuing with the CPU"):
        found = codes.set_params(device="cuda").transform(X)
    np.testing.assert_array_equal(found, expected)


def test_clone_repr_and_get_params_load_nothing(monkeypatch):
    codes = CNNCodes("vgg16")
    monkeypatch.setattr("sktransfer.networks.load_backbone", None)
    clone(codes).get_params()
    assert "vgg16" in repr(codes)
    assert "vgg16" in codes._repr_html_()


def test_set_params_after_fit_changes_nothing_fitted(sample):
    X = sample.data[:3]
    codes = CNNCodes(image_size=32, cache=None).fit(X)
    expected = codes.transform(X)
    codes.set_params(layer="blocks", pooling="max", image_size=64, normalize="l2", resize="crop")
    np.testing.assert_array_equal(codes.transform(X), expected)


def test_weights_objects_of_torchvision(sample, published_squeezenet):
    """A parameter like any other; pickles hold its name, which every version understands."""
    weights = models.SqueezeNet1_1_Weights.DEFAULT
    codes = CNNCodes("squeezenet1_1", weights=weights, image_size=32, cache=None)
    assert repr(weights) in repr(codes) and clone(codes).weights is weights
    X = sample.data[:4]
    expected = codes.fit_transform(X)
    by_name = CNNCodes("squeezenet1_1", weights=str(weights), image_size=32, cache=None)
    np.testing.assert_array_equal(by_name.fit_transform(X), expected)
    data = pickle.dumps(codes)
    again = pickle.loads(data)
    assert again.weights == "SqueezeNet1_1_Weights.IMAGENET1K_V1" and b"download" not in data
    np.testing.assert_array_equal(again.transform(X), expected)
    assert clone(again).fit(X).backbone_.weights == "IMAGENET1K_V1"
    tuned = FineTuneClassifier("squeezenet1_1", weights=weights, image_size=32, max_epochs=0)
    y = np.array([0, 1, 0, 1])
    tuned.fit(X, y)
    assert pickle.loads(pickle.dumps(tuned)).predict(X).shape == (4,)
    one = CNNCodes("squeezenet1_1", weights=weights, image_size=32)
    X, y = sample.data[:20], sample.target[:20] % 2
    ranking = rank_backbones(X, y, [one, "squeezenet1_1"], weights=weights, image_size=32)
    assert {row.error for row in ranking.rows} == {""}
    assert "squeezenet1_1, SqueezeNet1_1_Weights.IMAGENET1K_V1" in repr(ranking)


@pytest.fixture
def published_squeezenet(tmp_path, monkeypatch):
    """SqueezeNet's weights as if they had been downloaded; they are random ones."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "net.pth")
    digits = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "net.pth").rename(folder / f"squeezenet1_1-{digits}.pth")
    url = f"https://example.org/squeezenet1_1-{digits}.pth"
    monkeypatch.setattr(models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", url)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    CACHE.clear()
    yield
    CACHE.clear()
