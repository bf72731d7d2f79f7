"""What surrounds the following of a network, and what keeps tracing and running apart."""

from __future__ import annotations

import copy
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from typing import Any

from torch import fx, nn

__all__ = [
    "HOOKS",
    "AsksForBatch",
    "Entry",
    "ReadsValues",
    "functions_to_keep",
    "is_plain",
    "module_of",
    "referred",
    "replace_module",
    "restored",
    "running",
    "tracing",
]


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
