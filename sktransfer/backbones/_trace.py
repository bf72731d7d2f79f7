"""The graph of a network with the shape of every value in it."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ..exceptions import BackboneError, TracingError
from ._nodes import is_plain

__all__ = ["TracedNetwork", "follow", "retrace_shapes", "trace"]


@dataclass
class TracedNetwork:
    """A network as a list of operations.

    Attributes
    ----------
    module : torch.fx.GraphModule
        The network; its parameters are those of the traced module, not copies.
    names : dict of Node to str
        Qualified name of each operation: the module path, with the name of the
        operation where a module holds more than one (``layer1.0.add``).
    shapes : dict of Node to tuple of int
        Shape of each operation that gives one tensor, for one image.
    data : set of Node
        Operations whose result is computed from the pixels. Sizes read from the
        input and constants such as a class token are not data.
    n_prefix_tokens : int
        Class and register tokens that a vision transformer puts before its patches.
    """

    module: fx.GraphModule
    names: dict[fx.Node, str]
    shapes: dict[fx.Node, tuple[int, ...]]
    data: set[fx.Node]
    n_prefix_tokens: int = 0

    @property
    def nodes(self) -> list[fx.Node]:
        return list(self.module.graph.nodes)


def trace(module: nn.Module, image_size: tuple[int, int]) -> TracedNetwork:
    """Follow a network symbolically and work out the shape of every value.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode; it is not changed.
    image_size : tuple of int
        Height and width of its input in pixels.

    Raises
    ------
    TracingError
        If the network's Python code branches on its data.
    BackboneError
        If it cannot take images of this size.
    """
    traced, names = follow(module)
    record = _record(traced, image_size)
    data = _data_nodes(traced, record.holds_tensors)
    return TracedNetwork(traced, names, record.shapes, data, _prefix_tokens(module))


def follow(module: nn.Module) -> tuple[fx.GraphModule, dict[fx.Node, str]]:
    """The operations of a module, and their names.

    What Python code computes on the way (settings, closures, global names, hooks of modules that
    are entered) is in the graph as constants.

    Raises
    ------
    TracingError
        If the module's Python code branches on its data.
    """
    from timm.models import get_notrace_functions, get_notrace_modules
    from torchvision.models.feature_extraction import NodePathTracer

    class Tracer(NodePathTracer):
        def create_args_for_root(self, root_fn: Any, *options: Any) -> Any:
            call, arguments = super().create_args_for_root(root_fn, *options)
            if not is_plain(module):  # torch.fx would follow the `forward` of the class alone
                return (lambda root, *inputs: root(*inputs)), arguments
            return call, arguments

    tracer = Tracer(
        leaf_modules=list(get_notrace_modules()),
        autowrap_functions=tuple(get_notrace_functions()),
    )
    try:
        graph = tracer.trace(module)
    except Exception as error:
        raise TracingError(
            f"the graph of {type(module).__name__} cannot be followed by torch.fx ({error}). "
            "A network given as a module must not branch on the values of its input; "
            "torch.fx.wrap() hides a function that does."
        ) from error
    traced = fx.GraphModule(module, graph, type(module).__name__)
    # A GraphModule is born in training mode and would bring the shared children along.
    traced.train(module.training)
    names = {node: name for node, name in tracer.node_to_qualname.items() if name is not None}
    return traced, names


def _prefix_tokens(module: nn.Module) -> int:
    """timm says how many there are; torchvision's VisionTransformer has a class token alone."""
    return int(getattr(module, "num_prefix_tokens", hasattr(module, "class_token")))


def retrace_shapes(network: TracedNetwork, image_size: tuple[int, int]) -> TracedNetwork:
    """Work the shapes out again after the graph was changed."""
    record = _record(network.module, image_size)
    network.shapes = record.shapes
    network.data = _data_nodes(network.module, record.holds_tensors)
    return network


def _record(module: fx.GraphModule, image_size: tuple[int, int]) -> _ShapeRecorder:
    """A run for one image without memory or arithmetic."""
    recorder = _ShapeRecorder(module)
    image = torch.empty(1, 3, *image_size, device="meta")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            recorder.run(image)
    except Exception as error:
        raise BackboneError(
            f"{module._get_name()} cannot take images of {image_size[0]}×{image_size[1]} pixels: "
            f"{error}. Leave image_size=None for the size it was trained with."
        ) from error
    return recorder


class _ShapeRecorder(fx.Interpreter):
    """Runs a graph on the meta device and notes what each operation gives."""

    def __init__(self, module: fx.GraphModule):
        with torch.no_grad():
            super().__init__(copy.deepcopy(module).to("meta"))
        # The copy's nodes stand in the same order as the original's.
        copied: Any = self.module.graph
        self._original = dict(zip(copied.nodes, module.graph.nodes, strict=True))
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.holds_tensors: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.shapes[self._original[n]] = tuple(result.shape)
        if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result)):
            self.holds_tensors.add(self._original[n])
        return result


def _data_nodes(module: fx.GraphModule, holds_tensors: set[fx.Node]) -> set[fx.Node]:
    """Follow the pixels through tensors and tuples of tensors, not through sizes."""
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        # Further placeholders are options such as an attention mask, which hold no tensor.
        fed = node.op == "placeholder" or any(source in data for source in node.all_input_nodes)
        if fed and node.op != "output" and node in holds_tensors:
            data.add(node)
    return data
