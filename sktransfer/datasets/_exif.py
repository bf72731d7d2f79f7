"""Boxes that were drawn on images as they lie in their files, before EXIF turns these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

_TAG = 274
SIDEWAYS = (5, 6, 7, 8)
# Corners as seen, of those in the file, by the width and height of what is seen.
_SEEN: dict[int, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    2: lambda x, y, width, height: (width - x, y),
    3: lambda x, y, width, height: (width - x, height - y),
    4: lambda x, y, width, height: (x, height - y),
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (width - y, x),
    7: lambda x, y, width, height: (width - y, height - x),
    8: lambda x, y, width, height: (y, height - x),
}


def orientation_of(path: str) -> int:
    """How an image is to be turned, from 1, not at all, to 8."""
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(_TAG, 1))
    except Exception:  # damaged metadata, as everywhere, turn nothing
        return 1


def turned(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes (k, 4) in pixels of the file, in those of the image as it is seen.

    Parameters
    ----------
    boxes : ndarray of shape (k, 4)
    orientation : int
    size : tuple of int
        Height and width of the image as it is seen.
    """
    if orientation not in _SEEN:
        return boxes
    height, width = size
    corners = [_SEEN[orientation](x, y, width, height) for x, y in (boxes[:, :2].T, boxes[:, 2:].T)]
    both = np.stack([np.stack(one, axis=1) for one in corners])
    return np.hstack([both.min(axis=0), both.max(axis=0)])
