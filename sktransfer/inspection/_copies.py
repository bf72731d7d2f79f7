"""The same item more than once: candidates by codes, verified on what the items are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..compute import worker_pool
from ..exceptions import ItemError
from ._same_image import SAME, Thumbnail, compare, thumbnail
from ._same_text import SAME_TEXT, likeness

__all__ = ["Copies", "Likeness", "Pair", "find_copies", "likeness_for"]

# Neighbours that are compared: those as near as copies are, or nearer by a fifth than the tenth
# neighbour of either. Of 480 planted copies of three sets 5 were farther.
_TENTH, _NEAR, _NEARER = 10, 0.9, 0.8
# Shares of the area from which on an image counts as whole.
_WHOLE = 0.97


class Pair(NamedTuple):
    """Two items that are one.

    Attributes
    ----------
    one, other : int
    score : float
        1 for the same content.
    how : str
        In what they differ, in words.
    """

    one: int
    other: int
    score: float
    how: str


class Likeness(ABC):
    """Compares items of one kind by what they are, and knows which of some to keep."""

    same: ClassVar[float]

    def __init__(self, items: Any):
        self.items = items

    @abstractmethod
    def pair(self, one: int, other: int) -> Pair | None:
        """Two items as a pair, if they are one; None where they are not, or one has no content."""

    def size(self, index: int) -> float:
        """Of several that are one the largest is kept, of those as large the first."""
        return 0.0


class _Images(Likeness):
    def __init__(self, items: Any):
        super().__init__(items)
        self._thumbnails: dict[int, Thumbnail | None] = {}

    def pair(self, one: int, other: int) -> Pair | None:
        first, second = self._thumbnail(one), self._thumbnail(other)
        if first is None or second is None:
            return None
        match = compare(first, second)
        if match.score < SAME:
            return None
        words = ["mirrored"] if match.mirrored else []
        if match.share < _WHOLE:
            words.append(f"cropped to {match.share:.0%} of the area")
        elif self.size(one) != self.size(other):
            words.append("of another size")
        return Pair(one, other, match.score, ", ".join(words) or "encoded anew")

    def size(self, index: int) -> float:
        try:
            height, width = self.items.open(index).size()
        except ItemError:
            return 0.0
        return float(height * width)

    def _thumbnail(self, index: int) -> Thumbnail | None:
        if index not in self._thumbnails:
            try:
                pixels = self.items.open(index).pixels()
                self._thumbnails[index] = thumbnail(pixels)
            except ItemError:
                self._thumbnails[index] = None
        return self._thumbnails[index]


class _Texts(Likeness):
    def pair(self, one: int, other: int) -> Pair | None:
        score = likeness(self._text(one), self._text(other))
        how = "the same words" if score == 1 else "worded almost alike"
        return Pair(one, other, score, how) if score >= SAME_TEXT else None

    def _text(self, index: int) -> str:
        raw = self.items.raw(index)
        return raw if isinstance(raw, str) else "\n".join(raw)


def likeness_for(items: Any) -> Likeness:
    """What compares items of this kind."""
    return _Images(items) if items.noun == "image" else _Texts(items)


class Copies(NamedTuple):
    """Which items are one.

    Attributes
    ----------
    owners : ndarray of shape (n,), int
        The same number for items that are one.
    exact, near : list of Pair
        What connects them.
    """

    owners: np.ndarray
    exact: list[Pair]
    near: list[Pair]

    def groups(self) -> Iterator[np.ndarray]:
        """The numbers of items that are one, where there are several."""
        order = np.argsort(self.owners, kind="stable")
        starts = np.flatnonzero(np.diff(self.owners[order])) + 1
        yield from (members for members in np.split(order, starts) if len(members) > 1)


def find_copies(
    likeness: Likeness,
    digests: np.ndarray,
    readable: np.ndarray,
    numbers: np.ndarray,
    neighbours: tuple[np.ndarray, np.ndarray],
) -> Copies:
    """Items of one digest, and neighbours that are verified to be one.

    Parameters
    ----------
    likeness : Likeness
        Of the items.
    digests : ndarray of shape (n,), int
        The same number for the same content.
    readable : ndarray of shape (n,), bool
    numbers : ndarray of shape (m,), int
        One item of each content, which the neighbours are of.
    neighbours : (ndarray, ndarray) of shape (m, k)
        Nearest among these, and their similarities.
    """
    exact = []
    first: dict[int, int] = {}
    for index in np.flatnonzero(readable):
        one = first.setdefault(int(digests[index]), int(index))
        if one != index:
            exact.append(Pair(one, int(index), 1.0, "the same content"))
    candidates = numbers[np.array(_candidates(*neighbours), dtype=np.int64).reshape(-1, 2)]
    pairs = worker_pool().map(likeness.pair, *candidates.T.tolist())
    near = [pair for pair in pairs if pair is not None]
    links = np.array([(pair.one, pair.other) for pair in [*exact, *near]]).reshape(-1, 2)
    n = len(digests)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
    return Copies(connected_components(graph, directed=False)[1], exact, near)


def _candidates(numbers: np.ndarray, similarities: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that may be of one item, each once."""
    n, k = numbers.shape
    if not k:
        return []
    k = min(k, _TENTH)
    top = similarities[:, :k]
    others, tenth = numbers[:, :k], 1 - top[:, -1]
    near = 1 - top < _NEARER * np.minimum(tenth[:, None], tenth[others])
    near |= top >= _NEAR
    if n <= _TENTH + 1:  # too few to tell what is near
        near[:] = True
    rows, columns = np.nonzero(near)
    others = others[rows, columns]
    return sorted({(int(min(a, b)), int(max(a, b))) for a, b in zip(rows, others, strict=True)})
