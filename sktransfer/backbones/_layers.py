"""The layers of a network by name and number."""

from __future__ import annotations

import copy
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from ..exceptions import LayerError
from ._cut import classifier_nodes, cut_nodes, is_passive, is_passive_module
from ._trace import TracedNetwork

__all__ = ["Layer", "LayerTable"]

CODE_LAYER = "pre_logits"


@dataclass(frozen=True)
class Layer:
    """A place where a network can be cut.

    Attributes
    ----------
    name : str
        Path of the outermost module whose output this is, such as ``"layer4"``.
    shape : tuple of int
        Shape of its output for one image, without the batch axis.
    kind : {"map", "map_last", "tokens", "vector"}
        What the axes are: (channels, height, width), (height, width, channels),
        (tokens, channels) or (channels,).
    n_prefix_tokens : int
        Tokens before the first patch: class and register tokens.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    n_prefix_tokens: int = 0

    @property
    def n_channels(self) -> int:
        return self.shape[0] if self.kind == "map" else self.shape[-1]


class LayerTable:
    """Cut points of a traced network, from the input to the codes.

    Parameters
    ----------
    network : TracedNetwork
    backbone : str
        Name of the network, for messages.
    image_size : tuple of int
        Height and width of the input in pixels.

    Attributes
    ----------
    layers : list of Layer
        Cut points that are the output of a module, in order; the last is the default,
        the layer before the classifier. Other cut points are reached by name.
    """

    def __init__(self, network: TracedNetwork, backbone: str, image_size: tuple[int, int]):
        self.network, self._backbone, self.image_size = network, backbone, image_size
        cuts = cut_nodes(network)
        same = _merge_passive(cuts, network)
        self._nodes = list(dict.fromkeys(same[node] for node in cuts))
        code = same[self._code_node(cuts)]
        self._aliases = self._name_nodes(same, code)
        self._layers = {node: self._describe(node, code) for node in self._nodes}
        modules = {n for n, _ in network.module.named_modules()}
        end = self._nodes.index(code)
        self.layers = [
            self._layers[node]
            for i, node in enumerate(self._nodes)
            if i <= end and (node is code or self._layers[node].name in modules)
        ]

    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by name or by number; None is the layer before the classifier.

        Raises
        ------
        LayerError
            If there is none; the message names the nearest.
        """
        if layer is None:
            return self.layers[-1]
        if isinstance(layer, str):
            return self._by_name(layer)
        if -len(self.layers) <= layer < 0:
            return self.layers[layer]
        raise LayerError(
            f"layer={layer!r} is not a cut point of {self._backbone}: numbers go from -1 "
            f"(before the classifier) to {-len(self.layers)} (nearest the input)."
        )

    def up_to(self, layer: str | int | None) -> LayerTable:
        """The table of a network that ends with a layer; None is the whole network.

        Raises
        ------
        LayerError
            As in `resolve`.
        """
        last = self.resolve(layer)
        if last is self.layers[-1]:
            return self
        order = self.every()
        before = order[: order.index(last)]
        table = copy.copy(self)
        table.layers = [*(one for one in self.layers if one in before), last]
        return table

    def every(self) -> list[Layer]:
        """All cut points, from the input to the output of the network."""
        return [self._layers[node] for node in self._nodes]

    def nameable(self) -> list[Layer]:
        """The numbered layers, and what is behind the last of them."""
        every = self.every()
        return [*self.layers, *every[every.index(self.layers[-1]) + 1 :]]

    def has(self, name: str) -> bool:
        """Whether the network can be cut behind a module."""
        return name in self._aliases

    def node(self, layer: Layer) -> fx.Node:
        """The operation whose output a layer is."""
        return next(node for node, other in self._layers.items() if other == layer)

    def _by_name(self, name: str) -> Layer:
        if name in self._aliases:
            return self._layers[self._aliases[name]]
        known = [layer.name for layer in self.layers]
        near = difflib.get_close_matches(name, list(self._aliases), n=3, cutoff=0.5)
        inside = any(n == name or n.startswith(name + ".") for n in self.network.names.values())
        reason = (
            "lies where more than one tensor is alive, as within a residual block"
            if inside
            else "is not a layer"
        )
        hint = f"Nearest: {', '.join(near)}. " if near else ""
        raise LayerError(
            f"layer={name!r} {reason} of {self._backbone}. {hint}"
            f"Cut points, from the input: {_shorten(known)}."
        )

    def _code_node(self, cuts: list[fx.Node]) -> fx.Node:
        """The last cut point that every classifier layer still depends on."""
        heads = classifier_nodes(self.network)
        if not heads:
            return cuts[-1]
        order = {node: i for i, node in enumerate(self.network.nodes)}
        before = [node for node in cuts if order[node] < order[heads[0]]]
        if not before:
            raise LayerError(f"{self._backbone} has no layer before its classifier.")
        return before[-1]

    def _name_nodes(self, same: dict[fx.Node, fx.Node], code: fx.Node) -> dict[str, fx.Node]:
        """Every name of a cut point: its own, and each module of which it is the last part."""
        last: dict[str, fx.Node] = {}
        for node in self.network.nodes:
            for name in _prefixes(self.network.names.get(node, "")):
                last[name] = node
        aliases = {name: same[node] for name, node in last.items() if node in same}
        aliases.setdefault(CODE_LAYER, code)
        return aliases

    def _describe(self, node: fx.Node, code: fx.Node) -> Layer:
        modules = dict(self.network.module.named_modules())
        names = [name for name, other in self._aliases.items() if other is node]
        of_modules = [n for n in names if n in modules and not is_passive_module(modules[n])]
        best = min(of_modules or names, key=lambda name: (name.count("."), len(name)))
        if node is code and not of_modules:
            best = CODE_LAYER
        shape = self.network.shapes[node][1:]
        kind = _kind(shape, self.image_size)
        prefix = self._prefix_tokens(shape) if kind == "tokens" else 0
        return Layer(best, shape, kind, prefix)

    def _prefix_tokens(self, shape: tuple[int, ...]) -> int:
        shapes = (self.network.shapes[node][1:] for node in self._nodes)
        ((usual, _),) = Counter(s[0] for s in shapes if len(s) == 2).most_common(1)
        return self.network.n_prefix_tokens if shape[0] == usual else 0


def _prefixes(name: str) -> list[str]:
    parts = name.split(".") if name else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _merge_passive(cuts: list[fx.Node], network: TracedNetwork) -> dict[fx.Node, fx.Node]:
    """Map each cut point to the first one that holds the same numbers."""
    modules: dict[str, nn.Module] = dict(network.module.named_modules())
    same: dict[fx.Node, fx.Node] = {}
    for node in cuts:
        sources = [source for source in node.all_input_nodes if source in same]
        if len(sources) == 1 and is_passive(node, modules):
            before = network.shapes[sources[0]]
            if _squeeze(before) == _squeeze(network.shapes[node]):
                same[node] = same[sources[0]]
                continue
        same[node] = node
    return same


def _squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _kind(shape: tuple[int, ...], image_size: tuple[int, int]) -> str:
    if len(shape) == 3:
        aspect = image_size[0] / image_size[1]
        first = abs(shape[1] / shape[2] - aspect)
        last = abs(shape[0] / shape[1] - aspect)
        return "map_last" if last < first else "map"
    return {1: "vector", 2: "tokens"}.get(len(shape), "other")


def _shorten(names: list[str]) -> str:
    if len(names) <= 40:
        return ", ".join(names)
    return ", ".join([*names[:20], "…", *names[-20:]])
