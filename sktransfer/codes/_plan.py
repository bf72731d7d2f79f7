"""Everything that is settled before the first image is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..backbones import Backbone
from ..backbones._frozen import freeze
from ..backbones._layers import Layer, LayerTable
from ..backbones._pooling import POOLINGS, pooled_shape
from ..engines import Engine, make_engine
from ..images import READING, Framing
from ._shelf import LayerShelf, PackedShelf, Shelf

__all__ = ["Plan", "make_plan", "memory_of_all_layers", "shape_of"]


@dataclass(frozen=True)
class Plan:
    """How the codes of images are had.

    Attributes
    ----------
    engine : Engine
        Computes the codes of one or more layers.
    framing : Framing
        Makes an image fit the network.
    wanted : tuple of int
        Which of the engine's outputs are asked for, in this order.
    shelf : Shelf
        Where codes are kept.
    others : tuple of Shelf
        Where else they may be found.
    """

    engine: Engine
    framing: Framing
    wanted: tuple[int, ...]
    shelf: Shelf
    others: tuple[Shelf, ...]


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
    all_layers: bool,
) -> Plan:
    """Build the engine and the addresses of its codes in the store."""
    packable = pooling in POOLINGS and pooling not in ("flatten", "token")
    computed = _union(table.layers, layers) if all_layers and packable else layers
    # Normalisation is part of the network that runs, so it is part of what it is.
    key = (backbone.fingerprint, backbone.preprocessing, tuple(layer.name for layer in computed),
           pooling, framing.image_size)  # fmt: skip
    runner = make_engine(
        key,
        lambda: freeze(backbone, table, computed, pooling),
        image_size=framing.image_size,
        device=device,
        precision=precision,
        engine=engine,
        compile=compile,
    )
    facts = (READING, backbone.fingerprint, backbone.preprocessing, framing, pooling,
             runner.name, runner.precision)  # fmt: skip
    single = LayerShelf(tuple(_address(facts, layer.name) for layer in layers))
    others: tuple[Shelf, ...] = ()
    if packable:
        others = (_packed(facts, _union(table.layers, layers), layers, pooling),)
    if computed is layers:
        return Plan(runner, framing, tuple(range(len(layers))), single, others)
    wanted = tuple(computed.index(layer) for layer in layers)
    return Plan(runner, framing, wanted, others[0], (single,))


def _union(numbered: list[Layer], asked: list[Layer]) -> list[Layer]:
    return [*numbered, *(layer for layer in asked if layer not in numbered)]


def _packed(
    facts: tuple[object, ...], computed: list[Layer], layers: list[Layer], pooling: str | None
) -> PackedShelf:
    stops, start = {}, 0
    for layer in computed:
        width = pooled_shape(layer, pooling)[0]
        stops[layer] = slice(start, start + width)
        start += width
    names = "|".join(layer.name for layer in computed)
    return PackedShelf(_address(facts, names), tuple(stops[layer] for layer in layers))


def _address(facts: tuple[object, ...], layer: str) -> str:
    """A name that changes with whatever could change a code."""
    return hashlib.sha256(repr((*facts, layer)).encode()).hexdigest()[:32]


def memory_of_all_layers(table: LayerTable, n_images: int) -> int:
    """Bytes that the pooled codes of every layer take in the store."""
    return n_images * sum(4 * layer.n_channels for layer in table.layers)


def shape_of(layers: list[Layer], pooling: str | None) -> tuple[int, ...]:
    """Shape of the codes of one image; several layers stand side by side."""
    shapes = [pooled_shape(layer, pooling) for layer in layers]
    if len(shapes) == 1:
        return shapes[0]
    return (sum(shape[0] for shape in shapes),)
