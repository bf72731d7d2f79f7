"""Shrinking large images in vector instructions, by torch, and by numpy while torch is not there.

To import torch takes two seconds, which the first photographs of a process need not wait for.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import loaded_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["agrees", "shrink"]


# Images that are shrunk before torch is imported for the others; numpy takes 30 times as long.
_FEW = 32
_without_torch = itertools.count()


def agrees(old: int, new: int, interpolation: str) -> bool:
    """Tell whether torch shrinks an axis from `old` to `new` pixels as Pillow does.

    It has no other filters than these. Where the lengths are as small whole numbers, such as
    5 to 4, the weights of the bilinear filter are as well, and one value in thirty lies exactly
    at a half, which the two round as they please: codes would move by 1%.
    """
    if interpolation == "bilinear":
        return new < old and not 4 < old // math.gcd(old, new) < 15
    return new < old and interpolation == "bicubic"


def shrink(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize 8-bit pixels with antialiasing, as torchvision's transforms resize tensors.

    This is Pillow's algorithm in vector instructions: the same two passes, across and then down,
    with 8 bits in between. Its weights have 16 bits where Pillow's have 32, so that about one
    value in a thousand, which lies at a half, is rounded the other way.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3) or (height, width), uint8
    size : tuple of int
        Height and width of the result.
    interpolation : {"bilinear", "bicubic"}

    Returns
    -------
    ndarray of the same number of axes, uint8
    """
    if loaded_torch() is None and next(_without_torch) < _FEW:
        across = _along(pixels.swapaxes(0, 1), size[1], interpolation).swapaxes(0, 1)
        return _along(across, size[0], interpolation)
    from torch.nn.functional import interpolate

    image = _tensor(np.atleast_3d(pixels)).permute(2, 0, 1)[None]
    small = interpolate(image, size, mode=interpolation, antialias=True)
    result: np.ndarray = small[0].permute(1, 2, 0).numpy()
    return result if pixels.ndim == 3 else result[..., 0]


def _tensor(array: np.ndarray) -> Tensor:
    """View an array as a tensor, without torch's warning of those that must not be written."""
    import torch

    return torch.from_numpy(np.asarray(array if array.flags.writeable else _Writeable(array)))


class _Writeable:
    """The memory of an array without its mark that it must not be written."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # keeps the memory alive
        interface: dict[str, Any] = dict(array.__array_interface__)
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


# The same to the last bit, by numpy: torch's algorithm in its own whole numbers.


def _along(pixels: np.ndarray, new: int, interpolation: str) -> np.ndarray:
    """Shrink the first axis."""
    first, weights, bits = _weights(len(pixels), new, interpolation)
    sums = np.full((new, *pixels.shape[1:]), 1 << (bits - 1), np.int32)
    for tap, weight in enumerate(weights.T):
        taken = pixels[np.minimum(first + tap, len(pixels) - 1)]
        sums += taken * weight.reshape(-1, *[1] * (pixels.ndim - 1))
    return (sums >> bits).clip(0, 255).astype(np.uint8)


def _weights(old: int, new: int, interpolation: str) -> tuple[np.ndarray, np.ndarray, int]:
    """For each new pixel the number of the first old one and the weights of those from there on.

    The weights are in units of 2 ** -bits, of as many bits as the largest has room for in 16.
    """
    scale = old / new
    reach = scale * (1 if interpolation == "bilinear" else 2)
    centres = scale * (np.arange(new) + 0.5)
    first = (centres - reach + 0.5).astype(np.int64).clip(min=0)
    count = (centres + reach + 0.5).astype(np.int64).clip(max=old) - first
    count = count.clip(max=2 * math.ceil(reach) + 1)
    taps = np.arange(count.max())
    far = np.abs((taps + first[:, None] - centres[:, None] + 0.5) * (1 / scale))
    weights = np.where(taps < count[:, None], _filter(far, interpolation), 0.0)
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # added one by one, as torch does
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
        bits += 1
    weights *= 2**bits
    return first, np.trunc(weights + np.copysign(0.5, weights)).astype(np.int32), bits


def _filter(far: np.ndarray, interpolation: str) -> np.ndarray:
    """Weights by the distance, in new pixels; of the bicubic filter with a = -0.5."""
    if interpolation == "bilinear":
        return np.where(far < 1, 1 - far, 0.0)
    near = (1.5 * far - 2.5) * far * far + 1
    return np.where(far < 1, near, np.where(far < 2, (((far - 5) * far + 8) * far - 4) * -0.5, 0.0))
