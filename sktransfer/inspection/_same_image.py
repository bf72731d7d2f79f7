"""Whether two images are one: re-encoded, resized, squashed, cropped, mirrored or darkened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

__all__ = ["SAME", "Match", "Thumbnail", "compare", "thumbnail"]

# Score from which on two images are taken for one. Of the 600 most similar pairs of different
# images of each of three sets the highest was 0.70, two renderings of one scene; of 480 planted
# copies all but one were above 0.87.
SAME = 0.8
# Longer side of what is compared: enough to tell two images of one thing apart, and quick.
_SIDE = 128
# Sides of the part that is searched for, as shares of the largest that fits: crops keep a third
# of the area, or more.
_SCALES = np.geomspace(1.0, 0.55, 8)
# Around the best of these, at half the size.
_CLOSER = np.linspace(0.95, 1.05, 9)
# Correlation at a quarter of the size below which a closer look is not worth its time.
_HOPELESS = 0.75
# Correlation of what is fine, not yet to fractions of a pixel, below which two are not one; and the
# same nearly to a pixel. Of 898 copies of two sets the lowest was 0.70, and then 0.86.
_UNLIKE, _STILL_UNLIKE = 0.4, 0.6
# Score from which on a pair that is below `SAME` is worth a slower look.
_IN_DOUBT = 0.35
# Standard deviation of grey below which there is nothing to compare.
_FLAT, _FAINTEST = 1.0, 0.1
# Images whose pixels are wider than this have too few to tell (digits of 8 x 8 are alike); these
# must agree as the same pixels do.
_TINY, _SURE = 6.5, 0.99
# What is finer than so many pixels tells an image from another of the same composition; what is
# finer than a pixel hangs on how an image was resized.
_FINE, _FINEST = 3.0, 0.8
# Patches along each side, and how much of the mean energy one needs to have a say.
_PATCHES, _FAINT = 4, 0.2


class Thumbnail(NamedTuple):
    """An image as it is compared.

    Attributes
    ----------
    grey, quarter : ndarray of shape (height, width), float32
        0 to 255; the longer side has 128 and 32 pixels.
    half : ndarray of shape (height, width), float32
        At 64 pixels, less what is coarse: its place is told to a pixel.
    pixel : float
        Width of a pixel of the image in it, at least 1.
    std : float
        Of `grey`.
    fields : dict
        What was made of `quarter`, by the sizes that were searched for in it: images are compared
        with several others, mostly of one shape.
    """

    grey: np.ndarray
    quarter: np.ndarray
    half: np.ndarray
    pixel: float
    std: float
    fields: dict[tuple[tuple[int, int], ...], _Field]


class Match(NamedTuple):
    """How two images fit where they fit best.

    Attributes
    ----------
    score : float
        How well they agree in the patch where they agree least, from 0 to 1 (the same pixels).
    mirrored : bool
        Whether one is turned left to right.
    share : float
        How much of the area of the one the other shows.
    """

    score: float
    mirrored: bool = False
    share: float = 1.0


class _Fit(NamedTuple):
    """A part of some size at the place in another image where they correlate best."""

    correlation: float
    size: tuple[int, int]
    place: tuple[int, int]
    mirrored: bool


def thumbnail(pixels: np.ndarray) -> Thumbnail:
    """Make an image small and grey.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
    """
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    half, quarter = (_resized(grey, [max(4, side // by) for side in grey.shape]) for by in (2, 4))
    pixel = max(1.0, scale)
    fine = half - gaussian_filter(half, _FINE * pixel)
    return Thumbnail(grey, quarter, fine, pixel, float(grey.std()), {})


def compare(one: Thumbnail, other: Thumbnail) -> Match:
    """Search for each in the other, whole or cropped, at all places and many sizes.

    A normalised cross-correlation finds the place ([1]_, with sums by FFT). It is high for any two
    images of one composition, so the verdict rests on what is fine in them, and on the patch
    where they agree least: another head on the same chess piece is another image.

    Parameters
    ----------
    one, other : Thumbnail

    Returns
    -------
    match : Match

    References
    ----------
    .. [1] J. P. Lewis (1995). Fast normalized cross-correlation. Vision Interface.
    """
    flat = [image.std < _FLAT for image in (one, other)]
    if any(flat):
        same = all(flat) and abs(one.grey.mean() - other.grey.mean()) < 2 * _FLAT
        return Match(float(same))
    sides = [(one, other), (other, one)]
    rough = [_roughly(whole, part) for whole, part in sides]
    best = int(rough[1].correlation > rough[0].correlation)
    if rough[best].correlation < _HOPELESS:
        return Match(0.0)
    return _closely(*sides[best], rough[best])


def _roughly(whole: Thumbnail, part: Thumbnail) -> _Fit:
    """The best fit of all of `part` in `whole`, at a quarter of the size."""
    a, b = whole.quarter, part.quarter
    largest = min(np.divide(a.shape, b.shape))
    sizes = [tuple(np.multiply(b.shape, largest * scale)) for scale in _SCALES]
    whole_sizes = _sizes(a.shape, [*sizes, a.shape])  # squashed, too
    key = tuple(whole_sizes)
    if key not in whole.fields:
        whole.fields[key] = _field(a, whole_sizes)
    return max(_fits(whole.fields[key], a.shape, b, whole_sizes, (False, True)))


def _closely(whole: Thumbnail, part: Thumbnail, rough: _Fit) -> Match:
    """The best fit near another, to fractions of a pixel, judged by what is fine."""
    sizes = [tuple(np.multiply(rough.size, 2 * scale)) for scale in _CLOSER]
    shape = whole.half.shape
    sizes = _sizes(shape, [*sizes, shape])
    field = _field(whole.half, sizes)
    fit = max(_fits(field, shape, part.half, sizes, (rough.mirrored,)))
    enlarged = np.divide(whole.grey.shape, whole.half.shape)
    corners = np.array([fit.place, np.add(fit.place, fit.size)]) * enlarged
    box = corners[:, ::-1].ravel()  # left, top, right, bottom
    size = [max(4, round(side)) for side in fit.size * enlarged]
    pixel = max(whole.pixel, part.pixel * size[0] / part.grey.shape[0])
    shown = part.grey[:, ::-1] if fit.mirrored else part.grey
    shown = _fine(_resized(shown, size), pixel)
    # Filtered at once, since what is cut out has about the size that it is compared at. At its
    # borders that differs from what is fine in the cut, so these do not count.
    edge = round(_FINE * pixel)
    inner = (slice(edge, -edge), slice(edge, -edge)) if min(size) > 4 * edge else (slice(None),)
    filtered = _fine(whole.grey, pixel)

    def quickly(box: np.ndarray) -> np.ndarray:
        return _unit(_resized(filtered, size, tuple(box))[inner])

    def exactly(box: np.ndarray) -> np.ndarray:
        return _unit(_fine(_resized(whole.grey, size, tuple(box)), pixel))

    core, shown = _unit(shown[inner]), _unit(shown)
    if float(np.vdot(quickly(box), core)) < _UNLIKE:
        return Match(0.0)
    limits = np.array([*whole.grey.shape[::-1]] * 2, dtype=float)
    box, alike = _moved(box, limits, core, quickly)
    if alike < _STILL_UNLIKE:
        return Match(0.0)
    score = _least_agreement(exactly(box), shown)
    if _IN_DOUBT < score < SAME:
        box, _ = _moved(box, limits, shown, exactly)
        score = _least_agreement(exactly(box), shown)
    if max(whole.pixel, part.pixel) > _TINY and score < _SURE:
        score = 0.0
    area = np.prod(box[2:] - box[:2]) / np.prod(whole.grey.shape)
    return Match(score, fit.mirrored, float(area))


def _moved(
    box: np.ndarray,
    limits: np.ndarray,
    shown: np.ndarray,
    cut: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, float]:
    """A box near another one that holds more of what is shown, and how much: step by step uphill.

    No further than one round, where that does not come near.
    """
    best, tried = float(np.vdot(cut(box), shown)), 0.0
    for step in (1.0, 1.0, 0.5, 0.5, 0.25):
        if step == tried:  # the same moves, from where none of them led uphill
            continue
        tried = step
        for move in (*_MOVES, *-_MOVES):
            moved = (box + step * move).clip(0, limits)
            if (found := float(np.vdot(cut(moved), shown))) > best:
                best, box, tried = found, moved, 0.0
        if best < _STILL_UNLIKE:
            break
    return box, best


# Across, down, larger, wider, higher.
_MOVES = np.array(
    [[1, 0, 1, 0], [0, 1, 0, 1], [-1, -1, 1, 1], [-1, 0, 1, 0], [0, -1, 0, 1]], dtype=float
)


def _resized(image: np.ndarray, size: Sequence[int], box: Any = None) -> np.ndarray:
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


class _Field(NamedTuple):
    """An image in which parts of some sizes are searched for.

    Attributes
    ----------
    spectrum : ndarray
        Of the image less its mean.
    spreads : tuple of ndarray
        For each size: the sum of squares, less their mean, of what is there at each place.
    """

    spectrum: np.ndarray
    spreads: tuple[np.ndarray, ...]


def _field(whole: np.ndarray, sizes: Sequence[tuple[int, int]]) -> _Field:
    centred = whole - whole.mean()
    sums, squares = (_summed(centred**power) for power in (1, 2))
    spreads = (
        (_windows(squares, (h, w)) - _windows(sums, (h, w)) ** 2 / (h * w)).clip(min=0)
        for h, w in sizes
    )
    return _Field(rfft2(centred), tuple(spreads))


def _sizes(shape: tuple[int, ...], wanted: Sequence[Any]) -> list[tuple[int, int]]:
    """Sizes in whole pixels that a part of an image of this shape may have, each once."""
    rounded = [(min(round(h), shape[0]), min(round(w), shape[1])) for h, w in wanted]
    return [size for size in dict.fromkeys(rounded) if min(size) >= 3]


def _fits(
    field: _Field,
    shape: tuple[int, int],
    part: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    mirrored: Sequence[bool],
) -> list[_Fit]:
    """Where `part` of each size correlates best with an image of a shape."""
    parts = np.zeros((len(sizes), len(mirrored), *shape), dtype=np.float32)
    picture = Image.fromarray(np.ascontiguousarray(part))
    for at, (height, width) in zip(parts, sizes, strict=True):
        small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        small = small - small.mean()
        for one, flip in zip(at, mirrored, strict=True):
            one[:height, :width] = small[:, ::-1] if flip else small
    products = irfft2(field.spectrum * np.conj(rfft2(parts)), s=shape)
    found = []
    for size, spread, product, flips in zip(sizes, field.spreads, products, parts, strict=True):
        norm = np.sqrt(spread * (flips[0] ** 2).sum())
        textured = spread > size[0] * size[1] * _FAINTEST**2
        rows, columns = norm.shape
        correlations = np.zeros((len(flips), rows, columns))
        np.divide(product[:, :rows, :columns], norm, where=textured, out=correlations)
        places = correlations.reshape(len(flips), -1).argmax(axis=1).tolist()
        for flip, correlation, place in zip(mirrored, correlations, places, strict=True):
            top, left = divmod(place, columns)
            found.append(_Fit(float(correlation[top, left]), size, (top, left), flip))
    return found


def _summed(values: np.ndarray) -> np.ndarray:
    """Sums of all that is above and left."""
    return np.pad(values, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)


def _windows(summed: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sums over windows of a size at all places."""
    height, width = size
    rows = summed[height:] - summed[:-height]
    return rows[:, width:] - rows[:, :-width]


def _fine(image: np.ndarray, pixel: float) -> np.ndarray:
    """What is fine in an image."""
    return gaussian_filter(image, _FINEST * pixel) - gaussian_filter(image, _FINE * pixel)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values of mean 0, as a vector of length 1."""
    values = values - values.mean()
    return values / max(1e-6, float(np.sqrt(np.vdot(values, values))))


def _least_agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Of patches, 1 less the squared difference over the sum of squares, where it is least."""

    def patches(values: np.ndarray) -> np.ndarray:
        rows = np.array_split(values, _PATCHES, axis=0)
        return np.array([p.sum() for row in rows for p in np.array_split(row, _PATCHES, axis=1)])

    energy = patches(one**2 + other**2)
    told = energy > _FAINT * 2 / _PATCHES**2
    agreement = 2 * patches(one * other)[told] / energy[told]
    return float(np.clip(agreement.min(), 0, 1))
