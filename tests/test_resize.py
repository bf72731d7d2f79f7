"""Resize mode against the transforms that come with weights, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.inputs._resize import _FILTERS, ImagePreparation, _place, _scaled_size, crop
from sktransfer.networks import Preprocessing
from sktransfer.networks._spec import image_preparation

SIZES = [(500, 375), (375, 500), (32, 32), (33, 500), (1000, 40), (640, 427), (225, 224), (7, 3)]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    noise = rng.integers(0, 256, (max(2, height // 9), max(2, width // 9), 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def facts(**changes) -> Preprocessing:
    base = {
        "image_size": 224,
        "crop_pct": 0.875,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bilinear",
    }
    return Preprocessing(**{**base, **changes})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("side", "resize_size", "filter_"),
    [(224, 256, "bilinear"), (299, 342, "bilinear"), (240, 272, "bicubic")],
)
def test_crop_is_what_torchvision_cuts_out(size, side, resize_size, filter_):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    transform = Compose([Resize(resize_size, InterpolationMode(filter_)), CenterCrop(side)])
    image = picture(*size)
    preparation = image_preparation(
        facts(image_size=side, crop_pct=side / resize_size, interpolation=filter_),
        image_size=None,
        resize="crop",
        crop_pct=None,
    )
    assert preparation.resize_size == (resize_size, resize_size)
    found = preparation.of(image).astype(int)
    expected = np.asarray(transform(image)).astype(int)
    difference = np.abs(found - expected)
    # Pillow keeps the corners of a box in single precision: a level off in few places.
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_squash_is_a_plain_resize(size):
    image = picture(*size)
    preparation = image_preparation(facts(), image_size=(96, 128), resize="squash", crop_pct=None)
    found = preparation.of(image)
    if size[0] <= 128 or size[1] <= 96:  # nothing to shrink
        expected = np.asarray(image.resize((128, 96), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(found, expected)
        return
    # Pillow 13 takes tall images down first and then across, earlier ones as torchvision does.
    narrow = image.resize((128, image.height), Image.Resampling.BILINEAR)
    expected = np.asarray(narrow.resize((128, 96), Image.Resampling.BILINEAR))
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.005


@pytest.mark.parametrize("size", [(500, 375), (1201, 901), (301, 1103)])
@pytest.mark.parametrize("resize_size", [200, 256, 272])
@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_large_images_are_shrunk_as_torchvision_shrinks_tensors(size, resize_size, filter_):
    from torchvision.transforms import v2

    transform = v2.Compose(
        [v2.Resize(resize_size, v2.InterpolationMode(filter_)), v2.CenterCrop(224)]
    )
    pixels = np.array(picture(*size))
    preparation = image_preparation(
        facts(interpolation=filter_), image_size=None, resize="crop", crop_pct=None
    )
    preparation = replace(preparation, resize_size=(resize_size, resize_size))
    expected = transform(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    pixels.flags.writeable = False  # neither warns nor writes
    np.testing.assert_array_equal(preparation.of(pixels), expected)


@pytest.mark.parametrize(
    ("size", "filter_"),
    [((640, 427), "lanczos"), ((280, 280), "bilinear"), ((2000, 225), "bilinear")],
)
def test_what_torch_would_do_otherwise_or_in_vain_is_left_to_pillow(size, filter_):
    """Other filters, lengths as 5 to 4, and panoramas of which little is kept."""
    image = picture(*size)
    preparation = image_preparation(
        facts(interpolation=filter_), image_size=(224, 20 if size[1] == 225 else 224),
        resize="squash" if size[1] != 225 else "crop", crop_pct=1.0,
    )  # fmt: skip
    if preparation.resize == "squash":
        expected = np.asarray(image.resize((224, 224), _FILTERS[filter_]))
    else:
        expected = np.asarray(image.resize((1991, 224), _FILTERS[filter_]))[:, 986:1006]
    difference = np.abs(preparation.of(image).astype(int) - expected)
    assert difference.max() <= (preparation.resize == "crop") and difference.mean() < 0.02


def test_pad_shows_the_whole_picture_on_the_mean_colour():
    image = Image.new("RGB", (200, 100), (255, 255, 255))
    preparation = image_preparation(facts(), image_size=64, resize="pad", crop_pct=None)
    found = preparation.of(image)
    assert found.shape == (64, 64, 3)
    assert (found[16:48] == 255).all()
    bar = np.round(255 * np.array([0.5, 0.4, 0.3]))
    assert (found[:16] == bar).all() and (found[48:] == bar).all()


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_square_pictures_are_never_padded_or_distorted(resize):
    image = picture(50, 50)
    preparation = image_preparation(facts(), image_size=64, resize=resize, crop_pct=0.5)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(preparation.of(image), expected)


def test_one_pixel():
    preparation = image_preparation(facts(), image_size=8, resize="crop", crop_pct=None)
    found = preparation.of(Image.new("RGB", (1, 1), (1, 2, 3)))
    assert (found == (1, 2, 3)).all()


def test_pixels_at_the_network_size_are_not_touched():
    image = picture(224, 224)
    preparation = image_preparation(facts(), image_size=None, resize="crop", crop_pct=1.0)
    np.testing.assert_array_equal(preparation.of(image), np.asarray(image))


@pytest.mark.parametrize("size", [0, (1, 2, 3), (0, 5)])
def test_impossible_sizes(size):
    from sktransfer import CNNCodes

    with pytest.raises(ValueError, match="image_size"):
        CNNCodes(image_size=size).fit(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("size", [(80, 200), (200, 80), (96, 96)])
@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_what_is_said_of_places_comes_back_to_where_they_are(size, resize):
    """Brightness that says where a pixel is, is the same after the way there and back."""
    height, width = size
    ramp = np.add.outer(np.linspace(1, 120, height), np.linspace(1, 120, width))
    pixels = np.repeat(np.rint(ramp)[..., None], 3, axis=2).astype(np.uint8)
    cut = {"crop_pct": 0.8} if resize == "crop" else {}
    to = image_preparation(facts(), image_size=64, resize=resize, **cut)
    seen = torch.from_numpy(to.of(pixels)[..., 0].copy()).float()[None]
    back = to.placement(size, whole=False).scores(seen)[0].numpy()
    assert back.shape == size
    inside = back[4:-4, 4:-4] > 0
    middle = (back - ramp)[height // 2 - 20 : height // 2 + 20, width // 2 - 20 : width // 2 + 20]
    assert np.abs(middle).max() < 3
    # What is cut away is nothing.
    assert inside.all() == (resize != "crop")
    if resize == "crop":
        kept = 0.8**2 * min(size) / max(size)
        assert (back > 0).mean() == pytest.approx(kept, rel=0.15)


@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
@pytest.mark.parametrize("cover", [(24, 24), (32, 32)])
def test_what_is_of_its_size_already_is_not_resized(resize, cover):
    """Pillow gives the same pixels, and takes a copy for each step."""
    for size in [(24, 24), (32, 32), (24, 17), (40, 32)]:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        to = ImagePreparation((24, 24), resize, cover, "bicubic", (1, 2, 3))
        found, image = to.of(pixels), Image.fromarray(pixels)
        scaled = _scaled_size(*size, to)
        if scaled != size:
            continue
        if resize == "crop":
            expected = np.asarray(crop(image, scaled, (24, 24), Image.Resampling.BICUBIC))
        else:
            again = np.asarray(image.resize(scaled[::-1], Image.Resampling.BICUBIC))
            expected = _place(again, to)
        np.testing.assert_array_equal(found, expected)
