"""Codes of places: some labelled places of an image, and what maps of several layers say there.

A place is a pixel of what the network sees. Its code is what all maps, enlarged to that size, hold
there, side by side. Maps are never enlarged as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inputs import NO_LABEL

__all__ = ["codes_at", "codes_of_rows", "sample_places"]


Between = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample_places(
    numbers: np.ndarray, per_image: int, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Draw labelled places of each image, of each class that is there at least one.

    Parameters
    ----------
    numbers : ndarray of shape (n, height, width)
        Numbers of the classes of places, as :func:`encode_masks` gives them.
    per_image : int
        So many an image, or all that are labelled where these are fewer.
    rng : RandomState

    Returns
    -------
    list of ndarray of int
        Of each image its places in order, row by row; none where nothing is labelled.
    """
    drawn = []
    for seen in numbers.reshape(len(numbers), -1):
        places = rng.permutation(np.flatnonzero(seen != NO_LABEL))
        _, first = np.unique(seen[places], return_index=True)
        chosen = np.zeros(len(places), bool)
        chosen[first] = True
        chosen[np.flatnonzero(~chosen)[: max(0, per_image - len(first))]] = True
        drawn.append(np.sort(places[chosen]))
    return drawn


def codes_at(
    maps: Sequence[np.ndarray], places: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """Codes of some places of one image.

    Parameters
    ----------
    maps : sequence of ndarray of shape (channels, h, w)
        Of whatever sizes.
    places : ndarray of shape (n_places,), int
        Numbers of places of the grid, row by row.
    grid : tuple of int
        Height and width of what the network sees.

    Returns
    -------
    ndarray of shape (n_places, n_channels of all maps), float32
        As ``torch.nn.functional.interpolate(map, grid, mode="bilinear", align_corners=False)`` has
        it at these places.
    """
    rows, columns = np.divmod(places, grid[1])
    parts = []
    for one in maps:
        top, bottom, down = _between(rows, one.shape[1], grid[0])
        left, right, across = _between(columns, one.shape[2], grid[1])
        upper = _mixed(one[:, top, left], one[:, top, right], across)
        lower = _mixed(one[:, bottom, left], one[:, bottom, right], across)
        parts.append(_mixed(upper, lower, down).T)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def codes_of_rows(
    maps: Sequence[np.ndarray], rows: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """The same of all places in some rows of the grid, in less time."""
    n_channels = [len(one) for one in maps]
    codes = np.empty((len(rows), grid[1], sum(n_channels)), np.float32)
    # Channels last: what is moved are rows of numbers that stand side by side.
    for one, own in zip(maps, np.split(codes, np.cumsum(n_channels)[:-1], axis=2), strict=True):
        top, bottom, down = _between(rows, one.shape[1], grid[0])
        some = _mixed(one[:, top], one[:, bottom], down[:, None])
        some = np.ascontiguousarray(np.moveaxis(some, 0, 2))
        left, right, across = _between(np.arange(grid[1]), one.shape[2], grid[1])
        own[...] = _mixed(some[:, left], some[:, right], across[:, None])
    return codes.reshape(-1, codes.shape[2])


def _between(places: np.ndarray, n: int, of: int) -> Between:
    """Between which of `n` places those of an axis of length `of` lie, and how far along."""
    at = np.maximum((places + 0.5) * (n / of) - 0.5, 0)
    low = np.minimum(at.astype(np.intp), n - 1)
    return low, np.minimum(low + 1, n - 1), (at - low).astype(np.float32)


def _mixed(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> Any:
    return one + (other - one) * share
