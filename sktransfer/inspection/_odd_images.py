"""Images that are dark, bright, blank, blurred, of an odd size, or grey among coloured ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._issues import Issue

__all__ = ["odd_images"]

# The brightest hundredth of the pixels below this, or the darkest above that, from 0 to 1. Of 360
# images of three sets the dimmest had 0.46; of those, one of a white piece on white was bright.
_DARK, _BRIGHT = 0.35, 0.7
# Standard deviation of the luma, from 0 to 0.5.
_BLANK = 0.01
# Logarithm (base 10) of the sharpness over the variance of the luma. Below this any image is
# blurred; and so is one that is as many deviations below the median of its set.
_BLURRED, _DEVIATIONS, _LEAST = -2.6, 2.75, 0.25
# Times the median area, or its reciprocal; shorter side over longer.
_SIZE, _ASPECT = 10.0, 0.35
# Colourfulness below which an image is grey, and the share of such that is no longer odd.
_GREY, _FEW_GREY = 2.0, 0.1


def odd_images(facts: dict[str, np.ndarray]) -> Iterator[Issue]:
    """Issues of images that stand out by what can be measured of them.

    Parameters
    ----------
    facts : dict of str to ndarray
        From :func:`image_facts`; NaN where an image cannot be read.
    """
    yield from _light(facts)
    yield from _sharpness(facts)
    yield from _sizes(facts)
    yield from _colour(facts)


def _told(name: str, scores: np.ndarray, action: Callable[[int], str]) -> Iterator[Issue]:
    """Issues of those whose score is above 0."""
    for index in np.flatnonzero(scores > 0):
        score = float(min(1.0, scores[index]))
        yield Issue(int(index), name, score, None, f"Look at it: {action(int(index))}.")


def _light(facts: dict[str, np.ndarray]) -> Iterator[Issue]:
    brightest, darkest, contrast = (facts[n] for n in ("brightest", "darkest", "contrast"))
    dark = 1 - brightest / _DARK
    yield from _told("dark", dark, lambda i: f"its brightest parts reach {brightest[i]:.0%}")
    bright = np.where(contrast < _BLANK, 0, (darkest - _BRIGHT) / (1 - _BRIGHT))
    yield from _told("bright", bright, lambda i: f"its darkest parts are at {darkest[i]:.0%}")
    blank = np.where(dark > 0, 0, 1 - contrast / _BLANK)
    yield from _told("blank", blank, lambda i: "it has hardly more than one colour")


def _sharpness(facts: dict[str, np.ndarray]) -> Iterator[Issue]:
    # Over the variance, since what has little contrast is not blurred for that.
    variance = (255 * facts["contrast"]) ** 2
    seen = np.flatnonzero(facts["contrast"] >= _BLANK)
    if not len(seen):
        return
    logs = np.log10(np.maximum(facts["sharpness"][seen], 1e-3) / variance[seen])
    usual = np.median(logs)
    spread = max(_LEAST, 1.4826 * float(np.median(np.abs(logs - usual))))
    scores = np.zeros(len(variance))
    scores[seen] = 1 - 10 ** (logs - max(_BLURRED, usual - _DEVIATIONS * spread))
    yield from _told("blurred", scores, lambda i: "it is blurred, compared with most others")


def _sizes(facts: dict[str, np.ndarray]) -> Iterator[Issue]:
    height, width = facts["height"], facts["width"]
    if np.isnan(height).all():
        return
    area = height * width
    times = np.maximum(area / np.nanmedian(area), np.nanmedian(area) / area)
    usual = f"{np.nanmedian(width):.0f} x {np.nanmedian(height):.0f}"

    def size(index: int) -> str:
        return f"it has {width[index]:.0f} x {height[index]:.0f} pixels, where {usual} is usual"

    yield from _told("odd size", np.where(times > _SIZE, 1 - 1 / times, 0), size)
    aspect = np.minimum(height / width, width / height)
    odd = (aspect < _ASPECT) & (np.nanmedian(aspect) > 1.5 * _ASPECT)
    yield from _told("odd aspect ratio", np.where(odd, 1 - aspect, 0), size)


def _colour(facts: dict[str, np.ndarray]) -> Iterator[Issue]:
    colourfulness: Any = facts["colourfulness"]
    grey = colourfulness < _GREY
    if grey.sum() > _FEW_GREY * np.isfinite(colourfulness).sum():
        return
    scores = np.where(grey, 1 - colourfulness / _GREY, 0)
    yield from _told("greyscale", scores, lambda i: "it is grey, where most are in colour")
