"""A hash of what a Python value is and does: data, code, and what the code refers to.

A repr can hide a parameter and a name can come to mean something else, so neither decides here.
Code of installed libraries is told by its name and version; other code by its instructions,
constants, defaults, closures, and the globals that it reads.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib
import pickle
import random
import sys
import sysconfig
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["GENERATORS", "Content", "Untellable", "Walk", "content_of", "digest_of", "library_of"]

# Drawn from and thereby changed; whoever uses them seeds them.
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, types.GenericAlias)
# What code that calls these computes hangs on more than the code: on files, names, the environment.
_UNFORESEEN = {
    "__import__", "environ", "eval", "exec", "fromfile", "genfromtxt", "getenv", "globals",
    "import_module", "imread", "listdir", "load", "loadtxt", "locals", "memmap", "open",
    "read_bytes", "read_text", "scandir", "vars",
}  # fmt: skip
_NOT_OF_A_CLASS = {
    "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__", "__dict__",
    "__doc__", "__firstlineno__", "__module__", "__slotnames__", "__static_attributes__",
    "__weakref__", "_abc_impl",
}  # fmt: skip


class Untellable(ValueError):
    """Nothing tells this value from others like it: an open file, a lock, a generator."""


class Content(NamedTuple):
    """What was found of a value.

    Attributes
    ----------
    digest : str or None
        32 hexadecimal digits, the same in every process; None where a part cannot be told.
    generators : list
        Random generators that the value holds; their states are not in the digest.
    reason : str
        Which part cannot be told.
    """

    digest: str | None
    generators: list[Any]
    reason: str = ""


def content_of(value: Any) -> Content:
    """Hash a value and everything that it refers to."""
    walk = Walk()
    digest = walk.of(value).hex()
    if walk.reasons:
        return Content(None, walk.generators, walk.reasons[0])
    return Content(digest, walk.generators)


def digest_of(value: Any) -> str:
    """The hash alone.

    Raises
    ------
    Untellable
        If a part of the value has no content that can be hashed.
    """
    content = content_of(value)
    if content.digest is None:
        raise Untellable(content.reason)
    return content.digest


def _hash(*parts: bytes | str) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()[:16]


class Walk:
    """One hash for each object that is met; an object within itself is told by how far up it is."""

    def __init__(self) -> None:
        self.generators: list[Any] = []
        self.reasons: list[str] = []
        self._done: dict[int, bytes] = {}
        self._above: dict[int, int] = {}
        self._alive: list[Any] = []  # an id may be taken again once its object is gone

    def of(self, value: Any) -> bytes:
        if type(value) in _ATOMS:
            return _hash("atom", type(value).__name__, repr(value))
        key = id(value)
        if key in self._done:
            return self._done[key]
        if key in self._above:
            return _hash("above", str(len(self._above) - self._above[key]))
        self._above[key] = len(self._above)
        self._alive.append(value)
        try:
            found = _hash(*self._parts(value))
        except Exception as error:  # foreign objects may do anything when they are looked at
            found = b""
            self.reasons.append(_reason(value, error))
        finally:
            del self._above[key]
        self._done[key] = found
        return found

    def _parts(self, value: Any) -> Iterator[bytes | str]:
        if isinstance(value, GENERATORS):
            self.generators.append(value)
            yield from ("generator", type(value).__qualname__)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.ModuleType):
            yield from ("module", _name_and_version(value) or _source(value))
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            own = owner is not None and not isinstance(owner, types.ModuleType)
            yield from ("builtin", value.__qualname__, str(value.__module__))
            yield self.of(owner) if own else b""
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif isinstance(value, (*_ARRAYS, *_NAMED)):
            yield from _data(value, self)
        elif type(value) in (list, tuple, dict, set, frozenset, types.MappingProxyType):
            yield from self._container(value)
        elif isinstance(value, property):
            yield from map(self.of, ("property", value.fget, value.fset, value.fdel))
        elif isinstance(value, types.CellType):
            yield from ("cell", self.of(_held(value)))
        elif isinstance(value, (staticmethod, classmethod)):
            yield from (type(value).__name__, self.of(value.__func__))
        elif isinstance(value, functools.cached_property):  # it may hold a lock
            yield from ("cached_property", self.of(value.func))
        elif isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
            yield from ("slot", value.__name__)
        else:
            yield from self._object(value)

    def library_of(self, value: Any) -> str | None:
        """What tells a function or class that nobody here has written; None for others."""
        return library_of(value)

    def _container(self, value: Any) -> Iterator[bytes | str]:
        yield type(value).__name__
        if isinstance(value, (set, frozenset)):
            yield from sorted(self.of(one) for one in value)
        elif isinstance(value, (list, tuple)):
            yield from map(self.of, value)
        else:
            for key, one in value.items():
                yield from (self.of(key), self.of(one))

    def _class(self, kind: type) -> Iterator[bytes | str]:
        yield from ("class", kind.__module__, kind.__qualname__)
        library = self.library_of(kind)
        if library:
            yield library
            return
        yield from map(self.of, (type(kind), *kind.__bases__))
        for name, value in vars(kind).items():
            if name not in _NOT_OF_A_CLASS:
                yield from (name, self.of(value))

    def _function(self, function: types.FunctionType) -> Iterator[bytes | str]:
        yield from ("function", function.__module__ or "", function.__qualname__)
        library = self.library_of(function)
        if library:
            yield library
            return
        for code in _codes(function.__code__):
            if unforeseen := sorted(_UNFORESEEN & set(code.co_names)):
                raise Untellable(f"a function that uses {unforeseen[0]!r}")
        yield from map(self.of, (function.__code__, function.__defaults__))
        yield from map(self.of, (function.__kwdefaults__, function.__closure__, vars(function)))
        for name, value in _globals_of(function):
            yield from (name, self.of(value))

    def _code(self, code: types.CodeType) -> Iterator[bytes | str]:
        yield from ("code", code.co_code, repr(code.co_flags))
        yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
        yield repr((code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars))
        yield getattr(code, "co_exceptiontable", b"")
        yield from map(self.of, code.co_consts)

    def _object(self, value: Any) -> Iterator[bytes | str]:
        """By what a pickle would hold, without making one."""
        yield "object"
        if isinstance(value, types.MethodType):
            yield from (self.of(value.__self__), self.of(value.__func__))
            return
        reduced = _reduced(value)
        if isinstance(reduced, str):
            yield from self._by_name(value, reduced)
            return
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        yield from map(self.of, (type(value), make, arguments, state))
        yield from map(self.of, items or ())
        yield from map(self.of, pairs or ())
        if self.library_of(type(value)) is None and hasattr(value, "__dict__"):
            # A pickle of one's own may leave out what is computed with.
            yield self.of(dict(sorted(vars(value).items())))

    def _by_name(self, value: Any, name: str) -> Iterator[bytes | str]:
        """What pickles as a name: the name tells it in libraries alone."""
        module = sys.modules.get(pickle.whichmodule(value, name))  # type: ignore[attr-defined]
        library = None if module is None else _name_and_version(module)
        yield from (type(value).__qualname__, name)
        if library is not None and getattr(module, name, None) is value:
            yield library
        elif (owner := getattr(value, "__self__", None)) is not None:
            yield self.of(owner)
        elif hasattr(value, "__wrapped__"):
            yield self.of(value.__wrapped__)
        else:
            raise Untellable(f"{type(value).__name__} {name}")


_ARRAYS = (np.ndarray, np.generic, np.dtype, torch.Tensor)


def _data(value: Any, walk: Walk) -> Iterator[bytes | str]:
    yield type(value).__qualname__
    if isinstance(value, torch.Tensor):
        yield repr((value.dtype, tuple(value.shape), value.layout))
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (np.ndarray, np.generic)):
        yield repr((value.dtype.descr, value.shape))
        if isinstance(value, np.ma.MaskedArray):
            yield from (walk.of(value.mask), walk.of(value.filled()))
        elif value.dtype.hasobject:
            yield walk.of(value.tolist())
        else:
            yield np.ascontiguousarray(value).tobytes()
    else:
        yield repr(value)


def _reason(value: Any, error: Exception) -> str:
    return str(error) if isinstance(error, Untellable) else f"{type(value).__name__}: {error}"


def _held(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()


def _reduced(value: Any) -> Any:
    reduce = copyreg.dispatch_table.get(type(value))
    return reduce(value) if reduce else value.__reduce_ex__(4)


def _globals_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What the code of a function reads beside its arguments, in the order in which it does."""
    around = function.__globals__
    for code in _codes(function.__code__):
        steps = list(dis.get_instructions(code))
        for number, step in enumerate(steps):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in around:
                value = around[step.argval]
            elif step.opname == "IMPORT_NAME":
                value = _imported(step.argval, steps[number - 2].argval)
            else:
                continue
            yield step.argval, value
            if isinstance(value, types.ModuleType):
                yield from _used_of(value, code.co_names)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _codes(one)


def _imported(name: str, level: Any) -> types.ModuleType:
    if level != 0:
        raise Untellable(f"a function that imports {name!r} relatively")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise Untellable(f"a function that imports {name!r}: {error}") from error


def _used_of(module: types.ModuleType, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """What code may take of a module that is no library: its file tells not what was set since."""
    if _name_and_version(module) is None:
        for name in names:
            if name in vars(module):
                value = vars(module)[name]
                yield name, value
                if isinstance(value, types.ModuleType):
                    yield from _used_of(value, tuple(one for one in names if one != name))


def library_of(value: Any) -> str | None:
    """Name and version of the library that has a function or class under its name."""
    module = sys.modules.get(value.__module__ or "")
    if module is None or (library := _name_and_version(module)) is None:
        return None
    found: Any = module
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    # What was made within a function has a name that others made there have too.
    return library if found is value else None


def _name_and_version(module: types.ModuleType) -> str | None:
    """None for modules of one's own."""
    name = module.__name__
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return f"{name} Python {sys.version.split()[0]}"
    if top == __name__.partition(".")[0]:
        return f"{name} itself"
    file = getattr(module, "__file__", None)
    if file is None or not _is_installed(file):
        return None
    version = getattr(sys.modules.get(top), "__version__", None) or _version(top)
    return None if version is None else f"{name} {version}"


@functools.lru_cache(maxsize=4096)
def _is_installed(file: str) -> bool:
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(sysconfig.get_path(one)) for one in ("purelib", "platlib"))


@functools.lru_cache(maxsize=4096)
def _version(top: str) -> str | None:
    for name in metadata.packages_distributions().get(top, ()):
        return metadata.version(name)
    return None


def _source(module: types.ModuleType) -> str:
    file = getattr(module, "__file__", None)
    try:
        return Path(file or "").read_bytes().hex()
    except OSError:
        raise Untellable(f"the module {module.__name__}, which has no file") from None
