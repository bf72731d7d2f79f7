"""What makes a network what it is, as one short name.

The name of a published network says what it computes, so its fingerprint is that of its name and
weights. A module of the user's own is told by the operations that it is followed to, down to the
code of functions and the settings of layers. What cannot be told, such as the state of an
extension written in C, makes a network private: it is taken for no other, and nothing of it is
kept where another process would find it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import types
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from .._content import Untellable, Walk, content_of, library_of
from ..exceptions import TracingError
from ._trace import follow
from ._tracer import HOOKS, tracing

__all__ = [
    "fingerprint",
    "fingerprint_of_graph",
    "fingerprint_of_module",
    "fingerprint_of_object",
    "is_private",
    "structure_of",
]


_PRIVATE = "private-"
# The same in one process, and in no other.
_PROCESS = uuid.uuid4().bytes
# Versions of these compute the same, but for last digits.
_TIMELESS = ("torch", "numpy", "sktransfer")
# What every module has, and what torch.compile adds: nothing that is computed hangs on it.
_OF_EVERY_MODULE = {*vars(nn.Module()), "_is_torch_compile"} - {"training"}
_PLAIN_TENSORS = (torch.Tensor, nn.Parameter)
# They watch or guard a computation, and are no part of it.
_BYSTANDERS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
_structures: WeakKeyDictionary[nn.Module, bytes] = WeakKeyDictionary()


def fingerprint(architecture: str, module: nn.Module) -> str:
    """Hash an architecture's name and the names, types, shapes and bytes of its weights.

    Parameters
    ----------
    architecture : str
        What tells networks with the same weights apart.
    module : torch.nn.Module
        On the CPU.

    Returns
    -------
    fingerprint : str
        32 hexadecimal digits of SHA-256, the same on every machine and with every version of
        torch.
    """
    digest = hashlib.sha256(architecture.encode())
    state = sorted(module.state_dict().items())
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
        hashes = list(pool.map(_hash, dict(state).values()))
    for (name, tensor), content in zip(state, hashes, strict=True):
        if not isinstance(tensor, torch.Tensor):  # of get_extra_state
            digest.update(f"\n{name}\n".encode() + content)
            continue
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _hash(tensor: Any) -> bytes:
    if not isinstance(tensor, torch.Tensor):
        # What cannot be told makes a module private by the walk over its parts.
        return (content_of(tensor).digest or "").encode()
    # Bytes, since numpy has no bfloat16; flat, since a scalar cannot be viewed as bytes.
    flat = tensor.detach().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def fingerprint_of_module(architecture: str, module: nn.Module) -> str:
    """Hash what a module of the user's own computes.

    Parameters
    ----------
    architecture : str
        Where it comes from.
    module : torch.nn.Module
        On the CPU.

    Returns
    -------
    fingerprint : str
        As of :func:`fingerprint`; of a module that cannot be told, with a prefix that
        :func:`is_private` knows.
    """
    walk = _NetworkWalk(module)
    facts: list[Any] = [architecture, type(module).__qualname__, fingerprint("", module)]
    try:
        with tracing():
            graph, names = follow(module)
    except TracingError:  # cutting it will say so, or find another way
        facts.append(module)
    else:
        facts += [walk.of_graph(graph), [names.get(node, "") for node in graph.graph.nodes]]
    return walk.name_of(facts)


def fingerprint_of_object(architecture: str, module: nn.Module) -> str:
    """Hash a module by its weights, and by the code and settings of all its parts.

    Parameters
    ----------
    architecture : str
        Where it comes from.
    module : torch.nn.Module
        On the CPU. It is not followed.

    Returns
    -------
    fingerprint : str
        As of :func:`fingerprint_of_module`.
    """
    return _NetworkWalk(module).name_of([architecture, fingerprint("", module), module])


def fingerprint_of_graph(network: str, module: nn.Module, graph: fx.GraphModule) -> str:
    """Hash the operations that a network was followed to.

    Another version of a library, or of a class that a pickle names, may make other operations of
    the same weights.

    Parameters
    ----------
    network : str
        Its fingerprint.
    module : torch.nn.Module
        The network, whose weights are known by its fingerprint.
    graph : torch.fx.GraphModule
        What is run.
    """
    walk = _NetworkWalk(module)
    everywhere = [
        walk.of_hooks(getattr(nn.modules.module, name, {}))
        for name in ("_global_forward_pre_hooks", "_global_forward_hooks")
    ]
    facts = [network, walk.of_graph(graph), everywhere]
    return walk.name_of(facts, private=is_private(network))


def structure_of(module: nn.Module) -> bytes:
    """Hash the code and attributes of a module, whatever the graph makes of them.

    What is followed may depend on the size of the image, or on being followed. In one process this
    tells such modules apart; elsewhere the graph that is run does. The module must not be changed.
    """
    if module not in _structures:
        _structures[module] = _NetworkWalk(module).of(module)
    return _structures[module]


def is_private(fingerprint: str) -> bool:
    """Whether a network cannot be told, so that another process must not believe it."""
    return fingerprint.startswith(_PRIVATE)


class _NetworkWalk(Walk):
    """Modules by their classes and settings, weights by their names.

    Parameters
    ----------
    module : torch.nn.Module
        Its weights are told elsewhere.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        state = module.state_dict(keep_vars=True)
        self._names = {id(t): k for k, t in state.items() if isinstance(t, torch.Tensor)}
        self._private = False
        self._foreign: dict[type, list[Any]] = {}

    def name_of(self, facts: Any, *, private: bool = False) -> str:
        """The fingerprint that facts make."""
        digest = self.of(facts)
        if self.reasons or self.generators:  # what is drawn from a generator is no content
            private, digest = True, digest + uuid.uuid4().bytes
        prefix = _PRIVATE if private or self._private else ""
        return prefix + hashlib.sha256(digest).hexdigest()[:32]

    def of_graph(self, module: fx.GraphModule) -> list[Any]:
        """Hashes of every operation, of what it calls and of what it is given."""
        numbers = {node: number for number, node in enumerate(module.graph.nodes)}

        def plain(node: fx.Node) -> Any:
            return _Result(numbers[node])

        found = []
        for node in numbers:
            given = fx.node.map_arg((node.args, dict(node.kwargs)), plain)
            target: Any = None
            if node.op == "call_module":
                target = module.get_submodule(str(node.target))
            elif node.op == "get_attr":
                target = reduce(getattr, str(node.target).split("."), module)
            found.append(self.of((node.op, node.target, target, given)))
        return found

    def of_hooks(self, hooks: Mapping[int, Any]) -> list[Any]:
        """What is called beside a module."""
        for hook in hooks.values():
            if library_of(hook if hasattr(hook, "__qualname__") else type(hook)) is None:
                # What it keeps from call to call is not seen: no other process may believe it.
                self._private = True
                return [_PROCESS, *hooks.values()]
        return list(hooks.values())

    def library_of(self, value: Any) -> str | None:
        library = super().library_of(value)
        package = "" if library is None else library.split(" ")[0].split(".")[0]
        is_timeless = package in _TIMELESS or package in sys.stdlib_module_names
        return package if is_timeless else library

    def _parts(self, value: Any) -> Iterator[bytes | str]:
        if isinstance(value, torch.Tensor) and id(value) in self._names:
            yield from ("weight", self._names[id(value)])
            if type(value) not in _PLAIN_TENSORS:  # it may compute in its own way
                yield from map(self.of, (type(value), dict(sorted(vars(value).items()))))
        elif isinstance(value, torch.jit.ScriptModule):
            raise Untellable("a TorchScript program")
        elif isinstance(value, nn.Module):
            yield from self._module(value)
        elif isinstance(value, _BYSTANDERS):
            yield type(value).__qualname__
        else:
            yield from super()._parts(value)

    def _module(self, module: nn.Module) -> Iterator[bytes | str]:
        own = {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE}
        inside = (module._parameters, module._buffers, module._modules)
        hooks = [self.of_hooks(getattr(module, name, {})) for name in HOOKS]
        yield "module"
        yield from map(self.of, (type(module), self._foreign_code(type(module)), hooks))
        yield from map(self.of, (*(dict(one) for one in inside), dict(sorted(own.items()))))

    def _foreign_code(self, kind: type) -> list[Any]:
        """Functions that somebody may have put into a class of a library."""
        if kind not in self._foreign:
            found = [vars(base).get("forward") for base in kind.__mro__]
            functions = [one for one in found if isinstance(one, types.FunctionType)]
            self._foreign[kind] = [one for one in functions if library_of(one) is None]
        return self._foreign[kind]

    def _object(self, value: Any) -> Iterator[bytes | str]:
        yield from super()._object(value)
        if hasattr(value, "__dict__"):  # a pickle may leave out what is computed with
            yield self.of(dict(sorted(vars(value).items())))


class _Result(NamedTuple):
    """What an operation gives, by the number of the operation."""

    number: int
