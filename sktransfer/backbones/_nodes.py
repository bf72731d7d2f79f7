"""Modules behind the operations of a graph."""

from __future__ import annotations

from contextlib import suppress
from functools import reduce
from typing import Any

from torch import fx, nn

__all__ = ["HOOKS", "is_plain", "module_of", "referred", "replace_module"]

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
