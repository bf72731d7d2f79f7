"""torch.fx's tracer, told the shapes; imported to follow a network: torchvision takes long."""

from __future__ import annotations

import builtins
import copy
import inspect
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from ._tracer import AsksForBatch, ReadsValues, restored

__all__ = ["ShapeTracer"]


# torch.fx's tracer, told the shapes: Python may ask for sizes, but not for values.
#
# torch.fx follows a network with stand-ins for its tensors, and gives up at the first ``if``,
# ``assert``, ``len()`` or ``int()`` that asks something of them. What these ask is mostly about
# shapes, which are known: they are worked out on the meta device, when they are first asked for,
# and for two batches of different length, since the number of images must decide nothing.


_LIBRARIES = ("torch", "torchvision", "timm")
_BATCHES = (1, 2)
# Modules that look at what their tensors are, and hold no weights.
_LEAVES = ("torchvision.transforms.", "einops.layers.")
# What turns a tensor's values into Python's or decides a shape by them.
_READS = {"item", "tolist", "numpy", "__bool__", "nonzero", "unique", "argwhere", "masked_select"}


class ShapeTracer(NodePathTracer):
    """Follows a network for images of one shape.

    Parameters
    ----------
    image_shape : tuple of int or None
        Channels, height and width; None answers no question.

    Attributes
    ----------
    assumed : bool
        Whether a branch was taken that one image alone would not have taken.
    """

    def __init__(self, image_shape: tuple[int, ...] | None, **options: Any):
        super().__init__(**options)
        self._image_shape = image_shape
        self._shapes: _Shapes | None = None
        self._working = self.assumed = False
        self._helped: list[tuple[dict[str, Any], str]] = []

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """As torch.fx's; `root` is an `Entry`."""
        try:
            with restored(root.network):
                return super().trace(root, concrete_args)
        finally:
            for names, name in self._helped:
                del names[name]
            self._helped.clear()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        return type(m).__module__.startswith(_LEAVES) or super().is_leaf_module(m, module_qualname)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if self._working:
            return forward(*args, **kwargs)
        self._help(m)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._working:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        try:
            return self.answer(obj, bool)
        except AsksForBatch:
            self.assumed = True
            return bool(self._values(obj.node)[-1])

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[i] for i in range(self.length(obj))])

    def answer(self, proxy: fx.Proxy, ask: Callable[[Any], Any]) -> Any:
        """What Python is told of a value that no pixel decides.

        Raises
        ------
        ReadsValues
            If pixels decide it.
        AsksForBatch
            If the number of images does.
        """
        values = self._values(proxy.node)
        if isinstance(values[0], torch.Tensor):
            raise ReadsValues
        return _same([ask(value) for value in values])

    def length(self, proxy: fx.Proxy) -> int:
        """``len()`` of a value."""
        return int(_same([len(value) for value in self._values(proxy.node)]))

    def _len(self, value: Any) -> Any:
        """``len()`` for a network's code: of a tensor it is the number of images, often."""
        if not isinstance(value, fx.Proxy):
            return len(value)
        is_tensor = isinstance(self._values(value.node)[0], torch.Tensor)
        return value.size(0) if is_tensor else self.length(value)

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        if not isinstance(value, fx.Proxy):
            return isinstance(value, kinds)
        return bool(_same([isinstance(one, kinds) for one in self._values(value.node)]))

    def _help(self, module: nn.Module) -> None:
        """Have the code of a network find our ``len`` and ``isinstance`` before Python's."""
        code = inspect.unwrap(getattr(module.forward, "__func__", module.forward))
        names = getattr(code, "__globals__", None)
        if names is None or str(names.get("__name__")).split(".")[0] in _LIBRARIES:
            return
        for name, function in (("len", self._len), ("isinstance", self._isinstance)):
            if names.get(name, getattr(builtins, name)) is getattr(builtins, name):
                if name not in names:
                    self._helped.append((names, name))
                    names[name] = function

    def _values(self, node: fx.Node) -> tuple[Any, ...]:
        if self._image_shape is None:
            raise fx.proxy.TraceError("it asks for the shape of its images")
        was, self._working = self._working, True
        try:
            if self._shapes is None:
                self._shapes = _Shapes(self.root, self._image_shape)
            return self._shapes.of(node)
        finally:
            self._working = was


def _same(answers: list[Any]) -> Any:
    if answers[0] != answers[1]:
        raise AsksForBatch
    return answers[0]


class _Value(fx.Proxy):
    """A stand-in that Python may ask about sizes."""

    tracer: Any

    def __getattr__(self, k: str) -> Any:
        return _Attribute(self, k)

    def __len__(self) -> int:
        return self.tracer.length(self)

    def __index__(self) -> int:
        return self.tracer.answer(self, int)

    def __int__(self) -> int:
        return self.tracer.answer(self, int)

    def __float__(self) -> float:
        return self.tracer.answer(self, float)


class _Attribute(_Value, fx.proxy.Attribute):
    """An attribute of one, such as its shape."""


class _Shapes:
    """Values of a graph's nodes on the meta device, for each of two batches."""

    def __init__(self, root: nn.Module, image_shape: tuple[int, ...]):
        self._root = _without_numbers(root)
        self._images = tuple(torch.empty(n, *image_shape, device="meta") for n in _BATCHES)
        self._known: dict[fx.Node, tuple[Any, ...]] = {}

    def of(self, node: fx.Node) -> tuple[Any, ...]:
        waiting = [node]
        while waiting:
            missing = [n for n in waiting[-1].all_input_nodes if n not in self._known]
            if missing:
                waiting += missing
                continue
            one = waiting.pop()
            if one not in self._known:
                self._known[one] = self._compute(one)
        return self._known[node]

    def _compute(self, node: fx.Node) -> tuple[Any, ...]:
        try:
            with torch.no_grad():
                return tuple(self._run(node, batch) for batch in range(len(_BATCHES)))
        except Exception as error:
            if getattr(node.target, "__name__", node.target) in _READS:
                raise ReadsValues from error
            raise

    def _run(self, node: fx.Node, batch: int) -> Any:
        if node.op == "placeholder":
            return self._images[batch]
        if node.op == "get_attr":
            return reduce(getattr, str(node.target).split("."), self._root)
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda other: self._known[other][batch]
        )
        if node.op == "call_module":
            return self._root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        call: Any = node.target
        return call(*args, **kwargs)


def _without_numbers(root: nn.Module) -> nn.Module:
    """A copy on the meta device, made without copying weights first."""
    tensors = [*root.parameters(), *root.buffers()]
    for module in root.modules():
        tensors += [one for one in vars(module).values() if isinstance(one, torch.Tensor)]
    # A stand-in that the network's code keeps is no part of it.
    memo: dict[int, Any] = {id(one): one for one in _stand_ins(root)}
    for tensor in tensors:
        empty = tensor.detach().to("meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    return copy.deepcopy(root, memo)


def _stand_ins(root: nn.Module) -> Iterator[fx.Proxy]:
    """Those that are kept in modules, or in lists and dicts of them."""
    for module in root.modules():
        for value in vars(module).values():
            if isinstance(value, fx.Proxy):
                yield value
            elif isinstance(value, (dict, list)):
                inside = value.values() if isinstance(value, dict) else value
                yield from (one for one in inside if isinstance(one, fx.Proxy))
