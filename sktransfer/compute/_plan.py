"""Everything that is settled before the first image is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..inputs import Preparation
from ..networks import POOLINGS, Cuttable, Layer, has_token, pooled_shape
from ..store import Store
from ._base import Engine
from ._engine import engine_identity, make_engine
from ._quantized import Quantized

__all__ = [
    "ComputeSettings",
    "LayerLayout",
    "Layout",
    "PackedLayout",
    "Pass",
    "Plan",
    "memory_of_all_layers",
]


@dataclass(frozen=True)
class ComputeSettings:
    """What runs a frozen network, and how.

    Attributes
    ----------
    device : sequence of str
        Those that are here.
    precision, engine, compile : object
        As in `CNNCodes`.
    batch_size, n_jobs : int or None
        Items a batch, and batches at a time; None is the engine's own and all cores.
    quantized : Quantized or None
        The network in 8 bits, for ``precision="int8"``.
    """

    device: Sequence[str] = ("auto",)
    precision: str = "auto"
    engine: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    n_jobs: int | None = None
    quantized: Quantized | None = None

    def for_other_layers(self) -> ComputeSettings:
        """The same for layers that no conversion to 8 bits is of: they are computed in float32."""
        if self.precision != "int8":
            return self
        return replace(self, precision="float32", quantized=None)


@dataclass(frozen=True, eq=False)
class Pass:
    """One way of putting images through the network.

    Attributes
    ----------
    engine : Engine
        Computes the codes of one or more layers.
    wanted : tuple of int
        Which of the engine's outputs are asked for, in this order.
    layout : LayerLayout or PackedLayout
        Where all its outputs are kept.
    layers : tuple of str
        What its outputs are of.
    """

    engine: Engine
    wanted: tuple[int, ...]
    layout: Layout
    layers: tuple[str, ...]


class Plan:
    """How the codes of items are found: where they may be kept, and what computes the others.

    A *narrow* pass computes the layers that are asked for and nothing behind them, a *wide* one
    computes all layers. Engines are made when they are needed: what is known needs none.

    Parameters
    ----------
    network : Cuttable
    layers : sequence of Layer
        Asked for.
    preparation : Preparation
        Makes an item an array.
    pooling : str or None
    settings : ComputeSettings
    keep : {"auto", "asked", "all"}
        As `cache_layers` of `CNNCodes`.

    Attributes
    ----------
    network : str
        Its name, for messages.
    runs_on : tuple of str
        Name and precision of the engine. One that cannot run this network gives way to another
        when it is made; from then on this, and every key, is that of the other.
    claim_space : str
        One for all layers: an item goes through the network in one place at a time.
    few : bool
        Whether what is to be computed first would leave cores idle.
    private : bool
        Whether codes must not reach another process, which cannot tell what network they are of.

    Raises
    ------
    EngineError
        If the engine that is asked for is not installed, or is not for this device.
    """

    def __init__(
        self,
        network: Cuttable,
        layers: Sequence[Layer],
        preparation: Preparation,
        *,
        pooling: str | None,
        settings: ComputeSettings,
        keep: str,
    ):
        self.network, self.preparation = network.name, preparation
        self._cuts, self._layers = network, list(layers)
        self._pooling, self._settings, self._keep = pooling, settings, keep
        self.private, self.few = network.private, False
        self.runs_on = engine_identity(
            settings.device,
            precision=settings.precision,
            engine=settings.engine,
            compile=settings.compile,
            quantized=settings.quantized,
        )
        # Makes one row of those of several windows of an item; None where an item is one array.
        self.merge = network.merge(pooling)
        self._keys: dict[object, str] = {}
        self._known_layouts: tuple[object, list[Layout]] = (None, [])
        self._known_spaces: tuple[object, list[str]] = (None, [])
        self.claim_space = "claim " + self._key([])

    @property
    def separate(self) -> bool:
        """Whether layers stand in rows of their own: maps cannot stand side by side."""
        return self._pooling is None and len(self._layers) > 1

    @property
    def single(self) -> LayerLayout:
        """Where codes stand layer by layer."""
        spaces = tuple(self._key([layer]) for layer in self._layers)
        return LayerLayout(spaces, tuple(pooled_shape(one, self._pooling) for one in self._layers))

    @property
    def layouts(self) -> list[Layout]:
        """Where codes may be found."""
        if self._known_layouts[0] != self.runs_on:
            packed = [self._packed(layers) for layers in self._sets]
            self._known_layouts = self.runs_on, [self.single, *packed]
        return self._known_layouts[1]

    @cached_property
    def _sets(self) -> list[list[Layer]]:
        """Lists of layers that may stand in one row, of which a wide pass computes the first."""
        if self._settings.precision == "int8":  # a conversion is of the layers asked for alone
            return []
        usual, every = (self._packable(s) for s in (self._cuts.nameable(), self._cuts.every()))
        sets = [usual] if usual == every else [usual, every]
        return [some for some in sets if set(self._layers) <= set(some)]

    def _packable(self, layers: list[Layer]) -> list[Layer]:
        """Those of some layers whose codes can stand side by side in what is kept of an item.

        They are one short row, or rows of the tokens of a text.
        """
        pooling = self._pooling
        if pooling is None and all(layer.kind == "text" for layer in layers):
            return layers
        if pooling not in POOLINGS or pooling == "flatten":
            return []
        return [
            layer
            for layer in layers
            if self._cuts.keeps_items_apart(layer) and (pooling != "token" or has_token(layer))
        ]

    def _engine_of(self, layers: list[Layer]) -> Engine:
        names, shape = tuple(layer.name for layer in layers), self.preparation.shape
        key = (self._cuts.identity, names, self._pooling, shape)
        return make_engine(
            key,
            lambda: self._cuts.prefix(layers, self._pooling),
            probes=self.preparation.probes,
            device=self._settings.device,
            precision=self._settings.precision,
            engine=self._settings.engine,
            compile=self._settings.compile,
            quantized=self._settings.quantized,
            on_disk=not self.private,
            few=self.few,
        )

    @cached_property
    def narrow(self) -> Pass:
        """Computes what is asked for."""
        engine = self._engine_of(self._layers)
        self.runs_on = engine.name, engine.precision
        names = tuple(layer.name for layer in self._layers)
        return Pass(engine, tuple(range(len(self._layers))), self.single, names)

    @cached_property
    def wide(self) -> Pass:
        """Computes all layers; the narrow pass where the same engine cannot run them."""
        if not self._sets:
            return self.narrow
        engine = self._engine_of(self._sets[0])
        # One engine may be able to run a part of the network and unable to run the whole.
        for _ in range(2):
            if self.runs_on == (engine.name, engine.precision):
                wanted = tuple(self._sets[0].index(layer) for layer in self._layers)
                names = tuple(layer.name for layer in self._sets[0])
                return Pass(engine, wanted, self._packed(self._sets[0]), names)
            self.narrow  # noqa: B018  (tells what this network runs on)
        return self.narrow

    @property
    def usual(self) -> Pass:
        """The pass of images of which nothing is known."""
        return self.wide if self._keep == "all" else self.narrow

    def divide(self, store: Store | None, keys: Sequence[bytes]) -> list[tuple[Pass, list[bytes]]]:
        """Say which pass is for which of some images whose codes are not known.

        With ``keep="auto"`` the wide one is for images of which another layer is known: who
        asks for a second layer will ask for a third.
        """
        if not keys:
            return []
        if store is None:
            return [(self.narrow, list(keys))]
        if self._keep != "auto" or not self._sets:
            return [(self.usual, list(keys))]
        divided: dict[Pass, list[bytes]] = {}
        for key, known in zip(keys, store.knows(self._spaces(), keys), strict=True):
            divided.setdefault(self.wide if known else self.narrow, []).append(key)
        return list(divided.items())

    def _spaces(self) -> list[str]:
        """Every place where a layer of this network may stand."""
        if self._known_spaces[0] != self.runs_on:
            every = max(self._sets, key=len)
            places = (*([one] for one in every), *self._sets)
            self._known_spaces = self.runs_on, [self._key(layers) for layers in places]
        return self._known_spaces[1]

    def _packed(self, layers: list[Layer]) -> PackedLayout:
        stops, start = {}, 0
        for layer in layers:
            *places, width = pooled_shape(layer, self._pooling)
            stops[layer] = (..., slice(start, start + width))
            start += width
        return PackedLayout(
            self._key(layers), (*places, start), tuple(stops[layer] for layer in self._layers)
        )

    def _key(self, layers: list[Layer]) -> str:
        """A name that changes with whatever could change a code."""
        names = "|".join(layer.name for layer in layers)
        if (names, self.runs_on) not in self._keys:
            facts = (self._cuts.identity, self.preparation.key)
            described = repr((*facts, self._pooling, *self.runs_on, names)).encode()
            self._keys[names, self.runs_on] = hashlib.sha256(described).hexdigest()[:32]
        return self._keys[names, self.runs_on]


def memory_of_all_layers(cuts: Cuttable, n_images: int) -> int:
    """Bytes that the pooled codes of every layer take in the store."""
    if cuts not in _bytes_of_all_layers:
        of_each = (4 * pooled_shape(layer, "avg")[0] for layer in cuts.nameable())
        _bytes_of_all_layers[cuts] = sum(of_each)
    return n_images * _bytes_of_all_layers[cuts]


# It must not keep networks in memory that nobody else has any more.
_bytes_of_all_layers: WeakKeyDictionary[Cuttable, int] = WeakKeyDictionary()


# Where in the store the codes of an image stand.


@dataclass(frozen=True)
class LayerLayout:
    """One row for each layer: what is asked for is kept, and shared layer by layer.

    Attributes
    ----------
    spaces : tuple of str
        Key of each layer that is computed, which is each one asked for.
    shapes : tuple of tuple of int
        Of the row of each.
    """

    spaces: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where one is missing."""
        columns = [
            _believable(store, space, keys, shape, (...,))
            for space, shape in zip(self.spaces, self.shapes, strict=True)
        ]
        return [
            None if any(parts is None for parts in row) else sum(row, ())
            for row in zip(*columns, strict=True)
        ]

    def put(self, store: Store, keys: Sequence[bytes], outputs: Sequence[np.ndarray]) -> None:
        """Keep the codes of a batch."""
        for space, rows in zip(self.spaces, outputs, strict=True):
            store.put_many(space, keys, list(rows))


@dataclass(frozen=True)
class PackedLayout:
    """One row for all layers of a network: what a search over layers will ask for.

    Attributes
    ----------
    space : str
    shape : tuple of int
        Of the row; layers stand side by side in its last axis.
    parts : tuple of tuple
        Where in the row each layer asked for stands, as what it is to be indexed with.
    """

    space: str
    shape: tuple[int, ...]
    parts: tuple[tuple[Any, ...], ...]

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where they are missing."""
        return _believable(store, self.space, keys, self.shape, self.parts)

    def put(self, store: Store, keys: Sequence[bytes], outputs: Sequence[np.ndarray]) -> None:
        """Keep all layers of a batch."""
        store.put_many(self.space, keys, list(np.concatenate(outputs, axis=-1)))


Layout = LayerLayout | PackedLayout


def _believable(
    store: Store, space: str, keys: Sequence[bytes], shape: tuple[int, ...], parts: Sequence[Any]
) -> list[tuple[np.ndarray, ...] | None]:
    """Parts of the rows that are what an engine makes; what is not is dropped from the store.

    A store may be a folder that others write to: a row that is sound need not be a code.
    """
    found: list[tuple[np.ndarray, ...] | None] = []
    wrong = []
    for key, row in zip(keys, store.get_many(space, keys), strict=True):
        taken = None
        if row is not None:
            if row.dtype == np.float32 and _fits(row.shape, shape):
                taken = tuple(row[part] for part in parts)
                taken = taken if all(map(_is_finite, taken)) else None
            if taken is None:
                wrong.append(key)
        found.append(taken)
    if wrong:
        store.discard(space, wrong)
    return found


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is the one wanted, in which -1 stands for any length."""
    return shape == wanted or (
        len(shape) == len(wanted)
        and all(w in (n, -1) for n, w in zip(shape, wanted, strict=True))
    )


def _is_finite(part: np.ndarray) -> bool:
    flat = part.reshape(-1)
    # A sum of squares is a quarter of the work, and finite only if all numbers are.
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())
