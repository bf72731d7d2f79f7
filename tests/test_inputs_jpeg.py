"""JPEG files of every kind and state: the same pixels as Pillow's, and damaged ones refused."""

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from sklearn.datasets import load_sample_image

from sktransfer.exceptions import ImageError
from sktransfer.inputs import as_images

simplejpeg = pytest.importorskip("simplejpeg")

PHOTO = Image.fromarray(load_sample_image("china.jpg")).resize((301, 201))


def encode(image=PHOTO, fmt="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def opened(data):
    return as_images([data]).open(0)


def by_pillow(data):
    image = Image.open(io.BytesIO(data))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


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
        *(({"exif": turned(orientation)}, True) for orientation in range(2, 9)),
        ({"fmt": "MPO", "save_all": True, "append_images": [PHOTO.rotate(180)]}, True),
        ({"image": PHOTO.convert("L")}, True),
        ({"image": PHOTO.convert("L"), "exif": turned(5), "progressive": True}, True),
        ({"image": PHOTO.convert("CMYK")}, False),
        ({"fmt": "PNG"}, False),
    ],
)
def test_pixels_are_those_of_the_picture(options, by_simplejpeg, quick):
    data = encode(**options)
    np.testing.assert_array_equal(opened(data).pixels(), by_pillow(data))
    assert len(quick) == by_simplejpeg
    np.testing.assert_array_equal(np.asarray(opened(data).picture()), by_pillow(data))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (17, 3), (33, 250)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_odd_sizes(size, subsampling, quick):
    data = encode(PHOTO.resize(size), subsampling=subsampling)
    np.testing.assert_array_equal(opened(data).pixels(), by_pillow(data))
    assert quick == [(size[1], size[0], 3)]


def outcome(make):
    try:
        return np.asarray(make()).tobytes()
    except ImageError as error:
        return str(error)


KINDS = {
    "plain": {},
    "progressive": {"progressive": True},
    "grey": {"image": PHOTO.convert("L")},
    "grey, progressive": {"image": PHOTO.convert("L"), "progressive": True},
    "cmyk": {"image": PHOTO.convert("CMYK")},
    "restarts": {"restart_marker_blocks": 4},
    "restarts, progressive": {"restart_marker_rows": 1, "progressive": True},
    "turned": {"exif": turned(6), "progressive": True},
}


@pytest.fixture(params=["simplejpeg", "Pillow alone"])
def decoder(request, monkeypatch):
    if request.param != "simplejpeg":
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_cut_and_closed_are_not_whole(kind, decoder):
    """Recovery tools, cameras and proxies put an end marker behind what they have."""
    data = encode(**KINDS[kind])
    np.testing.assert_array_equal(opened(data).pixels(), by_pillow(data))
    first = data.index(b"\xff\xda") + 20
    for stop in np.linspace(first, len(data) - 100, 25).astype(int):
        cut = data[:stop] + b"\xff\xd9"
        for make in (opened(cut).pixels, opened(cut).picture):
            with pytest.raises(ImageError, match="image 0: cannot be decoded"):
                make()
        with pytest.raises(ImageError, match="cannot be decoded"):
            opened(Image.open(io.BytesIO(cut)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_progressive_files_that_lost_scans_are_not_whole(mode, decoder):
    """Each scan makes the image sharper, so that a cut between two leaves one to look at."""
    data = encode(PHOTO.convert(mode), progressive=True)
    scans = [m.start() for m in re.finditer(b"\xff\xda", data)]
    starts = [max(data.rfind(b"\xff\xc4", 0, scan), 0) for scan in scans]  # with their tables
    starts = [a if a > b else c for a, b, c in zip(starts[1:], scans, scans[1:], strict=False)]
    assert len(starts) > 4
    for start, stop in zip(starts, [*starts[1:], len(data) - 2], strict=True):
        for less in (data[:start] + b"\xff\xd9", data[:start] + data[stop:]):
            with pytest.raises(ImageError, match="cannot be decoded"):
                opened(less).pixels()
            with pytest.raises(ImageError, match="cannot be decoded"):
                opened(Image.open(io.BytesIO(less)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_lost_and_mixed_parts_between_restarts_are_damage(mode, decoder):
    data = encode(PHOTO.convert(mode), restart_marker_rows=1)
    marks = [m.start() for m in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    np.testing.assert_array_equal(opened(data).pixels(), by_pillow(data))
    for one in (0, len(marks) // 2, len(marks) - 2):
        start, stop = marks[one], marks[one + 1]
        twice = data[:stop] + data[start:]
        swapped = data[:start] + data[stop : stop + 2] + data[start + 2 :]
        for damaged in (data[:start] + data[stop:], twice, swapped):
            with pytest.raises(ImageError, match="cannot be decoded"):
                opened(damaged).pixels()


def test_a_restart_behind_the_last_part_is_no_damage(decoder):
    data = encode(restart_marker_rows=1)
    last = max(m.start() for m in re.finditer(rb"\xff[\xd0-\xd7]", data))
    more = data[:-2] + bytes([0xFF, 0xD0 + (data[last + 1] - 0xCF) % 8]) + data[-2:]
    np.testing.assert_array_equal(opened(more).pixels(), by_pillow(data))


def test_the_first_image_of_several_must_be_whole(decoder):
    options = {"save_all": True, "append_images": [PHOTO.rotate(180)]}
    data = encode(fmt="MPO", **options)
    end = data.index(b"\xff\xd9\xff\xd8") if b"\xff\xd9\xff\xd8" in data else None
    end = end or data.rindex(b"\xff\xd8\xff") - 2
    cut = data[: end // 2] + b"\xff\xd9" + bytes(end - end // 2 - 2) + data[end:]
    np.testing.assert_array_equal(opened(data).pixels(), by_pillow(data))
    with pytest.raises(ImageError, match="cannot be decoded"):
        opened(cut).pixels()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cmyk"])
def test_what_a_strict_decoder_calls_damaged_is_refused(kind):
    rng = np.random.default_rng(0)
    data = encode(**KINDS[kind])
    first, refused = data.index(b"\xff\xda") + 20, 0
    for place in rng.integers(first, len(data) - 2, 60):
        damaged = data[:place] + rng.bytes(2) + data[place + 2 :]
        try:
            simplejpeg.decode_jpeg(damaged, "GRAY" if "grey" in kind else "RGB")
        except ValueError as error:
            if "Corrupt" in str(error) or "Premature" in str(error):
                refused += 1
                with pytest.raises(ImageError):
                    opened(damaged).pixels()
    assert refused > 5


def test_more_data_than_pixels_are_damage_as_well(decoder):
    data = encode()
    with pytest.raises(ImageError, match="cannot be decoded"):
        opened(data[:-2] + bytes(30) + b"\xff\xd9").pixels()


def test_what_follows_the_end_or_stands_before_the_pixels_does_not_matter(decoder):
    for options in ({}, {"progressive": True}):
        data = encode(**options)
        for good in (data + b"\0" * 99, data + data, data[:20] + b"\0\0\0" + data[20:]):
            np.testing.assert_array_equal(opened(good).pixels(), by_pillow(good))


@pytest.mark.parametrize("progressive", [False, True])
def test_files_of_very_many_scans_are_refused_at_once(progressive, decoder):
    data = encode(progressive=True)
    last = data.rindex(b"\xff\xda")
    more = data[last:-2] if progressive else b"\xff\xda\x00\x08\x01\x01\x11\x00\x3f\x00\x7f"
    with pytest.raises(ImageError, match="more than 100 scans"):
        opened(data[:-2] + more * 100 + b"\xff\xd9").pixels()
    few = data[:-2] + data[last:-2] * 5 + b"\xff\xd9"
    opened(few)  # not refused for their number
    with pytest.raises(ImageError, match="more than 100 scans"):
        opened(Image.open(io.BytesIO(data[:-2] + more * 100 + b"\xff\xd9")))


def test_the_limit_on_pixels_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 301 * 201 // 2 - 1)
    with pytest.raises(ImageError, match=r"image 0: .*60501 pixels.*MAX_IMAGE_PIXELS"):
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
