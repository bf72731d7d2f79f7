"""What an answer loses when a part of an item is taken away: a patch of an image, a word."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ..inputs import Images
from ._answers import Answers

__all__ = ["leave_words_out", "occlude_images", "without_cache", "words_of"]

# Copies of an image that are in memory at a time.
_AT_A_TIME = 64


def without_cache(estimator: Any) -> Any:
    """The same fitted estimator, which keeps nothing of changed items."""
    twin = copy.copy(estimator)
    if isinstance(twin, Pipeline):
        twin.steps = [(name, without_cache(step)) for name, step in twin.steps]
    elif hasattr(twin, "best_estimator_"):
        twin.best_estimator_ = without_cache(twin.best_estimator_)
    elif hasattr(twin, "cache") and hasattr(twin, "backbone_"):
        twin.cache = None
    return twin


# Images.


def occlude_images(
    answers: Callable[[Any], Answers],
    X: Any,
    images: Images,
    columns: np.ndarray,
    scores: np.ndarray,
    *,
    patch: float,
    overlap: float,
) -> list[np.ndarray]:
    """What the score of each image loses where it is covered, (height, width) each.

    A square is moved over the image; a pixel has the mean loss of all squares that cover it.

    Parameters
    ----------
    answers : callable
        Gives answers of an input such as `X`.
    X : object
        As the user gave it.
    images : Images
        The same, as pixels.
    columns, scores : ndarray of shape (n_images,)
        The column of the answers that counts, and what it is of the whole image.
    patch : float
        Side of the square as a share of the longer side of the image.
    overlap : float
        Share of the square by which neighbours overlap.

    References
    ----------
    M. D. Zeiler, R. Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
    Section 4.2.
    """
    found = []
    for index in range(len(images)):
        pixels = images.open(index).pixels()
        size = pixels.shape[:2]
        boxes = list(_boxes(size, patch, overlap))
        lost, times = np.zeros(size), np.zeros(size)
        for start in range(0, len(boxes), _AT_A_TIME):
            some = boxes[start : start + _AT_A_TIME]
            copies = _covered(X, index, pixels, some, images.image_shape)
            covered = answers(copies).scores[:, columns[index]]
            for (rows, places), score in zip(some, covered, strict=True):
                lost[rows, places] += scores[index] - score
                times[rows, places] += 1
        found.append(lost / times)
    return found


def _boxes(
    size: tuple[int, int], patch: float, overlap: float
) -> Iterator[tuple[slice, slice]]:
    side = max(1, round(patch * max(size)))
    step = max(1, round(side * (1 - overlap)))
    starts = [
        [*range(0, max(1, length - side), step), max(0, length - side)] for length in size
    ]
    for top in dict.fromkeys(starts[0]):
        for left in dict.fromkeys(starts[1]):
            yield slice(top, top + side), slice(left, left + side)


def _covered(
    X: Any,
    index: int,
    pixels: np.ndarray,
    boxes: list[tuple[slice, slice]],
    image_shape: tuple[int, ...] | None,
) -> Any:
    """Copies of an image with one box each in its mean colour, as the input has images."""
    axis = _axis_of_colours(X, pixels.shape[:2], image_shape)
    if axis is None:
        view = copies = np.repeat(pixels[None], len(boxes), axis=0)
    else:
        copies = np.repeat(X[index][None], len(boxes), axis=0)
        shape = X.shape[1:] if image_shape is None else image_shape
        view = copies.reshape(len(boxes), *shape, *[1] * (len(shape) == 2))
        view = np.moveaxis(view, axis, -1)
    colour = view[0].mean((0, 1))
    if copies.dtype.kind in "ui":
        colour = np.rint(colour)
    for number, (rows, places) in enumerate(boxes):
        view[number, rows, places] = colour
    return copies if axis is not None else as_given(X, [*copies])


def _axis_of_colours(
    X: Any, size: tuple[int, int], image_shape: tuple[int, ...] | None
) -> int | None:
    """Where a batch of the input has its colours, -1 or 1; None if it is no array of numbers."""
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "buif":
        return None
    shape = X.shape[1:] if image_shape is None else image_shape
    return -1 if tuple(shape[:2]) == size else 1


def as_given(X: Any, items: list[Any]) -> Any:
    """Other items in what a user gave items in: one column of a data frame, or a list."""
    if not (hasattr(X, "columns") and hasattr(X, "iloc")):
        return items
    column = np.empty(len(items), object)
    for number, one in enumerate(items):
        column[number] = one
    return type(X)({X.columns[0]: column})


# Texts.


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end."""
    return [one.span() for one in re.finditer(r"\S+", text)]


def leave_words_out(
    answers: Callable[[Any], Answers],
    X: Any,
    text: str,
    spans: list[tuple[int, int]],
    column: int,
    score: float,
) -> np.ndarray:
    """What the score of a text loses without each of its words, (n_words,).

    References
    ----------
    J. Li, W. Monroe, D. Jurafsky (2016). Understanding neural networks through representation
    erasure. arXiv:1612.08220. Section 3.
    """
    # Where nothing is left, a mark that is no word: not every estimator takes empty texts.
    shorter = [(text[:start] + text[stop:].lstrip()).strip() or "." for start, stop in spans]
    return score - answers(as_given(X, shorter)).scores[:, column]
