"""Networks as plain values, for files that hold everything.

A network by name is its name and its weights, as arrays. A module of the user's own is the objects
it is made of with arrays in the place of tensors; whatever stores these objects (pickle, or a
format that is looked through before it is loaded, such as skops) sees each of their classes.
Nothing here holds bytes that are code to whoever reads them.
"""

from __future__ import annotations

import copy
import io
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from .._optional import cloudpickle
from ..exceptions import BackboneError, shown
from ._fingerprint import fingerprint_of_module
from ._module import check_network, without_recorders
from ._registry import architecture_of
from ._spec import Backbone
from ._transformers import TransformersArchitecture
from ._weights import finish

__all__ = ["Bundle", "PackedModule"]


_NO_HOLDERS = (type, types.ModuleType, types.FunctionType)


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A tensor as an array, which loads on any device."""

    content: np.ndarray
    dtype: str
    shape: tuple[int, ...]
    is_parameter: bool
    requires_grad: bool

    @classmethod
    def pack(cls, tensor: torch.Tensor) -> PackedTensor:
        """Copy a tensor.

        Raises
        ------
        BackboneError
            If its class computes in its own way, which arrays do not.
        """
        kind = type(tensor)
        if not _is_plain(kind):
            raise BackboneError(
                f"A tensor of the class {shown(kind.__qualname__)} cannot be saved, since it has a "
                "__torch_function__ of its own. Compute what it does in the forward of a module."
            )
        # numpy has no bfloat16, but the bytes travel all the same.
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        dtype = str(tensor.dtype).removeprefix("torch.")
        is_parameter = isinstance(tensor, nn.Parameter)
        return cls(
            flat.numpy().copy(), dtype, tuple(tensor.shape), is_parameter, tensor.requires_grad
        )

    def unpack(self) -> torch.Tensor:
        """Copy it back, to the CPU."""
        dtype = getattr(torch, self.dtype)
        if not isinstance(dtype, torch.dtype):
            raise BackboneError(f"A saved tensor must have a dtype of torch, got {self.dtype!r}.")
        tensor = torch.from_numpy(np.array(self.content)).view(dtype).reshape(tuple(self.shape))
        if self.is_parameter:
            return nn.Parameter(tensor, requires_grad=self.requires_grad)
        return tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        # So that a copy of what holds it holds tensors again, the same one in the same places.
        return self.unpack()


@dataclass(frozen=True, eq=False)
class PackedModule:
    """A module with arrays in the place of its tensors.

    Pickles hold it by value where its class could not be imported elsewhere: it was typed into a
    prompt, or stands in the program that is run.
    """

    module: nn.Module

    @classmethod
    def pack(cls, module: nn.Module) -> PackedModule:
        """Take the tensors out of a copy.

        Raises
        ------
        BackboneError
            If the module cannot be copied.
        """
        packed: dict[int, Any] = {}
        if not _holds_graphs(module):
            packed = {id(tensor): PackedTensor.pack(tensor) for tensor in _tensors_of(module)}
        try:
            return cls(without_recorders(copy.deepcopy(module, packed)))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise BackboneError(f"{_refusal(module)}: {error}.") from error

    def unpack(self) -> nn.Module:
        """Build the module again, on the CPU."""
        module = copy.deepcopy(getattr(self, "module", None))
        if not isinstance(module, nn.Module):
            raise BackboneError(
                f"A saved network must be a torch.nn.Module, got {type(module).__name__}. Load the "
                "file with the version of sktransfer that wrote it, if you trust it."
            )
        check_network(module, f"A saved network ({type(module).__name__})")
        return module

    def __getstate__(self) -> dict[str, Any]:
        # Of formats that are no pickles.
        if _holds_graphs(self.module):
            raise BackboneError(
                f"{_refusal(self.module, 'saved without a pickle')}: it is a program of torch.fx. "
                "Save the module that it was made from."
            )
        self._check()
        for part in _parts_of(self.module):
            if isinstance(part, types.FunctionType) and not _is_found_by_name(part):
                raise BackboneError(
                    f"{_refusal(self.module, 'saved without a pickle')}: it holds the function "
                    f"{shown(part.__qualname__)}, which cannot be found by its name. Define it at "
                    "the top level of a module that can be imported."
                )
        return {"module": self.module}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # Of formats that are no pickles: a copy of a program would be made by running its text.
        module = state.get("module")
        if any(isinstance(part, (fx.GraphModule, fx.Graph)) for part in _parts_of(module)):
            raise BackboneError(
                "A saved network that is no pickle must hold no program of torch.fx, but this one "
                "does. Do not load the file unless you trust who wrote it."
            )
        object.__setattr__(self, "module", module)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._check()
        if not _holds_graphs(self.module) and _names_suffice(self.module):
            return PackedModule, (self.module,)
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, protocol=5).dump(self.module)
        except Exception as error:  # any code may run here
            raise BackboneError(
                f"{_refusal(self.module)}: {error}. Define its class at the top level of a module "
                "that can be imported, and keep open files and the like out of it."
            ) from error
        return PackedModule, (_ByValue(buffer.getvalue()),)

    def _check(self) -> None:
        if any(map(parametrize.is_parametrized, self.module.modules())):
            raise BackboneError(
                f"{_refusal(self.module)}: it has parametrizations. Call "
                "torch.nn.utils.parametrize.remove_parametrizations first."
            )

    def __copy__(self) -> PackedModule:
        return self  # nothing changes it

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedModule:
        return self


def _names_suffice(module: nn.Module) -> bool:
    """Whether the names of its classes and functions lead to them, in another process as well."""

    class WithoutArrays(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return "" if isinstance(obj, np.ndarray) else None

    buffer = io.BytesIO()
    try:
        WithoutArrays(buffer, protocol=5).dump(module)
    except Exception:  # any code may run here
        return False
    return b"__main__" not in buffer.getvalue()


class _ByValue:
    """What its pickle, once loaded, is in the place of.

    It lives while a pickle is written, and is in none: only its constructor gives it content, and
    no copy loads it.
    """

    __slots__ = ("_content",)

    def __init__(self, content: bytes):
        self._content = content

    def __reduce__(self) -> Any:
        return pickle.loads, (self._content,)

    def __getstate__(self) -> Any:
        raise BackboneError("A module by value can be saved in a pickle alone.")

    def __setstate__(self, state: Any) -> None:
        raise BackboneError(
            "A saved network holds a pickle where none belongs. Do not load the file unless you "
            "trust who wrote it."
        )

    def __copy__(self) -> _ByValue:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _ByValue:
        return self


class _Pickler(cloudpickle.Pickler):
    """Classes and functions by value where names do not suffice, tensors as arrays."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return PackedTensor.unpack, (PackedTensor.pack(obj),)
        return super().reducer_override(obj)


def _refusal(module: nn.Module, how: str = "pickled") -> str:
    return f"{type(module).__name__} cannot be {how}"


def _holds_graphs(module: nn.Module) -> bool:
    """Whether it holds programs, which are followed again when they are loaded."""
    return any(isinstance(part, fx.GraphModule) for part in module.modules())


def _tensors_of(module: nn.Module) -> list[torch.Tensor]:
    """Weights, buffers, and tensors held in any other way."""
    return [part for part in _parts_of(module) if isinstance(part, torch.Tensor)]


def _parts_of(value: Any) -> Iterator[Any]:
    """A value and all that it holds, each once but for tensors."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            yield one
            continue
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, Mapping):
            several = [*one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            several = [*one]
        elif isinstance(one, partial):
            several = [one.func, one.args, one.keywords]
        elif isinstance(one, _NO_HOLDERS) or not hasattr(one, "__dict__"):
            several = []
        else:
            several = [*vars(one).values()]
        waiting += reversed(several)


def _is_plain(kind: type[torch.Tensor]) -> bool:
    """Whether a class of tensors leaves to torch what is computed with it."""
    owner = next(base for base in kind.__mro__ if "__torch_function__" in vars(base))
    return owner in (torch.Tensor, nn.Parameter)


def _is_found_by_name(function: types.FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    return getattr(module, function.__name__, None) is function


@dataclass(frozen=True, eq=False)
class Bundle:
    """A backbone as plain values.

    Attributes
    ----------
    facts : dict
        Fields of the backbone that say how it came about.
    architecture : dict or None
        What builds a network by name; None for a module of the user's own.
    network : dict of str to ndarray, or PackedModule
        Its weights, or all of it.
    """

    facts: dict[str, Any]
    architecture: dict[str, Any] | None
    network: Any

    def __deepcopy__(self, memo: dict[int, Any]) -> Bundle:
        return self  # nothing changes it

    @classmethod
    def pack(cls, backbone: Backbone) -> Bundle:
        """Take a backbone apart."""
        names = ("name", "source", "reference", "weights", "preprocessing", "portable")
        facts = {name: getattr(backbone, name) for name in names}
        built = backbone.architecture
        description = None if built is None else built.describe()
        if description is None:
            return cls(facts, None, PackedModule.pack(backbone.module))
        state = backbone.module.state_dict()
        return cls(facts, description, {name: t.numpy().copy() for name, t in state.items()})

    def unpack(self) -> Backbone:
        """Put it together again."""
        architecture: Any = None
        if self.architecture is None:
            module = finish(self.network.unpack())
            fingerprint = fingerprint_of_module(self.facts["reference"] or "module", module)
        else:
            if "text" in self.architecture:
                architecture = TransformersArchitecture.of(self.architecture)
            else:
                architecture = architecture_of(self.architecture)
            state = {name: torch.from_numpy(np.array(a)) for name, a in self.network.items()}
            what = f"The saved weights of {architecture.reference} do not fit it"
            # Another alignment or order in memory would give other last digits.
            module = finish(architecture.from_state(state, what))
            fingerprint = architecture.fingerprint_of(module)
        # Not the fingerprint of what was saved: a file may say anything, and classes change.
        return Backbone(
            module=module, fingerprint=fingerprint, architecture=architecture, **self.facts
        )
