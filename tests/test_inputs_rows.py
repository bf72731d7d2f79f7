"""Flattened rows: inferred and given shapes, scikit-learn's checks and messages."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from sktransfer.exceptions import InputError, SktransferWarning, ValueRangeWarning
from sktransfer.inputs import as_images

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
IMAGES[0, 0, 0], IMAGES[0, 0, 1] = 0, 255
GREY = IMAGES[..., 0].copy()
ROWS, GREY_ROWS = IMAGES.reshape(4, -1), GREY.reshape(4, -1)


def digests(X, **kwargs):
    images = as_images(X, **kwargs)
    return [images.open(i).digest for i in range(len(images))]


class NotAnArray:
    def __array__(self, dtype=None, copy=None):
        return np.asarray(ROWS, dtype=dtype)


TABLES = {
    "array": ROWS,
    "fortran": np.asfortranarray(ROWS),
    "lists": ROWS.tolist(),
    "list of arrays": list(ROWS),
    "list of tensors": list(torch.from_numpy(ROWS)),
    "tensor": torch.from_numpy(ROWS),
    "array-like": NotAnArray(),
    "objects": ROWS.astype(object),
    "pandas": pd.DataFrame(ROWS),
    "pandas nullable": pd.DataFrame(ROWS).astype("Int64"),
    "polars": pl.DataFrame(ROWS, schema=[str(i) for i in range(108)]),
    "float": ROWS.astype(np.float32) / 255,
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_the_images_they_were(name):
    images = as_images(TABLES[name])
    assert (images.n_columns, images.image_shape) == (108, (6, 6, 3))
    assert digests(TABLES[name]) == digests(IMAGES)


def test_read_only_memmap_of_rows(tmp_path):
    np.save(tmp_path / "X.npy", ROWS / 255)
    assert digests(np.load(tmp_path / "X.npy", mmap_mode="r")) == digests(IMAGES)


def test_rows_are_not_copied():
    images = as_images(ROWS)
    assert np.shares_memory(images._collected.items, ROWS)


def test_square_rows_are_grey():
    assert digests(GREY_ROWS) == digests(GREY)
    assert as_images(GREY_ROWS).image_shape == (6, 6)


@pytest.mark.parametrize(
    ("X", "image_shape", "same"),
    [
        (GREY_ROWS, (6, 6), GREY),
        (GREY_ROWS, (4, 9), GREY.reshape(4, 4, 9)),
        (GREY_ROWS, [9, 4], GREY.reshape(4, 9, 4)[..., None]),
        (GREY_ROWS, (6, 6, 1), GREY),
        (GREY_ROWS, (1, 6, 6), GREY),
        (GREY_ROWS, (3, 3, 4), GREY.reshape(4, 3, 3, 4)),
        (ROWS, (6, 6, 3), IMAGES),
        (ROWS, (9, 4, 3), ROWS.reshape(4, 9, 4, 3)),
        (np.moveaxis(IMAGES, 3, 1).reshape(4, -1), (3, 6, 6), IMAGES),
        (ROWS, "row", ROWS.reshape(4, 1, 108, 1)),
    ],
)
def test_given_shapes(X, image_shape, same):
    assert digests(X, image_shape=image_shape) == digests(list(same))


PLANAR = {
    "array": lambda rows: rows,
    "lists": lambda rows: rows.tolist(),
    "pandas": pd.DataFrame,
    "polars": lambda rows: pl.DataFrame(rows, schema=[str(i) for i in range(rows.shape[1])]),
    "tensor": torch.from_numpy,
    "list of arrays": list,
    "floats": lambda rows: rows / 255,
    "int64": lambda rows: rows.astype(np.int64),
}


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("count", [3, 200])
def test_planes_of_colour_one_after_another_are_told_by_the_numbers(sample, name, count):
    """As CIFAR's own files and OpenML have them."""
    X = sample.data[:count]
    planar = PLANAR[name](X.transpose(0, 3, 1, 2).reshape(count, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_images(planar).image_shape == (3, 32, 32)
        assert as_images(PLANAR[name](X.reshape(count, -1))).image_shape == (32, 32, 3)
    assert digests(planar) == digests(X)


def test_grey_images_in_three_colours_keep_their_order(sample):
    X = np.repeat(sample.data[:30, ..., :1], 3, axis=3)
    assert as_images(X.reshape(30, -1)).image_shape == (32, 32, 3)
    assert digests(X.transpose(0, 3, 1, 2).reshape(30, -1)) == digests(X)


def line_drawings(n, side):
    """White paper with a few dark lines."""
    X = np.full((n, side, side), 255, np.uint8)
    for i in range(n):
        X[i, (3 * i + 2) % side, 2 : side - 2] = X[i, 3 : side - 1, (5 * i + 4) % side] = 20
    return X


def drawn_text(side):
    image = Image.new("L", (side, side), 255)
    ImageDraw.Draw(image).text((2, 2), "Hello,\nworld", fill=0)
    return np.asarray(image)[None]


GREYS = {
    "digits": lambda sample: (load_digits().images[:200] * 15.9).astype(np.uint8),
    "one digit": lambda sample: (load_digits().images[7:8] * 15.9).astype(np.uint8),
    "lines": lambda sample: line_drawings(12, 30),
    "text": lambda sample: drawn_text(48),
    "tiny": lambda sample: load_digits().images[:3, 2:6, 2:6] * 15.9,
}


@pytest.mark.parametrize("name", GREYS)
@pytest.mark.parametrize("tint", [0, 3])
def test_greys_in_three_colours_are_never_taken_for_planes(sample, name, tint):
    grey = np.asarray(GREYS[name](sample), np.uint8)
    X = np.clip(np.stack([grey, grey + 0.0 - tint, grey + 0.0], 3), 0, 255).astype(np.uint8)
    n, side = len(X), X.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_images(X.reshape(n, -1)).image_shape == (side, side, 3)
        planes = X.transpose(0, 3, 1, 2).reshape(n, -1)
        assert as_images(planes).image_shape == (3, side, side)


def test_each_grey_image_tells_its_order(sample):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for grey in sample.data[:200, ..., 1]:
            X = np.repeat(grey[None, ..., None], 3, axis=3)
            assert as_images(X.reshape(1, -1)).image_shape == (32, 32, 3)
            planes = X.transpose(0, 3, 1, 2).reshape(1, -1)
            assert as_images(planes).image_shape == (3, 32, 32)


def test_a_few_small_images_are_no_evidence_of_planes():
    noise = np.random.default_rng(0).integers(0, 256, (300, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SktransferWarning)
        assert all(as_images(row[None]).image_shape == (4, 4, 3) for row in noise)


def test_one_flat_colour_tells_its_order():
    X = np.empty((2, 8, 8, 3), np.uint8)
    X[0], X[1] = (200, 10, 0), (7, 90, 200)
    assert digests(X.reshape(2, -1)) == digests(X)
    assert digests(X.transpose(0, 3, 1, 2).reshape(2, -1)) == digests(X)


def test_rows_that_do_not_tell_their_order_ask_for_it():
    noise = np.random.default_rng(3).integers(0, 256, (5, 192), dtype=np.uint8)
    with pytest.warns(SktransferWarning, match=r"image_shape=\(8, 8, 3\) or image_shape=\(3, 8"):
        assert as_images(noise).image_shape == (8, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_images(noise, image_shape=(8, 8, 3)).tell()
        as_images(noise, image_shape=(3, 8, 8)).tell()
        as_images(np.full((2, 192), 9, np.uint8))  # the same in either order


def test_a_shape_that_contradicts_the_numbers_is_told_of(sample):
    X = sample.data[:50]
    rows, planar = X.reshape(50, -1), X.transpose(0, 3, 1, 2).reshape(50, -1)
    for wrong, shape, right in [
        (planar, (32, 32, 3), (3, 32, 32)),
        (rows, (3, 32, 32), (32, 32, 3)),
    ]:
        images = as_images(wrong, image_shape=shape)
        with pytest.warns(ValueRangeWarning, match="order of the colours"):
            images.tell()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            as_images(wrong, image_shape=right).tell()


@pytest.mark.parametrize("n_columns", [1, 2, 5, 108])
def test_row_takes_any_length(n_columns):
    X = np.random.default_rng(1).normal(size=(3, n_columns))
    with pytest.warns(UserWarning, match="clipped"):
        images = as_images(X, image_shape="row", value_range=(-0.1, 0.1))
    assert images.open(2).picture().size == (n_columns, 1)


def test_one_column_of_numbers_is_one_pixel():
    images = as_images(np.array([[0.0], [1.0]]))
    assert [images.open(i).picture().getpixel((0, 0))[0] for i in range(2)] == [0, 255]
    assert images.n_columns == 1


def test_length_that_is_no_square():
    with pytest.raises(InputError, match=r"rows of 10 numbers .*image_shape="):
        as_images(np.zeros((2, 10)))


def test_shape_that_does_not_fit():
    with pytest.raises(InputError, match=r"image_shape=\(2, 3\) needs rows of 6 numbers, got 10"):
        as_images(np.zeros((2, 10)), image_shape=(2, 3))


@pytest.mark.parametrize(
    "image_shape", ["rows", 5, (5,), (0, 5), (5, 5, 7), (2.5, 4), (True, 4), (1, 2, 3, 4)]
)
def test_invalid_image_shape(image_shape):
    with pytest.raises(InputError, match="image_shape must be"):
        as_images(np.zeros((2, 25)), image_shape=image_shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((12, 0)), r"0 feature\(s\) \(shape=\(\d*, 0\)\) while a minimum of \d* is req"),
        (np.zeros((10, 1), dtype=complex), "Complex data not supported"),
        (np.array([[0.5, np.nan, 0.5, 0.5]]), "NaN"),
        (np.array([[0.5, np.inf, 0.5, 0.5]]), "infinity"),
        ([[0.5, float("nan"), 0.5, 0.5]], "NaN"),
        ([[float("nan"), 0.5, 0.5, 0.5]], "NaN"),
        ([[1, 2, 3], [1, 2]], "one length, got 3 numbers in row 0 and 2 in row 1"),
        (np.arange(20.0), r"shape \(20,\)"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)\. Reshape your data"),
        ([["a.jpg", "b.jpg"], ["c.jpg", "d.jpg"]], "item 0 of X"),
        (np.array([["a.jpg", "b.jpg"]]), "one column of paths"),
        (pd.DataFrame({"a": ["x.jpg"], "b": [1.0]}), "one column of paths"),
    ],
)
def test_tables_that_are_no_images(X, message):
    with pytest.raises(InputError, match=message):
        as_images(X)


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csr_array, sp.coo_array])
def test_sparse(make):
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        as_images(make(np.eye(9)))


def test_objects_that_are_no_numbers():
    X = np.zeros((2, 9), dtype=object)
    X[0, 0] = {"foo": "bar"}
    with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
        as_images(X)
