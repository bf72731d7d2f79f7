"""Networks as bytes, for pickles that hold everything."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..exceptions import BackboneError
from ._build import finish
from ._spec import Backbone

__all__ = ["Bundle", "PackedModule", "pack_module"]


@dataclass(frozen=True)
class PackedModule:
    """A module whose weights are numpy arrays, so that it loads on any device."""

    content: bytes

    def unpack(self) -> nn.Module:
        """Build the module again, on the CPU."""
        return pickle.loads(self.content)


@dataclass(frozen=True)
class Bundle:
    """A backbone as bytes.

    Attributes
    ----------
    facts : Backbone
        Everything but the module.
    module : PackedModule
    """

    facts: Backbone
    module: PackedModule

    @classmethod
    def pack(cls, backbone: Backbone) -> Bundle:
        """Take a backbone apart."""
        return cls(replace(backbone, module=nn.Identity()), pack_module(backbone.module))

    def unpack(self) -> Backbone:
        """Put it together again."""
        # Another alignment or order in memory would give other last digits.
        return replace(self.facts, module=finish(self.module.unpack()))


def pack_module(module: nn.Module) -> PackedModule:
    """Pickle a module with its tensors as numpy arrays.

    Raises
    ------
    BackboneError
        If the module cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _Packer(buffer, protocol=5).dump(module)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BackboneError(
            f"{type(module).__name__} cannot be pickled: {error}. Define its class at the top "
            "level of a module that can be imported, without lambdas."
        ) from error
    return PackedModule(buffer.getvalue())


class _Packer(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, torch.Tensor):
            return NotImplemented
        array = obj.detach().cpu().contiguous()
        dtype = str(obj.dtype).removeprefix("torch.")
        # numpy has no bfloat16, but the bytes travel all the same.
        content = array.reshape(-1).view(torch.uint8).numpy()
        is_parameter = isinstance(obj, nn.Parameter)
        return _restore, (content, dtype, tuple(obj.shape), is_parameter, obj.requires_grad)


def _restore(
    content: np.ndarray, dtype: str, shape: tuple[int, ...], is_parameter: bool, learns: bool
) -> torch.Tensor:
    flat = torch.from_numpy(np.array(content)).view(getattr(torch, dtype))
    tensor = flat.reshape(shape)
    return nn.Parameter(tensor, requires_grad=learns) if is_parameter else tensor
