"""Files, bytes and PIL images: reading and decoding."""

from __future__ import annotations

import os
import re
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..exceptions import ImageError, shown
from ._colour import is_upright, load_pixels
from ._deep import Depth, check_parts, is_deep, tiff_tag, why_tiff_is_unknown
from ._formats import file_of, readable_formats, what_it_is
from ._jpeg import check_scans, decode_jpeg, is_jpeg, load_jpeg

Made = TypeVar("Made")

_JPEG = b"\xff\xd8\xff"

# An image object that came from Image.open decodes on first use and is not safe to share, nor is
# an open file. One of a few locks by identity, so that different objects mostly go side by side.
_locks = [threading.Lock() for _ in range(64)]


def read_file(path: str) -> bytes:
    """Read a whole file; ``~`` is the home of the user.

    Raises
    ------
    ImageError
        If it is missing, empty, a folder, or may not be read.
    """
    try:
        with open(_checked(path), "rb") as file:
            data = file.read()
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError("the file may not be read: permission denied") from error
    except MemoryError as error:
        raise ImageError("the file is larger than the memory") from error
    except (OSError, ValueError) as error:
        raise ImageError(_why_not_found(path, error)) from error
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    return data


def _checked(path: str) -> str:
    """The path as the system knows it, if a file is there that has an end."""
    try:
        found = os.stat(path)
    except OSError:
        if not path.startswith("~"):
            raise
        path = os.path.expanduser(path)
        found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # a pipe would block for ever
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(
                "must be a file, is a folder; load_image_folder lists the images in a folder"
            )
        raise ImageError("must be a file, is a device or pipe")
    if not found.st_size:  # as the files have which a kernel makes up, some without an end
        raise ImageError("the file is empty (0 bytes)")
    return path


# What a text begins with that is an image in base64, or a URL that holds one.
_BASE64 = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkq", "TU0AKg", "data:")
_GAPS = ("", "nan", "none", "null", "nat", "<na>")
_NAME_TOO_LONG = 250  # what is shorter may be the name of a file in any case


def _why_not_found(path: str, error: Exception) -> str:
    """Say why there is no file, for what people take for paths, and what to do."""
    bare = path.strip().strip("\"'").strip()
    if bare.lower() in _GAPS:
        return (
            f"the path is missing: {shown(repr(path))} is what astype(str) or a CSV file makes of "
            "a missing value. Leave such rows out, for instance with dropna()"
        )
    if (found := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", bare)) is not None:
        return _of_url(bare, found[1].lower())
    if path.startswith("data:") or (len(path) > _NAME_TOO_LONG and path.startswith(_BASE64)):
        return (
            "must be the path of a file, is an image in base64. Pass its bytes: "
            "base64.b64decode(text), without what is before a comma"
        )
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        what = getattr(error, "strerror", None) or error
        return f"the file cannot be read: {shown(what)}"
    if (other := _meant(path)) is not None:
        return f"file not found. There is {shown(repr(other))}: correct the path"
    return f"file not found{_where(path)}"


def _of_url(path: str, scheme: str) -> str:
    if scheme == "file":
        local = url2pathname(urlsplit(path).path)
        return f"must be the path of a file, is a URL. Pass the path itself, {shown(repr(local))}"
    if scheme in ("http", "https", "ftp"):
        how = "Download it first, for instance with urllib.request.urlretrieve, and pass the path"
    else:
        how = "Download it first, or pass its bytes: fsspec.open(url).open().read()"
    return f"must be the path of a file, is a URL, and nothing is downloaded here. {how}"


def _meant(path: str) -> str | None:
    """A file that is there, and whose path looks much like this one."""
    stem, extension = os.path.splitext(path)
    candidates = (
        path.strip(),
        path.strip().strip("\"'"),
        path.replace("\\", "/"),
        unquote(path),
        stem + extension.lower(),
        stem + extension.upper(),
    )
    return next((one for one in candidates if one != path and os.path.isfile(one)), None)


def _where(path: str) -> str:
    """What of a path is not there, and where relative ones begin."""
    if os.path.islink(path):
        return f": it is a link to {shown(repr(os.readlink(path)))}, which is not there"
    folder = os.path.dirname(path)
    above = os.path.dirname(folder)
    while above and above != folder and not os.path.isdir(above):
        folder, above = above, os.path.dirname(above)
    start = "" if os.path.isabs(path) else f" in the working directory, {shown(repr(os.getcwd()))}"
    if folder and not os.path.isdir(folder):
        return f": there is no folder {shown(repr(folder))}{start}"
    return start


def read_open_file(file: Any) -> bytes:
    """Read what `file.read` gives from its beginning; the file is left open.

    Raises
    ------
    ImageError
        If it is closed, empty, a device or pipe, was read before and cannot go back, or gives no
        bytes.
    """
    with _lock_of(file):
        if not _may_end(file):
            raise ImageError("must be a file, is a device or pipe; pass its bytes")
        try:
            file.seek(0)
        except (AttributeError, OSError, ValueError, TypeError):
            pass  # of a stream there is what is left of it; of a closed file, nothing
        try:
            data = file.read() if hasattr(file, "read") else file.read_bytes()
        except Exception as error:  # each kind of file has its own
            raise ImageError(f"the open file cannot be read: {shown(error)}") from error
    if isinstance(data, str):
        raise ImageError('must give bytes, gives text; open the file with mode "rb"')
    if not isinstance(data, (bytes, bytearray, memoryview)):
        if hasattr(data, "close"):
            data.close()  # a coroutine that nobody will await
        raise ImageError(
            f"must give bytes, its read() gives {type(data).__name__}; read it first, and pass its "
            "bytes"
        )
    if not data:
        raise ImageError("the open file is empty, or was read before and cannot go back")
    return bytes(data)


def _may_end(file: Any) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError, TypeError):
        return True  # it is none of the system's


def decode(data: bytes, depth: Depth) -> Image.Image:
    """Decode the first frame of an image file to upright 8-bit RGB.

    Raises
    ------
    ImageError
        If it is no image, truncated, damaged, too large, or of a kind whose white is unknown.
    """
    return Image.fromarray(decode_pixels(data, depth))


def decode_pixels(data: bytes, depth: Depth) -> np.ndarray:
    """Decode to the pixels of the same picture, (height, width, 3), only to be read.

    Raises
    ------
    ImageError
        As `decode` does.
    """

    def pixels(image: Image.Image) -> np.ndarray:
        quick = decode_jpeg(image, data)
        if quick is not None and quick.ndim == 3 and is_upright(image):
            depth.saw_byte(None)
            return quick
        return load_pixels(_checked_image(image, data, depth, quick), depth)

    return _read(data, pixels)


def _checked_image(
    image: Image.Image, data: bytes, depth: Depth, quick: np.ndarray | None
) -> Image.Image:
    """The image, if it is whole as far as can be told; with its pixels, if they are known."""
    if quick is not None:
        stored = Image.fromarray(quick)
        stored.info = image.info  # says how it is turned
        return stored
    check_parts(image, depth)
    if is_jpeg(image):
        load_jpeg(image, data)
    elif image.format == "PNG" and not ImageFile.LOAD_TRUNCATED_IMAGES:
        _check_png(data)
    return image


def _check_png(data: bytes) -> None:
    """Compare the checksums of the pixels in a PNG file, which Pillow does not."""
    place = 8
    while (kind := data[place + 4 : place + 8]) not in (b"", b"IEND"):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        checksum = data[end : end + 4]
        # Where it is cut off, Pillow says so.
        if kind == b"IDAT" and len(checksum) == 4:
            if zlib.crc32(memoryview(data)[place + 4 : end]) != int.from_bytes(checksum, "big"):
                raise OSError("a checksum in the PNG file does not fit, so it is damaged")
        place = end + 4


def depth_decides(data: bytes) -> bool:
    """Tell from the header of a file whether what black and white are decides what it looks like.

    What is wrong with the file is said when it is decoded.
    """
    if data.startswith(_JPEG):  # nearly all there are, and of 8 bits
        return False
    try:
        return _read(data, is_deep)
    except ImageError:
        return False


def _read(data: bytes, make: Callable[[Image.Image], Made]) -> Made:
    """Open the bytes of a file and make something of it; whatever fails becomes an ImageError."""
    if not data:
        raise ImageError("is empty (0 bytes)")
    size = None
    try:
        file = file_of(data)
        with Image.open(file, formats=readable_formats()) as image:
            size, file.pixels = image.size, image.width * image.height
            _refuse_bomb(size)
            _refuse_preview(image, data)
            if is_jpeg(image):
                check_scans(image, data)
            with _room.taken(file.pixels * _bytes_a_pixel(image)):
                return make(image)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(_too_little_memory(size)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"is {why_tiff_is_unknown(data) or what_it_is(data)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{str(error).rstrip('.')}. {_BOMB_REMEDY}") from error
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
        with _lock_of(image):
            _check_opened(image)
            if 0 in image.size:
                raise ImageError(f"has no pixels: its size is {image.size}")
            # converting a palette image writes into it
            own = image.copy() if image.mode in ("P", "PA") else image
            return load_pixels(own, depth)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(_too_little_memory(image.size)) from error
    except Exception as error:
        raise ImageError(_damaged(error)) from error


def _check_opened(image: Image.Image) -> None:
    """Check an image that came from Image.open as a file is checked, if it is not loaded yet."""
    tiles, file = getattr(image, "tile", None), getattr(image, "fp", None)
    if tiles and type(image).__module__.startswith("PIL."):
        if image.format not in (*readable_formats(), "MPO"):
            raise ImageError(
                f"is an opened file of a kind that is not read here ({image.format}). If you trust "
                "it, call load() of the image first"
            )
        if is_jpeg(image) and file is not None and tiles[0][2] == 0:
            file.seek(0)
            data = file.read()
            check_scans(image, data)
            load_jpeg(image, data)


def _lock_of(thing: object) -> threading.Lock:
    return _locks[id(thing) // 16 % len(_locks)]


class _Room:
    """Memory for images that are being decoded; who needs more than is left waits for others.

    Parameters
    ----------
    size : int
        Bytes. What needs more than all of it is let in alone.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._changed, self._mine = threading.Condition(), threading.local()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until there is room, and keep it for the block."""
        # Who has room already would wait for itself.
        if size < _WORTH_WAITING or getattr(self._mine, "inside", False):
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        self._mine.inside = True
        try:
            yield
        finally:
            self._mine.inside = False
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def forget(self) -> None:
        """Be empty again in a forked child, where the threads that took room do not live."""
        self.__init__(self._size)  # type: ignore[misc]


_WORTH_WAITING = 2**25  # bytes


def _memory() -> int:
    """Bytes of memory that this process may use, as far as the system tells."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        pass
    for place in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            with open(f"/sys/fs/cgroup/{place}") as file:
                limits.append(int(file.read()))
        except (OSError, ValueError):  # "max" is no limit
            pass
    return min(limits, default=0)


# On a machine of many cores many photographs of a telephone are decoded side by side.
_room = _Room(max(2**30, _memory() // 4))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_room.forget)


def _bytes_a_pixel(image: Image.Image) -> int:
    """About what it takes to decode an image, what the decoder keeps beside the pixels included."""
    if image.format in ("JPEG2000", "AVIF", "WEBP", "HEIF", "JXL"):
        return 24
    deep = image.mode.startswith("I") or image.mode == "F"
    return 16 if deep or "progressive" in image.info or image.has_transparency_data else 8


_SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706


def _refuse_preview(image: Image.Image, data: bytes) -> None:
    """Refuse raw files of cameras, of which Pillow reads the small preview."""
    if image.format == "TIFF":
        has_main = tiff_tag(image, _SUB_IFDS) is not None and tiff_tag(image, _SUBFILE) == 1
        if data[8:10] == b"CR" or tiff_tag(image, _DNG_VERSION) is not None or has_main:
            raise ImageError(
                "is a raw file of a camera, of which Pillow reads a small preview at most. Develop "
                "it, for instance with rawpy.imread(path).postprocess(), and pass the array"
            )


_BOMB_REMEDY = (
    "If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS (None is no limit) and try again"
)


def _refuse_bomb(size: tuple[int, int]) -> None:
    # As Pillow, which warns of what is within twice its limit; some decoders tell the size late.
    limit, pixels = Image.MAX_IMAGE_PIXELS, size[0] * size[1]
    if limit is not None and pixels > 2 * limit:
        raise ImageError(
            f"its {pixels} pixels exceed twice the limit of {limit} pixels, "
            f"which may be a decompression bomb. {_BOMB_REMEDY}"
        )


def _damaged(error: Exception) -> str:
    what = str(error).rstrip(".") or type(error).__name__
    return (
        f"cannot be decoded: {shown(what)}. If a viewer shows it whole, save a new copy from there"
    )


def _too_little_memory(size: tuple[int, int] | None) -> str:
    pixels = "" if size is None else f" of {size[0]} x {size[1]} pixels"
    return f"cannot be decoded: there is not enough memory for an image{pixels}"
