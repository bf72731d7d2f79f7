"""Images of more than 8 bits: what black and white are in them, and the bits that Pillow drops.

Pillow keeps all bits of grey (modes I;16, I and F), and of colours of 16 bits the upper eight.
That is right where white is the largest value of the type. Cameras, microscopes and scanners put
10, 12 or 14 bits into 16, and floats have no largest value: there `value_range` says what is white.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from ..exceptions import ClippingWarning, ImageError, SktransferWarning, ValueRangeWarning
from ._range import DARK, Range, clipped, example_range, to_uint8, warn, within

WHITE_16 = 65535.0
_USUAL_WHITES = (1023, 4095, 16383, 65535)

_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA = 258, 262, 284, 338  # tags of TIFF
_SAMPLES, _FORMAT, _SUBFILE = 277, 339, 254
_COLOURS = ("RGB", "RGBA", "RGBX", "RGBa")
# The same numbers with their bytes swapped: what Pillow takes for the upper byte is the lower one.
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_SAY = "say what black and white are: value_range=(low, high)"

Strip = tuple[slice, Image.Image]


@dataclass(frozen=True)
class Depth:
    """How values of more than 8 bits become 8, and who is told of what was met.

    Attributes
    ----------
    given : (low, high) or None
        What black and white are; None is zero and the largest value of the type.
    saw : callable
        Takes the extremes of an image, and what black and white were in it.
    left_out : callable
        Takes what of a file is not looked at.
    saw_byte : callable
        Takes the largest value of greyscale of 8 bits, or None for colours of 8 bits.
    """

    given: Range | None = None
    saw: Callable[[Range, Range], None] = lambda seen, allowed: None
    left_out: Callable[[str], None] = lambda what: None
    saw_byte: Callable[[float | None], None] = lambda high: None


class Account:
    """What was met in the files and PIL images of one input; each thing is told once.

    Parameters
    ----------
    given : (low, high) or None
        What black and white are.
    bright : set of str
        What was bright in an earlier call, so that here dark images are as dark as they are:
        "deep" of more than 8 bits, "grey" of 8.
    """

    def __init__(self, given: Range | None, bright: Collection[str] = ()) -> None:
        self._given, self.bright = given, set(bright)
        self._digests: dict[int, bytes] = {}  # of what was opened; copies are decoded once
        self._dark_grey: dict[int, float] = {}
        self._is_ordinary = False  # there are bytes in colour, or bright ones
        self._deep: dict[int, tuple[Range, Range]] = {}
        self._left_out: dict[int, str] = {}
        self._told: set[type[Warning]] = set()

    def depth(self, index: int) -> Depth:
        """How one image is to be read."""
        return Depth(
            self._given,
            lambda seen, allowed: self._deep.update({index: (seen, allowed)}),
            lambda what: self._left_out.update({index: what}),
            lambda high: self._saw_byte(index, high),
        )

    def opened(self, index: int, digest: Callable[[], bytes]) -> None:
        """Know an image that will be decoded, if its codes are not known."""
        if not self._is_ordinary:
            self._digests[index] = digest()

    def _saw_byte(self, index: int, high: float | None) -> None:
        if high is not None and high <= DARK * 255:
            if not self._is_ordinary:
                self._dark_grey[index] = high
            return
        self._is_ordinary = True
        if high is not None:
            self.bright.add("grey")
        self._digests, self._dark_grey = {}, {}

    def tell(self, label: Callable[[int], str]) -> None:
        """Warn of what is new; `label` names an image by its number."""
        kinds = (
            (self._dark, ValueRangeWarning),
            (self._dark_bytes, ValueRangeWarning),
            (self._beyond, ClippingWarning),
            (self._parts, SktransferWarning),
        )
        for find, category in kinds:
            if category not in self._told and (message := find(label)):
                self._told.add(category)
                warn(message, category)

    def _dark(self, label: Callable[[int], str]) -> str | None:
        """No image decides alone: one that is dark among others is as dark as it is."""
        if not self._deep:
            return None
        limit = 0.25 if self._given is None else DARK
        share, high, white = max(
            ((seen[1] - low) / (high - low), seen[1], high)
            for seen, (low, high) in list(self._deep.values())
        )
        if share > limit:
            self.bright.add("deep")
        if not 0 < share <= limit or "deep" in self.bright:
            return None
        count = len(self._deep)
        which = f"{count} image{'s' * (count > 1)} of more than 8 bits "
        which += f"({label(min(self._deep))}{', …' * (count > 1)}) "
        return (
            f"{which}hold{'s' * (count == 1)} no value above {high:g} and look{'s' * (count == 1)} "
            f"nearly black, since white is {white:g}. If it is not, say what black and white are: "
            f"value_range=(low, high), for example value_range={example_range((0, high))}"
        )

    def _dark_bytes(self, label: Callable[[int], str]) -> str | None:
        """Only where all that was opened is dark grey, as masks and maps of labels are."""
        found, digests = dict(self._dark_grey), dict(self._digests)
        high = max(found.values(), default=0)
        if not high or self._is_ordinary or "grey" in self.bright:
            return None
        if {digests.get(index) for index in found} != set(digests.values()):
            return None  # of some the codes were known; they may be bright
        count = len(digests)
        first = label(min(digests)) + ", …" * (count > 1)
        return (
            f"{count} greyscale image{'s' * (count > 1)} of 8 bits ({first}) "
            f"hold{'s' * (count == 1)} no value above {high:g} and "
            f"look{'s' * (count == 1)} nearly black, since white is 255. If it is not, as in masks "
            "and maps of labels, pass arrays, numpy.asarray(image), and say what black and white "
            f"are: value_range=(low, high), for example value_range={example_range((0, high))}"
        )

    def _beyond(self, label: Callable[[int], str]) -> str | None:
        """Only where a range was given can anything lie beyond it: else it is an error."""
        found = {
            index: seen
            for index, (seen, allowed) in list(self._deep.items())
            if self._given is not None and not within(seen, allowed)
        }
        if not found or self._given is None:
            return None
        low, high = min(seen[0] for seen in found.values()), max(seen[1] for seen in found.values())
        which = f"{len(found)} image{'s' * (len(found) > 1)} of more than 8 bits "
        which += f"({label(min(found))}{', …' * (len(found) > 1)}) "
        return clipped(f"{which}hold{'s' * (len(found) == 1)}", (low, high), self._given)

    def _parts(self, label: Callable[[int], str]) -> str | None:
        if not self._left_out:
            return None
        first, count = min(self._left_out), len(self._left_out)
        return (
            f"of {count} TIFF file{'s' * (count > 1)} not all is read ({label(first)}: without "
            f"{self._left_out[first]}{'; …' * (count > 1)}). To use other bands or pages, read the "
            "file into arrays of 1 or 3 bands"
        )


def is_deep_grey(image: Image.Image) -> bool:
    """Tell whether an image is grey of more than 8 bits, of which Pillow keeps all."""
    return image.mode == "F" or image.mode.startswith("I")


def has_deep_colours(image: Image.Image) -> bool:
    """Tell whether an opened file has colours of more than 8 bits, of which Pillow keeps 8."""
    if image.mode not in _COLOURS:
        return False
    if any(_rawmode(tile)[-4:-1] == ";16" for tile in getattr(image, "tile", ())):
        return True
    return 16 in _bits(image) or declared_white(image) > 255


def is_deep(image: Image.Image) -> bool:
    """Tell whether `value_range` decides what an opened file looks like."""
    return is_deep_grey(image) or has_deep_colours(image)


def grey_into(
    out: np.ndarray, image: Image.Image, strips: Iterator[Strip], depth: Depth, declared: float
) -> None:
    """Scale loaded grey of more than 8 bits into (h, w, 3), a strip at a time.

    Raises
    ------
    ImageError
        If values are no numbers, or it cannot be told what white is.
    """
    allowed = _allowed(image, depth)
    # Where white is not said, what the file declares is stretched to all 16 bits.
    factor = _stretch(image, declared) if depth.given is not None else 1.0
    inverted = tiff_tag(image, _PHOTOMETRIC) == 0  # "white is zero", which Pillow leaves so
    clear = image.info.get("transparency")  # one value of the full range: "see through"
    low, high = np.float64(np.inf), np.float64(-np.inf)
    for rows, strip in strips:
        values = np.asarray(strip)
        if factor != 1:
            values = np.rint(values / factor)
        with np.errstate(invalid="ignore"):  # NaN is looked for
            low, high = np.minimum(low, values.min()), np.maximum(high, values.max())
            if depth.given is None and values.dtype.kind == "f":
                values = values.astype(np.float64)
            grey = to_uint8(values, allowed)
        if inverted:
            grey = 255 - grey
        if clear is not None:
            grey[values == clear] = 255
        out[rows] = grey[..., None]
    seen = (float(low), float(high))
    _check(image, seen, allowed, depth)
    depth.saw(seen, allowed)


def _allowed(image: Image.Image, depth: Depth) -> Range:
    if depth.given is not None:
        return depth.given
    if image.mode == "F":
        return (0.0, 1.0)
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # theirs are 16 bits deep
        raise ImageError(f"32-bit integer pixels do not say what white is; {_SAY}")
    return (0.0, 4095.0 if _bits(image) == (12,) else WHITE_16)


def _check(image: Image.Image, seen: Range, allowed: Range, depth: Depth) -> None:
    rule = f"values of a grey image of mode {image.mode} must lie within {allowed[0]:g} and "
    rule += f"{allowed[1]:g}"
    low, high = seen
    if low != low:
        raise ImageError(f"holds NaN; {rule}: read it into an array and fill the gaps, {_SAY}")
    if np.inf in (-low, high):
        raise ImageError(f"holds infinity; {rule}: read it into an array and fix it, {_SAY}")
    if depth.given is None and not within(seen, allowed):
        example = example_range(seen)
        raise ImageError(f"{rule}, got {low:g} to {high:g}; {_SAY}, for example {example}")


def note_colours(image: Image.Image, depth: Depth) -> None:
    """Tell of a loaded image of deep colours how bright it is; its lower bits are gone."""
    colours: Any = image.getextrema()[:3]
    low, high = min(band[0] for band in colours), max(band[1] for band in colours)
    first, last = high * 256, high * 256 + 255
    if image.format == "PPM":  # of which Pillow rounds instead
        first, last = high * 257 - 128, high * 257 + 128
    highest = next((white for white in _USUAL_WHITES if first <= white <= last), last)
    depth.saw((low * 256.0, float(highest)), (0.0, WHITE_16))


def refuse_colours(depth: Depth, declared: float) -> None:
    """Refuse deep colours whose lower bits are needed and cannot be loaded."""
    if depth.given is None or (declared and depth.given == (0.0, declared)):
        return
    raise ImageError(
        "its colours have more than 8 bits, of which Pillow keeps the upper 8, too few for "
        f"value_range=({depth.given[0]:g}, {depth.given[1]:g}); read it into an array with another "
        "package, such as tifffile or imageio"
    )


class Twin(NamedTuple):
    """A file opened once more, so that loading gives the lower bytes of its values."""

    image: Image.Image
    grey_alpha: bool  # its four bytes are both of grey and both of alpha


def open_twin(image: Image.Image) -> Twin | None:
    """Open a file of deep colours once more, so that loading gives the lower bytes of its values.

    Pillow takes the upper bytes; with the order of bytes swapped these are the lower ones. Give
    None for a file, opened and not loaded, with which that does not work.
    """
    tiles = getattr(image, "tile", ())
    data = _file_of(image) if tiles else None
    if data is None or any(_rawmode(tile)[-4:-1] != ";16" for tile in tiles):
        return None
    if tiff_tag(image, _PLANAR) not in (None, 1):  # libtiff has its own way with single planes
        return None
    twin = Image.open(io.BytesIO(data), formats=[str(image.format)])
    if image.tell():
        twin.seek(image.tell())
    grey_alpha = _rawmode(twin.tile[0]).startswith("LA")  # there is no swapped order of it
    twin.tile = [
        _with_rawmode(tile, "RGBA" if grey_alpha else _swapped(_rawmode(tile)))
        for tile in twin.tile
    ]
    return Twin(twin, grey_alpha)


def deep_colours_into(
    out: np.ndarray,
    image: Image.Image,
    twin: Twin,
    strips: Iterator[Strip],
    depth: Depth,
    to_rgb: Callable[[Image.Image], Image.Image],
) -> None:
    """Scale colours of 16 bits into (h, w, 3) from the range that was given, a strip at a time.

    Parameters
    ----------
    out : ndarray of shape (height, width, 3), uint8
    image : PIL.Image.Image
    twin : Twin
        The file and its twin, loaded.
    strips : iterator
        Of the twin.
    depth : Depth
        With a range that was given.
    to_rgb : callable
        Converts a strip of 8 bits.
    """
    given = depth.given or (0.0, WHITE_16)
    mode, n_colours = ("LA", 1) if twin.grey_alpha else (image.mode, 3)
    clear = image.info.get("transparency")  # one colour of 16 bits: "see through"
    low, high = WHITE_16, 0.0
    for rows, strip in strips:
        lower = np.asarray(strip)
        if twin.grey_alpha:
            values = lower[..., 0::2].astype(np.uint16) << 8 | lower[..., 1::2]
        else:
            upper = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
            values = upper.astype(np.uint16) << 8 | lower
        colours = values[..., :n_colours]
        low, high = min(low, float(colours.min())), max(high, float(colours.max()))
        eight = to_uint8(values, given)
        part = Image.frombytes(mode, (eight.shape[1], eight.shape[0]), eight.tobytes())
        out[rows] = np.asarray(to_rgb(part))
        if isinstance(clear, tuple):
            out[rows][(values == np.array(clear, np.uint16)).all(axis=2)] = 255
    depth.saw((low, high), given)


def _file_of(image: Image.Image) -> bytes | None:
    """The bytes of the file that an image was opened from, while it is open."""
    file: Any = getattr(image, "fp", None)
    try:
        if hasattr(file, "getvalue"):
            return bytes(file.getvalue())
        place = file.tell()
        try:
            file.seek(0)
            return bytes(file.read())
        finally:
            file.seek(place)
    except (AttributeError, OSError, ValueError):
        return None


def _rawmode(tile: Any) -> str:
    args = tile[3]
    first = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else ""
    return first if isinstance(first, str) else ""


def _swapped(rawmode: str) -> str:
    return rawmode[:-1] + _SWAPPED[rawmode[-1]]


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    args = rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:])
    # Older versions of Pillow have plain tuples.
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


# ------------------------------------------------- formats that say themselves how deep they are


def declared_white(image: Image.Image) -> float:
    """Tell the white that an opened file declares itself, or 0 where it does not.

    Pillow stretches the values of these formats to 16 bits, or shrinks them to 8.
    """
    if image.format == "PPM":
        args = [tile[3] for tile in getattr(image, "tile", ())]
        found = [arg for each in args for arg in (each if isinstance(each, tuple) else (each,))]
        return float(next((arg for arg in found if isinstance(arg, int) and arg > 255), 0))
    data = _file_of(image) if image.format == "JPEG2000" else None
    if data is None:
        return 0.0
    start = data.find(b"\xff\x4f\xff\x51")  # the code stream, and the sizes of its components
    if start < 0 or len(data) < start + 43:
        return 0.0
    bits = (data[start + 42] & 0x7F) + 1
    return float(2**bits - 1) if bits > 8 else 0.0


def _stretch(image: Image.Image, declared: float) -> float:
    """How many times the numbers of a grey file Pillow's are."""
    if not declared:
        return 1.0
    if image.format == "JPEG2000":  # shifted
        return float(2 ** max(0, 16 - int(declared).bit_length()))
    return WHITE_16 / declared


# ----------------------------------------------------------------------------------------- TIFF


def tiff_tag(image: Image.Image, tag: int) -> Any:
    """Give a tag of a TIFF file, or None."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)


def _bits(image: Image.Image) -> tuple[int, ...]:
    bits = tiff_tag(image, _BITS)
    return () if bits is None else tuple(bits) if isinstance(bits, tuple) else (bits,)


def check_parts(image: Image.Image, depth: Depth) -> None:
    """Tell of the pages and bands of an opened TIFF file that are not looked at.

    Raises
    ------
    ImageError
        If Pillow would take its planes of 16 bits for planes of 8.
    """
    if tiff_tag(image, _BITS) is None:
        return
    tiles = getattr(image, "tile", ())
    if tiff_tag(image, _PLANAR) == 2 and 16 in _bits(image) and len(_bits(image)) > 1:
        if any(len(_rawmode(tile)) == 1 for tile in tiles):
            raise ImageError(
                "its colours are planes of 16 bits, which Pillow reads wrongly; read it into an "
                "array with tifffile"
            )
    extra = tiff_tag(image, _EXTRA)
    extra = extra if isinstance(extra, tuple) else () if extra is None else (extra,)
    if 0 in extra:  # 1 and 2 are transparency
        unused = extra.count(0)
        bands = len(_bits(image))
        depth.left_out(f"{unused} of its {bands} bands")
    if _has_more_pages(image):
        depth.left_out("all pages but the first")


def _has_more_pages(image: Image.Image) -> bool:
    """Whether there are pages that are no smaller copies of the first."""
    if not getattr(image.tag_v2, "next", 0):  # type: ignore[attr-defined]
        return False
    found = False
    try:
        for page in range(1, 16):  # there are seldom more copies
            image.seek(page)
            if not int(tiff_tag(image, _SUBFILE) or 0) & 1:
                found = True
                break
    except Exception:  # the last was reached, or damage that nobody looks at
        pass
    image.seek(0)
    return found


def why_tiff_is_unknown(data: bytes) -> str | None:
    """Say what kind of TIFF file Pillow does not read; None if it is no TIFF file."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        file = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits, kinds = np.ravel(tags[_BITS]), np.ravel(tags.get(_FORMAT, 1))
        numbers = {1: "integers", 2: "integers", 3: "floats"}[int(kinds[0])]
        n_bands = int(tags.get(_SAMPLES, 1))
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError, OSError, struct.error):
        return None
    bands = "" if n_bands in (1, 3) else ", one band or three of them: array[..., :3]"
    return (
        f"a TIFF file with {n_bands} band{'s' * (n_bands > 1)} of {int(bits[0])}-bit {numbers}, "
        f"which Pillow does not read; pass the array that tifffile.imread gives{bands}, "
        "and say what black and white are: value_range=(low, high)"
    )
