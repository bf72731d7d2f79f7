"""Which device, which precision, which engine."""

from __future__ import annotations

import warnings

import torch

from ..exceptions import EngineError, EngineWarning

__all__ = ["PRECISIONS", "resolve_device", "resolve_precision", "usable_device"]

PRECISIONS = ("float32", "bfloat16", "float16")


def resolve_device(device: str) -> torch.device:
    """The device of a name; ``"auto"`` is cuda, then mps, then cpu.

    Raises
    ------
    EngineError
        If this machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise EngineError(f"device={device!r} is not a device torch knows: {error}") from error
    if not _present(resolved):
        raise EngineError(
            f'device={device!r} is not on this machine. Take device="auto", which is cuda, '
            f"then mps, then cpu; torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices here."
        )
    return resolved


def usable_device(device: str) -> torch.device:
    """The device, or the CPU with a warning where it is gone: a model fitted on a GPU works."""
    try:
        return resolve_device(device)
    except EngineError as error:
        warnings.warn(f"{error} Going on with the CPU.", EngineWarning, stacklevel=3)
        return torch.device("cpu")


def _present(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return torch.backends.mps.is_available() if device.type == "mps" else True


def resolve_precision(precision: str, device: torch.device) -> str:
    """``"auto"`` is float16 on CUDA and float32 elsewhere."""
    if precision != "auto":
        return precision
    return "float16" if device.type == "cuda" else "float32"
