"""From a photograph of any size to the pixels a network sees."""

from __future__ import annotations

from dataclasses import dataclass

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
    """
    height, width = framing.image_size
    new_height, new_width = _covering(picture.height, picture.width, framing.resize_size)
    top, left = round((new_height - height) / 2), round((new_width - width) / 2)
    if top < 0 or left < 0:
        whole = picture.resize((new_width, new_height), filter_)
        return whole.crop((left, top, left + width, top + height))
    across, down = picture.width / new_width, picture.height / new_height
    right, bottom = (left + width) * across, (top + height) * down
    box = (left * across, top * down, min(right, picture.width), min(bottom, picture.height))
    return picture.resize((width, height), filter_, box=box)


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
