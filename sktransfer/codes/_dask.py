"""Input that dask computes later, elsewhere or piece by piece: codes that are just as lazy.

Each chunk or partition becomes one task, which runs what `transform` runs on images in
memory. The graph holds the transformer once, as a task of its own that the others depend on,
so that a worker receives it once; published weights do not travel, only their name and hash.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._sklearn import check_columns, output_config
from ..exceptions import InputError, ItemError, ValueRangeError
from ..inputs import (
    Images,
    Reading,
    as_images,
    check_value_range,
    float_extremes,
    float_range_of,
    is_missing,
    name_of,
    skipped,
)

__all__ = [
    "blank",
    "check_range_is_known",
    "dask_kind",
    "first_items",
    "is_lazy",
    "lazy_float_range",
    "lazy_range_of",
    "look_at",
    "one_chunk_an_image",
    "transform_lazily",
]


def transform_lazily(sent: Any, X: Any) -> Any:
    """A dask array of the codes of a dask array, bag, series or one-column data frame.

    `sent` is a fitted transformer of its own, which travels to whoever computes a chunk.
    """
    from dask import delayed
    from dask.base import tokenize

    container = output_config("transform", sent)["dense"]
    if container != "default":
        raise InputError(
            f"set_output(transform={container!r}) makes tables in memory, but X is lazy. Take "
            'set_output(transform="default"), and dask.dataframe.from_dask_array(codes, '
            "columns=estimator.get_feature_names_out()) for a table."
        )
    token = tokenize(type(sent), {k: v for k, v in vars(sent).items() if k != "_network"})
    estimator = delayed(sent, name=f"{type(sent).__name__}-{token}", traverse=False)
    kind = dask_kind(X)
    if kind == "frame":
        check_columns(sent, X._meta, reset=False)
    elif kind == "array" and X.dtype.kind not in "OUT":
        check_columns(sent, blank(X), reset=False)
    float_range = sent._lazy_range(X)
    name = f"codes-{tokenize(X, token)}"
    make = _of_array if kind == "array" else _of_partitions
    return make(X, estimator, float_range, sent.code_shape_, name)


def _of_array(X: Any, estimator: Any, float_range: Any, shape: tuple[int, ...], name: str) -> Any:
    import dask.array as da

    X = one_chunk_an_image(X)
    return da.map_blocks(
        _codes_of_block,
        X,
        estimator,
        float_range,
        drop_axis=list(range(1, X.ndim)),
        new_axis=list(range(1, 1 + len(shape))),
        chunks=(X.chunks[0], *((length,) for length in shape)),
        dtype=np.float32,
        meta=np.empty((0,) * (1 + len(shape)), np.float32),
        name=name,
    )


def _of_partitions(
    X: Any, estimator: Any, float_range: Any, shape: tuple[int, ...], name: str
) -> Any:
    """Lengths of partitions are not known before they are computed, so those of chunks are NaN."""
    import dask.array as da
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    parts = X.to_delayed()
    zeros = (0,) * len(shape)
    lazy_range = isinstance(float_range, Delayed)
    range_key = float_range.key if lazy_range else float_range
    layer: dict[Any, Any] = {
        (name, i, *zeros): (
            _codes_of_partition, part.key, estimator.key, range_key, i, len(parts) > 1
        )
        for i, part in enumerate(parts)
    }
    needed = [*parts, estimator, *([float_range] if lazy_range else [])]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=needed)
    chunks = ((np.nan,) * len(parts), *((length,) for length in shape))
    return da.Array(graph, name, chunks, meta=np.empty((0,) * (1 + len(shape)), np.float32))


def _codes_of_block(
    block: np.ndarray, codes: Any, float_range: Any, block_info: Any = None
) -> np.ndarray:
    """Codes of a chunk of an array; errors name the row of the whole array where it is known."""
    start = block_info[0]["array-location"][0][0]
    number = block_info[0]["chunk-location"][0]
    first = None if start != start else int(start)  # NaN where chunks before have no length
    piece = np.prod(block_info[0]["num-chunks"]) > 1
    return _piece_of(codes, block, float_range, first, f"chunk {number}", piece=bool(piece))


def _codes_of_partition(
    part: Any, codes: Any, float_range: Any, number: int, piece: bool
) -> np.ndarray:
    """Codes of a partition, whose first image has no known number unless it is the first of all."""
    items = part if hasattr(part, "shape") else list(part)
    first = None if number else 0
    return _piece_of(codes, items, float_range, first, f"partition {number}", piece=piece)


def _piece_of(
    codes: Any, X: Any, float_range: Any, first: int | None, where: str, *, piece: bool
) -> np.ndarray:
    if len(X) == 0:
        return np.empty((0, *codes.code_shape_), np.float32)
    items = codes._items_of_piece(X, float_range, piece=piece)
    try:
        rows, failures = codes._codes_of(items)
    except ItemError as error:
        raise _in_whole(error, first, where) from error.__cause__
    if failures:
        _warn([_in_whole(error, first, where) for error in failures], len(items), where)
    return rows


def _in_whole(error: ItemError, first: int | None, where: str) -> ItemError:
    """The same error with the number of the item in the whole input, or in its piece."""
    if error.index is None:
        return error
    if first is not None:
        return type(error)(error.cause, first + error.index, error.source, error.remedy)
    cause = f"{error.cause} (item {error.index} of {where})"
    return type(error)(cause, None, error.source, error.remedy)


def _warn(failures: Sequence[ItemError], n_items: int, where: str) -> None:
    """Warn here and, from a worker of a cluster, where the result is asked for as well."""
    distributed = sys.modules.get("distributed.worker")
    warn = warnings.warn if distributed is None else distributed.warn
    warn(skipped(failures, n_items, f" of {where}"))


# What has to be known of lazy input before its codes can be: found without computing it all.


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


def lazy_range_of(X: Any, reading: Reading) -> Any:
    """What floats are over all pieces, where it has to be known and is not yet."""
    if dask_kind(X) == "array" and X.dtype.kind not in "OUT":
        # What is wrong with all of them is said now.
        as_images(blank(X), image_shape=reading.image_shape, layout=reading.layout)
    if reading.float_range is not None or reading.value_range != "auto":
        return reading.float_range
    return lazy_float_range(X, reading.image_shape)


def first_items(X: Any) -> Any:
    """The first item of lazy input that is not missing, in its own container."""
    dask_kind(X)
    return _first_of_all(X)


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


def _extremes(part: Any, image_shape: Any) -> tuple[float, float] | None:
    return float_extremes(part, image_shape) if len(part) else None


def _widest(found: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    seen = [one for one in found if one is not None]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else None


def _told(extremes: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if extremes is None else float_range_of(extremes)
