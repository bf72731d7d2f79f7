"""Any mode of Pillow to 8-bit RGB.

Alpha is composited over white, as pages and viewers show pictures, so that a black logo on a
transparent ground stays visible (``convert("RGB")`` alone would uncover whatever colour hides
under the transparency, mostly black). ICC profiles are ignored, as torchvision and timm ignore
them, because the pretrained networks saw their training pictures without them. CMYK is Pillow's
plain conversion. 16-bit grey is scaled from the full range of the type.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..exceptions import ImageError

_ORIENTATION_TAG, _PHOTOMETRIC_TAG, _BITS_TAG = 0x0112, 262, 258
_ASK_ARRAY = "read it into an array and say what black and white are: value_range=(low, high)"

# EXIF orientation -> what turns the picture upright (the values of the tag's definition)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """Give the picture of a loaded image as it is meant to be seen, in mode RGB."""
    turn = _UPRIGHT.get(_orientation(image))
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def is_upright(image: Image.Image) -> bool:
    """Tell whether an image, which need not be loaded, is stored as it is meant to be seen."""
    return _orientation(image) not in _UPRIGHT


def _orientation(image: Image.Image) -> int:
    # ImageOps.exif_transpose would also rewrite the EXIF data, which fails on damaged ones.
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata do not make the pixels wrong
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to RGB; alpha is composited over white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _deep_grey(image)
    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to mode L."""
    values, white = np.asarray(image), _white(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # so that NaN fails as well
        raise ImageError(
            f"values of a grey image of mode {image.mode} must lie within 0 and {white}, "
            f"got {low} to {high}; {_ASK_ARRAY}"
        )
    grey = np.rint(values * np.float64(255 / white)).astype(np.uint8)
    if _tiff_tag(image, _PHOTOMETRIC_TAG) == 0:  # "white is zero", which Pillow leaves so
        grey = 255 - grey
    if "transparency" in image.info:  # one value of the full range stands for "see through"
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _white(image: Image.Image) -> int:
    if image.mode == "F":
        return 1
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # theirs are 16 bits deep
        raise ImageError(f"32-bit integer pixels do not say what white is; {_ASK_ARRAY}")
    return 4095 if _tiff_tag(image, _BITS_TAG) == (12,) else 65535


def _tiff_tag(image: Image.Image, tag: int) -> object:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)
