"""From a photograph of any size to the pixels a network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["RESIZES", "Framing", "frame"]

RESIZES = ("crop", "squash", "pad")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

# How many pixels to either side Pillow's filters reach, before they widen.
_SUPPORT = {
    Image.Resampling.NEAREST: 0.0,
    Image.Resampling.BOX: 0.5,
    Image.Resampling.BILINEAR: 1.0,
    Image.Resampling.HAMMING: 1.0,
    Image.Resampling.BICUBIC: 2.0,
    Image.Resampling.LANCZOS: 3.0,
}

# An axis is enlarged as a whole up to this many times what is kept of it.
_ENLARGED = 8


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
        Colour of the bars of ``"pad"``, 0 to 255.
    """

    image_size: tuple[int, int]
    resize: str
    resize_size: tuple[int, int]
    interpolation: str
    background: tuple[int, int, int]


def frame(picture: Image.Image, framing: Framing) -> np.ndarray:
    """Fit a photograph.

    Parameters
    ----------
    picture : PIL.Image.Image
        In mode RGB.
    framing : Framing

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
    """
    height, width = framing.image_size
    filter_ = _FILTERS[framing.interpolation]
    if framing.resize == "squash":
        fitted = picture.resize((width, height), filter_)
    elif framing.resize == "pad":
        fitted = _pad(picture, framing, filter_)
    else:
        fitted = _crop(picture, framing, filter_)
    return np.asarray(fitted)


def _crop(picture: Image.Image, framing: Framing, filter_: Image.Resampling) -> Image.Image:
    """Resize and cut the middle out in one step: only pixels that are kept are computed.

    The sizes and offsets are rounded as torchvision's Resize and CenterCrop round them; a
    box that is off by half a pixel moves codes by 9%.

    First across and then down, as whole pictures are resized. Given a box, Pillow takes the
    order that costs least, and the 8-bit rounding in between makes that another picture:
    codes of tall photographs moved by 1%.
    """
    height, width = framing.image_size
    new_height, new_width = _covering(picture.height, picture.width, framing.resize_size)
    across = _span(picture.width, new_width, width)
    down = _span(picture.height, new_height, height)
    reach = _SUPPORT[filter_] * max(1.0, picture.height / new_height)
    first = max(0, math.floor(down.start - reach) - 1)
    last = min(picture.height, math.ceil(down.stop + reach) + 1)
    box = (across.start, first, across.stop, last)
    narrow = picture.resize((across.size, last - first), filter_, box=box)
    rows = (0, down.start - first, across.size, down.stop - first)
    fitted = narrow.resize((across.size, down.size), filter_, box=rows)
    if fitted.size == (width, height):
        return fitted
    left, top = across.offset, down.offset
    return fitted.crop((left, top, left + width, top + height))


class _Span(NamedTuple):
    """What is resized along one axis: from where to where, to how many, and what is cut then."""

    start: float
    stop: float
    size: int
    offset: int


def _span(length: int, new_length: int, kept: int) -> _Span:
    """The middle of an axis.

    Pillow keeps a box in single precision. That is no matter where many pixels make one, but
    enlarging meets exact halves, so there the whole axis is enlarged and then cut.
    """
    offset = round((new_length - kept) / 2)
    if offset <= 0 or length < new_length <= _ENLARGED * kept:
        return _Span(0, length, new_length, offset)
    share = length / new_length
    return _Span(offset * share, min((offset + kept) * share, length), kept, 0)


def _covering(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Size of a picture scaled until it covers the target."""
    if height * target[1] >= width * target[0]:
        return max(int(target[1] * height / width), target[0]), target[1]
    return target[0], max(int(target[0] * width / height), target[1])


def _pad(picture: Image.Image, framing: Framing, filter_: Image.Resampling) -> Image.Image:
    height, width = framing.image_size
    scale = min(height / picture.height, width / picture.width)
    inner_height = max(1, min(height, round(picture.height * scale)))
    inner_width = max(1, min(width, round(picture.width * scale)))
    inner = picture.resize((inner_width, inner_height), filter_)
    if inner.size == (width, height):
        return inner
    canvas = Image.new("RGB", (width, height), framing.background)
    canvas.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return canvas
