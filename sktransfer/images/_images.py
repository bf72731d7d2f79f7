"""`as_images`, and the images it gives."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..exceptions import ImageError, ValueRangeWarning, shown
from ._arrays import as_array, is_tensor, to_hwc, to_rgb_pixels
from ._collect import Collected, collect
from ._deep import Account
from ._kinds import is_open_file
from ._opened import OpenedImage, open_item
from ._range import (
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
from ._rows import check_image_shape
from ._survey import survey_arrays


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


def tell(images: Any) -> None:
    """Warn of what was met in images; `images` may be some or other views of :class:`Images`."""
    while not isinstance(images, Images) and hasattr(images, "images"):
        images = images.images
    if isinstance(images, Images):
        images.tell()


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
        self._account, self._doubts = Account(given, bright), [one for one in doubts if one]
        self.layout = collected.layout
        self.n_columns, self.image_shape = collected.n_columns, collected.shape
        self.float_range = ranges.get("float")
        order = (ranges.get(kind) for kind in ("float", "int", "uint16", "uint8", "bool"))
        self.value_range = next((found for found in order if found is not None), None)
        self.known_errors = {i: self._error(cause, i) for i, cause in causes.items()}

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
            content = open_item(item, self._pixels, self._account.depth(index))
        except ImageError as error:
            raise self._error(error.cause, index) from error.__cause__
        self._account.opened(index, content.digest)
        return OpenedImage(content, index, self.source(index))

    def tell(self) -> None:
        """Warn of images that look wrong as they are read, and of left out parts of files.

        Of arrays this is known at once, of files as soon as they were decoded. Each is told once.
        """
        while self._doubts:
            warn(self._doubts.pop(0), ValueRangeWarning)
        self._account.tell(self.label)

    def _pixels(self, item: Any) -> np.ndarray:
        array = as_array(item)
        if self._collected.shape is not None:
            array = array.reshape(self._collected.shape)
        first = self._collected.channels_first or is_tensor(item)
        value_range = self._ranges[family(array.dtype)]
        return to_rgb_pixels(to_uint8(to_hwc(array, channels_first=first), value_range))

    def _error(self, cause: str, index: int) -> ImageError:
        return ImageError(cause, index, self.source(index))
