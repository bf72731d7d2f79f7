"""Files, bytes and PIL images: reading and decoding."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..exceptions import ImageError
from ._colour import load_pixels
from ._deep import Depth, check_parts, is_deep, why_tiff_is_unknown
from ._jpeg import decode_jpeg

Made = TypeVar("Made")

_JPEG = b"\xff\xd8\xff"

_HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheif")

# An image object that came from Image.open decodes on first use and is not safe to share.
# One of a few locks by identity, so that different objects mostly decode side by side.
_pil_locks = [threading.Lock() for _ in range(64)]


def read_file(path: str) -> bytes:
    """Read a whole file.

    Raises
    ------
    ImageError
        If it is missing, empty, a folder, or may not be read.
    """
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # a pipe would block for ever
            what = "a folder" if stat.S_ISDIR(kind) else "a device or pipe"
            raise ImageError(f"must be a file, is {what}")
        with open(path, "rb") as file:
            data = file.read()
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except PermissionError as error:
        raise ImageError("the file may not be read: permission denied") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(f"the file cannot be read: {error}") from error
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    return data


def decode(data: bytes, depth: Depth) -> Image.Image:
    """Decode the first frame of an image file to upright 8-bit RGB.

    Raises
    ------
    ImageError
        If it is no image, truncated, damaged, too large, or of a kind whose white is unknown.
    """
    return Image.fromarray(_read(data, partial(_decoded, depth=depth)))


def decode_pixels(data: bytes, depth: Depth) -> np.ndarray:
    """Decode to the pixels of the same picture, which takes less time for a plain JPEG.

    Raises
    ------
    ImageError
        As `decode` does.
    """

    def pixels(image: Image.Image) -> np.ndarray:
        quick = decode_jpeg(image, data)
        return _decoded(image, depth) if quick is None else quick

    return _read(data, pixels)


def _decoded(image: Image.Image, depth: Depth) -> np.ndarray:
    check_parts(image, depth)
    return load_pixels(image, depth)


def depth_decides(data: bytes) -> bool:
    """Tell from the header of a file whether what black and white are decides what it looks like.

    What is wrong with the file is said when it is decoded.
    """
    if data.startswith(_JPEG):  # nearly all there are, and of 8 bits
        return False
    try:
        return _read(data, is_deep)
    except (ImageError, MemoryError):
        return False


def _read(data: bytes, make: Callable[[Image.Image], Made]) -> Made:
    """Open the bytes of a file and make something of it; whatever fails becomes an ImageError."""
    if not data:
        raise ImageError("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_bomb(image.size)
            return make(image)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unknown(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{error} {_BOMB_REMEDY}") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ImageError(_damaged(error)) from error


def from_pil(image: Image.Image, depth: Depth) -> np.ndarray:
    """Give the upright 8-bit RGB pixels of a PIL image (its current frame), left unchanged.

    Raises
    ------
    ImageError
        If it cannot be decoded, or has no pixels.
    """
    try:
        with _pil_locks[id(image) // 16 % len(_pil_locks)]:
            if 0 in image.size:
                raise ImageError(f"has no pixels: its size is {image.size}")
            # converting a palette image writes into it
            own = image.copy() if image.mode in ("P", "PA") else image
            return load_pixels(own, depth)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(_damaged(error)) from error


_BOMB_REMEDY = (
    "If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS (None is no limit) and try again."
)


def _refuse_bomb(size: tuple[int, int]) -> None:
    # Pillow itself only warns up to twice its limit.
    limit, pixels = Image.MAX_IMAGE_PIXELS, size[0] * size[1]
    if limit is not None and pixels > limit:
        raise ImageError(
            f"its {pixels} pixels exceed the limit of {limit} pixels, "
            f"which may be a decompression bomb. {_BOMB_REMEDY}"
        )


def _damaged(error: Exception) -> str:
    what = str(error) or type(error).__name__
    return f"cannot be decoded: {what}. If a viewer shows it whole, save it anew from there"


def _unknown(data: bytes) -> str:
    if (cause := why_tiff_is_unknown(data)) is not None:
        return f"is {cause}"
    cause = f"is no whole image of a kind that Pillow reads; it begins with {data[:16]!r}"
    if data[4:12] in _HEIF_BRANDS:
        cause += ": HEIF, for which `pip install pillow-heif` and register its opener"
    return cause
