"""A network in two: the frozen part before a cut as one module, and a copy of what is behind it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..exceptions import LayerError
from ._cut import Layer
from ._frozen import FrozenModule
from ._pool import Pool
from ._spec import reason_of
from ._trace import TracedNetwork
from ._tracer import is_plain, module_of, referred, replace_module

__all__ = [
    "FrozenNetwork",
    "Normalization",
    "check_tail",
    "fold_batch_norms",
    "prefix_of",
    "tail_of",
    "tail_to",
    "with_others",
]


@dataclass(frozen=True)
class Normalization:
    """What turns 8-bit pixels into the numbers a network was trained on."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class FrozenNetwork(FrozenModule):
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

    def in_precision(self, dtype: torch.dtype) -> Self:
        """Change, in place, what the network computes in; pixels are normalised in float32."""
        self.prefix.to(dtype)
        self.dtype = dtype
        return self

    def folded(self) -> Self:
        """A copy with its batch norms folded into the convolutions: fewer passes over memory."""
        network = copy.deepcopy(self).eval()
        fold_batch_norms(network.prefix)
        return network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # A permuted view of (n, h, w, c) is already laid out channels-last.
        image = pixels.permute(0, 3, 1, 2).to(self.scale.dtype)
        return self.prefix((image * self.scale + self.shift).to(self.dtype))


def prefix_of(
    network: TracedNetwork,
    taps: Mapping[fx.Node, Layer],
    pooling: str | None,
    normalization: Normalization,
) -> FrozenNetwork:
    """Cut a network behind the last of some operations, and pool the output of each.

    Parameters
    ----------
    network : TracedNetwork
        It is not changed and shares its weights with the result.
    taps : dict of Node to Layer
        In the order in which codes come out.
    pooling : {"avg", "max", "gem", "token", "flatten"} or None
    normalization : Normalization

    Returns
    -------
    FrozenNetwork
        In eval mode, without gradients.
    """
    source = network.module
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    pools: dict[str, nn.Module] = {}
    outputs: dict[fx.Node, fx.Node] = {}
    for node in source.graph.nodes:
        if len(outputs) == len(taps):
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node in taps:
            # Pooled at once: an activation that works in place may follow.
            name = f"codes_pool_{len(outputs)}"
            pools[name] = Pool(pooling, taps[node])
            outputs[node] = graph.call_module(name, (copies[node],))
    graph.output(tuple(outputs[node] for node in taps))
    prefix = fx.GraphModule({**referred(source, graph), **pools}, graph, "Prefix")
    prefix.graph.eliminate_dead_code()
    prefix.delete_all_unused_submodules()
    prefix.recompile()
    return FrozenNetwork(prefix, list(taps.values()), normalization).eval()


def fold_batch_norms(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Fold, in place, each batch norm that is the only reader of a convolution.

    In eval mode a batch norm is a fixed scale and shift per channel. Codes move by about
    2e-6 (relative L2 norm).
    """
    for source, node in _normed(graph_module):
        convolution, norm = module_of(graph_module, source), module_of(graph_module, node)
        if is_plain(convolution) and is_plain(norm):
            replace_module(graph_module, source.target, fuse_conv_bn_eval(convolution, norm))
            replace_module(graph_module, node.target, getattr(norm, "act", nn.Identity()))
    graph_module.recompile()
    return graph_module


def _normed(graph_module: fx.GraphModule) -> list[tuple[Any, Any]]:
    """Convolutions whose only reader is a batch norm, and that: of exactly these classes, since
    subclasses may compute something else."""
    from timm.layers import BatchNormAct2d, Conv2dSame

    pairs = []
    for node in graph_module.graph.nodes:
        norm = module_of(graph_module, node)
        if type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.running_var is not None:
            source = node.args[0]
            kind = type(module_of(graph_module, source))
            if kind in (nn.Conv2d, Conv2dSame) and len(source.users) == 1:
                pairs.append((source, node))
    return pairs


# The part of a network behind a cut point, as a module of its own that can learn.


def tail_of(
    network: TracedNetwork, start: Layer | None, begin: fx.Node, end: fx.Node
) -> fx.GraphModule:
    """Copy what comes behind an operation, up to another.

    Parameters
    ----------
    network : TracedNetwork
        It is not changed, and shares no weights with the result.
    start : Layer or None
        What `begin` is; None is the normalised pixels.
    begin, end : Node

    Returns
    -------
    torch.fx.GraphModule
        Takes what `begin` gives, one batch. Parameters have the names of the network.

    Raises
    ------
    LayerError
        If the tail needs more of the prefix than this one tensor.
    """
    graph = fx.Graph()
    graph.output(_copier(network, graph, start, begin).copy(end))
    return _tail(network, graph, {})


def tail_to(
    network: TracedNetwork, start: Layer | None, begin: fx.Node, ends: Mapping[fx.Node, Layer]
) -> fx.GraphModule:
    """The same up to several operations: it gives a tuple, one for each, maps as (n, c, h, w)."""
    graph = fx.Graph()
    copier, pools, outputs = _copier(network, graph, start, begin), {}, []
    for number, (end, layer) in enumerate(ends.items()):
        copied = copier.copy(end)
        # Taken at once: an activation that works in place may follow.
        pools[f"tap_{number}"] = Pool(None, layer)
        outputs.append(graph.call_module(f"tap_{number}", (copied,)))
    graph.output(tuple(outputs))
    return _tail(network, graph, pools)


def _copier(
    network: TracedNetwork, graph: fx.Graph, start: Layer | None, begin: fx.Node
) -> _Copier:
    first = graph.placeholder("activations")
    if start is not None and start.kind == "map_last":
        # Activations are kept as (channels, height, width), whatever the network has.
        first = graph.call_method("permute", (first, 0, 2, 3, 1))
    return _Copier(network, graph, begin, first)


def _tail(
    network: TracedNetwork, graph: fx.Graph, others: Mapping[str, nn.Module]
) -> fx.GraphModule:
    tail = fx.GraphModule({**referred(network.module, graph), **others}, graph, "Tail")
    tail.delete_all_unused_submodules()
    return copy.deepcopy(tail)


def check_tail(
    tail: nn.Module,
    start: Layer | None,
    shape: tuple[int, ...],
    wanted: Sequence[tuple[int, ...]],
    *,
    numbers: bool,
) -> None:
    """Run it for two images: some networks fold the images' axis into others, and a tensor in such
    a place is not one row for each image.

    Parameters
    ----------
    tail : torch.nn.Module
    start : Layer or None
        What is said of it in errors.
    shape : tuple of int
        Of what goes in for one image.
    wanted : sequence of tuple of int
        Of what is to come out for one image, from each end.
    numbers : bool
        Whether it needs numbers to run; else neither memory nor arithmetic is spent.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            device = "cpu" if numbers else "meta"
            copied = tail if numbers else copy.deepcopy(tail).to("meta")
            out = copied(torch.zeros(2, *shape, device=device))
            found = [tuple(one.shape) for one in (out if isinstance(out, tuple) else (out,))]
    except Exception as error:
        reason = reason_of(error)
        raise LayerError(f"what follows {start!r} cannot be run on its own: {reason}.") from error
    if found != [(2, *one) for one in wanted]:
        raise LayerError(
            f"what follows {start!r} must give {wanted} for each of two images, gave {found}."
        )


def with_others(
    tail: nn.Module,
    both: Callable[[nn.Module, nn.Module], nn.Module],
    functions: Mapping[Callable[..., Any], Callable[..., Any]],
) -> nn.Module:
    """A tail that computes some of its operations by others.

    Parameters
    ----------
    tail : torch.nn.Module
        It is not changed, and shares its modules, parameters and buffers with the result.
    both : callable
        Makes what takes the place of a convolution and the batch norm behind it.
    functions : dict of callable to callable
        What takes the place of functions.

    Returns
    -------
    torch.nn.Module
        The tail itself, where it has nothing of these.
    """
    if not isinstance(tail, fx.GraphModule):
        return tail
    graph, copies = fx.Graph(), dict[fx.Node, Any]()
    graph.output(graph.graph_copy(tail.graph, copies))
    modules: dict[str, nn.Module] = {}
    for source, node in _normed(tail):
        name = f"convolution_and_norm_{len(modules)}"
        modules[name] = both(module_of(tail, source), module_of(tail, node))
        convolution, norm = copies[source], copies[node]
        with graph.inserting_before(norm):
            together = graph.call_module(name, convolution.args, convolution.kwargs)
            norm.replace_all_uses_with(together)
        graph.erase_node(norm)
        graph.erase_node(convolution)
    others = [node for node in graph.nodes if node.target in functions]
    for node in others:
        node.target = functions[node.target]
    if not modules and not others:
        return tail
    return fx.GraphModule({**referred(tail, graph), **modules}, graph, "WithOthers")


class _Copier:
    """Copies an operation after all that it needs, as far back as the beginning."""

    def __init__(self, network: TracedNetwork, graph: fx.Graph, begin: fx.Node, first: fx.Node):
        self._network, self._graph, self._begin = network, graph, begin
        self._copies: dict[fx.Node, Any] = {begin: first}
        # What is computed of the beginning: the size of such a tensor need not be that of a batch,
        # as where windows of all images stand below each other.
        self._behind = {begin}
        for node in network.nodes:
            if not self._behind.isdisjoint(node.all_input_nodes):
                self._behind.add(node)

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
        if node in self._behind:
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
