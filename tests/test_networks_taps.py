"""Maps of several layers: where they are, what they are, and a tail that gives several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer.compute import ComputeSettings, FrozenPass
from sktransfer.exceptions import LayerError
from sktransfer.inputs import as_images
from sktransfer.networks import as_map, cuts_of, dense_preparation, image_preparation, load_backbone

NETWORKS = {
    "resnet18": (50, 64),
    "mobilenet_v2": (64, 64),
    "timm:vit_tiny_patch16_224": (64, 96),
    "timm:convnext_atto": (70, 64),
}


def made(name, size):
    backbone = load_backbone(name, weights=None)
    return backbone, cuts_of(backbone, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tail_gives_what_the_prefix_gives(name):
    size = NETWORKS[name]
    backbone, cuts = made(name, size)
    taps = cuts.taps()
    cuts = cuts.up_to(taps[-1].name)
    x = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    to = image_preparation(backbone.preprocessing, image_size=size, resize="squash")
    settings = ComputeSettings(engine="torch", device=("cpu",))
    maps = FrozenPass(cuts, tuple(taps), to, None, settings).rows(as_images(x))
    for start in (taps[0], taps[-2]):
        behind = taps[taps.index(start) + 1 :]
        with torch.no_grad():
            found = cuts.tail(start, behind)(torch.from_numpy(maps[taps.index(start)]))
        for one, layer in zip(found, behind, strict=True):
            expected = torch.from_numpy(maps[taps.index(layer)])
            torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)
            assert as_map(one, layer).shape[1:] == (layer.n_channels, *layer.grid)


def test_taps_are_the_last_of_each_resolution():
    _, cuts = made("resnet18", (50, 64))
    assert [(one.name, one.grid) for one in cuts.taps()] == [
        ("layer1", (13, 16)), ("layer2", (7, 8)), ("layer3", (4, 4)), ("layer4", (2, 2))
    ]  # fmt: skip
    _, cuts = made("timm:vit_tiny_patch16_224", (64, 96))
    assert [one.name for one in cuts.taps()] == ["blocks.2", "blocks.5", "blocks.8", "blocks"]
    assert {one.grid for one in cuts.taps()} == {(4, 6)}


def test_patches_are_put_where_they_were():
    """Tokens are numbered row by row."""
    _, cuts = made("timm:vit_tiny_patch16_224", (64, 96))
    layer = cuts.taps()[0]
    tokens = torch.arange(25.0).view(1, 25, 1).expand(1, 25, 192)
    expected = torch.arange(1.0, 25.0).view(4, 6)
    torch.testing.assert_close(as_map(tokens, layer)[0, 7], expected)


def test_a_row_is_no_map():
    _, cuts = made("resnet18", (64, 64))
    with pytest.raises(LayerError, match="which is no map"):
        as_map(torch.zeros(1, 512, 1, 1), cuts.layers[-1])


def test_a_network_of_windows_can_be_trained_from_its_pixels():
    """It reads sizes of tensors in which the windows of all images stand below each other."""
    _, cuts = made("timm:swin_tiny_patch4_window7_224", (224, 224))
    tail = cuts.tail(None, cuts.taps()[:1])
    x = torch.rand(3, 3, 224, 224)
    with torch.no_grad():
        together, alone = tail(x)[0], tail(x[1:2])[0]
    assert together.shape == (3, 96, 56, 56)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_the_size_that_is_seen_is_that_of_most_images():
    backbone = load_backbone("resnet18", weights=None)
    images = as_images([np.zeros((600, 800, 3), np.uint8)] * 3 + [np.zeros((90, 90, 3), np.uint8)])
    assert dense_preparation(backbone, images).image_size == (384, 512)
    assert dense_preparation(backbone, images, image_size=(50, 70)).image_size == (50, 70)
    small = as_images([np.zeros((100, 120, 3), np.uint8)])
    assert dense_preparation(backbone, small).image_size == (192, 224)
    patches = load_backbone("timm:vit_small_patch14_dinov2", weights=None)
    assert dense_preparation(patches, small, image_size=(98, 126)).image_size == (98, 126)
    assert dense_preparation(patches, small).image_size == (420, 518)
    with pytest.raises(ValueError, match='"pad" or "squash"'):
        dense_preparation(backbone, small, resize="crop")
