"""Flattened rows: inferred and given shapes, scikit-learn's checks and messages."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from sktransfer.exceptions import InputError
from sktransfer.images import as_images

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
        ([[1, 2, 3], [1, 2]], "inhomogeneous"),
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
