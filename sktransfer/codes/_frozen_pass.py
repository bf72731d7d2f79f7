"""What `transform` does around the computing."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .._sklearn import check_columns, check_feature_names_in
from ..compute import resolve_devices, usable_devices
from ..compute._plan import Plan, make_framing, make_plan, memory_of_all_layers, shape_of
from ..compute._runner import compute_codes
from ..config import shows_progress
from ..exceptions import ImageError, ImageSkippedWarning, LayerError
from ..inputs import Framing, Images, Reading, as_images
from ..networks import Backbone, load_backbone
from ..networks._fitted import NETWORK, given_of
from ..networks._layers import Layer, LayerTable
from ..networks._load import BackboneInfo
from ..networks._split import cached_table, pooled_shape
from ..store import Store, open_store

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = [
    "FittedCodes",
    "asked_layers",
    "codes_of",
    "column_names",
    "feature_names",
    "fill",
    "fit_codes",
    "images_of",
    "normalize_rows",
    "prepare",
    "skipped",
    "table_of",
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
    check_columns(codes, X, reset=False)
    return codes._fitted.reading.images(X)


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
    backbone = codes._load_network()
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
    if not shows_progress(codes.verbose):
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


# What `fit` settles: the network, the layer, the framing and the look of the input.


_OF_CODES = (*NETWORK, "layer", "pooling", "normalize")

@dataclass(frozen=True)
class FittedCodes:
    """Parameters that decide what the codes are, as they were when `fit` was called."""

    layers: tuple[str, ...]
    columns: tuple[tuple[str, int], ...]
    pooling: str | None
    framing: Framing
    normalize: str | None
    reading: Reading
    # What the parameters were, which `partial_fit` needs to be as they were.
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)


def fit_codes(codes: CNNCodes, X: Any) -> None:
    """Set the fitted attributes of a transformer."""
    images = as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)
    resolve_devices(codes.device)
    open_store(codes.cache)
    backbone, table = table_of(codes)
    layers = asked_layers(table, codes.layer)
    if codes.pooling is None and len(layers) > 1:
        raise LayerError(
            f"pooling=None gives maps, and those of several layers cannot stand side by side: "
            f"{[layer.name for layer in layers]}. Take one layer or another pooling."
        )
    shape = shape_of(layers, codes.pooling)
    check_columns(codes, X, reset=True)
    codes._fitted = FittedCodes(
        layers=tuple(layer.name for layer in layers),
        columns=tuple(column_names(backbone.name, layer, codes.pooling) for layer in layers),
        pooling=codes.pooling,
        framing=_framing(codes, backbone),
        normalize=codes.normalize,
        reading=images.reading,
        given=given_of(codes, _OF_CODES),
    )
    codes._network = None if backbone.portable else backbone
    codes.backbone_ = BackboneInfo.of(backbone, codes.weights)
    codes.layers_ = list(codes._fitted.layers)
    codes.image_size_ = codes._fitted.framing.image_size
    codes.code_shape_ = shape


def table_of(codes: CNNCodes) -> tuple[Backbone, LayerTable]:
    """The network and its layers, from the parameters alone."""
    backbone = load_backbone(
        codes.backbone,
        weights=codes.weights,
        preprocessing=codes.preprocessing,
        verbose=codes.verbose,
    )
    return backbone, cached_table(backbone, _framing(codes, backbone).image_size)


def _framing(codes: CNNCodes, backbone: Backbone) -> Framing:
    facts = backbone.preprocessing
    return make_framing(
        facts,
        image_size=codes.image_size,
        resize=codes.resize,
        crop_pct=codes.crop_pct,
    )


def asked_layers(table: LayerTable, layer: str | int | Sequence[str | int] | None) -> list[Layer]:
    """The layers that the `layer` parameter means.

    Raises
    ------
    LayerError
        If one of them does not exist, or the list is empty or names a layer twice.
    """
    if layer is None or isinstance(layer, (str, int)):
        return [table.resolve(layer)]
    layers = [table.resolve(one) for one in layer]
    if not layers or len(set(layers)) < len(layers):
        raise LayerError(
            f"layer={layer!r} must be one or more different layers, "
            f"but means {[one.name for one in layers]}."
        )
    return layers


# Names of the columns that come out.


def column_names(backbone: str, layer: Layer, pooling: str | None) -> tuple[str, int]:
    """What the columns of a layer are called before their number, and how many there are.

    The pooling is part of the name where there was something to pool.
    """
    stem = f"{re.sub('[^0-9A-Za-z_.]', '_', backbone)}_{layer.name}"
    if math.prod(layer.shape) > layer.n_channels:
        stem += f"_{pooling or 'map'}"
    return stem, math.prod(pooled_shape(layer, pooling))


def feature_names(codes: CNNCodes, input_features: Any) -> np.ndarray:
    """``network_layer_pooling_number`` for each column."""
    if input_features is not None and hasattr(codes, "n_features_in_"):
        check_feature_names_in(codes, input_features)
    columns = codes._fitted.columns
    names = [f"{stem}_{i}" for stem, width in columns for i in range(width)]
    return np.asarray(names, dtype=object)
