"""Any mode of Pillow to 8-bit RGB.

Alpha is composited over white, as pages and viewers show images, so that a black logo on a
transparent ground stays visible (``convert("RGB")`` alone would uncover whatever colour hides
under the transparency, mostly black). ICC profiles are ignored, as torchvision and timm ignore
them, because the pretrained networks saw their training images without them. CMYK is Pillow's
plain conversion. Values of more than 8 bits are scaled, see `Depth`.

Large images are converted in strips: whole ones would need up to 28 bytes a pixel for a moment,
times the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from ._deep import (
    WHITE_16,
    Depth,
    Strip,
    declared_white,
    deep_colours_into,
    grey_into,
    has_deep_colours,
    is_deep_grey,
    note_colours,
    open_twin,
    refuse_colours,
)

_ORIENTATION_TAG = 0x0112
_STRIP_PIXELS = 2**20  # converted together

# EXIF orientation -> the view of an upright array that has its pixels where the file has them
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}
_SIDEWAYS = (5, 6, 7, 8)


def load_pixels(image: Image.Image, depth: Depth) -> np.ndarray:
    """Load an opened image; give its upright pixels, (height, width, 3) of 8-bit RGB.

    Raises
    ------
    ImageError
        If it cannot be told what black and white are, or the range given asks for more bits than
        Pillow keeps.
    """
    declared, colours = declared_white(image), has_deep_colours(image)
    twin = open_twin(image) if colours and depth.given is not None else None
    if colours and twin is None:
        refuse_colours(depth, declared)
    image.load()
    turn = _orientation(image)  # which may stand behind the pixels
    if twin is not None:
        twin.image.load()
        out, stored = _canvas(image, turn)
        deep_colours_into(stored, image, twin, _strips(twin.image), depth, to_rgb)
        return out
    if colours and declared in (0, WHITE_16):
        note_colours(image, depth)
    if is_deep_grey(image):
        out, stored = _canvas(image, turn)
        grey_into(stored, image, _strips(image), depth, declared)
        return out
    depth.saw_byte(_highest_grey(image))
    if turn not in _STORED and image.width * image.height <= _STRIP_PIXELS:
        return np.asarray(to_rgb(image))
    out, stored = _canvas(image, turn)
    for rows, strip in _strips(image):
        stored[rows] = np.asarray(to_rgb(strip))
    return out


def _highest_grey(image: Image.Image) -> float | None:
    """The largest value of a loaded greyscale image of 8 bits; None for others."""
    if image.mode != "L" or image.has_transparency_data:
        return None
    extremes: Any = image.getextrema()
    return float(extremes[1])


def _canvas(image: Image.Image, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """An upright array to be filled, and its view in the order of the file."""
    size = image.size if turn in _SIDEWAYS else image.size[::-1]
    upright = np.empty((*size, 3), np.uint8)
    return upright, _STORED.get(turn, lambda same: same)(upright)


def _strips(image: Image.Image) -> Iterator[Strip]:
    """Cut a loaded image into strips of whole rows."""
    step = max(1, _STRIP_PIXELS // image.width)
    if step >= image.height:
        yield slice(0, image.height), image
        return
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image, which need not be loaded, as it is meant to be seen."""
    return image.size if _orientation(image) in _SIDEWAYS else image.size[::-1]


def upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turn what is stored of an image, (height, width), as it is meant to be seen."""
    turn = _orientation(image)
    if turn not in _STORED:
        return pixels
    turned = np.empty(upright_size(image), pixels.dtype)
    _STORED[turn](turned)[...] = pixels
    return turned


def is_upright(image: Image.Image) -> bool:
    """Tell whether an image, which need not be loaded, is stored as it is meant to be seen."""
    return _orientation(image) not in _STORED


def _orientation(image: Image.Image) -> int:
    # ImageOps.exif_transpose would also rewrite the EXIF data, which fails on damaged ones.
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata do not make the pixels wrong
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of 8 bits to RGB; alpha is composited over white."""
    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def flatten_alpha(pixels: np.ndarray) -> np.ndarray:
    """Give (h, w, 3) of 8-bit (h, w, 4), laid on white, a strip at a time."""
    out = np.empty((*pixels.shape[:2], 3), np.uint8)
    step = max(1, _STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), step):
        strip = np.ascontiguousarray(pixels[top : top + step])
        out[top : top + step] = np.asarray(to_rgb(Image.fromarray(strip)))
    return out
