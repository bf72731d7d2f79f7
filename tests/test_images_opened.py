"""Digests, laziness, and many threads at once."""

import gc
import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xxhash
from PIL import Image

from sktransfer.exceptions import ImageError
from sktransfer.images import as_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)


def encode(array, fmt="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, fmt, **options)
    return buffer.getvalue()


def digest(item, **kwargs):
    return as_images([item], **kwargs).open(0).digest


def test_files_and_bytes_are_digested_as_they_are(tmp_path):
    data = encode(PIXELS[0])
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(data)
    expected = xxhash.xxh3_128_digest(data)
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
    expected = xxhash.xxh3_128_digest(b"RGB 4 4 " + pixels.tobytes())
    assert digest(pixels) == expected
    assert expected.hex() == "0274dea6900cb3ec08723a05f4b1a0be"


def test_nothing_is_decoded_before_the_picture_is_asked_for():
    data = encode(PIXELS[0])
    opened = as_images([data[: len(data) // 2]]).open(0)
    assert opened.n_bytes == len(data) // 2
    with pytest.raises(ImageError):
        opened.picture()


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
