"""Digests, laziness, and many threads at once."""

import gc
import hashlib
import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from sktransfer.exceptions import ImageError
from sktransfer.inputs import as_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)


def encode(array, fmt="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, fmt, **options)
    return buffer.getvalue()


def sha256(header, data):
    """As `sha256sum` would say of a file with the header, and its length, before it."""
    head = len(header).to_bytes(8, "little") + header
    return hashlib.sha256(head + data).digest()[:16]


def digest(item, **kwargs):
    return as_images([item], **kwargs).open(0).digest


def test_files_and_bytes_are_digested_as_they_are(tmp_path):
    data = encode(PIXELS[0])
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(data)
    expected = sha256(b"file", data)
    assert len(expected) == 16
    for item in (data, bytearray(data), tmp_path / "a.png", str(tmp_path / "b.jpg")):
        assert digest(item) == expected


def test_pil_images_are_digested_by_their_pixels():
    image = Image.fromarray(PIXELS[0])
    opened = Image.open(io.BytesIO(encode(PIXELS[0])))
    assert digest(image) == digest(opened) == digest(PIXELS[0])
    assert digest(image.convert("RGBA")) == digest(PIXELS[0])
    turned = Image.open(io.BytesIO(encode(PIXELS[0], exif=orientation(3))))
    assert digest(turned) == digest(PIXELS[0][::-1, ::-1])


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_different_pictures_have_different_digests():
    one = np.zeros((4, 4), np.uint8)
    other = one.copy()
    other[3, 3] = 1
    shapes = [one, one.reshape(2, 8), one.reshape(8, 2), one[:2], other, one + 1]
    assert len({digest(item) for item in shapes}) == len(shapes)


def test_the_value_range_is_part_of_the_picture_and_so_of_the_digest():
    X = RNG.integers(0, 256, (4, 4)).astype(float)
    X[0, :2] = 0, 255
    assert digest(X) == digest(X, value_range=(0, 255)) != digest(X, value_range=(0, 511))


def test_digests_are_the_same_next_year():
    # The store on disk outlives the process: a change here throws away every user's codes.
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    expected = sha256(b"RGB 4 4", pixels.tobytes())
    assert digest(pixels) == expected
    assert expected.hex() == "21af5398546c281f2e9e27f7157f1475"


def test_no_bytes_have_the_digest_of_an_array():
    pixels = PIXELS[0, :4, :4]
    for header in (b"RGB 4 4 ", b"RGB 4 4", b"\x07\0\0\0\0\0\0\0RGB 4 4", b"file", b""):
        assert digest(header + pixels.tobytes()) != digest(pixels)


def test_files_that_are_made_to_collide_do_not():
    """Hashes that are only fast have such pairs: these have one xxh3-128."""
    data = [bytearray(np.random.default_rng(0).bytes(600)) for _ in range(2)]
    for one, halves in zip(data, [(1000, 2000), (1500, 1500)], strict=True):
        # the low halves are those of the hash's secret, and the sum of the high ones is the same
        one[:4], one[64:68] = bytes.fromhex("b8fe6c39"), bytes.fromhex("7c01812c")
        one[4:8], one[68:72] = (half.to_bytes(4, "little") for half in halves)
    assert data[0] != data[1]
    assert digest(bytes(data[0])) != digest(bytes(data[1]))


def test_nothing_is_decoded_before_the_picture_is_asked_for():
    data = encode(PIXELS[0])
    opened = as_images([data[: len(data) // 2]]).open(0)
    assert opened.n_bytes == len(data) // 2
    with pytest.raises(ImageError):
        opened.picture()


def png_with(kind, content, size=(3, 2)):
    """A PNG file with a part behind its pixels, where Pillow does not look before it decodes."""
    data = encode(np.zeros((*size, 3), np.uint8))
    part = kind + content
    added = struct.pack(">I", len(content)) + part + struct.pack(">I", zlib.crc32(part))
    return data[:-12] + added + data[-12:]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
EXIF = orientation(6).tobytes()
RAW = b"\nexif\n      %d\n%s\n" % (len(EXIF), EXIF.hex().encode())


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"eXIf", EXIF[6:]),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW)),
        (b"tEXt", b"Raw profile type exif\0" + RAW),
        (b"tEXt", b"Software\0eXIf"),
    ],
)
def test_the_size_is_that_of_the_picture_wherever_its_turn_is_written(kind, content):
    opened = as_images([png_with(kind, content)]).open(0)
    assert opened.size() == opened.pixels().shape[:2]
    if kind == b"eXIf":
        assert opened.size() == (2, 3)


def test_pictures_can_be_asked_for_twice_and_changed():
    for item in (PIXELS[0], encode(PIXELS[0]), Image.fromarray(PIXELS[0])):
        opened = as_images([item]).open(0)
        opened.picture().paste((1, 2, 3), (0, 0, 30, 20))
        np.testing.assert_array_equal(np.asarray(opened.picture()), PIXELS[0])


def test_memory_stays_flat():
    X = np.zeros((64, 100, 100, 3), dtype=np.float32)
    X[0, 0, 0, 0] = 1
    gc.collect()
    tracemalloc.start()
    try:
        images = as_images(X)
        for index in range(len(images)):
            images.open(index).picture()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X[:8].nbytes < X.nbytes / 7


def test_many_threads_at_once():
    palette = Image.fromarray(PIXELS[0]).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes(range(0, 256, 16)))
    shared = Image.open(buffer)  # not loaded, and in many rows at once
    jpeg = encode(PIXELS[1], "JPEG")
    X = [shared, jpeg, PIXELS[2], PIXELS[3] / 255, Image.open(io.BytesIO(jpeg)), shared] * 20
    expected = [
        np.asarray(as_images([item]).open(0).picture())
        for item in [Image.open(io.BytesIO(buffer.getvalue())), jpeg, *X[2:4], jpeg]
    ]
    images = as_images(X)

    def work(index):
        opened = images.open(index)
        return opened.digest, np.asarray(opened.picture())

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(len(X))))
    for index, (found, got) in enumerate(results):
        assert found == results[index % 6][0]
        np.testing.assert_array_equal(got, expected[index % 6 % 5])
