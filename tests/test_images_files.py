"""Files that are bad, and that say which they are and why; files of every kind."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from sktransfer.exceptions import ImageError
from sktransfer.images import as_images

# Smooth, so that lossy formats stay close; not symmetric, so that turning shows.
Y, X_ = np.mgrid[0:40, 0:60]
SCENE = np.stack([4 * X_, 6 * Y, 255 - 2 * X_ - 3 * Y], axis=2).clip(0, 255).astype(np.uint8)


def encode(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def picture(item):
    return as_images([item]).open(0).picture()


FORMATS = {
    "PNG": ({}, 0),
    "BMP": ({}, 0),
    "TIFF": ({}, 0),
    "PPM": ({}, 0),
    "GIF": ({}, 40),
    "JPEG": ({"quality": 95}, 12),
    "WEBP": ({"quality": 95}, 20),
}


@pytest.mark.parametrize("fmt", FORMATS)
def test_formats(fmt, tmp_path):
    options, tolerance = FORMATS[fmt]
    path = tmp_path / "scene"  # told by content, not by name
    path.write_bytes(encode(Image.fromarray(SCENE), fmt, **options))
    got = picture(path)
    assert (got.mode, got.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(got).astype(int) - SCENE).max() <= tolerance
    np.testing.assert_array_equal(np.asarray(got), np.asarray(picture(path.read_bytes())))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, fmt):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(SCENE), fmt, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    for item in (data, Image.open(io.BytesIO(data))):
        got = picture(item)
        assert got.size == ((60, 40) if orientation < 5 else (40, 60))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_orientation_by_hand():
    exif = Image.Exif()
    exif[0x0112] = 6  # "the 0th row is the visual right-hand side": turn clockwise
    got = picture(encode(Image.fromarray(SCENE), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(got), np.rot90(SCENE, -1))


def test_damaged_metadata_do_not_spoil_the_pixels():
    data = encode(Image.fromarray(SCENE), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about the metadata
        np.testing.assert_array_equal(np.asarray(picture(data)), SCENE)


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_show_their_first_frame(fmt):
    first, second = Image.new("RGB", (8, 6), (200, 30, 40)), Image.new("RGB", (8, 6), (0, 0, 255))
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encode(first, fmt, save_all=True, append_images=[second, second], **options)
    assert Image.open(io.BytesIO(data)).n_frames > 1
    assert picture(data).getcolors() == [(48, (200, 30, 40))]


def truncated(fmt, **options):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), fmt, **options)
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own
def test_truncated(fmt, options, tmp_path):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    path = tmp_path / "half.jpg"
    path.write_bytes(truncated(fmt, **options))
    opened = as_images(["x", path]).open(1)
    with pytest.raises(ImageError, match=r"image 1 \(.*half.jpg\): ") as caught:
        opened.picture()
    assert (caught.value.index, caught.value.source) == (1, str(path))
    assert caught.value.__cause__ is not None


def test_who_asks_for_truncated_images_gets_them_under_another_digest(monkeypatch):
    data = truncated("JPEG")
    strict = as_images([data]).open(0).digest
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    opened = as_images([data]).open(0)
    assert opened.picture().size == (60, 40)
    assert opened.digest != strict


def test_no_image_at_all(tmp_path):
    for content in (b"Dear user, this is text.", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"):
        path = tmp_path / "text.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"image 0 \(.*text.jpg\): is no whole image") as err:
            picture(path)
        assert repr(content[:16]) in err.value.cause


def test_heif_without_its_plugin_names_the_plugin():
    with pytest.raises(ImageError, match="pillow-heif"):
        picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.parametrize("item", [b"", bytearray()])
def test_empty_bytes(item):
    with pytest.raises(ImageError, match=r"image 0: is empty \(0 bytes\)"):
        picture(item)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    causes = {
        "empty.jpg": r"the file is empty \(0 bytes\)",
        "folder.jpg": "must be a file, is a folder",
        "pipe.jpg": "must be a file, is a device or pipe",
        "dangling.jpg": "no such file",
        "missing.jpg": "no such file",
        "nul\0.jpg": "the file cannot be read",
        "x" * 300: "the file cannot be read",
    }
    images = as_images([str(tmp_path / name) for name in causes])
    for index, cause in enumerate(causes.values()):
        with pytest.raises(ImageError, match=f"(?s)image {index} \\(.*\\): {cause}") as caught:
            images.open(index)
        assert caught.value.index == index
        assert caught.value.source == images.source(index)


def test_vanished_file(tmp_path):
    path = tmp_path / "gone.png"
    Image.new("RGB", (3, 3)).save(path)
    images = as_images([path])
    path.unlink()
    with pytest.raises(ImageError, match=r"gone.png\): no such file"):
        images.open(0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path):
    path = tmp_path / "secret.png"
    Image.new("RGB", (3, 3)).save(path)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"secret.png\): .*permission denied"):
        as_images([path]).open(0)


@pytest.mark.parametrize("limit", [1200, 2399])  # Pillow errs at twice its limit, warns at once
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_name_the_remedy(limit, monkeypatch):
    data = encode(Image.fromarray(SCENE), "PNG")  # 2400 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit - 1 if limit == 1200 else limit)
    with pytest.raises(ImageError, match=r"2400 pixels.*PIL\.Image\.MAX_IMAGE_PIXELS"):
        picture(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"2400 pixels.*PIL\.Image\.MAX_IMAGE_PIXELS"):
            picture(data)


@pytest.mark.parametrize("limit", [2400, None])
def test_images_within_the_limit(limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert picture(encode(Image.fromarray(SCENE), "PNG")).size == (60, 40)


def test_pil_images_that_cannot_be_decoded(tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(truncated("PNG"))
    closed = Image.open(io.BytesIO(encode(Image.fromarray(SCENE), "PNG")))
    closed.close()
    images = as_images([Image.open(path), closed, Image.new("RGB", (0, 4))])
    for index, cause in enumerate(["truncated", "closed|cannot be decoded", "no pixels"]):
        with pytest.raises(ImageError, match=f"image {index}.*: .*({cause})"):
            images.open(index)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_one_pixel_files_are_legal(size):
    assert picture(encode(Image.new("L", size, 77), "PNG")).getcolors() == [
        (size[0] * size[1], (77, 77, 77))
    ]


def test_names_with_spaces_and_accents(tmp_path):
    path = tmp_path / "Été à la plage #1 %20.png"
    Image.fromarray(SCENE).save(path)
    np.testing.assert_array_equal(np.asarray(picture(str(path))), SCENE)
    assert Path(as_images([path]).source(0)) == path
