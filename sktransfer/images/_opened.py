"""One image in memory: its digest, and its picture when asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageFile

from ..exceptions import ImageError, shown
from ._deep import Depth
from ._files import decode, decode_pixels, depth_decides, from_pil, read_file, read_open_file
from ._kinds import is_open_file

Made = TypeVar("Made", Image.Image, np.ndarray)


class Content(NamedTuple):
    """An item in memory, and what makes its picture and its pixels."""

    digest: bytes
    n_bytes: int
    picture: Callable[[], Image.Image]
    pixels: Callable[[], np.ndarray]


def open_item(item: Any, pixels_of: Callable[[Any], np.ndarray], depth: Depth) -> Content:
    """Read one item; give its digest, its size, and what makes its picture and pixels.

    Parameters
    ----------
    item : path, open file, bytes, PIL image or array
        The image.
    pixels_of : callable
        Gives the 8-bit RGB pixels of an array.
    depth : Depth
        How files and PIL images of more than 8 bits are read.
    """
    if isinstance(item, (str, os.PathLike)):
        path = os.fsdecode(item)
        remote = "://" in path and is_open_file(item)  # a path of another file system
        item = read_open_file(item) if remote else read_file(path)
    elif not isinstance(item, Image.Image) and is_open_file(item):
        item = read_open_file(item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        data = bytes(item)
        # Truncated files decode only under this switch of Pillow: another picture.
        kind = "file, truncated or not" if ImageFile.LOAD_TRUNCATED_IMAGES else "file"
        if depth.given is not None and depth_decides(data):
            kind += " with values from {!r} to {!r}".format(*depth.given)
        make_pixels = partial(decode_pixels, data, depth)
        return Content(digest_of(kind, data), len(data), partial(decode, data, depth), make_pixels)
    pixels = from_pil(item, depth) if isinstance(item, Image.Image) else pixels_of(item)
    make = partial(Image.fromarray, pixels)
    return Content(_pixel_digest(pixels), pixels.nbytes, make, lambda: pixels)


def _pixel_digest(pixels: np.ndarray) -> bytes:
    """Digest 8-bit RGB pixels; their size keeps 2 x 8 apart from 4 x 4."""
    return digest_of("RGB {} {}".format(*pixels.shape[:2]), np.ascontiguousarray(pixels).data)


def digest_of(kind: str, content: bytes | memoryview) -> bytes:
    """Digest some content, so that nobody can make two contents with one digest.

    It is cryptographic because images come from strangers: who could make an image with the
    digest of another would be given its codes. SHA-256 is the fastest of hashlib's where the
    processor has instructions for it.

    Parameters
    ----------
    kind : str
        What the content is, and all that it does not say itself but that decides the image.
    content : bytes or memoryview

    Returns
    -------
    bytes
        The first 16 of SHA-256.
    """
    header = kind.encode()
    # With its length before it no content can pass for another header.
    digest = hashlib.sha256(len(header).to_bytes(8, "little") + header)
    digest.update(content)
    return digest.digest()[:16]


class OpenedImage:
    """One image whose bytes or pixels are in memory.

    Attributes
    ----------
    digest : bytes
        16 bytes, of SHA-256 over the bytes of a file (and the range that was given, where it
        decides what the file looks like), or over the 8-bit RGB pixels and the size of arrays
        and PIL images, whatever layout, dtype and range they came in.
    n_bytes : int
        Size of what is kept in memory until the picture is made.
    """

    __slots__ = ("_content", "_index", "_source", "digest", "n_bytes")

    def __init__(self, content: Content, index: int, source: str | None) -> None:
        self.digest, self.n_bytes = content.digest, content.n_bytes
        self._content, self._index, self._source = content, index, source

    @property
    def label(self) -> str:
        """Name it in messages, such as ``image 3 (photos/a.jpg)``."""
        where = f"image {self._index}"
        return where if self._source is None else f"{where} ({shown(self._source)})"

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

    def named(self, cause: str) -> str:
        """What is wrong with it, behind its number and its path."""
        return str(ImageError(cause, self._index, self._source))

    def _made(self, make: Callable[[], Made]) -> Made:
        try:
            return make()
        except ImageError as error:
            raise ImageError(error.cause, self._index, self._source) from error.__cause__
        except MemoryError as error:
            raise ImageError(
                "cannot be decoded: there is not enough memory", self._index, self._source
            ) from error
