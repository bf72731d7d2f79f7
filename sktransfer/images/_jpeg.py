"""JPEG in less time than Pillow takes, where simplejpeg is installed."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile

from ._colour import is_upright

__all__ = ["decode_jpeg"]

_FORMATS = ("JPEG", "MPO")  # the second are photographs of telephones, with more pictures behind


def decode_jpeg(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a plain JPEG file, upright and of three colours, to 8-bit RGB.

    Simplejpeg has the same library as Pillow, libjpeg-turbo, and so gives the same pixels, but
    straight to where they are wanted. It is not needed; what is unusual or damaged is left to
    Pillow, which reads more and says what is wrong with the rest.

    Parameters
    ----------
    image : PIL.Image.Image
        The file opened, not loaded.
    data : bytes
        The file.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8, or None
    """
    if image.format not in _FORMATS or image.mode != "RGB" or not is_upright(image):
        return None
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # a switch of Pillow's alone
        return None
    try:
        from simplejpeg import decode_jpeg as decode
    except ImportError:
        return None
    try:
        pixels: np.ndarray = decode(data, "RGB")
    except (ValueError, RuntimeError):  # damaged, or unusual
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None
