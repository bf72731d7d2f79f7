"""One image in memory: its digest, and its picture when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import xxhash
from PIL import Image, ImageFile

from ..exceptions import ImageError
from ._files import decode, decode_pixels, from_pil, read_file

Made = TypeVar("Made", Image.Image, np.ndarray)


class Content(NamedTuple):
    """An item in memory, and what makes its picture and its pixels."""

    digest: bytes
    n_bytes: int
    picture: Callable[[], Image.Image]
    pixels: Callable[[], np.ndarray]


def open_item(item: Any, pixels_of: Callable[[Any], np.ndarray]) -> Content:
    """Read one item; give its digest, its size, and what makes its picture and pixels.

    Parameters
    ----------
    item : path, bytes, PIL image or array
        The image.
    pixels_of : callable
        Gives the 8-bit RGB pixels of an array.
    """
    if isinstance(item, (str, os.PathLike)):
        item = read_file(os.fsdecode(item))
    if isinstance(item, (bytes, bytearray, memoryview)):
        data = bytes(item)
        # Truncated files decode only under this switch of Pillow: another picture.
        seed = int(ImageFile.LOAD_TRUNCATED_IMAGES)
        digest = xxhash.xxh3_128_digest(data, seed=seed)
        return Content(digest, len(data), partial(decode, data), partial(decode_pixels, data))
    if isinstance(item, Image.Image):
        picture = from_pil(item)
        pixels = np.asarray(picture)
        return Content(_pixel_digest(pixels), pixels.nbytes, picture.copy, lambda: pixels)
    pixels = pixels_of(item)
    make = partial(Image.fromarray, pixels)
    return Content(_pixel_digest(pixels), pixels.nbytes, make, lambda: pixels)


def _pixel_digest(pixels: np.ndarray) -> bytes:
    """Digest 8-bit RGB pixels; the header keeps 2 x 8 apart from 4 x 4, and pixels from files."""
    digest = xxhash.xxh3_128(b"RGB %d %d " % pixels.shape[:2])
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


class OpenedImage:
    """One image whose bytes or pixels are in memory.

    Attributes
    ----------
    digest : bytes
        16 bytes, xxh3-128 of the bytes of a file, or of the 8-bit RGB pixels and size of arrays
        and PIL images, whatever layout, dtype and range they came in.
    n_bytes : int
        Size of what is kept in memory until the picture is made.
    """

    __slots__ = ("_content", "_index", "_source", "digest", "n_bytes")

    def __init__(self, content: Content, index: int, source: str | None) -> None:
        self.digest, self.n_bytes = content.digest, content.n_bytes
        self._content, self._index, self._source = content, index, source

    def picture(self) -> Image.Image:
        """Decode the picture: upright, mode RGB. Each call decodes anew.

        Raises
        ------
        ImageError
            If it cannot be decoded; says which image, its path, and the cause.
        """
        return self._made(self._content.picture)

    def pixels(self) -> np.ndarray:
        """Decode to the same pixels in less time: (height, width, 3), uint8, only to be read.

        Raises
        ------
        ImageError
            If it cannot be decoded; says which image, its path, and the cause.
        """
        return self._made(self._content.pixels)

    def changed(self, digest: bytes, change: Callable[[Image.Image], Image.Image]) -> OpenedImage:
        """The same image with its picture changed; the digest must tell how."""

        def picture() -> Image.Image:
            return change(self._content.picture())

        content = Content(digest, self.n_bytes, picture, lambda: np.asarray(picture()))
        return OpenedImage(content, self._index, self._source)

    def _made(self, make: Callable[[], Made]) -> Made:
        try:
            return make()
        except ImageError as error:
            raise ImageError(error.cause, self._index, self._source) from error.__cause__
