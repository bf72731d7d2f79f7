"""What every engine does: items in, codes of several layers out."""

from __future__ import annotations

import ctypes
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import loaded_torch, torch_build
from ..exceptions import EngineError, EngineWarning

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "Device",
    "Engine",
    "as_batch",
    "batch_tokens",
    "copies_of_few",
    "resolve_devices",
    "resolve_precision",
    "usable_devices",
]


class Engine(ABC):
    """A frozen network on a device.

    Attributes
    ----------
    name : str
        Such as ``"torch-cpu"``; part of the key of codes in the store, because the
        engines' last digits differ.
    precision : {"float32", "bfloat16", "float16"}
        What it computes in; codes are float32 always.
    batch_size : int
        Images that go through together unless another number is asked for.
    batch_tokens : int
        The same for texts, in tokens.
    """

    name: str
    precision: str
    batch_size: int
    batch_tokens: int

    @abstractmethod
    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Compute the codes of one batch; may be called from several threads at once.

        Parameters
        ----------
        batch : ndarray of shape (n, height, width, 3), uint8, or (n, n_tokens, 3), int32
            Pixels in RGB, (n, height, width, 1) for a network that sees grey; or tokens.

        Returns
        -------
        tuple of ndarray, float32
            One array for each layer of the frozen network, with n rows.
        """

    def run_on_all_cores(
        self, batch: np.ndarray, *, exact: bool
    ) -> tuple[np.ndarray, ...] | None:
        """The same on all cores of a processor, for a batch that would leave some idle.

        Parameters
        ----------
        batch : ndarray
            As in `run`.
        exact : bool
            Whether the codes must be those of `run` to the last bit.

        Returns
        -------
        tuple of ndarray, float32, or None
            None where `run` is to be called: others are computing, or the engine has one way alone.
        """
        return None

    def warm_up(self, batch: np.ndarray) -> None:
        """Do now what the first batches of one and of many items would have to do."""
        self.run(batch)
        self.run_on_all_cores(batch, exact=True)


# Tokens of texts that go through a network together: what the caches of a CPU hold.
_CPU_TOKENS, _GPU_TOKENS = 768, 32_768
# Products of fewer rows than these add in another order, by up to 48 (AVX2) or 15 rows (AVX-512):
# the last bits of a short text would differ alone and among others.
_FEWEST_TOKENS = 64


def batch_tokens(device: Device | torch.device) -> int:
    """Tokens that go through a network together on a device."""
    return _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS


def copies_of_few(n_tokens: int) -> int:
    """How many times so few tokens are put beside themselves, so that a text alone has the same
    bits as among others."""
    return -(-_FEWEST_TOKENS // n_tokens)


# Arrays as one.


_local = threading.local()


def as_batch(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of one shape, stacked; without a copy where they lie side by side in memory.

    Parameters
    ----------
    arrays : sequence of ndarray
        At least one.

    Returns
    -------
    ndarray of shape (n, ...)
        Only to be read, and only until this thread asks for another.
    """
    first = arrays[0]
    if first.flags.c_contiguous and first.flags.writeable and first.nbytes:
        if len(arrays) == 1:
            return first[None]
        begin = first.__array_interface__["data"][0]
        if first.base is not None and all(
            one.base is first.base
            and one.flags.c_contiguous
            and one.__array_interface__["data"][0] == begin + number * first.nbytes
            for number, one in enumerate(arrays)
        ):
            strides = (first.nbytes, *first.strides)
            return np.lib.stride_tricks.as_strided(first, (len(arrays), *first.shape), strides)
    # In the same memory as before: new pages take the system longer than the copy.
    size = len(arrays) * first.nbytes
    if getattr(_local, "memory", None) is None or len(_local.memory) < size:
        _local.memory = np.empty(size, np.uint8)
    batch = _local.memory[:size].view(first.dtype).reshape(len(arrays), *first.shape)
    return np.stack(arrays, out=batch)


# Which device, and which precision. For the CPU nobody needs to import torch.


@dataclass(frozen=True)
class Device:
    """A device as torch knows it, in plain values; as text it is torch's name.

    Attributes
    ----------
    type : str
        ``"cpu"``, ``"cuda"``, ``"mps"`` or another.
    index : int or None
    """

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


PRECISIONS = ("float32", "bfloat16", "float16")


def resolve_devices(device: str | Sequence[str]) -> tuple[Device, ...]:
    """The devices of a name or of several; ``"auto"`` is cuda, then mps, then cpu.

    Raises
    ------
    EngineError
        If this machine has no such device, or several are not of one kind.
    """
    if isinstance(device, (list, tuple)):
        devices = tuple(_resolve(one) for one in device)
        if not devices or len({one.type for one in devices}) > 1 or len(set(devices)) < len(device):
            raise EngineError(
                f"device={device!r} must be one or more different devices of one kind, such as "
                '["cuda:0", "cuda:1"]: the last digits of codes differ from kind to kind.'
            )
        return devices
    return (_resolve(device),)  # type: ignore[arg-type]


def _resolve(device: str) -> Device:
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return Device("cpu")
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return Device("cuda")
        return Device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        known = torch.device(device)
        resolved = Device(known.type, known.index)
    except RuntimeError as error:
        raise EngineError(
            f'device={device!r} is not a device torch knows. Take "auto" (cuda, then mps, then '
            'cpu), "cpu", "cuda", "cuda:1" or "mps".'
        ) from error
    if not _present(resolved):
        raise EngineError(
            f'device={device!r} was not found on this machine. Take device="auto", which is cuda, '
            f"then mps, then cpu; torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices here."
        )
    return resolved


def _may_have_gpu() -> bool:
    """Whether torch is to be asked: not where it has no code for a GPU, or there is no driver."""
    return loaded_torch() is not None or _has_driver()


@cache
def _has_driver() -> bool:
    if sys.platform == "darwin":
        return True
    build = torch_build()
    if build.cuda is None:
        # Of the drivers of others nothing is known here.
        return any(getattr(build, name, None) is not None for name in ("hip", "rocm"))
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def usable_devices(device: str | Sequence[str]) -> list[str]:
    """The devices; those of them that are here, or the CPU, with a warning where some are gone.

    So a model that was fitted on a GPU works without one.
    """
    try:
        return [str(one) for one in resolve_devices(device)]
    except EngineError as error:
        several = device if isinstance(device, (list, tuple)) else ()
        here = [one for one in several if _is_here(one)] or ["cpu"]
        others = "the CPU" if here == ["cpu"] else ", ".join(map(str, here))
        warnings.warn(f"{error} Continuing with {others}.", EngineWarning, stacklevel=3)
        return here


def _is_here(device: str) -> bool:
    try:
        return bool(_resolve(device))
    except EngineError:
        return False


def _present(device: Device) -> bool:
    import torch

    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return torch.backends.mps.is_available() if device.type == "mps" else True


def resolve_precision(precision: str, device: Device | torch.device) -> str:
    """``"auto"``: the fastest whose codes stay within 1% of float32 (relative L2 norm).

    That is float16 on CUDA and float32 elsewhere; bfloat16 is about 6% off on CPUs.
    """
    if precision != "auto":
        return precision
    return "float16" if device.type == "cuda" else "float32"
