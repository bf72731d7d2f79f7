"""The stages of a network: what people mean by "the last two blocks", in any family.

A stage is a child of the network, or of a container that spans several resolutions or nearly
all of the weights, such as ``layer4`` of a ResNet or ``blocks.11`` of a vision transformer.
What holds but one layer with weights is no stage of its own: it belongs to the stage after it,
and at the end to the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import fx

from ._cut import weight_dimensions
from ._layers import Layer, LayerTable

__all__ = ["Stage", "stages_of"]

# A container with more than this share of the weights is the trunk, to be looked into.
_TRUNK = 0.9


@dataclass(frozen=True)
class Stage:
    """Some of the layers of a network, between two cut points.

    Attributes
    ----------
    name : str
        Path of its first module with more than one layer, such as ``"layer4"``.
    start : Layer or None
        The cut point before it; None is the pixels.
    end : Layer
        The cut point behind it.
    """

    name: str
    start: Layer | None
    end: Layer


@dataclass(frozen=True)
class _Unit:
    path: str
    n_layers: int  # with weights of two dimensions or more
    resolution: tuple[int, ...]


def stages_of(table: LayerTable) -> list[Stage]:
    """The stages of a network up to the layer before its classifier, from the input."""
    if table.network.whole:
        return [Stage("network", None, table.layers[-1])]
    stages: list[Stage] = []
    start: Layer | None = None
    for units in _groups(list(_units(table)), table):
        main = max(units, key=lambda unit: unit.n_layers > 1 or unit.n_layers / 2)
        last = table.layers[-1] if units[-1].path == "" else table.resolve(units[-1].path)
        stages.append(Stage(main.path, start, last))
        start = last
    final = stages[-1]
    stages[-1] = Stage(final.name, final.start, table.layers[-1])
    return stages


def _groups(units: list[_Unit], table: LayerTable) -> list[list[_Unit]]:
    """Put units together until they make a stage that ends where the network can be cut."""
    groups: list[list[_Unit]] = []
    open_group: list[_Unit] = []
    for unit in units:
        if _is_whole(open_group, table) and unit.resolution != open_group[-1].resolution:
            groups.append(open_group)
            open_group = []
        open_group.append(unit)
        if unit.n_layers > 1 and table.has(unit.path):
            groups.append(open_group)
            open_group = []
    if open_group and (_is_whole(open_group, table) or not groups):
        groups.append(open_group)
    elif open_group:
        groups[-1] += open_group
    return groups


def _is_whole(units: list[_Unit], table: LayerTable) -> bool:
    return sum(unit.n_layers for unit in units) > 1 and table.has(units[-1].path)


def _units(table: LayerTable) -> Iterator[_Unit]:
    network = table.network
    nodes = list(_until(table.node(table.layers[-1]), network.nodes))
    named = [node for node in nodes if node in network.data and network.names.get(node)]
    total = sum(_n_weights(table, node) for node in named)
    yield from _descend(table, named, 0, total)


def _descend(table: LayerTable, nodes: list[fx.Node], depth: int, total: int) -> Iterator[_Unit]:
    names = table.network.names
    groups = [
        (path, list(group)) for path, group in groupby(nodes, lambda n: _head(names[n], depth))
    ]
    for path, group in groups:
        inner = [list(g) for _, g in groupby(group, lambda n: _head(names[n], depth + 1))]
        resolutions = {_resolution(table, part) for part in inner} - {()}
        share = sum(_n_weights(table, node) for node in group) / max(total, 1)
        if len(inner) > 1 and (len(resolutions) > 1 or share > _TRUNK):
            yield from _descend(table, group, depth + 1, total)
        else:
            layers = sum(weight_dimensions(node, table.network) >= 2 for node in group)
            yield _Unit(path, layers, _resolution(table, group))


def _head(name: str, depth: int) -> str:
    return ".".join(name.split(".")[: depth + 1])


def _resolution(table: LayerTable, nodes: list[fx.Node]) -> tuple[int, ...]:
    """Height and width behind some operations; the number of tokens; () if there is neither."""
    for node in reversed(nodes):
        shape = table.network.shapes.get(node, ())[1:]
        if len(shape) == 3:
            return tuple(sorted(shape)[:2])
        if len(shape) == 2:
            return shape[:1]
    return ()


def _n_weights(table: LayerTable, node: fx.Node) -> int:
    if node.op != "call_module":
        return 0
    module = table.network.module.get_submodule(str(node.target))
    return sum(weight.numel() for weight in module.parameters())


def _until(last: fx.Node, nodes: list[fx.Node]) -> Iterator[fx.Node]:
    for node in nodes:
        yield node
        if node is last:
            return
