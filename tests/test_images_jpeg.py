"""The quick way to pixels against Pillow's, on JPEG files of every kind and state."""

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile
from sklearn.datasets import load_sample_image

from sktransfer.exceptions import ImageError
from sktransfer.images import as_images

simplejpeg = pytest.importorskip("simplejpeg")

PHOTO = Image.fromarray(load_sample_image("china.jpg")).resize((301, 201))


def encode(image=PHOTO, fmt="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def opened(data):
    return as_images([data]).open(0)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.fixture
def quick(monkeypatch):
    """Counts the files that simplejpeg decodes."""
    count = []
    plain = simplejpeg.decode_jpeg

    def decode_jpeg(*args):
        decoded = plain(*args)
        count.append(decoded.shape)
        return decoded

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    return count


@pytest.mark.parametrize(
    ("options", "by_simplejpeg"),
    [
        ({}, True),
        ({"subsampling": 0, "quality": 95}, True),
        ({"subsampling": 1}, True),
        ({"progressive": True, "quality": 30}, True),
        ({"exif": turned(1)}, True),
        *(({"exif": turned(orientation)}, False) for orientation in range(2, 9)),
        ({"fmt": "MPO", "save_all": True, "append_images": [PHOTO.rotate(180)]}, True),
        ({"image": PHOTO.convert("L")}, False),
        ({"image": PHOTO.convert("CMYK")}, False),
        ({"fmt": "PNG"}, False),
    ],
)
def test_pixels_are_those_of_the_picture(options, by_simplejpeg, quick):
    image = opened(encode(**options))
    np.testing.assert_array_equal(image.pixels(), np.asarray(image.picture()))
    assert len(quick) == by_simplejpeg


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (17, 3), (33, 250)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_odd_sizes(size, subsampling, quick):
    image = opened(encode(PHOTO.resize(size), subsampling=subsampling))
    np.testing.assert_array_equal(image.pixels(), np.asarray(image.picture()))
    assert quick == [(size[1], size[0], 3)]


def outcome(make):
    try:
        return np.asarray(make()).tobytes()
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_files_end_as_they_do_with_pillow(progressive):
    rng = np.random.default_rng(0)
    whole = encode(PHOTO.resize((64, 48)), progressive=progressive)
    files = [whole[:stop] for stop in rng.integers(1, len(whole), 40)] + [whole[:-1], whole[:-2]]
    for place in rng.integers(2, len(whole), 150):
        files.append(whole[:place] + rng.bytes(2) + whole[place + 2 :])
    outcomes = [outcome(opened(data).picture) for data in files]
    assert [outcome(opened(data).pixels) for data in files] == outcomes
    assert 50 < sum(isinstance(found, str) for found in outcomes) < len(files) - 20


def test_the_limit_on_pixels_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 301 * 201 - 1)
    with pytest.raises(ImageError, match=r"image 0: its 60501 pixels .*MAX_IMAGE_PIXELS"):
        opened(encode()).pixels()


def test_who_asks_pillow_for_truncated_images_gets_them(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = opened(encode()[:5000])
    np.testing.assert_array_equal(image.pixels(), np.asarray(image.picture()))


def test_it_can_be_done_without(monkeypatch):
    expected = opened(encode()).pixels()
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    np.testing.assert_array_equal(opened(encode()).pixels(), expected)


def test_arrays_are_handed_on_without_a_copy():
    pixels = np.asarray(PHOTO)
    assert np.shares_memory(opened(pixels).pixels(), pixels)
