"""Everything that is settled before the first image is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..backbones import Backbone
from ..backbones._fingerprint import is_private
from ..backbones._frozen import freeze, identity_of
from ..backbones._layers import Layer, LayerTable
from ..backbones._pooling import POOLINGS, has_token, pooled_shape
from ..engines import Engine, engine_identity, make_engine
from ..images import READING, Framing
from ..store import Store
from ._shelf import LayerShelf, PackedShelf, Shelf

__all__ = ["Pass", "Plan", "make_plan", "memory_of_all_layers", "shape_of"]


@dataclass(frozen=True, eq=False)
class Pass:
    """One way of putting images through the network.

    Attributes
    ----------
    engine : Engine
        Computes the codes of one or more layers.
    wanted : tuple of int
        Which of the engine's outputs are asked for, in this order.
    shelf : LayerShelf or PackedShelf
        Where all its outputs are kept.
    layers : tuple of str
        What its outputs are of.
    """

    engine: Engine
    wanted: tuple[int, ...]
    shelf: Shelf
    layers: tuple[str, ...]


class Plan:
    """How the codes of images are had: where they may be found, and what computes the others.

    A *narrow* pass computes the layers that are asked for and nothing behind them, a *wide* one
    computes all layers. Engines are made when they are needed: what is known needs none.

    Parameters
    ----------
    network : str
        Its name, for messages.
    layers : list of Layer
        Asked for.
    sets_of : callable
        Gives the lists of layers that may stand in one row, of which a wide pass computes the
        first; none where layers cannot.
    framing : Framing
        Makes an image fit the network.
    pooling : str or None
    facts : tuple
        What decides the codes of every layer, but for the engine.
    runs_on : tuple of str
        Name and precision that the engine should have.
    engine_of : callable
        Makes the engine of some layers.
    keep : {"auto", "asked", "all"}
        As `cache_layers` of `CNNCodes`.
    private : bool
        Whether codes must not reach another process, which cannot tell what network they are of.

    Attributes
    ----------
    network : str
    framing : Framing
    runs_on : tuple of str
        Name and precision of the engine. One that cannot run this network gives way to another
        when it is made; from then on this, and every address, is that of the other.
    claim_space : str
        One for all layers: an image goes through the network in one place at a time.
    """

    def __init__(
        self,
        network: str,
        layers: list[Layer],
        framing: Framing,
        *,
        pooling: str | None,
        facts: tuple[object, ...],
        runs_on: tuple[str, str],
        sets_of: Callable[[], list[list[Layer]]],
        engine_of: Callable[[list[Layer]], Engine],
        keep: str,
        private: bool,
    ):
        self.network, self.framing, self.runs_on = network, framing, runs_on
        self._layers, self._pooling, self._facts = layers, pooling, facts
        self._sets_of, self._engine_of, self._keep = sets_of, engine_of, keep
        self.private = private
        self._addresses: dict[object, str] = {}
        self.claim_space = "claim " + self._address([])

    @property
    def single(self) -> LayerShelf:
        """Where codes stand layer by layer."""
        spaces = tuple(self._address([layer]) for layer in self._layers)
        return LayerShelf(spaces, tuple(pooled_shape(one, self._pooling) for one in self._layers))

    @property
    def shelves(self) -> Iterator[Shelf]:
        """Where codes may be found."""
        yield self.single
        yield from (self._packed(layers) for layers in self._sets)

    @cached_property
    def _sets(self) -> list[list[Layer]]:
        return self._sets_of()

    @cached_property
    def narrow(self) -> Pass:
        """Computes what is asked for."""
        engine = self._engine_of(self._layers)
        self.runs_on = engine.name, engine.precision
        names = tuple(layer.name for layer in self._layers)
        return Pass(engine, tuple(range(len(self._layers))), self.single, names)

    @cached_property
    def wide(self) -> Pass:
        """Computes all layers; the narrow pass where they cannot be had by the same engine."""
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
        every = max(self._sets, key=len)
        return [self._address(layers) for layers in (*([one] for one in every), *self._sets)]

    def _packed(self, layers: list[Layer]) -> PackedShelf:
        stops, start = {}, 0
        for layer in layers:
            width = pooled_shape(layer, self._pooling)[0]
            stops[layer] = slice(start, start + width)
            start += width
        return PackedShelf(
            self._address(layers), start, tuple(stops[layer] for layer in self._layers)
        )

    def _address(self, layers: list[Layer]) -> str:
        """A name that changes with whatever could change a code."""
        names = "|".join(layer.name for layer in layers)
        if (names, self.runs_on) not in self._addresses:
            described = repr((*self._facts, *self.runs_on, names)).encode()
            self._addresses[names, self.runs_on] = hashlib.sha256(described).hexdigest()[:32]
        return self._addresses[names, self.runs_on]


def make_plan(
    backbone: Backbone,
    table: LayerTable,
    layers: list[Layer],
    framing: Framing,
    *,
    pooling: str | None,
    device: list[str],
    precision: str,
    engine: str,
    compile: bool,
    keep: str = "asked",
) -> Plan:
    """Say how the codes of some layers are had.

    Raises
    ------
    EngineError
        If the engine that is asked for is not installed, or is not for this device.
    """

    network = identity_of(backbone, table)

    def engine_of(computed: list[Layer]) -> Engine:
        # Normalisation is part of the network that runs, so it is part of what it is.
        key = (network, backbone.preprocessing,
               tuple(layer.name for layer in computed), pooling, framing.image_size)  # fmt: skip
        return make_engine(
            key,
            lambda: freeze(backbone, table, computed, pooling),
            image_size=framing.image_size,
            device=device,
            precision=precision,
            engine=engine,
            compile=compile,
            on_disk=not is_private(network),
        )

    def sets_of() -> list[list[Layer]]:
        usual, every = (_packable(table, s, pooling) for s in (table.nameable(), table.every()))
        sets = [usual] if usual == every else [usual, every]
        return [some for some in sets if set(layers) <= set(some)]

    return Plan(
        backbone.name,
        layers,
        framing,
        pooling=pooling,
        facts=(READING, network, backbone.preprocessing, framing, pooling),
        runs_on=engine_identity(device, precision=precision, engine=engine, compile=compile),
        sets_of=sets_of,
        engine_of=engine_of,
        keep=keep,
        private=is_private(network),
    )


def _packable(table: LayerTable, layers: list[Layer], pooling: str | None) -> list[Layer]:
    """Those of some layers whose codes are one short row an image, and may stand side by side."""
    if pooling not in POOLINGS or pooling == "flatten":
        return []
    return [
        layer
        for layer in layers
        if table.keeps_images_apart(layer) and (pooling != "token" or has_token(layer))
    ]


def memory_of_all_layers(table: LayerTable, n_images: int) -> int:
    """Bytes that the pooled codes of every layer take in the store."""
    return n_images * _bytes_of_all_layers(table)


@lru_cache(maxsize=8)
def _bytes_of_all_layers(table: LayerTable) -> int:
    return sum(4 * pooled_shape(layer, "avg")[0] for layer in table.nameable())


def shape_of(layers: list[Layer], pooling: str | None) -> tuple[int, ...]:
    """Shape of the codes of one image; several layers stand side by side."""
    shapes = [pooled_shape(layer, pooling) for layer in layers]
    if len(shapes) == 1:
        return shapes[0]
    return (sum(shape[0] for shape in shapes),)
