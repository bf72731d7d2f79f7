"""What is known about preparing images, against the libraries that know it."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import timm
from timm.data import create_transform
from torchvision import models, transforms

from sktransfer import Preprocessing
from sktransfer.exceptions import PreprocessingError
from sktransfer.networks._registry import find_architecture
from sktransfer.networks._spec import as_preprocessing
from sktransfer.networks._torchvision import torchvision_names

HALF = {"mean": 0.5, "std": 0.5}


def steps_of(transform):
    """Sizes, mean, std and interpolation in a pipeline of torchvision's transforms."""
    resize, crop = transform.transforms[:2]
    normalize = transform.transforms[-1]
    assert isinstance(resize, transforms.Resize) and isinstance(crop, transforms.CenterCrop)
    return {
        "edge": resize.size if isinstance(resize.size, int) else resize.size[0],
        "crop": tuple(crop.size),
        "mean": pytest.approx(tuple(normalize.mean.tolist())),
        "std": pytest.approx(tuple(normalize.std.tolist())),
        "interpolation": resize.interpolation.value,
    }


@pytest.mark.parametrize("name", torchvision_names())
def test_torchvisions_facts(name):
    found = find_architecture(f"torchvision:{name}").default_preprocessing()
    family = models.get_model_weights(name)
    best = family["IMAGENET1K_V1"] if "IMAGENET1K_V1" in family.__members__ else family.DEFAULT
    own = best.transforms()
    assert found.image_size == (own.crop_size[0], own.crop_size[0])
    assert found.resize_size() == (own.resize_size[0], own.resize_size[0])
    assert list(found.mean) == own.mean and list(found.std) == own.std
    assert found.interpolation == own.interpolation.value


@pytest.mark.parametrize(
    "name",
    [
        "inception_v4",
        "resnet50",
        "resnet50.tv_in1k",
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite1",
        "tf_efficientnet_lite2",
        "vit_base_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "volo_d5_448",
    ],
)
def test_timms_facts(name):
    found = find_architecture(f"timm:{name}").default_preprocessing()
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    own = steps_of(create_transform(**{**data, "crop_mode": "center"}))
    assert found.resize_size() == (own["edge"], own["edge"])
    assert found.image_size == own["crop"]
    assert found.mean == own["mean"] and found.std == own["std"]
    assert found.interpolation == own["interpolation"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_facts_are_timms(number):
    packaged = find_architecture(f"efficientnet_lite{number}").default_preprocessing()
    assert (
        packaged
        == find_architecture(f"timm:tf_efficientnet_lite{number}.in1k").default_preprocessing()
    )


def test_resize_size_rounds_as_timm_does_for_all_its_weights():
    facts = {timm.get_pretrained_cfg(name) and name: None for name in timm.list_pretrained()}
    for name in facts:
        cfg = timm.get_pretrained_cfg(name)
        found = Preprocessing(
            cfg.input_size[1:], cfg.mean, cfg.std, cfg.crop_pct, cfg.interpolation
        )
        assert found.resize_size() == tuple(
            math.floor(s / cfg.crop_pct) for s in cfg.input_size[1:]
        )


def test_shorthands():
    facts = Preprocessing(64, mean=[0.1, 0.2, 0.3], std=0.25)
    assert facts == Preprocessing((64, 64), (0.1, 0.2, 0.3), (0.25, 0.25, 0.25), 1.0, "bilinear")
    assert replace(facts, crop_pct=0.5).resize_size() == (128, 128)
    assert Preprocessing((64, 32), **HALF, crop_pct=0.5).resize_size() == (128, 64)
    assert pickle.loads(pickle.dumps(facts)) == facts and hash(facts) == hash(replace(facts))


def test_from_mappings():
    facts = Preprocessing(64, **HALF)
    assert as_preprocessing(facts) is facts
    assert as_preprocessing({"image_size": 64, **HALF}) == facts
    config = timm.data.resolve_data_config(pretrained_cfg={"input_size": (3, 96, 64), **{
        "mean": (0.1, 0.2, 0.3), "std": (0.2, 0.2, 0.2), "crop_pct": 0.9}})  # fmt: skip
    assert as_preprocessing(config) == Preprocessing(
        (96, 64), (0.1, 0.2, 0.3), (0.2, 0.2, 0.2), 0.9, "bicubic"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": (224, 224, 3)}, r"\(height, width\)"),
        ({"image_size": 224.0}, "image_size"),
        ({"image_size": True}, "image_size"),
        ({"image_size": "224"}, "image_size"),
        ({"mean": (123.7, 116.3, 103.5)}, "Divide .* by 255"),
        ({"mean": (0.5, 0.5)}, "mean of a Preprocessing must be three numbers"),
        ({"mean": "0.5"}, "mean"),
        ({"mean": float("nan")}, "mean"),
        ({"std": (0.2, 0.2, 0.0)}, "std"),
        ({"std": -0.5}, "std"),
        ({"std": 58.0}, "Divide"),
        ({"crop_pct": 0}, "crop_pct"),
        ({"crop_pct": 87.5}, "crop_pct"),
        ({"crop_pct": "0.9"}, "crop_pct"),
        ({"interpolation": "cubic"}, "interpolation .*bicubic"),
    ],
)
def test_wrong_facts(wrong, message):
    with pytest.raises(PreprocessingError, match=message):
        Preprocessing(**{"image_size": 224, **HALF, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (224, "preprocessing="),
        ("imagenet", '"default"'),
        ({"image_size": 224}, "mean, std"),
        ({"image_size": 224, **HALF, "interpolate": "box"}, "Did you mean 'interpolation'"),
    ],
)
def test_wrong_mappings(wrong, message):
    with pytest.raises(PreprocessingError, match=message):
        as_preprocessing(wrong)
