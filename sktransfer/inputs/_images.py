"""`as_images`, and the images it gives."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageFile

from ..exceptions import ImageError, InputError, ValueRangeWarning, shown
from ._arrays import as_array, is_array_like, is_tensor, no_pixels, to_hwc, to_rgb_pixels
from ._collect import Collected, check_image_shape, collect, is_missing, is_open_file
from ._datasets import DatasetImage
from ._deep import Account, Depth
from ._files import (
    decode,
    decode_pixels,
    depth_decides,
    from_pil,
    n_channels_of,
    read_file,
    read_open_file,
    size_of_file,
    stored_in,
)
from ._range import (
    BYTE,
    DARK,
    UNIT,
    Range,
    are_bright,
    auto_ranges,
    check_value_range,
    family,
    given_ranges,
    to_uint8,
    told_of_dark_arrays,
    warn,
)


def as_images(
    X: Any,
    *,
    image_shape: tuple[int, ...] | Literal["row"] | None = None,
    value_range: tuple[float, float] | Literal["auto"] = "auto",
    float_range: tuple[float, float] | None = None,
    layout: str | None = None,
    piece: bool = False,
    bright: tuple[str, ...] = (),
) -> Images:
    """Take anything that holds images as a sequence of upright 8-bit RGB images.

    No file is opened and nothing is converted until an image is asked for. The values of arrays
    are looked at once, to tell their range.

    Parameters
    ----------
    X : array-like, list, tensor, Series or data frame
        - arrays and torch tensors, on any device, of shape (n, h, w, 3), (n, 3, h, w), (n, h, w),
          and with 1 or 4 channels (grey, alpha). The axis of length 3, else 1, else 4, is the
          colours; where both ends could be, the last is (in torch tensors the first);
        - a list, tuple, object array or Series of images of any size: arrays and tensors as
          above, paths (str or pathlib), bytes of image files, open files and uploads (read from
          their beginning, and left open), members of zip archives (zipfile.Path), the dicts
          ``{"bytes": ..., "path": ...}`` of the Hugging Face hub, PIL images, also mixed;
        - a data frame or array with one such column;
        - flattened rows (n, n_columns) of numbers, see `image_shape`.
    image_shape : (h, w), (h, w, c), (c, h, w), "row" or None, default=None
        What a flattened row is. None infers a square greyscale image, or a square image (h, w, 3)
        or (3, h, w) if the length is three times a square: neighbours that resemble each other
        tell which. "row" is a greyscale image of height 1. Has no meaning for other input.
    value_range : (low, high) or "auto", default="auto"
        What black and white are in arrays of every dtype, and in files and PIL images of more
        than 8 bits; values beyond are clipped with one
        :class:`~sktransfer.exceptions.ClippingWarning`. It does not touch files and PIL images of
        8 bits. "auto" looks at the whole input, never at one image alone: uint8 is 0 to 255;
        bool is 0 to 1; other integers must lie within 0 and 255; floats within 0 and 1 are 0 to
        1; floats within 0 and 255 whose maximum is at least 128 are 0 to 255; any other floats
        are an error. Files are 0 to the largest value of their type.
    float_range : (low, high) or None, default=None
        With ``value_range="auto"``: the range that an earlier call found for floats
        (`Images.float_range`), which these floats must keep to. So a dark batch in ``transform``
        is read as the batch in ``fit`` was.
    layout : {"images", "stack", "rows"} or None, default=None
        What an earlier call found the input to be (`Images.layout`). None is no earlier call. It
        decides where (3, h, w) could be three greyscale images or one image of three colours.
    piece : bool, default=False
        Whether there is more of the input than `X`, so that dark floats are no error but one
        :class:`~sktransfer.exceptions.ValueRangeWarning`: other pieces may be bright.
    bright : tuple of str, default=()
        What an earlier call found bright (`Images.bright`), so that dark images are not told of.

    Returns
    -------
    Images
        One for each row, in order.

    Raises
    ------
    InputError
        If `X` is empty, one image without a list around it, or not a collection of images.
    ValueRangeError
        If black and white cannot be told.
    TypeError
        If `X` is sparse, or a table of objects that are no numbers.

    Warns
    -----
    ClippingWarning
        If arrays hold values beyond a given `value_range`.
    SktransferWarning
        If rows of three colours do not tell their order.

    Notes
    -----
    Of animations and TIFF files the first frame is taken. Alpha is composited over white. 16-bit
    files are scaled from 0 to 65535, float files from 0 to 1; 32-bit integer files do not say what
    white is and are errors without a `value_range`. EXIF orientation is applied, also to PIL
    images that carry it. ICC profiles are ignored, as by torchvision and timm. A file of more than
    twice ``PIL.Image.MAX_IMAGE_PIXELS`` pixels, or a damaged or truncated one, is an error.
    """
    given = check_value_range(value_range)
    fitted = None if float_range is None else check_value_range(float_range, "float_range")
    collected = collect(X, check_image_shape(image_shape), layout)
    trust_dtype = given is None or (given[0] <= 0 and given[1] >= 255)
    survey = survey_arrays(collected, trust_dtype=trust_dtype)
    if given is not None:
        ranges = given_ranges(survey.extremes, given)
    else:
        ranges = auto_ranges(
            survey.extremes,
            fitted,
            fractions=survey.fractions and not piece,
            to_one=survey.to_one,
        )
    dark = told_of_dark_arrays(
        survey.extremes, ranges, given=given is not None, bright="arrays" in bright
    )
    if are_bright(survey.extremes, ranges):
        bright = (*bright, "arrays")
    doubts = [collected.doubt, dark]
    return Images(collected, ranges, survey.causes, given=given, doubts=doubts, bright=bright)


def as_whole_images(X: Any, *, value_range: tuple[float, float] | Literal["auto"]) -> Images:
    """The same of images with places: flattened rows are refused.

    Raises
    ------
    InputError
        If `X` is one image, or a table of rows.
    """
    shape, dtype = tuple(getattr(X, "shape", ())), getattr(X, "dtype", None)
    if len(shape) == 2 and (is_tensor(X) or getattr(dtype, "kind", "O") in "biuf"):
        raise InputError(
            f"X must be a collection of images, got one array of shape {shape}. If it is one "
            "image, pass [X]; flattened rows must be reshaped to (n, height, width, 3); codes are "
            "computed here, so no CNNCodes stands before this estimator."
        )
    images = as_images(X, value_range=value_range)
    if images.layout == "rows":
        raise InputError(
            f"X must hold images with places, got a table of {images.n_columns} columns; reshape "
            "its rows to (n, height, width, 3)."
        )
    return images


@dataclass(frozen=True)
class Reading:
    """How an input was read, and later ones are to be: so a dark batch is read as a bright one.

    Attributes
    ----------
    image_shape, value_range, float_range, layout, bright : object
        As in :func:`as_images`, which says what each decides.
    """

    image_shape: tuple[int, ...] | Literal["row"] | None = None
    value_range: tuple[float, float] | Literal["auto"] = "auto"
    float_range: tuple[float, float] | None = None
    layout: str | None = None
    # It decides nothing but what is warned of.
    bright: tuple[str, ...] = field(default=(), compare=False)

    def made_up(self, preparation: Any) -> Images:
        """One image, a JPEG file of the size that a network sees, for whoever warms up."""
        pixels = preparation.probes()[0][0]
        file = io.BytesIO()
        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "JPEG")
        return as_images([file.getvalue()])

    def items(self, X: Any, *, piece: bool = False) -> Images:
        """Take later input as images."""
        return as_images(
            X,
            image_shape=self.image_shape,
            value_range=self.value_range,
            float_range=self.float_range,
            layout=self.layout,
            bright=self.bright,
            piece=piece,
        )


class Images:
    """A sequence of images that are opened one at a time; made by :func:`as_images`.

    Attributes
    ----------
    value_range : (float, float) or None
        What black and white are in the arrays: what was given, or what was told of the floats if
        there are any, else of the integers, else of the booleans. None without arrays.
    float_range : (float, float) or None
        What "auto" told of the floats, to be kept to by later input. None without floats.
    n_columns : int or None
        Columns of a table of flattened rows, 1 for one column of images, None for other input.
    image_shape : tuple of int or None
        Shape of the image in a flattened row, as given or inferred. None for other input.
    layout : {"images", "stack", "rows"}
        What the input was found to be: a stack of greyscale images (n, h, w), a table of
        flattened rows, or anything else.
    known_errors : dict of int to ImageError
        Images known to be bad without a file being opened: arrays that hold NaN or infinity,
        have no pixels or no image's shape, and missing values. `open` raises them.
    """

    noun: ClassVar[str] = "image"
    in_memory: ClassVar[bool] = False

    def __init__(
        self,
        collected: Collected,
        ranges: dict[str, Range],
        causes: dict[int, str],
        *,
        given: Range | None = None,
        doubts: Sequence[str | None] = (),
        bright: Sequence[str] = (),
    ) -> None:
        self._collected, self._ranges = collected, ranges
        self._given, self._account = given, Account(given, bright)
        self._doubts = [one for one in doubts if one]
        self.layout = collected.layout
        self.n_columns, self.image_shape = collected.n_columns, collected.shape
        self.float_range = ranges.get("float")
        order = (ranges.get(kind) for kind in ("float", "int", "uint16", "uint8", "bool"))
        self.value_range = next((found for found in order if found is not None), None)
        self.known_errors = {i: self._error(cause, i) for i, cause in causes.items()}

    @property
    def reading(self) -> Reading:
        """How later input is to be read."""
        return Reading(
            self.image_shape,
            self._given or "auto",
            self.float_range,
            self.layout,
            self.bright,
        )

    @property
    def bright(self) -> tuple[str, ...]:
        """Which kinds of images used their range so far; of files those that were decoded."""
        return tuple(sorted(self._account.bright))

    def __len__(self) -> int:
        return len(self._collected.items)

    def source(self, index: int) -> str | None:
        """Give the path of an image, or None where it has none."""
        item = self._collected.items[index]
        if isinstance(item, (str, os.PathLike)):
            return os.fsdecode(item)
        if isinstance(item, Image.Image) or is_open_file(item):
            # Uploads have the name of the form's field as their name. Files of Python have no
            # other, and gzip warns of who asks for one.
            own = ("name",) if isinstance(item, io.IOBase) else ("filename", "name")
            names = (getattr(item, attribute, None) for attribute in own)
            return next((name for name in names if isinstance(name, str) and name), None)
        return None

    def label(self, index: int) -> str:
        """Name an image in messages, such as ``image 3 (photos/a.jpg)``."""
        source = self.source(index)
        return f"image {index}" if source is None else f"image {index} ({shown(source)})"

    def open(self, index: int) -> OpenedImage:
        """Read the bytes or pixels of one image. Safe to call from several threads.

        Raises
        ------
        ImageError
            If it cannot be read; says which image, its path, and the cause.
        """
        if index in self.known_errors:
            raise self._error(self.known_errors[index].cause, index)
        try:
            item = self._collected.items[index]
            content = open_item(item, self._hwc, self._pixels, self._account.depth(index))
        except ImageError as error:
            raise self._error(error.cause, index) from error.__cause__
        opened = OpenedImage(content, index, self.source(index))
        # Digests tell it of copies, which arrays may be of each other but never of a file.
        self._account.opened(index, lambda: _NO_FILE if _is_array(item) else opened.digest)
        return opened

    def tell(self) -> None:
        """Warn of images that look wrong as they are read, and of left out parts of files.

        Of arrays this is known at once, of files as soon as they were decoded. Each is told once.
        """
        while self._doubts:
            warn(self._doubts.pop(0), ValueRangeWarning)
        self._account.tell(self.label)

    def _hwc(self, item: Any) -> np.ndarray:
        array = as_array(item)
        if self._collected.shape is not None:
            array = array.reshape(self._collected.shape)
        return to_hwc(array, channels_first=self._collected.channels_first or is_tensor(item))

    def _pixels(self, array: np.ndarray) -> np.ndarray:
        return to_rgb_pixels(to_uint8(array, self._ranges[family(array.dtype)]))

    def _error(self, cause: str, index: int) -> ImageError:
        return ImageError(cause, index, self.source(index))


# Stands for arrays where files are told apart.
_NO_FILE = b"array"


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray) or is_tensor(item)


# One image in memory: its digest, and its picture when asked for.


class Stored(NamedTuple):
    """As what an image was given.

    Attributes
    ----------
    format : str
        As Pillow names it, such as ``"JPEG"``; empty for what comes from no file.
    n_channels : int
        1 is grey, 3 colour, one more with transparency; 4 also CMYK. Palettes are colour.
    n_bytes : int or None
        Of the file.
    """

    format: str
    n_channels: int
    n_bytes: int | None


Made = TypeVar("Made", Image.Image, np.ndarray, tuple[int, int], Stored)


class Content(NamedTuple):
    """An item in memory, what makes its picture and its pixels, and tells of it without both."""

    digest: Callable[[], bytes]
    n_bytes: int
    picture: Callable[[], Image.Image]
    pixels: Callable[[], np.ndarray]
    size: Callable[[], tuple[int, int]]
    stored: Callable[[], Stored]


def open_item(
    item: Any,
    hwc: Callable[[Any], np.ndarray],
    pixels_of: Callable[[np.ndarray], np.ndarray],
    depth: Depth,
) -> Content:
    """Read one item; give its digest, its size, and what makes its picture and pixels.

    Parameters
    ----------
    item : path, open file, bytes, PIL image or array
        The image.
    hwc : callable
        Views what is an array as (height, width, channels).
    pixels_of : callable
        Gives the 8-bit RGB pixels of such a view.
    depth : Depth
        How files and PIL images of more than 8 bits are read.
    """
    if isinstance(item, DatasetImage):
        item = item.load()
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
        make_picture, tell = partial(decode, data, depth), partial(size_of_file, data)

        def stored() -> Stored:
            return Stored(*stored_in(data), len(data))

        digest = partial(digest_of, kind, data)
        return Content(digest, len(data), make_picture, make_pixels, tell, stored)
    if isinstance(item, Image.Image):
        pixels = from_pil(item, depth)
        as_given = Stored(item.format or "", n_channels_of(item), None)
    else:
        view = hwc(item)
        pixels, as_given = pixels_of(view), Stored("", view.shape[2], None)
    make = partial(Image.fromarray, pixels)
    height, width = pixels.shape[:2]
    digest, size = partial(_pixel_digest, pixels), (height, width)
    return Content(
        digest, pixels.nbytes, make, lambda: pixels, lambda: size, lambda: as_given
    )


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
        and PIL images, whatever layout, dtype and range they came in. Found when it is asked for.
    n_bytes : int
        Size of what is kept in memory until the image is made.
    """

    __slots__ = ("_content", "_digest", "_index", "_source", "n_bytes")

    def __init__(self, content: Content, index: int, source: str | None) -> None:
        self._digest: bytes | None = None
        self.n_bytes = content.n_bytes
        self._content, self._index, self._source = content, index, source

    @property
    def digest(self) -> bytes:
        if self._digest is None:
            self._digest = self._content.digest()
        return self._digest

    @property
    def label(self) -> str:
        """Name it in messages, such as ``image 3 (photos/a.jpg)``."""
        where = f"image {self._index}"
        return where if self._source is None else f"{where} ({shown(self._source)})"

    def picture(self) -> Image.Image:
        """Decode the image: upright, mode RGB. Each call decodes again.

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

    def size(self) -> tuple[int, int]:
        """Height and width, upright, without decoding.

        Raises
        ------
        ImageError
            If it is no image; says which, its path, and the cause.
        """
        return self._made(self._content.size)

    def stored(self) -> Stored:
        """As what it was given, without decoding.

        Raises
        ------
        ImageError
            If it is no image; says which, its path, and the cause.
        """
        return self._made(self._content.stored)

    def changed(self, digest: bytes, change: Callable[[Image.Image], Image.Image]) -> OpenedImage:
        """The same image with its picture changed; the digest must tell how."""

        def picture() -> Image.Image:
            return change(self._content.picture())

        def size() -> tuple[int, int]:
            return picture().size[::-1]

        def pixels() -> np.ndarray:
            return np.asarray(picture())

        content = self._content._replace(
            digest=lambda: digest, n_bytes=self.n_bytes, picture=picture, pixels=pixels, size=size
        )
        return OpenedImage(content, self._index, self._source)

    def error(self, cause: str) -> ImageError:
        """What is wrong with it, with its number and its path."""
        return ImageError(cause, self._index, self._source)

    def _made(self, make: Callable[[], Made]) -> Made:
        try:
            return make()
        except ImageError as error:
            raise self.error(error.cause) from error.__cause__
        except MemoryError as error:
            raise self.error("cannot be decoded: there is not enough memory") from error


# One look at all arrays of an input, some at a time: their extremes, and bad images.


_BLOCK = 2**22  # values looked at together
_DARK_BYTE = 255 * DARK
_BLACK_UNIT = 0.1  # floats that never pass it are as black from 0 to 1 as from 0 to 255


@dataclass
class Survey:
    """What the arrays of an input hold: (min, max) for each family of dtypes, and bad images."""

    extremes: dict[str, Range] = field(default_factory=dict)
    causes: dict[int, str] = field(default_factory=dict)
    fractions: bool = False  # whether there are floats that are no whole numbers
    to_one: int | None = None  # the first image of floats that looks like one of 0 to 1

    def add(self, first: int, block: np.ndarray, *, trust_dtype: bool) -> None:
        """Look at images `first`, `first` + 1, … stacked in `block`."""
        kind = family(block.dtype)
        if kind == "bool" and trust_dtype:
            self._widen(kind, UNIT)
        elif kind == "uint8" and trust_dtype:
            # It cannot leave its range. One bright image says that it uses it, no more is looked
            # at; only where all are dark all are looked at.
            if self.extremes.get(kind) != BYTE:
                self._widen(kind, BYTE if _is_bright(block) else (0.0, float(block.max())))
        else:
            self._look(kind, first, block, trust_dtype)

    def _look(self, kind: str, first: int, block: np.ndarray, trust_dtype: bool) -> None:
        with np.errstate(invalid="ignore"):  # NaN is looked for
            low, high = float(block.min()), float(block.max())
        if math.isfinite(low) and math.isfinite(high):
            self._widen(kind, (low, high))
            if kind == "float":
                self._look_at_scale(first, block, high)
        elif len(block) == 1:
            self.causes[first] = "holds NaN" if math.isnan(low) else "holds infinity"
        else:
            for offset in range(len(block)):
                self.add(first + offset, block[offset : offset + 1], trust_dtype=trust_dtype)

    def _look_at_scale(self, first: int, block: np.ndarray, high: float) -> None:
        if not self.fractions and high < 2:  # the only ones it matters of
            self.fractions = any(map(_has_fractions, block))
        if self.to_one is None:
            highest = block.max(axis=tuple(range(1, block.ndim)))
            for offset in np.flatnonzero((highest <= 1) & (highest > _BLACK_UNIT)):
                if _has_fractions(block[offset]) and block[offset].min() < highest[offset]:
                    self.to_one = first + int(offset)
                    return

    def _widen(self, kind: str, seen: Range) -> None:
        low, high = self.extremes.get(kind, seen)
        self.extremes[kind] = (min(low, seen[0]), max(high, seen[1]))


def _is_bright(block: np.ndarray) -> bool:
    return bool(block[0, ::4].max() > _DARK_BYTE or block.max() > _DARK_BYTE)


def _has_fractions(image: np.ndarray) -> bool:
    return bool((image != np.rint(image)).any())


def survey_arrays(collected: Collected, *, trust_dtype: bool) -> Survey:
    """Look at all arrays; with `trust_dtype` uint8 and bool need no look."""
    survey = Survey()
    for first, block in _blocks(collected, survey.causes):
        survey.add(first, block, trust_dtype=trust_dtype)
    return survey


def float_extremes(X: Any, image_shape: Any) -> Range | None:
    """The least and greatest float in some images, None without floats."""
    survey = survey_arrays(collect(X, check_image_shape(image_shape)), trust_dtype=True)
    return survey.extremes.get("float")


def float_range_of(extremes: Range) -> Range:
    """What black and white are in floats with these extremes.

    Raises
    ------
    ValueRangeError
        If it cannot be told.
    """
    return auto_ranges({"float": extremes}, None)["float"]


def _blocks(collected: Collected, causes: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    """Give all arrays, some images at a time; note those that are no images in `causes`."""
    items = collected.items
    if not isinstance(items, np.ndarray):
        yield from _list_blocks(items, causes)
    elif items.size == 0:
        causes.update(dict.fromkeys(range(len(items)), no_pixels(items.shape[1:])))
    else:
        step = max(1, _BLOCK // items[0].size)
        for first in range(0, len(items), step):
            yield first, items[first : first + step]


def _list_blocks(items: Any, causes: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    for index, item in enumerate(items):
        if is_missing(item):
            causes[index] = f"is missing ({item!r})"
        # a PIL image is array-like too, but its values need no range
        elif isinstance(item, DatasetImage) and item.source.gives_arrays:
            try:
                yield index, to_hwc(as_array(item.load()), channels_first=True)[None]
            except ImageError as error:
                causes[index] = error.cause
        elif is_array_like(item) and not isinstance(item, Image.Image):
            try:
                yield index, to_hwc(as_array(item))[None]
            except ImageError as error:
                causes[index] = error.cause
