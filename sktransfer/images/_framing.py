"""From a photograph of any size to the pixels a network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ._crop import crop
from ._tensors import agrees, shrink

__all__ = ["READING", "RESIZES", "Framing", "frame"]

RESIZES = ("crop", "squash", "pad")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

# What is cut away afterwards may be this many times what is kept, along each axis.
_WHOLE = 8

# Part of the address of codes in a store: to be raised when the pixels of an image change, when
# an image that was taken is refused, or when its digest is another.
READING = 3


@dataclass(frozen=True)
class Framing:
    """How a photograph is made to fit.

    Attributes
    ----------
    image_size : tuple of int
        Height and width of the result in pixels.
    resize : {"crop", "squash", "pad"}
        Cut the middle out, change the proportions, or fill up with `background`.
    resize_size : tuple of int
        For ``"crop"``: what a photograph is scaled to cover before the middle is cut out.
    interpolation : str
        Name of Pillow's filter, which widens when it shrinks (antialiasing).
    background : tuple of int
        Colour of the bars of ``"pad"``, 0 to 255. One number alone is a grey, and makes all
        images grey, by their luminance.
    """

    image_size: tuple[int, int]
    resize: str
    resize_size: tuple[int, int]
    interpolation: str
    background: tuple[int, ...]

    @property
    def n_channels(self) -> int:
        """Channels of the result: 3, or 1 for grey."""
        return len(self.background)


def frame(picture: Image.Image | np.ndarray, framing: Framing) -> np.ndarray:
    """Fit a photograph.

    Photographs that become smaller are resized by torch, within a level of what Pillow makes of
    them (see `shrink`); the others by Pillow.

    Parameters
    ----------
    picture : PIL.Image.Image or ndarray of shape (height, width, 3), uint8
        In mode RGB.
    framing : Framing

    Returns
    -------
    ndarray of shape (height, width, 3), or (height, width, 1) for grey, uint8
    """
    if framing.n_channels == 3:
        return _fit(picture, framing)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    return _fit(picture.convert("L"), framing)[..., None]


def _fit(picture: Image.Image | np.ndarray, framing: Framing) -> np.ndarray:
    """Fit an image in colour or in grey, which then has two axes."""
    pixels = np.asarray(picture)
    size = _scaled_size(pixels.shape[0], pixels.shape[1], framing)
    if _can_shrink(pixels, size, framing):
        return _place(shrink(pixels, size, framing.interpolation), framing)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    filter_ = _FILTERS[framing.interpolation]
    if framing.resize == "crop":
        return np.asarray(crop(picture, size, framing.image_size, filter_))
    return _place(np.asarray(picture.resize(size[::-1], filter_)), framing)


def _scaled_size(height: int, width: int, framing: Framing) -> tuple[int, int]:
    """Height and width to which the whole photograph is resized."""
    if framing.resize == "crop":
        return _covering(height, width, framing.resize_size)
    if framing.resize == "squash":
        return framing.image_size
    scale = min(framing.image_size[0] / height, framing.image_size[1] / width)
    return (
        max(1, min(framing.image_size[0], round(height * scale))),
        max(1, min(framing.image_size[1], round(width * scale))),
    )


def _can_shrink(pixels: np.ndarray, size: tuple[int, int], framing: Framing) -> bool:
    """Whether both sides become smaller, and not many times as much is computed as is kept."""
    return all(
        new <= _WHOLE * kept and agrees(old, new, framing.interpolation)
        for old, new, kept in zip(pixels.shape, size, framing.image_size, strict=False)
    )


def _place(fitted: np.ndarray, framing: Framing) -> np.ndarray:
    """Cut the middle out, or put it between bars."""
    height, width = framing.image_size
    if fitted.shape[:2] == (height, width):
        return fitted
    if framing.resize == "pad":
        canvas = np.full((height, width, *fitted.shape[2:]), framing.background, np.uint8)
        top, left = (height - fitted.shape[0]) // 2, (width - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        return canvas
    top, left = (
        round((new - kept) / 2) for new, kept in zip(fitted.shape, framing.image_size, strict=False)
    )
    if top >= 0 <= left:
        return fitted[top : top + height, left : left + width]
    # A crop larger than the photograph has black bars, as torchvision's.
    return np.asarray(Image.fromarray(fitted).crop((left, top, left + width, top + height)))


def _covering(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Size of a picture scaled until it covers the target."""
    if height * target[1] >= width * target[0]:
        return max(int(target[1] * height / width), target[0]), target[1]
    return target[0], max(int(target[0] * width / height), target[1])
