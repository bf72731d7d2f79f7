"""What `transform` does around the computing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backbones._layers import LayerTable
from ..engines import usable_devices
from ..exceptions import ImageError, ImageSkippedWarning
from ..images import Images, as_images
from ..store import Store, open_store
from ._fitting import cached_table, check_columns
from ._plan import Plan, make_plan, memory_of_all_layers
from ._runner import compute_codes
from ._state import network_of

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = [
    "codes_of",
    "fill",
    "images_of",
    "normalize_rows",
    "prepare",
    "skipped",
    "transform_codes",
]


def transform_codes(codes: CNNCodes, X: Any) -> np.ndarray:
    """Rows of codes, one for each image."""
    rows, failures = codes_of(codes, images := images_of(codes, X))
    if failures:
        warnings.warn(skipped(failures, len(images)), ImageSkippedWarning, stacklevel=4)
    return rows


def images_of(codes: CNNCodes, X: Any) -> Images:
    """The input as images, read as that of `fit` was."""
    fitted = codes._fitted
    check_columns(codes, X, reset=False)
    return as_images(
        X,
        image_shape=fitted.image_shape,
        value_range=fitted.value_range,
        float_range=fitted.float_range,
        layout=fitted.layout,
        bright=fitted.bright,
    )


def codes_of(codes: CNNCodes, images: Images) -> tuple[np.ndarray, list[ImageError]]:
    """Rows of codes, one for each image, and the images that could not be read."""
    store, plan = prepare(codes, images)
    out = np.empty((len(images), *codes.code_shape_), dtype=np.float32)
    failures = fill(codes, images, store, plan, out)
    return normalize_rows(out, codes._fitted.normalize), failures


def prepare(codes: CNNCodes, images: Images) -> tuple[Store | None, Plan]:
    """Where codes are kept, and how they are had."""
    store = open_store(codes.cache)
    return store, _plan(codes, store, len(images))


def fill(
    codes: CNNCodes, images: Images, store: Store | None, plan: Plan, out: Any, **options: Any
) -> list[ImageError]:
    """Fill rows with codes; give back the images that could not be read."""
    with _progress(codes, len(images)) as progress:
        return compute_codes(
            images,
            plan,
            store,
            out,
            batch_size=None if codes.batch_size == "auto" else codes.batch_size,
            n_jobs=codes.n_jobs,
            stop_at_error=codes.on_error == "raise",
            progress=progress,
            **options,
        )


def _plan(codes: CNNCodes, store: Store | None, n_images: int) -> Plan:
    backbone = network_of(codes)
    table = cached_table(backbone, codes.image_size_)
    return make_plan(
        backbone,
        table,
        [table.resolve(name) for name in codes.layers_],
        codes._fitted.framing,
        pooling=codes._fitted.pooling,
        device=usable_devices(codes.device),
        precision=codes.precision,
        engine=codes.engine,
        compile=codes.compile,
        keep=_layers_to_keep(codes.cache_layers, table, store, n_images),
    )


def _layers_to_keep(wish: str, table: LayerTable, store: Store | None, n_images: int) -> str:
    """What `cache_layers` comes to: a store that cannot hold all layers is not given them."""
    limit = getattr(store, "max_bytes", None)
    if wish == "auto" and limit is not None and memory_of_all_layers(table, n_images) >= limit:
        return "asked"
    return wish


@contextmanager
def _progress(codes: CNNCodes, n_images: int) -> Iterator[Any]:
    if not codes.verbose:
        yield None
        return
    from tqdm.auto import tqdm

    title = f"CNN codes ({codes.backbone_.name})"
    with tqdm(total=n_images, desc=title, unit="image", unit_scale=True, file=sys.stderr) as bar:
        yield bar


def skipped(failures: Sequence[ImageError], n_images: int, where: str = "") -> str:
    """Say which images have rows of NaN."""
    shown = "\n".join(f"  {error}" for error in failures[:20])
    more = f"\n  … and {len(failures) - 20} more" if len(failures) > 20 else ""
    return (
        f"{len(failures)} of {n_images} images{where} could not be read; their rows are NaN:\n"
        f"{shown}{more}"
    )


def normalize_rows(rows: np.ndarray, how: str | None) -> np.ndarray:
    """Scale rows, in place, to length 1, for ``"power"`` after signed square roots."""
    if how is None:
        return rows
    if how == "power":
        np.copyto(rows, np.sign(rows) * np.sqrt(np.abs(rows)))
    flat = rows.reshape(len(rows), -1)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    np.divide(flat, lengths, out=flat, where=lengths > 0)
    return rows
