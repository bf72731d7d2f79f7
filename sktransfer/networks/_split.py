"""The prefix of a network as one module: photographs in, codes of several layers out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from .._lru import LRU
from ..exceptions import BackboneWarning, LayerError
from ._fingerprint import fingerprint_of_graph, structure_of
from ._layers import Layer, LayerTable
from ._load import bytes_of_modules
from ._sizes import fit_to_size, slide_fully_connected
from ._spec import Backbone, reason_of
from ._trace import find_head, is_faithful, referred, trace, tracing

__all__ = [
    "POOLINGS",
    "FrozenNetwork",
    "Pool",
    "cached_table",
    "freeze",
    "has_token",
    "identity_of",
    "layer_table",
    "pooled_shape",
    "tail_of",
]


_TABLES: LRU[LayerTable] = LRU(
    8, 2**30, lambda tables: bytes_of_modules(table.network.module for table in tables)
)
_identities: WeakKeyDictionary[fx.GraphModule, dict[str, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Normalization:
    """What turns 8-bit pixels into the numbers a network was trained on."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class FrozenNetwork(nn.Module):
    """The part of a network up to the last layer asked for.

    Parameters
    ----------
    prefix : torch.fx.GraphModule
        Normalised pixels (n, c, h, w) to a tuple of codes.
    layers : sequence of Layer
        The layers it gives codes of.
    normalization : Normalization
        Mean and standard deviation of the channels, for pixels in 0 to 1.

    Notes
    -----
    ``forward`` takes uint8 pixels (n, h, w, c), RGB or grey, and gives one tensor per layer; pixels
    travel to the device as bytes and are normalised there.
    """

    prefix: fx.GraphModule
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, prefix: fx.GraphModule, layers: Sequence[Layer], normalization: Normalization
    ):
        super().__init__()
        self.prefix, self.layers, self.dtype = prefix, tuple(layers), torch.float32
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1))

    @property
    def n_channels(self) -> int:
        """Of the images it takes."""
        return self.scale.shape[1]

    def in_precision(self, dtype: torch.dtype) -> FrozenNetwork:
        """Change, in place, what the network computes in; pixels are normalised in float32."""
        self.prefix.to(dtype)
        self.dtype = dtype
        return self

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # A permuted view of (n, h, w, c) is already laid out channels-last.
        image = pixels.permute(0, 3, 1, 2).to(self.scale.dtype)
        return self.prefix((image * self.scale + self.shift).to(self.dtype))


def layer_table(backbone: Backbone, image_size: tuple[int, int]) -> LayerTable:
    """The layers of a backbone and their shapes at an image size."""
    facts, published = backbone.preprocessing, backbone.source not in ("module", "registered")
    with tracing():
        module = fit_to_size(backbone.module, image_size)
        follow = partial(trace, module, image_size, facts.n_channels, usual_size=facts.image_size)
        network = follow()
        if not published:
            differs = is_faithful(network, module, image_size)
            if differs == "graph":
                network = follow(whole="what torch.fx makes of it computes something else")
                # It may differ from itself as well: what Python code draws or counts is not seen.
                differs = is_faithful(network, module, image_size)
            if differs:
                warnings.warn(
                    f"{backbone.name} does not give an image the same output in every batch: it "
                    "draws random numbers, or lets the images of a batch change each other, as a "
                    "batch norm without running statistics does. Its codes are not repeatable.",
                    BackboneWarning,
                    stacklevel=2,
                )
        head = find_head(network, module, published=published)
        # Its own size says of a module what its grid of cells is for.
        if head.nodes and (published or image_size != facts.image_size):
            network = slide_fully_connected(network, image_size)
        return LayerTable(network, backbone.name, image_size, head)


def cached_table(backbone: Backbone, image_size: tuple[int, int]) -> LayerTable:
    """Layers of a network at an image size; worked out once for each of the last few."""
    own = backbone.source in ("module", "registered")
    structure = structure_of(backbone.module) if own else None
    key = (backbone.fingerprint, backbone.name, structure, backbone.preprocessing, image_size)
    return _TABLES.get(key, lambda: layer_table(backbone, image_size))


def identity_of(backbone: Backbone, table: LayerTable) -> str:
    """Hash of a network as it was followed at an image size, which is what is run."""
    known = _identities.setdefault(table.network.module, {})
    if backbone.fingerprint not in known:
        known[backbone.fingerprint] = fingerprint_of_graph(
            backbone.fingerprint, backbone.module, table.network.module
        )
    return known[backbone.fingerprint]


def freeze(
    backbone: Backbone, table: LayerTable, layers: Sequence[Layer], pooling: str | None
) -> FrozenNetwork:
    """Cut a network behind the last of some layers, and pool each of them.

    Parameters
    ----------
    backbone : Backbone
        Gives the normalisation.
    table : LayerTable
        Of this backbone; it is not changed and shares its weights with the result.
    layers : sequence of Layer
        Layers of the table.
    pooling : {"avg", "max", "gem", "token", "flatten"} or None

    Returns
    -------
    FrozenNetwork
        In eval mode, without gradients.
    """
    if backbone.preprocessing is None:
        raise ValueError("a frozen network needs the preprocessing of its backbone")
    source = table.network.module
    taps = {table.node(layer): layer for layer in layers}
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    pools: dict[str, nn.Module] = {}
    outputs: dict[Layer, fx.Node] = {}
    for node in source.graph.nodes:
        if len(outputs) == len(taps):
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node in taps:
            # Pooled at once: an activation that works in place may follow.
            name = f"codes_pool_{len(outputs)}"
            pools[name] = Pool(pooling, taps[node])
            outputs[taps[node]] = graph.call_module(name, (copies[node],))
    graph.output(tuple(outputs[layer] for layer in layers))
    prefix = fx.GraphModule({**referred(source, graph), **pools}, graph, "Prefix")
    prefix.graph.eliminate_dead_code()
    prefix.delete_all_unused_submodules()
    prefix.recompile()
    facts = backbone.preprocessing
    return FrozenNetwork(prefix, layers, Normalization(facts.mean, facts.std)).eval()


# The part of a network behind a cut point, as a module of its own that can learn.


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


# From the map of a layer to a row of numbers.


POOLINGS = ("avg", "max", "gem", "token", "flatten")
_GEM_POWER = 3.0
_GEM_FLOOR = 1e-6


class Pool(nn.Module):
    """Pool the output of one layer.

    Parameters
    ----------
    pooling : {"avg", "max", "gem", "token", "flatten"} or None
        Mean, largest or generalised mean (power 3) over all places, the first token, all
        numbers in (channels, height, width) order, or the map itself.
    layer : Layer
        Says which axis is which. Class and register tokens take no part in means and
        maxima.

    References
    ----------
    F. Radenović, G. Tolias, O. Chum (2019). Fine-tuning CNN image retrieval with no human
    annotation, section 3.2 (generalised mean).
    """

    def __init__(self, pooling: str | None, layer: Layer):
        super().__init__()
        if pooling == "token" and not has_token(layer):
            raise LayerError(
                f'pooling="token" needs a layer with a class token, but {layer.name!r} gives '
                f"{layer.shape}. Take a block of a vision transformer, or another pooling."
            )
        self.pooling, self.kind, self.skip = pooling, layer.kind, layer.n_prefix_tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "vector" or self.kind == "other":
            # A clone, for the output of the network must not alias what follows in place.
            return x.flatten(1).clone() if x.ndim > 1 else x[:, None].clone()
        if self.kind == "map_last":
            x = x.permute(0, 3, 1, 2)
        if self.pooling is None or self.pooling == "flatten":
            x = x.contiguous().clone() if self.kind != "map" else x.clone()
            return x.flatten(1) if self.pooling == "flatten" else x
        if self.pooling == "token":
            return x[:, 0].clone()
        places = x[:, self.skip :].transpose(1, 2) if self.kind == "tokens" else x.flatten(2)
        return _reduce(places, self.pooling)


def has_token(layer: Layer) -> bool:
    """Whether a layer gives a class token."""
    return layer.is_token or (layer.kind == "tokens" and layer.n_prefix_tokens > 0)


def _reduce(places: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce (n, channels, places) over the places."""
    if pooling == "max":
        return places.amax(2)
    if pooling == "gem":
        powers = places.clamp(min=_GEM_FLOOR).pow(_GEM_POWER)
        return powers.mean(2).pow(1 / _GEM_POWER)
    return places.mean(2)


def pooled_shape(layer: Layer, pooling: str | None) -> tuple[int, ...]:
    """Shape of the codes of one image."""
    if layer.kind in ("vector", "other"):
        return (_size(layer.shape),)
    if pooling == "flatten":
        return (_size(layer.shape),)
    if pooling is not None:
        return (layer.n_channels,)
    if layer.kind == "map_last":
        return (layer.shape[2], layer.shape[0], layer.shape[1])
    return layer.shape


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
