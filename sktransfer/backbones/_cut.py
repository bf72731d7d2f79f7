"""Where a network can be cut into a prefix and a tail.

A cut point is an operation after which it alone is alive: everything that follows needs
nothing of the image but this one tensor. Inside a residual block the shortcut is alive as
well, so a block can be cut only behind its sum; that holds for every family of networks,
and no table of layers is needed.
"""

from __future__ import annotations

from torch import fx, nn

from ._nodes import is_plain
from ._trace import TracedNetwork

__all__ = [
    "classifier_nodes",
    "cut_nodes",
    "is_passive",
    "is_passive_module",
    "weight_dimensions",
]

_PASSIVE_MODULES = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
_PASSIVE_FUNCTIONS = {"flatten", "dropout", "contiguous", "_assert", "squeeze", "reshape", "view"}


def cut_nodes(network: TracedNetwork) -> list[fx.Node]:
    """Operations after which exactly one tensor is alive, in order of computation."""
    nodes = network.nodes
    last_use = _last_uses(nodes)
    cuts: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for position, node in enumerate(nodes):
        if node in network.data:
            alive.add(node)
        alive = {other for other in alive if last_use.get(other, -1) > position}
        if len(alive) == 1:
            (only,) = alive
            if only in network.shapes and only.op != "placeholder" and only not in cuts[-1:]:
                cuts.append(only)
    return cuts


def _last_uses(nodes: list[fx.Node]) -> dict[fx.Node, int]:
    position = {node: i for i, node in enumerate(nodes)}
    return {node: max(position[user] for user in node.users) for node in nodes if node.users}


def classifier_nodes(network: TracedNetwork) -> list[fx.Node]:
    """The layers with weights that make the output: one for most networks.

    Found by walking back from the output to the nearest operations with weights. Where
    these are a norm (one-dimensional weights), the classifier has been taken away and the
    list is empty.
    """
    output = next(node for node in network.nodes if node.op == "output")
    found: list[fx.Node] = []
    seen: set[fx.Node] = set()
    waiting = [node for node in output.all_input_nodes if node in network.data]
    while waiting:
        node = waiting.pop()
        seen.add(node)
        dimensions = weight_dimensions(node, network)
        if dimensions == 0:
            sources = (n for n in node.all_input_nodes if n in network.data and n not in seen)
            waiting.extend(sources)
        elif dimensions >= 2:
            found.append(node)
    order = {node: i for i, node in enumerate(network.nodes)}
    return sorted(found, key=order.__getitem__)


def weight_dimensions(node: fx.Node, network: TracedNetwork) -> int:
    """Most dimensions of the weights an operation uses; 0 if it has none."""
    if node.op == "call_module":
        module = network.module.get_submodule(str(node.target))
        return max((p.ndim for p in module.parameters()), default=0)
    constants = [source for source in node.all_input_nodes if source.op == "get_attr"]
    return max((len(network.shapes.get(source, ())) for source in constants), default=0)


def is_passive(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether an operation hands its input on: same numbers, perhaps another shape."""
    if node.op == "call_module":
        return is_passive_module(modules[str(node.target)])
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _PASSIVE_FUNCTIONS


def is_passive_module(module: nn.Module) -> bool:
    """Whether a module in eval mode hands its input on."""
    return isinstance(module, _PASSIVE_MODULES) and is_plain(module)
