"""What learning computes in: half precision where it is faster, weights in float32 always.

Reference: P. Micikevicius et al. (2018). Mixed precision training. ICLR. Section 3.1.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

__all__ = ["autocast_dtype", "spare_grouped"]

_of_thread = threading.local()


def autocast_dtype(
    precision: str, device: torch.device, *, stages_learn: bool
) -> torch.dtype | None:
    """The half precision of a fit; None is float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        "auto" takes bfloat16 on GPUs and CPUs that multiply in it, and float16 on other GPUs. A
        head alone is so little work that it stays in float32 on CPUs.
    device : torch.device
    stages_learn : bool
        Whether more than a head learns.
    """
    if precision != "auto":
        return None if precision == "float32" else getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and stages_learn and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return None


def _cpu_multiplies_bfloat16() -> bool:
    """Whether instructions for it are there: emulated, it would be slower than float32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of newer torch alone
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def spare_grouped(module: nn.Module) -> None:
    """Have grouped convolutions compute in float32 on a CPU where the rest is bfloat16.

    Their gradients take many times as long in bfloat16 as in float32 there, so that a network of
    depthwise convolutions would learn half as fast instead of one and a half times. To be called
    once, where the module is made: nets come and go over one module.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1:
            conv.register_forward_pre_hook(_leave_autocast)
            conv.register_forward_hook(_return_to_autocast)


def _leave_autocast(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    _of_thread.left = half
    if not half:
        return args
    torch.set_autocast_enabled("cpu", False)
    return (args[0].float(), *args[1:])


def _return_to_autocast(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    if _of_thread.left:
        torch.set_autocast_enabled("cpu", True)
