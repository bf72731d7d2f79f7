"""What `fit` settles: the network, the layer, the framing and the look of the input."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from .._content import content_of
from .._sklearn import validate_data
from ..backbones import Backbone, load_backbone
from ..backbones._cache import NetworkCache
from ..backbones._fingerprint import structure_of
from ..backbones._frozen import layer_table
from ..backbones._layers import Layer, LayerTable
from ..backbones._load import weights_by_name
from ..backbones._spec import as_preprocessing
from ..engines import resolve_devices
from ..exceptions import InputError, LayerError, shown
from ..images import Framing, as_images
from ..store import open_store
from ._framing import make_framing
from ._info import BackboneInfo
from ._names import column_names
from ._plan import shape_of

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = [
    "NETWORK",
    "FittedCodes",
    "asked_layers",
    "cached_table",
    "check_columns",
    "check_given",
    "fit_codes",
    "given_of",
    "table_of",
]  # fmt: skip

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
