"""The part of a network behind a cut point, as a module of its own that can learn."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import fx

from ..exceptions import LayerError
from ._layers import Layer, LayerTable
from ._nodes import referred
from ._pooling import pooled_shape
from ._suggest import reason_of

__all__ = ["tail_of"]


def tail_of(table: LayerTable, start: Layer | None) -> fx.GraphModule:
    """Copy what comes behind a cut point, up to the layer before the classifier.

    Parameters
    ----------
    table : LayerTable
        It is not changed, and shares no weights with the result.
    start : Layer or None
        Where the tail begins; None is the normalised pixels.

    Returns
    -------
    torch.fx.GraphModule
        Takes what the layer gives, one batch. Parameters have the names of the network.

    Raises
    ------
    LayerError
        If the tail needs more of the prefix than this one tensor.
    """
    source = table.network.module
    graph = fx.Graph()
    first = graph.placeholder("activations")
    begin = _input_node(source) if start is None else table.node(start)
    end = table.node(table.layers[-1])
    if start is not None and start.kind == "map_last":
        # Activations are kept as (channels, height, width), whatever the network has.
        first = graph.call_method("permute", (first, 0, 2, 3, 1))
    copier = _Copier(table, graph, {begin: first})
    graph.output(copier.copy(end))
    tail = fx.GraphModule(referred(source, graph), graph, "Tail")
    tail.delete_all_unused_submodules()
    tail = copy.deepcopy(tail)
    _check(tail, table, start)
    return tail


def _check(tail: fx.GraphModule, table: LayerTable, start: Layer | None) -> None:
    """Run it for two images, without memory or arithmetic: some networks fold the images' axis
    into others, and a tensor in such a place is not one row for each image."""
    channels = (table.network.n_channels, *table.image_size)
    shape = channels if start is None else pooled_shape(start, None)
    wanted = (2, *table.layers[-1].shape)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if table.network.whole:  # which may not run without numbers
                found = tuple(tail(torch.zeros(2, *shape)).shape)
            else:
                copied = copy.deepcopy(tail).to("meta")
                found = tuple(copied(torch.empty(2, *shape, device="meta")).shape)
    except Exception as error:
        reason = reason_of(error)
        raise LayerError(f"what follows {start!r} cannot be run on its own: {reason}.") from error
    if found != wanted:
        raise LayerError(f"what follows {start!r} must give {wanted} for two images, gave {found}.")


def _input_node(source: fx.GraphModule) -> fx.Node:
    return next(node for node in source.graph.nodes if node.op == "placeholder")


class _Copier:
    """Copies an operation after all that it needs, as far back as the beginning."""

    def __init__(self, table: LayerTable, graph: fx.Graph, copies: dict[fx.Node, Any]):
        self._network, self._graph, self._copies = table.network, graph, copies
        self._begin = next(iter(copies))

    def copy(self, end: fx.Node) -> fx.Node:
        needed = self._needed(end)
        for node in self._network.nodes:  # in the order of computation
            if node in needed and node not in self._copies:
                self._copies[node] = self._graph.node_copy(node, self._copies.__getitem__)
        return self._copies[end]

    def _needed(self, end: fx.Node) -> set[fx.Node]:
        found, waiting = set(), [end]
        while waiting:
            node = waiting.pop()
            if node in found or node in self._copies or self._is_batch_size(node):
                continue
            if node.op == "placeholder":
                raise LayerError(
                    f"what follows {self._network.names.get(self._begin)!r} needs more of the "
                    "network than its output; cut it elsewhere."
                )
            found.add(node)
            waiting += node.all_input_nodes
        return found

    def _is_batch_size(self, node: fx.Node) -> bool:
        """Replace the number of images, read from an earlier tensor, by that of the tail."""
        reads_size = node.op == "call_method" and node.target == "size" and node.args[1:] == (0,)
        if not reads_size and not _is_item_of_shape(node):
            return False
        begin = self._copies[self._begin]
        self._copies[node] = self._graph.call_method("size", (begin, 0))
        return True


def _is_item_of_shape(node: fx.Node) -> bool:
    """Whether an operation is ``x.shape[0]``."""
    if getattr(node.target, "__name__", "") != "getitem" or node.args[1] != 0:
        return False
    source: Any = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    by_attribute = getattr(source.target, "__name__", "") == "getattr" and source.args[1] == "shape"
    return bool(by_attribute or (source.op == "call_method" and source.target == "size"))
