"""Files, bytes and PIL images: reading and decoding."""

from __future__ import annotations

import os
import re
import stat
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..exceptions import ImageError, shown
from ._colour import is_upright, load_pixels, upright_size
from ._deep import Depth, check_parts, is_deep, tiff_tag, why_tiff_is_unknown
from ._formats import file_of, readable_formats, what_it_is

__all__ = ["check_scans", "decode_jpeg", "is_jpeg", "load_jpeg"]


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
            "base64.b64decode(text), without the part before the comma"
        )
    if _reads_like_text(bare):
        return (
            "file not found. If X holds texts rather than paths, take an estimator of texts such "
            'as TextCodes, or a network for text in advise and rank_backbones: backbone="minilm_l6"'
        )
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        what = getattr(error, "strerror", None) or error
        return f"the file cannot be read: {shown(what)}"
    if (other := _meant(path)) is not None:
        return f"file not found. There is {shown(repr(other))}: correct the path"
    return f"file not found{_where(path)}; correct the path, or remove this item"


def _reads_like_text(path: str) -> bool:
    """Whether it has some words and no extension."""
    extension = os.path.splitext(path)[1][1:]
    return len(path.split()) > 2 and not extension.isalnum()


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
    start = remedy = ""
    if not os.path.isabs(path):
        start = f" in the working directory, {shown(repr(os.getcwd()))}"
        remedy = (
            ". Put the folder that it is relative to before it: os.path.join(folder, path), or "
            "root= of load_image_table"
        )
    if folder and not os.path.isdir(folder):
        return f": there is no folder {shown(repr(folder))}{start}{remedy}"
    return f"{start}{remedy}"


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

    return read_image(data, pixels)


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
        return read_image(data, is_deep)
    except ImageError:
        return False


def read_image(data: bytes, make: Callable[[Image.Image], Made]) -> Made:
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


# How a part of a PNG file begins that may say how it is to be turned.
_TURNING = (
    b"eXIf", b"tEXtRaw profile", b"zTXtRaw profile", b"iTXtRaw profile", b"iTXtXML:com.adobe",
)  # fmt: skip


def _may_be_turned(png: bytes) -> bool:
    place = 8
    while place < len(png):
        if png.startswith(_TURNING, place + 4):
            return True
        place += 12 + int.from_bytes(png[place : place + 4], "big")
    return False


def size_of_file(data: bytes) -> tuple[int, int]:
    """Height and width of the image in a file as it is seen, from its header.

    Raises
    ------
    ImageError
        If it is no image.
    """

    def size_of(image: Image.Image) -> tuple[int, int]:
        # That part may come last in a PNG file, so Pillow decodes all of it to look for one.
        if image.format == "PNG" and not _may_be_turned(data):
            return image.height, image.width
        return upright_size(image)

    return read_image(data, size_of)


def stored_in(data: bytes) -> tuple[str, int]:
    """Format of an image file, as Pillow names it, and its channels, from its header.

    Raises
    ------
    ImageError
        If it is no image.
    """
    return read_image(data, lambda image: (image.format or "", n_channels_of(image)))


def n_channels_of(image: Image.Image) -> int:
    """1 of grey images, 3 of those in colour, and one more for transparency."""
    if image.mode in ("P", "PA"):
        return 3 + (image.mode == "PA" or "transparency" in image.info)
    return len(image.getbands())


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


# On a machine of many cores many images of a telephone are decoded side by side.
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


# JPEG: in less time than Pillow takes where simplejpeg is installed, and whole or not at all.
#
# libjpeg fills up what is missing of a JPEG file with grey, and only warns. Pillow hides its
# warnings, simplejpeg makes errors of them. `load_jpeg` finds out without warnings: it feeds the
# decoder of Pillow piece by piece, and sees from how much of a piece it takes whether it still
# waits for pixels where their data end, or no longer waits where there is more.


_FORMATS = ("JPEG", "MPO")  # the second are images of telephones, with more images behind

# Encoders make up to some dozens. Each is a pass over all pixels, whatever its own size, so that a
# small file of many holds a core for minutes.
MAX_SCANS = 100
_MOST_SEGMENTS = 10_000  # between two scans, where there are a handful

_SOI, _EOI, _SOS, _TEM, _DRI = 0xD8, 0xD9, 0xDA, 0x01, 0xDD
_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_ONE_PASS = {0xC0, 0xC1, 0xC9}  # if all components are in one scan
_PROGRESSIVE = {0xC2, 0xCA}
_FED = {0xC0, 0xC1, 0xC2}  # the decoder waits for more data only where these are Huffman coded

# What the decoder may read ahead of what it needs.
_AHEAD = 8
# Bits of no code: what is whole is done before it takes them for pixels.
_PADDING = b"\xff\x00" * _AHEAD

_MORE = "the JPEG data are damaged, they continue where the image is complete"
_LESS = "the file is truncated, its JPEG data end before the image is complete"
_MIXED = "the JPEG data are damaged, their parts are not in order"
_BROKEN = "the structure of the JPEG file is damaged"


class _Scan(NamedTuple):
    """Where the coded data of one pass over the pixels begin and end, and what they are of."""

    start: int
    stop: int
    components: bytes
    interval: int = 0  # of MCUs between two markers that restart the decoder
    first: int = 0  # the first and the last coefficient
    last: int = 63
    known: int = 0  # the lowest bit that earlier scans brought, where this one refines them
    low: int = 0  # the lowest bit of this one


class _Layout(NamedTuple):
    """The first image of a JPEG file.

    Attributes
    ----------
    frame : bytes
        The header that tells the kind of JPEG, the size, and how components are sampled.
    scans : list of _Scan
    one_pass : bool
        All components are in one scan, which makes the decoder go through it once.
    tidy : bool
        Nothing stands between the parts before the first scan.
    """

    frame: bytes
    scans: list[_Scan]
    one_pass: bool
    tidy: bool

    @property
    def kind(self) -> int:
        return _at(self.frame, 1)

    @property
    def n_components(self) -> int:
        return _at(self.frame, 9)

    def restarts(self, scan: _Scan) -> int:
        """How often the decoder is restarted in a scan."""
        if not scan.interval:
            return 0
        height, width = _two(self.frame, 5), _two(self.frame, 7)
        sampled = {one[0]: divmod(one[1], 16) for one in _by_component(self.frame[10:])}
        across = 8 * max(one[0] for one in sampled.values())
        down = 8 * max(one[1] for one in sampled.values())
        if len(scan.components) == 1:  # goes by its own blocks, which may be fewer
            wide, high = sampled.get(scan.components[0], (1, 1))
            width, height = -(-width * wide * 8 // across), -(-height * high * 8 // down)
            across = down = 8
        mcus = -(-width // across) * -(-height // down)
        return -(-mcus // scan.interval) - 1


def _by_component(components: bytes) -> list[bytes]:
    """The three bytes of each component."""
    return [components[i : i + 3] for i in range(0, len(components) - 2, 3)]


def is_jpeg(image: Image.Image) -> bool:
    """Tell whether an opened file is a JPEG."""
    return image.format in _FORMATS


def decode_jpeg(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a JPEG file of three colours or grey to its pixels, as they are stored.

    Simplejpeg has the same library as Pillow, libjpeg-turbo, and so gives the same pixels, but
    straight to where they are wanted. It is not needed; what is unusual is left to Pillow, which
    reads more.

    Parameters
    ----------
    image : PIL.Image.Image
        The file opened, not loaded.
    data : bytes
        The file.

    Returns
    -------
    ndarray of shape (height, width, 3) or (height, width), uint8, or None

    Raises
    ------
    OSError
        If the data of its pixels are damaged or end early.
    """
    if not is_jpeg(image) or image.mode not in ("RGB", "L"):
        return None
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # a switch of Pillow's alone
        return None
    try:
        from simplejpeg import decode_jpeg as decode
    except ImportError:
        return None
    try:
        pixels: np.ndarray = decode(data, "RGB" if image.mode == "RGB" else "GRAY")
    except (ValueError, RuntimeError) as error:
        if _spoils_pixels(str(error), data):
            raise OSError(_LESS if "premature" in str(error).lower() else str(error)) from error
        return None  # unusual
    if image.mode == "L":
        pixels = pixels[:, :, 0]
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _spoils_pixels(warning: str, data: bytes) -> bool:
    if not warning.startswith(("Corrupt JPEG data", "Premature end")):
        return False
    # Some programs leave bytes that nobody needs between the parts before the pixels.
    return "extraneous bytes" not in warning or _first_scan(data).tidy


def check_scans(image: Image.Image, data: bytes) -> None:
    """Refuse a JPEG of very many scans, and one whose scans leave out a part of the image.

    A progressive file that lost its last scans is a whole picture, only less sharp. All encoders
    end with the lowest bit of every coefficient.

    Raises
    ------
    ImageError
        If there are too many.
    OSError
        If there are too few.
    """
    layout = _first_scan(data)
    if layout.one_pass:
        return  # it ends with its only scan
    layout = _layout(data)
    if len(layout.scans) > MAX_SCANS:
        raise ImageError(
            f"is a JPEG file of more than {MAX_SCANS} scans, which could take minutes to decode. "
            "If you trust it, save a new copy with fewer"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        return
    found = {component for scan in layout.scans for component in scan.components}
    if len(found) < layout.n_components:
        raise OSError(f"{_LESS} ({layout.n_components - len(found)} of its colours are missing)")
    if layout.kind in _PROGRESSIVE and not _are_all_bits_there(layout.scans):
        raise OSError(f"{_LESS} (scans of the progressive file are missing)")


def _are_all_bits_there(scans: list[_Scan]) -> bool:
    """Tell whether scans bring every coefficient of each colour, down to its lowest bit."""
    nothing = 99
    lowest = {one: np.full(64, nothing) for scan in scans for one in scan.components}
    for scan in scans:
        for component in scan.components:
            part = lowest[component][scan.first : scan.last + 1]
            if scan.known and (part > scan.known).any():
                return False  # a scan between is missing
            np.minimum(part, scan.low, out=part)
    return not any(bits.any() for bits in lowest.values())


def load_jpeg(image: Image.Image, data: bytes) -> None:
    """Load a JPEG file that was opened by Pillow, if it is whole.

    Damage that leaves as many pixels as there should be cannot be seen; that the last two
    blocks of 8 x 8 pixels are missing may not be seen either.

    Raises
    ------
    OSError
        If the data of its pixels end early, or there are more than its pixels need.
    """
    layout = _layout(data)
    if ImageFile.LOAD_TRUNCATED_IMAGES or layout.kind not in _FED or not layout.scans:
        image.load()
        return
    image.load_prepare()  # type: ignore[attr-defined]
    name, extents, _, args = image.tile[0]  # type: ignore[attr-defined]
    decoder = Image._getdecoder(image.mode, name, args, image.decoderconfig)  # type: ignore[attr-defined]
    try:
        decoder.setimage(image.im, extents)
        feed = _Feed(decoder, data)
        if layout.one_pass:
            feed.only_scan(layout)
        else:
            feed.all_scans(layout)
    finally:
        decoder.cleanup()
    image.tile = []  # type: ignore[attr-defined]
    image.load()


class _Feed:
    """Gives a file to a decoder of Pillow piece by piece, and looks where it waits for more.

    A decoder that has all pixels of a scan looks for the next marker and takes whatever is before
    it. One that wants more takes nothing until it can continue.
    """

    def __init__(self, decoder: Any, data: bytes) -> None:
        self._decoder, self._data = decoder, data
        self._rest, self._fed = b"", 0  # what it did not take, and how much it was offered

    def only_scan(self, layout: _Layout) -> None:
        """Feed a file of one scan, with which the decoder is done when it has all pixels."""
        scan = layout.scans[0]
        self._check_restarts(layout, scan)
        if self._offer(max(scan.start, scan.stop - _AHEAD)):
            raise OSError(_MORE)
        if scan.stop == len(self._data) or not self._offer(scan.stop, _PADDING):
            raise OSError(_LESS)

    def all_scans(self, layout: _Layout) -> None:
        """Feed a file of several scans, with which the decoder is done at its end."""
        for scan in layout.scans:
            self._check_restarts(layout, scan)
            if scan.stop - _AHEAD > scan.start and self._is_complete(scan.stop - _AHEAD):
                raise OSError(_MORE)
            if not self._is_complete(scan.stop, _PADDING):
                raise OSError(_LESS)
        if not self._offer(len(self._data)):
            raise OSError(_LESS)

    def _check_restarts(self, layout: _Layout, scan: _Scan) -> None:
        """Compare the markers that restart the decoder with those that there should be.

        Where one is missing the decoder fills up what it lacks, or looks on behind the scan.
        """
        if not scan.interval:
            return
        found = list(_RESTARTS.finditer(self._data, scan.start, scan.stop))
        if found and found[-1].end() == scan.stop:
            found.pop()  # some encoders end with one
        expected = layout.restarts(scan)
        if len(found) != expected:
            raise OSError(_LESS if len(found) < expected else _MORE)
        if any(self._data[one.start() + 1] != 0xD0 + i % 8 for i, one in enumerate(found)):
            raise OSError(_MIXED)

    def _offer(self, stop: int, more: bytes = b"") -> bool:
        """Offer the file up to `stop`, and what is not in it; True if the decoder is done."""
        piece = self._rest + self._data[self._fed : stop] + more
        taken, error = self._decoder.decode(piece)
        if taken < 0 and error < 0:
            raise OSError(_BROKEN)
        self._fed, self._rest = stop, piece[taken:] if taken >= 0 else b""
        return taken < 0

    def _is_complete(self, stop: int, more: bytes = b"") -> bool:
        """Offer the file up to `stop`; True if the decoder has all pixels of a scan."""
        if self._offer(stop, more + b"\xff"):  # half a marker, which it can never take
            raise OSError(_BROKEN)
        waits, self._rest = self._rest != b"\xff", self._rest[:-1]
        # One byte is less than a decoder that waits for pixels can continue with.
        return not waits and self._decoder.decode(b"\x00\xff")[0] == 1


def _first_scan(data: bytes) -> _Layout:
    """Read the file up to its first scan."""
    frame, interval, tidy, place = b"", 0, True, 2
    while True:
        start, place = place, data.find(b"\xff", place)
        if not 0 <= place < len(data) - 3:
            break
        code = data[place + 1]
        if code in (0, 0xFF, _TEM) or 0xD0 <= code <= 0xD7:
            tidy, place = tidy and code == 0xFF, place + 1
            continue
        tidy = tidy and place == start
        if code in (_SOI, _EOI):
            break
        if code == _SOS:
            scan = _scan(data, place, interval)
            all_in_one = len(scan.components) == _at(frame, 9)
            return _Layout(frame, [scan], all_in_one and frame[1] in _ONE_PASS, tidy)
        segment = data[place : place + 2 + _two(data, place + 2)]
        if code in _FRAMES:
            frame = segment
        elif code == _DRI:
            interval = _two(segment, 4)
        place += max(len(segment), 2)
    return _Layout(frame, [], False, tidy)


def _scan(data: bytes, place: int, interval: int) -> _Scan:
    """The scan whose header is at `place`."""
    end = place + 5 + 2 * _at(data, place + 4)
    known, low = divmod(_at(data, end + 2), 16)
    return _Scan(
        start=place + 2 + _two(data, place + 2),
        stop=len(data),
        components=data[place + 5 : end : 2],
        interval=interval,
        first=_at(data, end),
        last=_at(data, end + 1),
        known=known,
        low=low,
    )


def _layout(data: bytes) -> _Layout:
    """Find the scans of the first image, up to one more than there may be."""
    first = _first_scan(data)
    if not first.scans:
        return first
    markers, codes = _markers(data, first.scans[0].start)
    scans, scan = [], first.scans[0]
    while True:
        number = bisect_left(markers, scan.start)
        stop = int(markers[number]) if number < len(markers) else len(data)
        scans.append(scan._replace(stop=stop))
        if first.one_pass or len(scans) > MAX_SCANS:
            break
        place, interval = stop, scan.interval
        for _ in range(_MOST_SEGMENTS):
            if number >= len(markers) or codes[number] in (_SOS, _EOI, _SOI):
                break
            if codes[number] == _DRI:
                interval = _two(data, place + 4)
            skip = 2 if codes[number] == _TEM else 2 + _two(data, place + 2)
            number = max(number + 1, bisect_left(markers, place + skip))
            place = int(markers[number]) if number < len(markers) else len(data)
        if number >= len(markers) or codes[number] != _SOS:
            break
        scan = _scan(data, place, interval)
    return first._replace(scans=scans)


def _markers(data: bytes, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and codes of the markers behind `start`, but for those that restart the decoder."""
    values = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(values[start:-1] == 0xFF) + start
    codes = values[places + 1]
    real = (codes != 0) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))
    return places[real], codes[real]


def _two(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "big")


def _at(data: bytes, place: int) -> int:
    return data[place] if place < len(data) else 0
