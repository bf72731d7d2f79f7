"""Names: where they are looked for, what they are networks of, and what wrong ones say."""

from __future__ import annotations

import pytest
import timm
import torch
from torchvision import models

from sktransfer import list_backbones
from sktransfer.exceptions import (
    BackboneError,
    UnknownBackboneError,
    WeightsUnavailableError,
    nearest,
)
from sktransfer.networks import load_backbone
from sktransfer.networks._registry import find_architecture

# Weights of each network as papers and libraries count them, in thousands.
CLASSICAL = {
    "alexnet": ("torchvision", 61_101),
    "vgg16": ("torchvision", 138_358),
    "googlenet": ("torchvision", 6_625),
    "inception_v3": ("torchvision", 23_835),
    "inception_v4": ("timm", 42_680),
    "resnet18": ("torchvision", 11_690),
    "resnet50": ("torchvision", 25_557),
    "densenet121": ("torchvision", 7_979),
    "squeezenet1_1": ("torchvision", 1_235),
    "mobilenet_v2": ("torchvision", 3_505),
    "mobilenet_v3_large": ("torchvision", 5_483),
    "efficientnet_b0": ("torchvision", 5_289),
    "convnext_tiny": ("torchvision", 28_589),
    "vit_b_16": ("torchvision", 86_568),
    "efficientnet_lite0": ("packaged", 4_652),
    "efficientnet_lite1": ("packaged", 5_417),
    "efficientnet_lite2": ("packaged", 6_092),
}


def n_weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_networks(name):
    source, thousands = CLASSICAL[name]
    architecture = find_architecture(name)
    assert (architecture.source, architecture.name) == (source, name)
    assert architecture.reference == f"{source}:{name}"
    assert round(n_weights(architecture.structure()) / 1000) == thousands


# The constructor of RegNets computes with tensors, so that they cannot be built without memory.
LARGE = [
    f"regnet_{kind}_{n}gf" for kind, n in [("x", 16), ("x", 32), ("y", 16), ("y", 32), ("y", 128)]
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in models.list_models(module=models)
    ],
)
def test_every_network_of_torchvision(name):
    architecture = find_architecture(name)
    published = models.get_model_weights(name)[architecture.weights_names()[0]]
    found = n_weights(architecture.structure())
    if name == "inception_v3":  # torchvision counts an auxiliary classifier
        found += 3_326_696
    if name == "vit_h_14":  # larger images have more position embeddings
        with torch.device("meta"):
            found = n_weights(architecture.random())
    assert found == published.meta["num_params"]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inceptions_are_plain_and_expect_published_pixels(name):
    """As torchvision has them once it has loaded its weights."""
    module = find_architecture(name).structure()
    assert module.transform_input is True
    assert not [path for path, _ in module.named_modules() if "aux" in path.lower()]


def test_vit_h_14_fits_its_default_weights():
    architecture = find_architecture("vit_h_14")
    with torch.device("meta"):
        assert architecture.random().image_size == 518
    assert architecture.default_preprocessing().image_size == (518, 518)


def test_order_of_sources(registered):
    assert find_architecture("resnet50").source == "torchvision"
    assert find_architecture("timm:resnet50").source == "timm"
    assert find_architecture("resnet50.a1_in1k").reference == "timm:resnet50.a1_in1k"
    assert find_architecture("efficientnet_lite0").source == "packaged"
    facts = {"image_size": 64, "mean": 0.5, "std": 0.5}
    registered("resnet50", models.resnet18, preprocessing=facts)
    assert find_architecture("resnet50").source == "registered"
    assert find_architecture("registered:resnet50").source == "registered"
    assert find_architecture("torchvision:resnet50").source == "torchvision"


def test_lists(registered):
    everything = list_backbones()
    assert everything[:3] == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert len(everything) == len(set(everything)) > 1000
    assert set(models.list_models(module=models)) <= set(everything)
    assert {name.removeprefix("timm:") for name in everything} >= set(timm.list_models())
    assert not [name for name in everything if name.startswith(("fcos", "quantized", "raft"))]
    assert list_backbones("vgg1[16]") == ["vgg11", "vgg16", "timm:vgg11", "timm:vgg16"]
    assert list_backbones("vgg16", source="timm") == ["timm:vgg16"]
    assert list_backbones("timm:vgg16") == ["timm:vgg16"]
    assert "resnet50.a1_in1k" in list_backbones("resnet50.*")
    registered("my_net", models.resnet18, preprocessing={"image_size": 64, "mean": 0, "std": 1})
    assert list_backbones(source="registered") == ["my_net"]
    with pytest.raises(ValueError, match="source must be"):
        list_backbones(source="keras")


def test_listed_names_are_understood():
    for name in list_backbones("*net*1*"):
        source = "timm" if name.startswith("timm:") else None
        assert source in (None, find_architecture(name).source)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resnet51", "resnet50"),
        ("ResNet-50", "resnet50"),
        ("efficientnet-lite0", "efficientnet_lite0"),
        ("timm:vit_small_patch14_dinov2_reg4", "vit_small_patch14_reg4_dinov2"),
        ("torchvision:mobilenet_v4", "mobilenet_v2"),
        ("packaged:efficientnet_lite3", "efficientnet_lite2"),
        ("mobilenet_v3_large_", "mobilenet_v3_large"),
        ("EfficientNetB0", "efficientnet_b0"),
        ("vit_b16", "vit_b_16"),
        ("microsoft/resnet-50", "resnet50"),
    ],
)
def test_wrong_names_suggest_the_nearest(wrong, right):
    with pytest.raises(UnknownBackboneError, match=f"Did you mean .*{right}") as caught:
        load_backbone(wrong)
    assert wrong in str(caught.value) and "hf-hub:" in str(caught.value)


def test_suggestions_are_near():
    assert nearest("vgg-16", ["alexnet", "vgg16", "vgg19"])[0] == "vgg16"
    assert nearest("xyzzy", ["alexnet", "vgg16"]) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("keras:resnet50", "before the colon .*torchvision"),
        ("fcn_resnet50", "is no known network"),  # segments images
        ("timm/resnet50.a1_in1k", '"hf-hub:timm/resnet50.a1_in1k"'),
        ("weights/resnet50.pth", "weights="),
        ("", "is no known network"),
        (models.ResNet, "instance"),
        (50, "must be the name"),
    ],
)
def test_other_wrong_names(wrong, message):
    with pytest.raises(UnknownBackboneError, match=message):
        load_backbone(wrong)


def test_names_that_timm_changed():
    with pytest.warns(FutureWarning, match="tf_efficientnet_b0.ns_jft_in1k"):
        architecture = find_architecture("tf_efficientnet_b0_ns")
    assert architecture.weights_names()[0] == "ns_jft_in1k"


@pytest.mark.parametrize(
    ("name", "first", "others"),
    [
        ("resnet50", "IMAGENET1K_V1", {"IMAGENET1K_V2"}),
        ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1", {"IMAGENET1K_SWAG_LINEAR_V1"}),
        ("timm:resnet50", "a1_in1k", {"tv_in1k", "a2_in1k"}),
        ("timm:resnet50.tv_in1k", "tv_in1k", {"a1_in1k"}),
        ("efficientnet_lite0", "efficientnet-lite0-57934424.pth", set()),
    ],
)
def test_names_of_weights(name, first, others):
    known = find_architecture(name).weights_names()
    assert known[0] == first and others <= set(known[1:])
    assert "DEFAULT" not in known


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet50", "IMAGENET1K_V3", "Did you mean .*IMAGENET1K_V[12]"),
        ("resnet50", "ResNet18_Weights.IMAGENET1K_V1", "are those of another network"),
        ("resnet50", models.ResNet18_Weights.DEFAULT, "are those of another network"),
        ("timm:resnet50", models.ResNet50_Weights.DEFAULT, 'backbone="torchvision:resnet50"'),
        ("efficientnet_lite0", models.ResNet18_Weights.DEFAULT, "are torchvision's"),
        ("resnet50", "DEFAULT", "IMAGENET1K_V2.* IMAGENET1K_V1"),
        ("resnet50", "a1_in1k", 'backbone="timm:resnet50"'),
        ("timm:resnet50", "a9_in1k", "Did you mean .*a1_in1k"),
        ("timm:resnet50.a1_in1k", "a2_in1k", "different weights"),
        ("timm:resnet50.a9_in1k", "default", "Did you mean .*a1_in1k"),
        ("efficientnet_lite0", "imagenet", '"default"'),
        ("resnet50", 3, "must be the name of weights"),
    ],
)
def test_wrong_names_of_weights(name, weights, message):
    with pytest.raises(WeightsUnavailableError, match=message):
        load_backbone(name, weights=weights)


def test_other_spellings_of_default():
    own = load_backbone("efficientnet_lite0")
    assert load_backbone("efficientnet_lite0", weights="DEFAULT").module is own.module
    assert find_architecture("resnet18").default_of("DEFAULT") == "default"  # torchvision's own
    assert find_architecture("resnet50").default_of("Default") == "default"


ELSEWHERE = {
    "clip": "vit_base_patch32_clip_224.openai",
    "openai/clip-vit-large-patch14": "vit_large_patch14_clip_224.openai",
    "ViT-B/16": "vit_base_patch16_clip_224.openai",
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2",
    "facebook/dinov2-with-registers-small": "vit_small_patch14_reg4_dinov2",
    "facebook/dinov2-large": "vit_large_patch14_dinov2",
    "dino_vits16": "vit_small_patch16_224.dino",
    "facebook/dino-vitb8": "vit_base_patch8_224.dino",
    "google/siglip-base-patch16-224": "vit_base_patch16_siglip_224",
    "facebook/vit-mae-base": "vit_base_patch16_224.mae",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_others_give_a_network_of_timm(name):
    ours = ELSEWHERE[name]
    assert any(one.startswith(ours) for one in timm.list_pretrained())
    with pytest.raises(UnknownBackboneError, match=f"Did you mean 'timm:{ours}'"):
        load_backbone(name)


def test_networks_of_timm_without_weights():
    bare = sorted(
        set(timm.list_models("*resnet*")) - {n.split(".")[0] for n in timm.list_pretrained()}
    )
    with pytest.raises(WeightsUnavailableError, match="none at all; weights=None"):
        load_backbone(f"timm:{bare[0]}")


def test_registering(registered, tmp_path):
    facts = {"image_size": 64, "mean": 0.5, "std": 0.25}
    registered("net", lambda: models.squeezenet1_1(num_classes=3), preprocessing=facts)
    first = load_backbone("net")
    assert (first.name, first.source, first.weights) == ("net", "registered", "default")
    assert first.preprocessing.image_size == (64, 64) and not first.portable
    # A builder that draws its weights gives the same ones each time it is called.
    assert load_backbone("registered:net").fingerprint == first.fingerprint
    with pytest.raises(WeightsUnavailableError, match="together with its weights"):
        load_backbone("net", weights=None)
    with pytest.raises(WeightsUnavailableError, match='only "default"'):
        load_backbone("net", weights="IMAGENET1K_V1")
    with pytest.raises(ValueError, match="overwrite=True"):
        registered("net", models.squeezenet1_0, preprocessing=facts)
    torch.save(models.squeezenet1_0(num_classes=3).state_dict(), tmp_path / "net.pth")
    registered("net", lambda: models.squeezenet1_0(num_classes=3), preprocessing=facts,
               weights=tmp_path / "net.pth", overwrite=True)  # fmt: skip
    second = load_backbone("net")
    assert second.fingerprint != first.fingerprint
    assert load_backbone("net", weights=None).fingerprint != second.fingerprint


@pytest.mark.parametrize("name", ["", "timm:net", "efficientnet_lite0"])
def test_names_that_cannot_be_registered(registered, name):
    with pytest.raises(ValueError, match="must not be empty, hold a colon"):
        registered(name, models.resnet18, preprocessing={"image_size": 64, "mean": 0, "std": 1})


def test_builders_must_build(registered):
    facts = {"image_size": 64, "mean": 0.5, "std": 0.25}
    with pytest.raises(ValueError, match="builder must be a function without arguments"):
        registered("net", "squeezenet1_1", preprocessing=facts)
    registered("none", lambda: None, preprocessing=facts)
    with pytest.raises(BackboneError, match=r"must give a torch\.nn\.Module"):
        load_backbone("none")
