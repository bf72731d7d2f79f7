"""What `transform` does around the computing."""

from __future__ import annotations

import math
import numbers
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from .._content import content_of
from .._sklearn import check_feature_names_in, validate_data
from ..compute import resolve_devices, usable_devices
from ..compute._plan import Plan, make_framing, make_plan, memory_of_all_layers, shape_of
from ..compute._runner import compute_codes
from ..config import shows_progress
from ..exceptions import ImageError, ImageSkippedWarning, InputError, LayerError, shown
from ..inputs import Framing, Images, as_images, pack_settings, take_settings
from ..networks import Backbone, load_backbone
from ..networks._bundle import Bundle, PackedModule
from ..networks._fingerprint import structure_of
from ..networks._layers import Layer, LayerTable
from ..networks._load import BackboneInfo, NetworkCache, weights_by_name
from ..networks._registry import Registration
from ..networks._spec import as_preprocessing
from ..networks._split import layer_table, pooled_shape
from ..store import Store, open_store

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = [
    "NETWORK",
    "FittedCodes",
    "asked_layers",
    "cached_table",
    "check_columns",
    "check_given",
    "codes_of",
    "column_names",
    "feature_names",
    "fill",
    "fit_codes",
    "given_of",
    "images_of",
    "load_state",
    "network_of",
    "normalize_rows",
    "prepare",
    "save_state",
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


# Parameters that decide what the network sees of an image, and which network it is.
NETWORK = (
    "backbone", "weights", "image_size", "resize", "crop_pct", "image_shape", "value_range",
    "preprocessing",
)  # fmt: skip
_OF_CODES = (*NETWORK, "layer", "pooling", "normalize")

_TABLES: NetworkCache[LayerTable] = NetworkCache(
    max_networks=8, max_bytes=2**30, module_of=lambda table: table.network.module
)


@dataclass(frozen=True)
class FittedCodes:
    """Parameters that decide what the codes are, as they were when `fit` was called."""

    layers: tuple[str, ...]
    columns: tuple[tuple[str, int], ...]
    pooling: str | None
    framing: Framing
    normalize: str | None
    image_shape: Any
    value_range: Any
    # What floats were found to be, where the range was not given.
    float_range: tuple[float, float] | None
    layout: str | None = None  # a stack of greyscale images, rows, or other images
    # Which kinds of images used their range; it decides nothing but what is warned of.
    bright: tuple[str, ...] = field(default=(), compare=False)
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
        image_shape=images.image_shape,
        value_range=codes.value_range,
        float_range=images.float_range,
        layout=images.layout,
        bright=images.bright,
        given=given_of(codes, _OF_CODES),
    )
    codes._network = None if backbone.portable else backbone
    codes.backbone_ = BackboneInfo.of(backbone, codes.weights)
    codes.layers_ = list(codes._fitted.layers)
    codes.image_size_ = codes._fitted.framing.image_size
    codes.code_shape_ = shape


def given_of(est: Any, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The values of parameters as text that is the same after a pickle and in other words."""
    return tuple((name, _told(name, getattr(est, name))) for name in names)


def check_given(est: Any, given: tuple[tuple[str, str], ...], hint: str) -> None:
    """What goes on has the parameters that its network was built with.

    Raises
    ------
    InputError
        If one is another now.
    """
    for name, before in given:
        value = getattr(est, name)
        now = _told(name, value)
        if now == before:
            continue
        if isinstance(value, nn.Module):  # its repr may be the same, and long
            before, now = before.partition(" ")[0], f"another {now.partition(' ')[0]}"
        raise InputError(
            f"Going on needs {name}={shown(before)}, as in the first fit, got {shown(now)}. To "
            f"change it, call {hint}."
        )


def _told(name: str, value: Any) -> str:
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} {content_of(dict(value.state_dict())).digest}"
    if name == "weights":
        value = weights_by_name(value)
    elif name == "preprocessing" and not isinstance(value, (str, type(None))):
        return repr(as_preprocessing(value))
    elif name == "image_size" and isinstance(value, numbers.Integral):
        value = (value, value)
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    """A list is as good as a tuple, numpy's numbers as Python's, and paths as text."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(one) for one in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value


def table_of(codes: CNNCodes) -> tuple[Backbone, LayerTable]:
    """The network and its layers, from the parameters alone."""
    backbone = load_backbone(
        codes.backbone,
        weights=codes.weights,
        preprocessing=codes.preprocessing,
        verbose=codes.verbose,
    )
    return backbone, cached_table(backbone, _framing(codes, backbone).image_size)


def cached_table(backbone: Backbone, image_size: tuple[int, int]) -> LayerTable:
    """Layers of a network at an image size; worked out once for each of the last few."""
    own = backbone.source in ("module", "registered")
    structure = structure_of(backbone.module) if own else None
    key = (backbone.fingerprint, backbone.name, structure, backbone.preprocessing, image_size)
    return _TABLES.get(key, lambda: layer_table(backbone, image_size))


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


def check_columns(codes: CNNCodes, X: Any, *, reset: bool) -> None:
    """Keep scikit-learn's account of columns where the input is a table."""
    if reset:
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(codes, name):
                delattr(codes, name)
    is_table = len(getattr(X, "shape", ())) == 2
    if is_table and (reset or hasattr(codes, "n_features_in_")):
        validate_data(codes, X, reset=reset, skip_check_array=True)


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


# What a pickle of the transformer holds, and the network it stands for.


_unpacking = threading.Lock()


def network_of(codes: CNNCodes) -> Backbone:
    """The network of a fitted transformer, from its pickle or by name."""
    held = codes._network
    if isinstance(held, Bundle):
        with _unpacking:  # threads that ask at the same time share one network
            held = codes._network
            if isinstance(held, Bundle):
                held = codes._network = held.unpack()
    return codes.backbone_.load() if held is None else held


def save_state(codes: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Put plain values in the place of networks: a pickle holds no torch storages."""
    state = dict(state)
    if "_network" in state:
        held = state["_network"]
        if held is None and codes.bundle_weights:
            held = codes.backbone_.load()
        state["_network"] = Bundle.pack(held) if isinstance(held, Backbone) else held
    state["weights"] = weights_by_name(state["weights"])
    if not isinstance(state.get("backbone"), str):
        state["backbone"] = PackedModule.pack(state["backbone"])
    elif needed := Registration.of(state["backbone"], may_change="_fitted" not in state):
        state["_registrations"] = needed
    return pack_settings(state)


def load_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `save_state`; the network itself is built when it is first needed."""
    state = take_settings(state)
    state.pop("_registrations", None)  # they did their work when they were unpickled
    if isinstance(state.get("backbone"), PackedModule):
        state["backbone"] = state["backbone"].unpack()
    return state
