"""Input that dask computes later, elsewhere or piece by piece: codes that are just as lazy.

Each chunk or partition becomes one task, which runs what `transform` runs on images in
memory. The graph holds the transformer once, as a task of its own that the others depend on,
so that a worker receives it once; published weights do not travel, only their name and hash.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._sklearn import output_config
from ..exceptions import ImageError, ImageSkippedWarning, InputError
from ..images import as_images
from ._fitting import check_columns
from ._lazy_look import (
    blank,
    check_range_is_known,
    dask_kind,
    lazy_float_range,
    one_chunk_an_image,
)
from ._transforming import codes_of, skipped

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = ["transform_lazily"]


def transform_lazily(codes: CNNCodes, X: Any) -> Any:
    """A dask array of the codes of a dask array, bag, series or one-column data frame."""
    from dask import delayed
    from dask.base import tokenize

    container = output_config("transform", codes)["dense"]
    if container != "default":
        raise InputError(
            f"set_output(transform={container!r}) makes tables in memory, but X is lazy. Take "
            'set_output(transform="default"), and dask.dataframe.from_dask_array(codes, '
            "columns=estimator.get_feature_names_out()) for a table."
        )
    sent = _to_send(codes)
    token = tokenize(type(sent), {k: v for k, v in vars(sent).items() if k != "_network"})
    estimator = delayed(sent, name=f"CNNCodes-{token}", traverse=False)
    kind = dask_kind(X)
    if kind == "frame":
        check_columns(codes, X._meta, reset=False)
    elif kind == "array" and X.dtype.kind not in "OUT":
        one = blank(X)  # what is wrong with all of them is said now
        check_columns(codes, one, reset=False)
        as_images(one, image_shape=codes._fitted.image_shape, layout=codes._fitted.layout)
    float_range = codes._fitted.float_range
    if float_range is None and codes._fitted.value_range == "auto":
        float_range = lazy_float_range(X, codes._fitted.image_shape)
    name = f"codes-{tokenize(X, token)}"
    make = _of_array if kind == "array" else _of_partitions
    return make(X, estimator, float_range, codes.code_shape_, name)


def _to_send(codes: CNNCodes) -> CNNCodes:
    """The transformer as it is now: later calls of `fit` and `set_params` do not reach it."""
    sent = object.__new__(type(codes))
    sent.__dict__.update(vars(codes))
    sent.verbose = 0  # a bar for each chunk, of several workers, helps nobody
    if not isinstance(codes.backbone, str):
        sent.backbone = codes.backbone_.name  # the module travels once, as the fitted network
    return sent


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
    block: np.ndarray, codes: CNNCodes, float_range: Any, block_info: Any = None
) -> np.ndarray:
    """Codes of a chunk of an array; errors name the row of the whole array where it is known."""
    start = block_info[0]["array-location"][0][0]
    number = block_info[0]["chunk-location"][0]
    first = None if start != start else int(start)  # NaN where chunks before have no length
    piece = np.prod(block_info[0]["num-chunks"]) > 1
    return _codes_of(codes, block, float_range, first, f"chunk {number}", piece=bool(piece))


def _codes_of_partition(
    part: Any, codes: CNNCodes, float_range: Any, number: int, piece: bool
) -> np.ndarray:
    """Codes of a partition, whose first image has no known number unless it is the first of all."""
    items = part if hasattr(part, "shape") else list(part)
    first = None if number else 0
    return _codes_of(codes, items, float_range, first, f"partition {number}", piece=piece)


def _codes_of(
    codes: CNNCodes, X: Any, float_range: Any, first: int | None, where: str, *, piece: bool
) -> np.ndarray:
    if len(X) == 0:
        return np.empty((0, *codes.code_shape_), np.float32)
    fitted = codes._fitted
    images = as_images(
        X,
        image_shape=fitted.image_shape,
        value_range=fitted.value_range,
        float_range=float_range,
        layout=fitted.layout,
        bright=fitted.bright,
        piece=piece,
    )
    check_range_is_known(images, float_range, fitted.value_range)
    try:
        rows, failures = codes_of(codes, images)
    except ImageError as error:
        raise _in_whole(error, first, where) from error.__cause__
    if failures:
        _warn([_in_whole(error, first, where) for error in failures], len(images), where)
    return rows


def _in_whole(error: ImageError, first: int | None, where: str) -> ImageError:
    """The same error with the number of the image in the whole input, or in its piece."""
    if error.index is None:
        return error
    if first is not None:
        return ImageError(error.cause, first + error.index, error.source)
    return ImageError(f"{error.cause} (item {error.index} of {where})", None, error.source)


def _warn(failures: Sequence[ImageError], n_images: int, where: str) -> None:
    """Warn here and, from a worker of a cluster, where the result is asked for as well."""
    distributed = sys.modules.get("distributed.worker")
    warn = warnings.warn if distributed is None else distributed.warn
    warn(skipped(failures, n_images, f" of {where}"), ImageSkippedWarning)
