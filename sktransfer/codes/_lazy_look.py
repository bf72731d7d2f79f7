"""What has to be known of lazy input before its codes can be: had without computing it all."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..exceptions import InputError, ValueRangeError
from ..images import Images, as_images
from ..images._collect import collect
from ..images._kinds import is_missing, name_of
from ..images._range import Range, auto_ranges, check_value_range
from ..images._rows import check_image_shape
from ..images._survey import survey_arrays

__all__ = [
    "blank",
    "check_range_is_known",
    "dask_kind",
    "is_lazy",
    "lazy_float_range",
    "look_at",
    "one_chunk_an_image",
]

_SOME_ROWS = 64

_KINDS = {"dask.array": (("Array",), "array"), "dask.bag": (("Bag",), "bag"),
          "dask.dataframe": (("DataFrame", "Series"), "frame")}  # fmt: skip


def is_lazy(X: Any) -> bool:
    """Tell whether `X` is a collection of dask's own, without importing dask."""
    base = sys.modules.get("dask.base")
    # Others, such as xarray's, show themselves as arrays and are taken as these.
    ours = type(X).__module__.partition(".")[0] == "dask"
    return base is not None and ours and bool(base.is_dask_collection(X))


def dask_kind(X: Any) -> str:
    """Name what a collection is: array, bag or frame."""
    for module, (names, kind) in _KINDS.items():
        home = sys.modules.get(module)
        if home is not None and isinstance(X, tuple(getattr(home, name) for name in names)):
            return kind
    raise InputError(
        f"lazy X must be a dask array, bag, data frame or series, got {name_of(X)}; compute it, "
        "or tell dask what it is: dask.array.from_delayed, dask.bag.from_delayed"
    )


def look_at(X: Any, *, image_shape: Any, value_range: Any) -> Any:
    """Make some images in memory that tell `fit` of lazy `X` what all of it would tell.

    Arrays are known by shape and dtype, only floats without a given range by their extremes,
    which dask finds chunk by chunk. Of paths the first piece that holds one is computed.
    """
    kind = dask_kind(X)
    given = check_value_range(value_range)
    extremes = lazy_extremes(X, image_shape) if given is None else None
    if extremes is not None:
        ends = extremes.compute()
        columns = {"columns": X.columns} if kind == "frame" else {}
        rows = blank(X if kind == "array" else X._meta, np.nan if ends is None else ends)
        rows = _with_some_rows(rows, X, image_shape)
        return type(X._meta)(rows, **columns) if columns else rows
    if kind == "array" and X.dtype.kind not in "OUT":
        if given is None or X.dtype.kind not in "buif":
            return _with_some_rows(blank(X), X, image_shape)
        return _with_some_rows(blank(X, given[0], np.float32), X, image_shape)
    found = _first_of_all(X)
    images = as_images(found, image_shape=image_shape, value_range=value_range)
    check_range_is_known(images, None, value_range)
    return found


def blank(X: Any, values: Any = 0, dtype: Any = None) -> np.ndarray:
    """Images of the shape of those in `X`, one for each value; none if `X` is known to be empty."""
    shape = X.shape[1:]
    if any(length != length for length in shape):
        raise InputError(
            f"the shape of one image must be known, got an array of shape {X.shape}; call "
            "X.compute_chunk_sizes() first"
        )
    values = np.atleast_1d(np.asarray(values))
    filled = np.empty((len(values), *shape), getattr(X, "dtype", float) if dtype is None else dtype)
    filled[:] = values.reshape(-1, *(1 for _ in shape))
    return filled[:0] if hasattr(X, "dask") and X.shape[0] == 0 else filled


def _with_some_rows(images: np.ndarray, X: Any, image_shape: Any) -> np.ndarray:
    """Add some rows of three colours, by which the order of their numbers can be told."""
    n_columns = images.shape[1]
    side = math.isqrt(n_columns // 3)
    if images.ndim != 2 or image_shape is not None or 3 * side**2 != n_columns or not len(images):
        return images
    parts = one_chunk_an_image(X) if dask_kind(X) == "array" else X
    for part in np.ravel(parts.to_delayed()):
        if len(rows := np.asarray(part.compute())[:_SOME_ROWS]):
            return np.concatenate([images, rows.astype(images.dtype)])
    return images


def _first_of_all(X: Any) -> Any:
    from dask import delayed

    for part in np.ravel(X.to_delayed()):
        found = delayed(_first)(part).compute()
        if found is not None:
            return found
    return []


def _first(part: Any) -> Any:
    """The first image of a piece that is not missing, in the piece's own container."""
    part = part if hasattr(part, "shape") else list(part)
    missing = None
    for i in range(len(part)):
        one = part.iloc[i : i + 1] if hasattr(part, "iloc") else part[i : i + 1]
        item = one[0] if isinstance(one, list) else np.asarray(one, dtype=object).ravel()[0]
        if not is_missing(item):
            return one
        missing = one
    return missing


def check_range_is_known(images: Images, float_range: Any, value_range: Any) -> None:
    """Refuse to tell from one piece what black and white are in all of them."""
    if images.float_range is not None and float_range is None and value_range == "auto":
        raise ValueRangeError(
            "what black and white are in arrays of floats cannot be told from one piece of "
            "lazy input: name value_range=(low, high), for example value_range=(0, 1)"
        )


def one_chunk_an_image(X: Any) -> Any:
    """Rechunk an array so that no image is cut; the chunks of the first axis stay."""
    if all(len(lengths) == 1 for lengths in X.chunks[1:]):
        return X
    return X.rechunk(dict.fromkeys(range(1, X.ndim), -1))


def lazy_extremes(X: Any, image_shape: Any) -> Any:
    """The least and greatest float of all images, as something to be computed; None without."""
    from dask import delayed

    kind = dask_kind(X)
    if kind == "array" and X.dtype.kind == "f":
        blank(X)
        parts = one_chunk_an_image(X).to_delayed().ravel()
    elif kind == "frame" and X.ndim == 2 and any(t.kind == "f" for t in X._meta.dtypes):
        parts = X.to_delayed()
    else:
        return None
    find = delayed(_extremes, pure=True)
    return delayed(_widest, pure=True)([find(part, image_shape) for part in parts])


def lazy_float_range(X: Any, image_shape: Any) -> Any:
    """What floats are found to be over all pieces, as something to be computed; None without."""
    from dask import delayed

    extremes = lazy_extremes(X, image_shape)
    return None if extremes is None else delayed(_told, pure=True)(extremes)


def _extremes(part: Any, image_shape: Any) -> Range | None:
    if len(part) == 0:
        return None
    survey = survey_arrays(collect(part, check_image_shape(image_shape)), trust_dtype=True)
    return survey.extremes.get("float")


def _widest(found: Sequence[Range | None]) -> Range | None:
    seen = [one for one in found if one is not None]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else None


def _told(extremes: Range | None) -> Range | None:
    return None if extremes is None else auto_ranges({"float": extremes}, None)["float"]
