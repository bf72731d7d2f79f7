"""Any input to a sequence with one item for each image; nothing is read or copied."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, InputError
from ._arrays import LAYOUTS, as_array, channel_axis, is_tensor
from ._kinds import kind_of, name_of
from ._rows import check_rows, row_shape

_IMAGES = "a path, bytes, a PIL image, an array or a tensor"
_EMPTY = "Found array with 0 sample(s): X is empty, at least one image is required"

Shape = tuple[int, ...] | str | None


@dataclass(frozen=True)
class Collected:
    """One item for each image, and what is known of all of them."""

    items: Sequence[Any] | np.ndarray
    n_columns: int | None = None
    shape: tuple[int, ...] | None = None  # of the image in a flattened row
    channels_first: bool = False  # which end wins where both could be the colours


def collect(X: Any, image_shape: Shape) -> Collected:
    """Find the images in `X`.

    Raises
    ------
    InputError
        If `X` is empty, one image alone, or not a collection of images.
    TypeError
        If `X` is sparse, or a table of objects that are no numbers (scikit-learn's messages).
    """
    if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)):
        if isinstance(X, (str, os.PathLike)) and os.path.isdir(X):
            raise InputError(
                f"X must be a collection of images, got the folder {os.fsdecode(X)!r}; pass "
                "load_image_folder(X).data, or a list of paths"
            )
        raise InputError(f"X must be a collection of images, got {name_of(X)} alone; pass [X]")
    if hasattr(X, "tocsr"):  # sparse: scikit-learn's own refusal
        check_rows(X)
    if is_tensor(X):
        return _from_array(_whole(X), image_shape, channels_first=True)
    if hasattr(type(X), "columns"):  # asking a lazy frame itself would make it work
        return _from_frame(X, image_shape)
    if isinstance(X, (list, tuple)):
        return _from_items(list(X), X, image_shape)
    if hasattr(X, "__array__"):
        return _from_array(_asarray(X), image_shape)
    unordered = isinstance(X, (Mapping, Set)) or not hasattr(X, "__getitem__")
    if unordered or not hasattr(X, "__len__"):
        raise InputError(f"X must be an array, a list or a column of images, got {name_of(X)}")
    return _from_items([X[i] for i in range(len(X))], X, image_shape)


def _from_frame(X: Any, image_shape: Shape) -> Collected:
    if not hasattr(X, "shape"):
        raise InputError(f"X must be a data frame in memory, got {name_of(X)}; collect it first")
    if X.shape[1] == 1:
        column = np.asarray(X.to_series(0) if hasattr(X, "to_series") else X)
        if column.ndim > 2 or column.dtype.kind in "OUT":  # polars' columns of arrays, or items
            return replace(_from_array(column, image_shape), n_columns=1)
    return _rows(X, image_shape)


def _from_array(array: np.ndarray, image_shape: Shape, channels_first: bool = False) -> Collected:
    kind, ndim = array.dtype.kind, array.ndim
    if kind == "S":
        raise InputError("numpy cuts zeros off the end of bytes; pass a list or dtype=object")
    if kind in "OUT" and ndim == 1:
        return _from_items(array.tolist(), array, image_shape)
    if kind in "OUT" and ndim == 2 and array.shape[1] == 1:
        return _from_items(array[:, 0].tolist(), array, image_shape, n_columns=1)
    if ndim == 2:
        return _rows(array, image_shape)
    if kind not in "buif":  # complex, dates, or numbers that lost their dtype on the way
        array = _whole(array)
    _check_batch(array)
    return Collected(array, channels_first=channels_first)


def _check_batch(array: np.ndarray) -> None:
    shape = array.shape
    if array.ndim == 1:
        raise InputError(_numbers_in_a_row(shape[0]))
    if array.ndim not in (3, 4):
        raise InputError(
            "X must be (n_samples, n_columns) or images of (n, h, w), (n, h, w, c) or "
            f"(n, c, h, w) with c = 1, 3 or 4, got an array of shape {shape}"
        )
    if shape[0] == 0:
        raise InputError(f"{_EMPTY} (shape={shape})")
    if array.ndim == 3 and shape[2] in (1, 3, 4):
        raise InputError(
            f"an array of shape {shape} is one image (h, w, {shape[2]}): pass [X]. If it is "
            f"{shape[0]} greyscale images of width {shape[2]}, pass X[..., None]"
        )
    if array.ndim == 4 and 0 not in shape and channel_axis(shape[1:]) is None:
        raise InputError(f"each image in X must be {LAYOUTS}, got X of shape {shape}")


def _from_items(
    items: list[Any], X: Any, image_shape: Shape, n_columns: int | None = None
) -> Collected:
    if not items:
        raise InputError(_EMPTY)
    kinds = [kind_of(item) for item in items]
    if all(kind == "column" for kind in kinds):  # [["a.jpg"], ["b.jpg"]]
        return _from_items([item[0] for item in items], X, image_shape, n_columns=1)
    found = set(kinds)
    if found <= {"row"} or (n_columns == 1 and found <= {"number"}):
        rows = [as_array(item) for item in items] if any(map(is_tensor, items)) else X
        return _rows(rows, image_shape)
    if found == {"missing"}:
        raise InputError("every item of X is missing")
    if found <= {"number", "missing"}:
        raise InputError(_numbers_in_a_row(len(items)))
    for index, kind in enumerate(kinds):
        if kind in ("other", "number", "column"):
            what = name_of(items[index])
            raise InputError(f"item {index} of X must be {_IMAGES}, got {what}")
    return Collected(items, n_columns=n_columns)


def _rows(X: Any, image_shape: Shape) -> Collected:
    rows = check_rows(X)
    n_columns = rows.shape[1]
    return Collected(rows, n_columns=n_columns, shape=row_shape(n_columns, image_shape))


def _whole(X: Any) -> np.ndarray:
    try:
        return as_array(X)
    except ImageError as error:
        raise InputError(f"X, {name_of(X)}, {error.cause}") from error


def _asarray(X: Any) -> np.ndarray:
    try:
        return np.asarray(X)
    except Exception as error:  # each array library has its own
        raise InputError(f"X, {name_of(X)}, cannot be read as an array: {error}") from error


def _numbers_in_a_row(length: int) -> str:
    return (  # "Reshape your data" is what scikit-learn's checks look for
        f"X must be a collection of images, got {length} numbers of shape ({length},). "
        "Reshape your data: X.reshape(1, -1) if it is one flattened image"
    )
