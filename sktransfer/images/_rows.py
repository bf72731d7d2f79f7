"""Flattened rows: one image in each row of a table of numbers, as scikit-learn ships them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ..exceptions import InputError
from ._arrays import channel_axis

_EXAMPLE = (
    'name image_shape=: (h, w), (h, w, 3), (3, h, w), or "row" for a greyscale image of height 1'
)


def check_rows(X: Any) -> np.ndarray:
    """Give the (n, n_columns) array of a table of numbers, checked as scikit-learn checks it.

    Raises
    ------
    InputError
        If `X` is empty, ragged, complex, text, or holds NaN or infinity.
    TypeError
        If `X` is sparse or holds objects that are no numbers.
    """
    try:
        rows: np.ndarray = check_array(X, input_name="X")
    except ValueError as error:
        message = str(error)
        if "string" in message:  # text where numbers must be
            message += ". Images that are files come in one column of paths, alone in X"
        raise InputError(message) from error
    return rows


def check_image_shape(image_shape: Any) -> tuple[int, ...] | str | None:
    """Give `image_shape` as a tuple of ints, "row" or None."""
    if image_shape is None or (isinstance(image_shape, str) and image_shape == "row"):
        return image_shape
    if isinstance(image_shape, (tuple, list, np.ndarray)):
        sizes = tuple(image_shape)
        if len(sizes) in (2, 3) and all(_is_size(size) for size in sizes):
            shape = tuple(int(size) for size in sizes)
            if len(shape) == 2 or channel_axis(shape) is not None:
                return shape
    raise InputError(
        'image_shape must be None, "row", (h, w), (h, w, c) or (c, h, w) with c = 1, 3 or 4, '
        f"got {image_shape!r}"
    )


def _is_size(size: Any) -> bool:
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool) and int(size) > 0


def row_shape(n_columns: int, image_shape: tuple[int, ...] | str | None) -> tuple[int, ...]:
    """Tell the shape of the image in a row of `n_columns` numbers.

    Raises
    ------
    InputError
        If it cannot be inferred, or `image_shape` asks for another number of columns.
    """
    if image_shape == "row":
        return (1, n_columns)
    if isinstance(image_shape, tuple):
        if math.prod(image_shape) == n_columns:
            return image_shape
        raise InputError(
            f"image_shape={image_shape} needs rows of {math.prod(image_shape)} numbers, "
            f"got {n_columns}"
        )
    for channels in ((), (3,)):
        side = math.isqrt(n_columns // math.prod(channels))
        if side * side * math.prod(channels) == n_columns:
            return (side, side, *channels)
    raise InputError(
        f"rows of {n_columns} numbers are neither a square greyscale image nor a square image of "
        f"3 colours; {_EXAMPLE}"
    )
