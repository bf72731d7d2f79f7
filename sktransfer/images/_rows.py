"""Flattened rows: one image in each row of a table of numbers, as scikit-learn ships them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ..exceptions import InputError, SktransferWarning
from ._arrays import channel_axis
from ._range import warn

_EXAMPLE = (
    'name image_shape=: (h, w), (h, w, 3), (3, h, w), or "row" for a greyscale image of height 1'
)

_ENOUGH = 256  # rows that are looked at for the order of their colours
_TOLD, _CERTAIN = 0.2, 0.35
_CHANCE = 4  # what chance adds to the evidence of n pixels is less than this by the root of n
_ALIKE = 0.15  # colours that differ by less, next to neighbours, are shades of grey


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
        if rows.dtype.kind in "OUT":  # of frames of polars it lets texts pass
            rows = rows.astype(np.float64)
    except ValueError as error:
        message = str(error)
        if "unique column names" in message:  # a line for each
            raise InputError(
                "the column names of X must be unique; pass X.to_numpy() if they mean nothing"
            ) from error
        if "inhomogeneous" in message or "setting an array element with a sequence" in message:
            raise InputError(_ragged(X)) from error
        if "string" in message:  # text where numbers must be
            message += ". Images that are files come in one column of paths, alone in X."
        raise InputError(message) from error
    return rows


def _ragged(X: Any) -> str:
    """Say which row differs in length from the first."""
    lengths = [len(row) if hasattr(row, "__len__") else 1 for row in X]
    other = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if other is None:
        return "the rows of X must hold numbers, got rows that hold sequences"
    return (
        f"the rows of X must have one length, got {lengths[0]} numbers in row 0 and "
        f"{lengths[other]} in row {other}. Images of several sizes come as arrays (h, w) or "
        "(h, w, 3) in a list"
    )


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


def told_order(rows: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tell an inferred image (h, w, 3) from (3, h, w) by the numbers; warn where they do not say.

    CIFAR's own files and OpenML have all red values of an image first, then green, then blue.
    """
    if len(shape) != 3 or shape[0] * shape[1] == 1:
        return shape
    height, width, _ = shape
    evidence = _planar_evidence(rows, height, width)
    if evidence is None or evidence < -_TOLD:
        return shape
    planar = (3, height, width)
    n_pixels = min(len(rows), _ENOUGH) * height * width
    if evidence > _TOLD + _CHANCE / math.sqrt(n_pixels):
        return planar
    warn(
        f"rows of {rows.shape[1]} numbers are read as images {shape}, but are hard to tell from "
        f"{planar}: name image_shape={shape} or image_shape={planar}",
        SktransferWarning,
    )
    return shape


def doubt_of_order(rows: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """Say that a known shape contradicts the numbers; None where it does not."""
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or shape[0] == shape[2]:
        return None
    planar = shape[2] != 3
    height, width = shape[1:] if planar else shape[:2]
    evidence = _planar_evidence(rows, height, width)
    if evidence is None or (evidence if planar else -evidence) > -_CERTAIN:
        return None
    other = (height, width, 3) if planar else (3, height, width)
    return (
        f"rows are read as images {shape}, as image_shape or fit said, but look like {other}: "
        "neighbours that should resemble each other do not. Check the order of the colours, or "
        f"name image_shape={other}"
    )


def _planar_evidence(rows: np.ndarray, height: int, width: int) -> float | None:
    """How much smoother images are as (3, h, w) than as (h, w, 3): a mean log ratio.

    Of CIFAR's images it is 0.8, and -1 where they are interleaved; of noise it is 0. None where
    all images are of one grey. Smoothness says nothing of an image of greys, whose three colours
    are the same in one of the two orders.
    """
    some = rows[:: max(1, len(rows) // _ENOUGH)][:_ENOUGH].astype(np.float64)
    interleaved = _roughness(some.reshape(-1, height, width, 3).transpose(0, 3, 1, 2))
    planar = _roughness(some.reshape(-1, 3, height, width))
    tells = interleaved + planar > 0
    if not tells.any():
        return None
    least = 1e-3 * float(np.ptp(some))
    evidence = np.log((interleaved + least) / (planar + least))
    grey = _is_grey(some.reshape(len(some), -1, 3))
    grey_planes = _is_grey(some.reshape(len(some), 3, -1).transpose(0, 2, 1))
    evidence[grey & ~grey_planes], evidence[grey_planes & ~grey] = -2, 2
    return float(np.clip(evidence[tells], -2, 2).mean())


def _is_grey(images: np.ndarray) -> np.ndarray:
    """Whether the colours of each of (n, pixels, 3), but for a tint, differ less than neighbours.

    Neighbours that are taken for three colours by mistake differ by a third of what those do that
    are taken for neighbours.
    """
    images = images - images.mean(axis=1, keepdims=True)
    across, along = (np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    found: np.ndarray = across < _ALIKE * along
    return found


def _roughness(images: np.ndarray) -> np.ndarray:
    """Mean difference of neighbours in each of (n, colours, h, w)."""
    total = np.zeros(len(images))
    for axis in (2, 3):
        if images.shape[axis] > 1:
            total += np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2, 3))
    return total
