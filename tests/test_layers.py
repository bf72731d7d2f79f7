"""Cut points: the classical networks by name, and what their layers are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.exceptions import BackboneError, LayerError, TracingError
from sktransfer.networks import load_backbone
from sktransfer.networks._cut import pooled_shape
from sktransfer.networks._layers import trace_cuts

# Network, side in pixels, width of the default codes, the default layer, and some layers that
# papers and tutorials name, with their shapes.
CLASSICAL = [
    ("alexnet", 224, 4096, "classifier.5", {"features": (256, 6, 6), "classifier.2": (4096,)}),
    ("vgg16", 224, 4096, "classifier.4", {"features": (512, 7, 7), "features.4": (64, 112, 112)}),
    ("googlenet", 224, 1024, "avgpool", {"inception4e": (832, 14, 14)}),
    ("inception_v3", 299, 2048, "avgpool", {"Mixed_7c": (2048, 8, 8), "Mixed_6e": (768, 17, 17)}),
    ("timm:inception_v4", 299, 1536, "global_pool", {"features": (1536, 8, 8)}),
    ("resnet18", 224, 512, "avgpool", {"layer1": (64, 56, 56), "layer4": (512, 7, 7)}),
    ("resnet50", 224, 2048, "avgpool", {"layer3": (1024, 14, 14), "layer3.5": (1024, 14, 14)}),
    ("densenet121", 224, 1024, "pre_logits", {"features.denseblock4": (1024, 7, 7)}),
    ("squeezenet1_1", 224, 512, "features", {"features.12": (512, 13, 13)}),
    ("mobilenet_v2", 224, 1280, "pre_logits", {"features.17": (320, 7, 7)}),
    ("mobilenet_v3_large", 224, 1280, "classifier.1", {"avgpool": (960, 1, 1)}),
    ("efficientnet_b0", 224, 1280, "avgpool", {"features.7": (320, 7, 7)}),
    ("convnext_tiny", 224, 768, "classifier.0", {"features.5": (384, 14, 14)}),
    ("vit_b_16", 224, 768, "pre_logits", {"encoder": (197, 768)}),
    ("efficientnet_lite0", 224, 1280, "global_pool", {"blocks": (320, 7, 7)}),
    ("efficientnet_lite1", 240, 1280, "global_pool", {"blocks.5": (192, 8, 8)}),
    ("efficientnet_lite2", 260, 1280, "global_pool", {"blocks": (352, 9, 9)}),
]


def random_table(name: str):
    backbone = load_backbone(name, weights=None)
    return backbone, trace_cuts(backbone, backbone.preprocessing.image_size)


@pytest.mark.parametrize(("name", "side", "width", "default", "known"), CLASSICAL)
def test_classical_networks(name, side, width, default, known):
    backbone, table = random_table(name)
    assert backbone.preprocessing.image_size == (side, side)
    code = table.resolve(None)
    assert code.name == default
    assert pooled_shape(code, "avg") == (width,)
    assert {layer: table.resolve(layer).shape for layer in known} == known
    assert table.resolve(-1) == code
    assert table.resolve(-len(table.layers)) == table.layers[0]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large", "squeezenet1_1", "vit_b_16"])
def test_every_layer_is_what_the_plain_network_computes(name):
    """Each layer that is a module is compared with a hook on that module of the plain network."""
    backbone, table = random_table(name)
    plain, modules = backbone.module, dict(backbone.module.named_modules())
    layers = [layer for layer in table.layers if layer.name in modules]
    seen: dict[str, np.ndarray] = {}
    hooks = [
        modules[layer.name].register_forward_hook(
            lambda module, args, out, name=layer.name: seen.update({name: out.numpy().copy()})
        )
        for layer in layers
    ]
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    frozen = table.prefix(layers, None)
    facts = backbone.preprocessing
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(facts.mean).view(3, 1, 1)) / torch.tensor(
        facts.std
    ).view(3, 1, 1)
    with torch.inference_mode():
        plain(x)
        codes = frozen(pixels)
    for hook in hooks:
        hook.remove()
    assert len(layers) >= 10
    for layer, code in zip(layers, codes, strict=True):
        expected = seen[layer.name].reshape(code.shape)
        error = np.linalg.norm(code.numpy() - expected) / np.linalg.norm(expected)
        assert error < 1e-5, layer.name


def test_later_layers_are_not_in_the_prefix():
    _, table = random_table("resnet18")
    frozen = table.prefix([table.resolve("layer2")], "avg")
    names = {name.removeprefix("prefix.") for name, _ in frozen.named_parameters()}
    assert any(name.startswith("layer2.1.") for name in names)
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in names)


def test_a_cut_inside_a_residual_block_is_refused_and_explained():
    _, table = random_table("resnet18")
    with pytest.raises(LayerError, match="more than one tensor is alive"):
        table.resolve("layer4.0.conv1")


def test_wrong_names_and_numbers_suggest_right_ones():
    _, table = random_table("resnet18")
    with pytest.raises(LayerError, match=r"Did you mean .*layer4"):
        table.resolve("layer5")
    with pytest.raises(LayerError, match=r"from -1 .* to -13"):
        table.resolve(0)
    with pytest.raises(LayerError, match="-14 is not a cut point"):
        table.resolve(-14)


def test_the_network_is_not_changed_by_cutting():
    backbone, table = random_table("resnet18")
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    classes = [type(module) for module in backbone.module.modules()]
    table.prefix(table.layers, "avg")(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert [type(module) for module in backbone.module.modules()] == classes
    for name, value in backbone.module.state_dict().items():
        assert torch.equal(value, before[name])


class Branching(nn.Module):
    """Branches on its data, which no symbolic trace can follow."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) if x.mean() > 0 else x


FACTS = {
    "image_size": 32,
    "crop_pct": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
}


def test_a_network_that_branches_on_data_is_an_error_that_names_it():
    backbone = load_backbone(Branching(), preprocessing=FACTS)
    with pytest.raises(TracingError, match="Branching"):
        trace_cuts(backbone, (32, 32))


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_fully_connected_layers_slide_over_larger_images(name):
    """At 288 px the map is compared with the plain classifier at each window of the features."""
    backbone = load_backbone(name, weights=None)
    side = {"alexnet": 6, "vgg16": 7}[name]
    table = trace_cuts(backbone, (288, 288))
    code = table.resolve(None)
    cells = {"alexnet": 8, "vgg16": 9}[name] - side + 1
    assert code.shape == (4096, cells, cells)
    pixels = torch.randint(0, 256, (1, 288, 288, 3), dtype=torch.uint8)
    found = table.prefix([code], None)(pixels)[0]
    facts = backbone.preprocessing
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(facts.mean).view(3, 1, 1)) / torch.tensor(
        facts.std
    ).view(3, 1, 1)
    with torch.inference_mode():
        features = backbone.module.features(x)
        for row in range(cells):
            for column in range(cells):
                window = features[:, :, row : row + side, column : column + side]
                expected = backbone.module.classifier[:-1](window.flatten(1))
                torch.testing.assert_close(found[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_sliding_equals_the_plain_network_at_the_native_size():
    """Asked for at 224 px, where it is not needed, the rewritten graph gives the same codes."""
    from sktransfer.networks import _sizes as _convolutional
    from sktransfer.networks._trace import trace

    backbone = load_backbone("alexnet", weights=None)
    network = trace(backbone.module, (224, 224))
    (pool,) = [node for node in network.nodes if node.target == "avgpool"]
    chain = _convolutional._chain(pool, network)
    _convolutional._rewrite(pool, chain, (6, 6), network)
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        plain, slid = backbone.module(x), network.module(x)
    torch.testing.assert_close(slid.flatten(1), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "convnext_tiny"])
@pytest.mark.parametrize("size", [(96, 96), (160, 224)])
def test_convolutional_networks_take_any_size(name, size):
    backbone = load_backbone(name, weights=None)
    table = trace_cuts(backbone, size)
    (codes,) = table.prefix([table.resolve(None)], "avg")(
        torch.zeros(1, *size, 3, dtype=torch.uint8)
    )
    assert codes.shape == (1, pooled_shape(table.resolve(None), "avg")[0])


@pytest.mark.parametrize("name", ["vit_b_16", "timm:vit_tiny_patch16_224"])
def test_vision_transformers_take_multiples_of_their_patch(name):
    backbone = load_backbone(name, weights=None)
    assert trace_cuts(backbone, (160, 160)).resolve(None).shape in [(768,), (192,)]
    if name == "vit_b_16":  # timm's drop the last 4 pixels
        with pytest.raises(BackboneError, match="100"):
            trace_cuts(backbone, (100, 100))
    # The network that was asked for another size is still what it was.
    assert trace_cuts(backbone, (224, 224)).resolve(-2).shape[0] == 197


@pytest.mark.parametrize(
    "name", ["swin_t", "timm:swin_tiny_patch4_window7_224", "timm:vit_tiny_patch16_224"]
)
def test_pooling_finds_the_channels(name):
    """Channels-last maps and tokens: the average has as many numbers as there are channels."""
    _, table = random_table(name)
    layer = table.resolve(-2)
    assert layer.kind in ("map_last", "tokens")
    assert pooled_shape(layer, "avg") == (layer.shape[-1],)


def test_class_tokens_take_no_part_in_the_mean():
    _, table = random_table("timm:vit_tiny_patch16_224")
    layer = table.resolve("norm")
    pixels = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    (tokens,) = table.prefix([layer], None)(pixels)
    (mean,) = table.prefix([layer], "avg")(pixels)
    (first,) = table.prefix([layer], "token")(pixels)
    torch.testing.assert_close(mean, tokens[:, 1:].mean(1))
    torch.testing.assert_close(first, tokens[:, 0])


@pytest.mark.parametrize("pooling", ["avg", "max", "gem", "flatten"])
def test_pooling_in_closed_form(pooling):
    _, table = random_table("resnet18")
    layer = table.resolve("layer1")
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    (maps,) = table.prefix([layer], None)(pixels)
    (codes,) = table.prefix([layer], pooling)(pixels)
    a = maps.numpy().astype(float)
    expected = {
        "avg": a.mean((2, 3)),
        "max": a.max((2, 3)),
        "gem": (np.maximum(a, 1e-6) ** 3).mean((2, 3)) ** (1 / 3),
        "flatten": a.reshape(2, -1),
    }[pooling]
    np.testing.assert_allclose(codes.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_class_token_where_there_is_none_is_an_error():
    _, table = random_table("resnet18")
    with pytest.raises(LayerError, match="needs a layer with a class token"):
        table.prefix([table.resolve("layer1")], "token")
