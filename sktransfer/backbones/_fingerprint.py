"""One short name for a network and every one of its weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
import xxhash
from torch import fx, nn

__all__ = ["describe_code", "fingerprint"]

_LIBRARIES = ("torch", "torchvision", "timm")
_PLAIN = (bool, int, float, str, type(None))
# What torch itself keeps on every module, and on those it compiled.
_OF_TORCH = {*vars(nn.Module()), "_is_torch_compile"}


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
        32 hexadecimal digits of xxh3-128, the same on every machine and with every version
        of torch.
    """
    digest = xxhash.xxh3_128(architecture.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes, since numpy has no bfloat16; flat, since a scalar cannot be viewed as bytes.
        flat = tensor.detach().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def describe_code(module: nn.Module) -> str:
    """What a module computes beside its weights, for modules that have no published name.

    Two networks can share every weight and differ in a stride or in their Python code. The
    code of their classes is told, not that of functions which these call.
    """
    return "\n".join([repr(module), *_sources(module), *_settings(module)])


def _sources(module: nn.Module) -> Iterator[str]:
    """Code that belongs to no library, and the code of traced graphs."""
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            yield part.code
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        if kind.__module__.split(".")[0] in _LIBRARIES:
            continue
        try:
            yield inspect.getsource(kind)
        except (OSError, TypeError):  # typed into a prompt
            code = kind.forward.__code__
            constants = [one for one in code.co_consts if isinstance(one, _PLAIN)]
            yield f"{kind.__qualname__} {code.co_code.hex()} {constants} {code.co_names}"


def _settings(module: nn.Module) -> Iterator[str]:
    """Plain attributes, which code may compute with and repr need not show."""
    for path, part in module.named_modules():
        if type(part).__module__.split(".")[0] != "torch":
            own = {k: v for k, v in vars(part).items() if k not in _OF_TORCH}
            plain = sorted((k, repr(v)) for k, v in own.items() if isinstance(v, _PLAIN))
            yield f"{path} {plain}"
