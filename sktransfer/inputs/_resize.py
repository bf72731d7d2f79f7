"""From an image of any size to the pixels a network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from ._shrink import agrees, shrink

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["READING", "RESIZES", "ImagePreparation", "Placement", "agrees", "crop", "shrink"]


RESIZES = ("crop", "squash", "pad")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

# What is cut away afterwards may be this many times what is kept, along each axis.
_WHOLE = 8

# Part of the keys of the cache: to be raised when the pixels of an image change, when an image that
# was taken is refused, or when its digest is another.
READING = 3


@dataclass(frozen=True)
class ImagePreparation:
    """How an image becomes the pixels that a network sees (a `Preparation`).

    Attributes
    ----------
    image_size : tuple of int
        Height and width of the result in pixels.
    resize : {"crop", "squash", "pad"}
        Cut the middle out, change the proportions, or fill up with `background`.
    resize_size : tuple of int
        For ``"crop"``: what an image is scaled to cover before the middle is cut out.
    interpolation : str
        Name of Pillow's filter, which widens when it shrinks (antialiasing).
    background : tuple of int
        Colour of the bars of ``"pad"``, 0 to 255. One number alone is a grey, and makes all
        images grey, by their luminance.
    """

    image_size: tuple[int, int]
    resize: str
    resize_size: tuple[int, int]
    interpolation: str
    background: tuple[int, ...]

    in_windows: ClassVar[bool] = False
    counts_all: ClassVar[bool] = False

    @property
    def n_channels(self) -> int:
        """Channels of the result: 3, or 1 for grey."""
        return len(self.background)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of the result."""
        return (*self.image_size, self.n_channels)

    @property
    def dtype(self) -> np.dtype:
        """Whole numbers from 0 to 255: normalising is part of the network that runs."""
        return np.dtype(np.uint8)

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, for people who read a file of codes."""
        return {"image size": self.image_size, "resize": self.resize}

    @property
    def key(self) -> str:
        """What decides the pixels of an image of some digest, the same in every process."""
        return f"reading {READING}, {self!r}"

    def __call__(self, item: Any) -> np.ndarray:
        """The pixels of an opened image.

        Raises
        ------
        ImageError
            If it cannot be decoded.
        """
        return self.of(item.pixels())

    def placement(self, size: tuple[int, int], *, whole: bool = True) -> Placement:
        """Where an image of some height and width stands in the result.

        Parameters
        ----------
        size : tuple of int
        whole : bool
            Whether all of it must be there.

        Raises
        ------
        ValueError
            If a part of it is cut away.
        """
        if self.resize == "crop" and whole:
            raise ValueError(
                'resize= must be "pad" or "squash" where something is said of every place of an '
                'image: "crop" cuts a part of it away.'
            )
        height, width = _scaled_size(*size, self)
        if self.resize == "crop":
            top, left = -round((height - self.image_size[0]) / 2), -round(
                (width - self.image_size[1]) / 2
            )
        else:
            top, left = (self.image_size[0] - height) // 2, (self.image_size[1] - width) // 2
        return Placement(size, self.image_size, (top, left, height, width))

    def probes(self) -> list[np.ndarray]:
        """Gradients and noise; two images first, then three, since a network may count them."""
        ramp = np.linspace(0, 255, math.prod(self.shape)).reshape(self.shape)
        noise = np.random.default_rng(0).integers(0, 256, self.shape)
        probe = np.stack([ramp, noise, ramp[::-1]]).astype(np.uint8)
        return [probe[:2], probe]

    def of(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """Make an image fit.

        Images that become smaller are resized by torch, within a level of what Pillow makes of
        them (see `shrink`); the others by Pillow.

        Parameters
        ----------
        image : PIL.Image.Image or ndarray of shape (height, width, 3), uint8
            In mode RGB.

        Returns
        -------
        ndarray of shape (height, width, 3), or (height, width, 1) for grey, uint8
        """
        if self.n_channels == 3:
            return _fit(image, self)
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        return _fit(image.convert("L"), self)[..., None]


@dataclass(frozen=True)
class Placement:
    """Where an image stands in what a network sees of it: the way there, and back.

    Attributes
    ----------
    size : tuple of int
        Height and width of the image.
    image_size : tuple of int
        The same of what the network sees.
    box : tuple of int
        Top, left, height and width of the image in it; the rest are bars. What is cut away is
        beyond its borders.
    """

    size: tuple[int, int]
    image_size: tuple[int, int]
    box: tuple[int, int, int, int]

    def mask(self, labels: np.ndarray, bars: Any) -> np.ndarray:
        """A mask of the image as the network sees it: of each place the nearest label.

        Where that is no label, but pixels of the place have one, it is one of theirs, so that thin
        strokes do not get lost.

        Parameters
        ----------
        labels : ndarray of shape `size`
        bars : object
            The label of bars, and of pixels that have none.
        """
        top, left, height, width = self.box
        rows, columns = (
            ((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
            for new, old in zip((height, width), self.size, strict=True)
        )
        seen = np.full(self.image_size, bars, labels.dtype)
        inside = seen[top : top + height, left : left + width]
        inside[...] = labels[rows[:, None], columns]
        empty = inside == bars
        if empty.any() and (height < self.size[0] or width < self.size[1]):
            pixels = np.nonzero(labels != bars)
            at = tuple(
                (one + 0.5) * (new / old) for one, new, old in
                zip(pixels, (height, width), self.size, strict=True)
            )  # fmt: skip
            row, column = (one.astype(np.intp) for one in at)
            lost = empty[row, column]
            inside[row[lost], column[lost]] = labels[pixels][lost]
        return seen

    def scores(self, seen: Tensor) -> Tensor:
        """What is said of the places that the network sees, for the pixels of the image.

        Parameters
        ----------
        seen : Tensor of shape (n_numbers, *image_size)

        Returns
        -------
        Tensor of shape (n_numbers, *size)
            Bilinear: so a sum of scores is the score of sums. 0 for what is cut away.
        """
        from torch.nn.functional import interpolate, pad

        top, left, height, width = self.box
        part = seen[:, max(top, 0) : top + height, max(left, 0) : left + width]
        above, before = max(-top, 0), max(-left, 0)
        if part.shape[1:] != (height, width):
            below, behind = height - above - part.shape[1], width - before - part.shape[2]
            part = pad(part, (before, behind, above, below))
        if part.shape[1:] == self.size:
            return part
        return interpolate(part[None], self.size, mode="bilinear", align_corners=False)[0]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) of x1, y1, x2, y2 in pixels of the image, in those the network sees."""
        return boxes * self._scale + self._offset

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes in pixels that the network sees, in those of the image, within its borders."""
        height, width = self.size
        found = (boxes - self._offset) / self._scale
        return np.clip(found, 0, np.array([width, height, width, height], found.dtype))

    @property
    def _scale(self) -> np.ndarray:
        _, _, height, width = self.box
        return np.array([width / self.size[1], height / self.size[0]] * 2)

    @property
    def _offset(self) -> np.ndarray:
        top, left, _, _ = self.box
        return np.array([left, top, left, top], np.float64)


def _fit(picture: Image.Image | np.ndarray, to: ImagePreparation) -> np.ndarray:
    """Fit an image in colour or in grey, which then has two axes."""
    pixels = np.asarray(picture)
    size = _scaled_size(pixels.shape[0], pixels.shape[1], to)
    if size == pixels.shape[:2]:
        return _place(pixels, to)
    if _can_shrink(pixels, size, to):
        return _place(shrink(pixels, size, to.interpolation), to)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    filter_ = _FILTERS[to.interpolation]
    if to.resize == "crop":
        return np.asarray(crop(picture, size, to.image_size, filter_))
    return _place(np.asarray(picture.resize(size[::-1], filter_)), to)


def _scaled_size(height: int, width: int, to: ImagePreparation) -> tuple[int, int]:
    """Height and width to which the whole image is resized."""
    if to.resize == "crop":
        return _covering(height, width, to.resize_size)
    if to.resize == "squash":
        return to.image_size
    scale = min(to.image_size[0] / height, to.image_size[1] / width)
    return (
        max(1, min(to.image_size[0], round(height * scale))),
        max(1, min(to.image_size[1], round(width * scale))),
    )


def _can_shrink(pixels: np.ndarray, size: tuple[int, int], to: ImagePreparation) -> bool:
    """Whether both sides become smaller, and not many times as much is computed as is kept."""
    return all(
        new <= _WHOLE * kept and agrees(old, new, to.interpolation)
        for old, new, kept in zip(pixels.shape, size, to.image_size, strict=False)
    )


def _place(fitted: np.ndarray, to: ImagePreparation) -> np.ndarray:
    """Cut the middle out, or put it between bars."""
    height, width = to.image_size
    if fitted.shape[:2] == (height, width):
        return fitted
    if to.resize == "pad":
        canvas = np.full((height, width, *fitted.shape[2:]), to.background, np.uint8)
        top, left = (height - fitted.shape[0]) // 2, (width - fitted.shape[1]) // 2
        canvas[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        return canvas
    top, left = (
        round((new - kept) / 2) for new, kept in zip(fitted.shape, to.image_size, strict=False)
    )
    if top >= 0 <= left:
        return fitted[top : top + height, left : left + width]
    # A crop larger than the image has black bars, as torchvision's.
    return np.asarray(Image.fromarray(fitted).crop((left, top, left + width, top + height)))


def _covering(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Size of an image scaled until it covers the target."""
    if height * target[1] >= width * target[0]:
        return max(int(target[1] * height / width), target[0]), target[1]
    return target[0], max(int(target[0] * width / height), target[1])


# Pillow's resize and the cut of the middle in one step, on exactly the grid of the two.


# How many pixels to either side Pillow's filters reach, before they widen.
_SUPPORT = {
    Image.Resampling.NEAREST: 0.0,
    Image.Resampling.BOX: 0.5,
    Image.Resampling.BILINEAR: 1.0,
    Image.Resampling.HAMMING: 1.0,
    Image.Resampling.BICUBIC: 2.0,
    Image.Resampling.LANCZOS: 3.0,
}

# An axis is enlarged as a whole up to this many times what is kept of it.
_ENLARGED = 8


def crop(
    picture: Image.Image,
    size: tuple[int, int],
    kept: tuple[int, int],
    filter_: Image.Resampling,
) -> Image.Image:
    """Resize and cut the middle out in one step: only pixels that are kept are computed.

    The sizes and offsets are rounded as torchvision's Resize and CenterCrop round them; a
    box that is off by half a pixel moves codes by 9%.

    First across and then down, as whole images are resized. Given a box, Pillow takes the
    order that costs least, and the 8-bit rounding in between makes that another picture:
    codes of tall images moved by 1%.
    """
    height, width = kept
    new_height, new_width = size
    across = _span(picture.width, new_width, width)
    down = _span(picture.height, new_height, height)
    reach = _SUPPORT[filter_] * max(1.0, picture.height / new_height)
    first = max(0, math.floor(down.start - reach) - 1)
    last = min(picture.height, math.ceil(down.stop + reach) + 1)
    box = (across.start, first, across.stop, last)
    narrow = picture.resize((across.size, last - first), filter_, box=box)
    rows = (0, down.start - first, across.size, down.stop - first)
    fitted = narrow.resize((across.size, down.size), filter_, box=rows)
    if fitted.size == (width, height):
        return fitted
    left, top = across.offset, down.offset
    return fitted.crop((left, top, left + width, top + height))


class _Span(NamedTuple):
    """What is resized along one axis: from where to where, to how many, and what is cut then."""

    start: float
    stop: float
    size: int
    offset: int


def _span(length: int, new_length: int, kept: int) -> _Span:
    """The middle of an axis.

    Pillow keeps a box in single precision. That is no matter where many pixels make one, but
    enlarging meets exact halves, so there the whole axis is enlarged and then cut.
    """
    offset = round((new_length - kept) / 2)
    if offset <= 0 or length < new_length <= _ENLARGED * kept:
        return _Span(0, length, new_length, offset)
    share = length / new_length
    return _Span(offset * share, min((offset + kept) * share, length), kept, 0)
