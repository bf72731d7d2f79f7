"""Every mode of Pillow ends as the 8-bit RGB it looks like."""

import io
import struct
import zlib

import numpy as np
import pytest
from common import encode
from PIL import GifImagePlugin, Image, ImageCms

from sktransfer.exceptions import ImageError
from sktransfer.inputs import as_images

Y, X_ = np.mgrid[0:16, 0:16]
GREY = (16 * Y + X_).astype(np.uint8)  # every byte once
RGB = np.stack([GREY, GREY.T, 255 - GREY], axis=2)
GREY_AS_RGB = np.repeat(GREY[..., None], 3, axis=2)


def reopened(image, fmt, **options):
    return Image.open(io.BytesIO(encode(image, fmt, **options)))


def pixels(item):
    got = as_images([item]).open(0).picture()
    assert got.mode == "RGB"
    return np.asarray(got)


def deep_png(values, *, colour_type, clear=b""):
    """A PNG of 16 bits, which not every Pillow writes."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
        + (chunk(b"tRNS", clear) if clear else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def over_white(rgb, alpha):
    alpha = np.asarray(alpha)[..., None] / 255
    return rgb * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "HSV", "YCbCr", "LAB"])
def test_colour_modes(mode):
    image = Image.fromarray(RGB).convert(mode)
    got = pixels(image).astype(int)
    # HSV and LAB hold fewer colours; YCbCr rounds twice
    tolerance = {"RGB": 0, "RGBX": 0, "YCbCr": 3, "HSV": 12, "LAB": 32}[mode]
    assert np.abs(got - RGB).max() <= tolerance
    assert np.abs(got - RGB).mean() <= 2


def test_lab_of_known_colours():
    # CIE L*a*b* of sRGB (Bruce Lindbloom's calculator): white, mid grey, red
    known = {
        (100, 0, 0): (255, 255, 255),
        (53.6, 0, 0): (128, 128, 128),
        (54.3, 80.8, 69.9): (255, 0, 0),
    }
    for lab, rgb in known.items():
        image = Image.new("LAB", (2, 2), (round(lab[0] * 2.55), *(round(v) + 128 for v in lab[1:])))
        for item in (image, encode(image, "TIFF")):
            np.testing.assert_allclose(pixels(item)[0, 0], rgb, atol=5)


@pytest.mark.parametrize("fmt", ["TIFF", "JPEG"])
def test_cmyk_files(fmt):
    # Pillow's plain rule: R = (255 - C)(255 - K) / 255
    cmyk = np.zeros((8, 8, 4), np.uint8)
    cmyk[...] = 255, 0, 51, 102
    options = {"quality": 100} if fmt == "JPEG" else {}
    data = encode(Image.fromarray(cmyk, "CMYK"), fmt, **options)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    np.testing.assert_allclose(pixels(data)[4, 4], [0, 153, 122], atol=3)


def test_adobe_jpeg_is_not_a_negative():
    # Adobe's marker says that the inks are stored inverted; Pillow writes and reads it so.
    data = encode(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    assert pixels(data).min() >= 252


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_modes(mode):
    image = Image.fromarray(GREY).convert(mode)
    expected = GREY if mode == "L" else np.asarray(image) * np.uint8(255)
    for item in (image, encode(image, "PNG"), encode(image, "TIFF")):
        np.testing.assert_array_equal(pixels(item)[..., 1], expected)


def test_alpha_is_composited_over_white():
    rgba = np.dstack([RGB, GREY.T])
    expected = over_white(RGB, GREY.T)
    for item in (
        Image.fromarray(rgba),
        encode(Image.fromarray(rgba), "PNG"),
        encode(Image.fromarray(rgba), "TIFF"),
        encode(Image.fromarray(rgba), "WEBP", lossless=True, exact=True),
    ):
        np.testing.assert_allclose(pixels(item), expected, atol=1)
    # premultiplied alpha keeps fewer colours where it is nearly clear
    np.testing.assert_allclose(pixels(Image.fromarray(rgba).convert("RGBa")), expected, atol=2)


def test_solid_alpha_changes_nothing():
    rgba = np.dstack([RGB, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(pixels(Image.fromarray(rgba)), RGB)


def test_a_black_logo_on_a_clear_ground_stays_visible():
    logo = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (2, 2, 6, 6))
    got = pixels(encode(logo, "PNG"))
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[3, 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["LA", "La", "PA"])
def test_grey_with_alpha(mode):
    image = Image.fromarray(np.dstack([GREY, GREY.T]))
    if mode == "PA":  # convert would drop the alpha
        image.putpalette(np.repeat(np.arange(256), 3).tolist())
    image = image.convert(mode)
    assert image.mode == mode
    expected = over_white(GREY_AS_RGB, GREY.T)
    np.testing.assert_allclose(pixels(image), expected, atol=2)
    if mode == "LA":
        np.testing.assert_allclose(pixels(encode(image, "PNG")), expected, atol=1)


def palette_image():
    image = Image.fromarray((GREY % 4), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
    return image, colours[GREY % 4]


@pytest.mark.parametrize("fmt", [None, "PNG", "GIF", "TIFF", "BMP"])
def test_palette(fmt):
    image, expected = palette_image()
    item = image if fmt is None else encode(image, fmt)
    np.testing.assert_array_equal(pixels(item), expected)


@pytest.mark.parametrize("fmt", ["PNG", "GIF"])
def test_palette_with_a_clear_colour(fmt):
    image, expected = palette_image()
    data = encode(image, fmt, transparency=3)
    expected = np.where((GREY % 4 == 3)[..., None], 255, expected)
    np.testing.assert_array_equal(pixels(data), expected)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), expected)


def test_palette_with_degrees_of_transparency():
    image, colours = palette_image()
    data = encode(image, "PNG", transparency=bytes([255, 128, 0, 64]))
    alpha = np.array([255, 128, 0, 64])[GREY % 4]
    np.testing.assert_allclose(pixels(data), over_white(colours, alpha), atol=1)


def test_the_users_image_is_left_alone():
    image = reopened(palette_image()[0], "PNG", transparency=bytes([255, 128, 0, 64]))
    image.load()
    before = (image.mode, dict(image.info), image.getpalette("RGBA"), image.tobytes())
    pixels(image)
    assert (image.mode, image.info, image.getpalette("RGBA"), image.tobytes()) == before


def test_one_clear_colour_of_grey_and_rgb():
    data = encode(Image.fromarray(GREY), "PNG", transparency=7)
    np.testing.assert_array_equal(pixels(data)[..., 0], np.where(GREY == 7, 255, GREY))
    rgb = RGB.copy()
    rgb[2, 3] = 1, 2, 3
    data = encode(Image.fromarray(rgb), "PNG", transparency=(1, 2, 3))
    expected = np.where((rgb == (1, 2, 3)).all(axis=2, keepdims=True), 255, rgb)
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("loading", list(GifImagePlugin.LoadingStrategy))
def test_gif_does_not_depend_on_pillows_loading_strategy(loading, monkeypatch):
    image, expected = palette_image()
    monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", loading)
    np.testing.assert_array_equal(pixels(encode(image, "GIF")), expected)


DEEP = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)


def as_mode(values, mode):
    order = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}[mode]
    return Image.frombytes(mode, values.shape[::-1], values.astype(order).tobytes())


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bits_in_memory(mode):
    got = pixels(as_mode(DEEP, mode))[..., 0]
    np.testing.assert_array_equal(got, np.floor(DEEP / 257 + 0.5))


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_files(fmt):
    if fmt == "PPM":  # which not every Pillow writes
        item = b"P5 16 16 65535\n" + DEEP.astype(">u2").tobytes()
    else:
        item = encode(as_mode(DEEP, "I;16"), fmt)
    np.testing.assert_array_equal(pixels(item)[..., 0], np.floor(DEEP / 257 + 0.5))
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(item))), pixels(item))


def test_big_endian_tiff():
    header = b"MM\0*" + (8).to_bytes(4, "big")
    tags = [(256, 16), (257, 16), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 16)]
    tags.append((279, 512))
    entries = b"".join(
        tag.to_bytes(2, "big") + b"\0\4\0\0\0\1" + value.to_bytes(4, "big") for tag, value in tags
    )
    data = header + len(tags).to_bytes(2, "big") + entries + bytes(4) + DEEP.astype(">u2").tobytes()
    assert Image.open(io.BytesIO(data)).mode == "I;16B"
    np.testing.assert_array_equal(pixels(data)[..., 0], np.floor(DEEP / 257 + 0.5))


def test_sixteen_bit_file_equals_array_of_the_same_values():
    array = as_images([DEEP], value_range=(0, 65535)).open(0).picture()
    np.testing.assert_array_equal(pixels(encode(as_mode(DEEP, "I;16"), "PNG")), np.asarray(array))


def test_sixteen_bits_of_bytes_are_those_bytes():
    wide = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(pixels(encode(as_mode(wide, "I;16"), "PNG")), GREY_AS_RGB)


def test_sixteen_bit_tiff_where_white_is_zero():
    data = encode(as_mode(DEEP, "I;16"), "TIFF", tiffinfo={262: 0})
    for item in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(pixels(item)[..., 0], 255 - np.floor(DEEP / 257 + 0.5))


def test_sixteen_bit_png_with_a_clear_value():
    value = int(DEEP[4, 4])
    data = deep_png(DEEP, colour_type=0, clear=struct.pack(">H", value))
    expected = np.where(DEEP == value, 255, np.floor(DEEP / 257 + 0.5))
    np.testing.assert_array_equal(pixels(data)[..., 0], expected)


def test_twelve_bit_tiff():
    # two pixels of 12 bits in three bytes: 0xFFF (white) and 0x000 (black)
    header = b"II*\0" + (8).to_bytes(4, "little")
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1)]
    tags.append((279, 3))
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
        for tag, value in tags
    )
    data = header + len(tags).to_bytes(2, "little") + entries + bytes(4) + b"\xff\xf0\x00"
    assert pixels(data)[0, :, 0].tolist() == [255, 0]


def test_sixteen_bit_rgb_png():
    wide = RGB.astype(np.uint16) * 256 + 99  # the low byte must not matter
    np.testing.assert_array_equal(pixels(deep_png(wide, colour_type=2)), RGB)


def test_sixteen_bit_rgb_png_with_a_clear_colour():
    wide = RGB.astype(np.uint16) * 257
    clear = struct.pack(">HHH", *wide[3, 5].tolist())
    expected = RGB.copy()
    expected[3, 5] = 255
    np.testing.assert_array_equal(pixels(deep_png(wide, colour_type=2, clear=clear)), expected)


@pytest.mark.parametrize("colour_type", [4, 6])
def test_sixteen_bit_png_with_alpha(colour_type):
    colours = RGB if colour_type == 6 else GREY[..., None]
    wide = np.dstack([colours, GREY.T]).astype(np.uint16) * 257
    got = pixels(deep_png(wide, colour_type=colour_type))
    np.testing.assert_allclose(got, over_white(colours, GREY.T) + np.zeros((1, 1, 3)), atol=1)


def test_float_files_are_zero_to_one():
    values = (GREY / 255).astype(np.float32)
    data = encode(Image.fromarray(values), "TIFF")
    np.testing.assert_array_equal(pixels(data), GREY_AS_RGB)
    # one dark image is not made brighter than its neighbours
    dark = encode(Image.fromarray(values / 2), "TIFF")
    assert pixels(dark).max() == 128


@pytest.mark.parametrize("worst", [1.5, -0.5, np.nan, np.inf])
def test_other_float_files_are_refused(worst):
    values = np.array([[0, worst]], np.float32)
    with pytest.raises(ImageError, match=r"image 0: .*mode F must lie within 0 and 1.*value_range"):
        pixels(encode(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_integers_that_do_not_say_what_white_is(dtype):
    image = Image.fromarray(np.array([[5, 900]], dtype))
    for item in (encode(image, "TIFF"), image):
        with pytest.raises(ImageError, match=r"do not say what white is.*value_range"):
            pixels(item)


def test_icc_profiles_are_ignored_as_in_the_training_of_the_networks():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    data = encode(Image.fromarray(RGB), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(pixels(data), RGB)
