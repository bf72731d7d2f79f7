"""Arrays of one image: layouts, tensors, 8-bit RGB pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exceptions import ImageError
from ._colour import flatten_alpha

# Looked for in this order, so that (3, 4, 4) is RGB of 4 x 4 and not RGBA of height 3.
_CHANNELS = (3, 1, 4)

LAYOUTS = "(h, w), (h, w, 1), (h, w, 3), (h, w, 4), (1, h, w), (3, h, w) or (4, h, w)"


def is_tensor(item: Any) -> bool:
    """Tell whether `item` is a torch tensor, without importing torch."""
    return hasattr(item, "detach") and hasattr(item, "cpu") and hasattr(item, "numpy")


def is_array_like(item: Any) -> bool:
    """Tell whether `item` holds numbers: an array, a tensor, or nested lists."""
    if isinstance(item, (str, bytes)):  # numpy's own have __array__
        return False
    return hasattr(item, "__array__") or is_tensor(item) or isinstance(item, (list, tuple))


def as_array(item: Any) -> np.ndarray:
    """Give the numbers of an array, a tensor on any device, or nested lists.

    Raises
    ------
    ImageError
        If they are not real numbers, or not of one shape.
    """
    try:
        if is_tensor(item):
            array = _tensor_to_numpy(item)
        else:
            array = np.asarray(item)
            if array.dtype.kind == "O":  # numbers that lost their dtype on the way
                array = np.asarray(array.tolist())
    except Exception as error:  # each array library has its own
        raise ImageError(f"cannot be read as an array of numbers: {error}") from error
    if array.dtype.kind == "c":
        raise ImageError("Complex data not supported: pixels must be real numbers")
    if array.dtype.kind not in "buif":
        raise ImageError(f"pixels must be numbers, got an array of dtype {array.dtype}")
    return array


def _tensor_to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # bfloat16 and the like, which numpy does not know
        return np.asarray(tensor.float().numpy())


def channel_axis(shape: tuple[int, ...], *, channels_first: bool = False) -> int | None:
    """Find which axis of a three-dimensional image holds the colours.

    It is the axis of length 3, else of length 1, else of length 4; among the two ends the last
    wins, or the first if `channels_first`, which is the custom of torch.
    """
    for length in _CHANNELS:
        for axis in (0, 2) if channels_first else (2, 0):
            if shape[axis] == length:
                return axis
    return None


def to_hwc(array: np.ndarray, *, channels_first: bool = False) -> np.ndarray:
    """View one image as (height, width, channels).

    Raises
    ------
    ImageError
        If its shape is no image's, or it has no pixels.
    """
    if array.ndim not in (2, 3):
        raise ImageError(f"the shape of one image must be {LAYOUTS}, got {array.shape}")
    if 0 in array.shape:
        raise ImageError(no_pixels(array.shape))
    if array.ndim == 2:
        return array[:, :, None]
    axis = channel_axis(array.shape, channels_first=channels_first)
    if axis is None:
        raise ImageError(f"the shape of one image must be {LAYOUTS}, got {array.shape}")
    return array if axis == 2 else np.moveaxis(array, axis, 2)


def no_pixels(shape: tuple[int, ...]) -> str:
    """Say what is wrong with an array of this shape."""
    return f"has no pixels: its shape is {shape}"


def to_rgb_pixels(pixels: np.ndarray) -> np.ndarray:
    """Give 8-bit RGB (h, w, 3), C-contiguous, of 8-bit (h, w, 1 | 3 | 4); alpha lies on white."""
    channels = pixels.shape[2]
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    elif channels == 4:
        pixels = flatten_alpha(pixels)
    return np.ascontiguousarray(pixels)
