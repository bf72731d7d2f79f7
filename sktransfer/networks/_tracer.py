"""torch.fx's tracer, told the shapes; and what keeps tracing and running apart."""

from __future__ import annotations

import builtins
import copy
import inspect
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from typing import Any

import torch
from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer

__all__ = [
    "HOOKS",
    "Entry",
    "ReadsValues",
    "ShapeTracer",
    "functions_to_keep",
    "is_plain",
    "module_of",
    "referred",
    "replace_module",
    "restored",
    "running",
    "tracing",
]


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


class ReadsValues(Exception):
    """Python code wants to know the value of something that is computed from pixels."""


class AsksForBatch(Exception):
    """Python code wants to know how many images there are."""

    def __str__(self) -> str:
        return "it asks how many images there are"


def functions_to_keep() -> tuple[Callable[..., Any], ...]:
    """Functions that are operations of their own: timm's, and those of einops where it is used."""
    from timm.models import get_notrace_functions

    einops = sys.modules.get("einops")
    names = ("rearrange", "reduce", "repeat", "einsum")
    own = [getattr(einops, name) for name in names if hasattr(einops, name)]
    return (*get_notrace_functions(), *own)


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Undo what a network's code keeps in its modules, such as a cache, while it is looked at."""
    places: list[Any] = []
    for module in network.modules():
        own = vars(module)
        places += [own, *(one for one in own.values() if isinstance(one, (dict, list)))]
    saved = [(place, copy.copy(place)) for place in places]
    try:
        yield
    finally:
        for place, before in saved:
            if not _holds_same(place, before):
                place.clear()
                (place.update if isinstance(place, dict) else place.extend)(before)


def _holds_same(place: Any, before: Any) -> bool:
    if isinstance(place, dict):
        return list(place) == list(before) and _holds_same(
            list(place.values()), list(before.values())
        )
    return len(place) == len(before) and all(map(operator.is_, place, before))


class Entry(nn.Module):
    """Calls a network as its users do: with images alone, so that defaults, hooks and a
    ``forward`` that was put on the instance are what they are for them.

    Parameters
    ----------
    network : torch.nn.Module
    keyword : str or None
        Name of the argument that takes images, where it is not the first.
    """

    def __init__(self, network: nn.Module, keyword: str | None = None):
        super().__init__()
        self.network, self._keyword = network, keyword

    def forward(self, image: Any) -> Any:
        if self._keyword is None:
            return self.network(image)
        return self.network(**{self._keyword: image})


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


# Modules behind the operations of a graph.


# Where torch keeps what is called before and after a module.
HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def is_plain(module: nn.Module) -> bool:
    """Whether a module computes what its class says: no hooks, no `forward` of its own.

    What is not plain may compute anything, whatever it is an instance of.
    """
    own = vars(module)
    return "forward" not in own and not any(own.get(hooks) for hooks in HOOKS)


def module_of(root: nn.Module, node: object) -> Any:
    """The module that an operation calls; None where it calls none."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return root.get_submodule(str(node.target))


def replace_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put another module in the place of one, by its path."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def referred(source: nn.Module, graph: fx.Graph) -> dict[str, Any]:
    """Modules, parameters and buffers of a network that a graph refers to, by path."""
    used: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            with suppress(AttributeError):  # a module that is new to the graph
                used[path] = reduce(getattr, path.split("."), source)
    return used


# Tracing and running keep out of each other's way.
#
# While torch.fx follows a network, it has ``torch.nn.Module.__call__`` replaced for the whole
# process; a network that another thread runs in that moment would be traced as well.


_changed_gate = threading.Condition()
_running = 0
_tracing = False


@contextmanager
def running() -> Iterator[None]:
    """Hold while a network runs; any number of threads may."""
    global _running
    with _changed_gate:
        _changed_gate.wait_for(lambda: not _tracing)
        _running += 1
    try:
        yield
    finally:
        with _changed_gate:
            _running -= 1
            _changed_gate.notify_all()


@contextmanager
def tracing() -> Iterator[None]:
    """Hold while a network is traced; nothing else runs or traces."""
    global _tracing
    with _changed_gate:
        _changed_gate.wait_for(lambda: not _tracing and not _running)
        _tracing = True
    try:
        yield
    finally:
        with _changed_gate:
            _tracing = False
            _changed_gate.notify_all()
