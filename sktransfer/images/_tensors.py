"""Shrinking large photographs in vector instructions, by torch.

It is imported when the first photograph needs it, since importing it takes seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["agrees", "shrink"]


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
