"""Activations of items: rows of one shape, maps of several layers, or all tokens of texts."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ..compute import FrozenPass, batch_tokens
from ..inputs import Items

__all__ = [
    "PADDING",
    "Batch",
    "EvenRows",
    "MapBatch",
    "MapRows",
    "Rows",
    "TextBatch",
    "TextRows",
    "chunks_of",
    "order_by_length",
    "rows_of",
    "sizes_of",
]


# In the place of a word where a text has ended, see `TextPreparation`.
PADDING = -2
# Items of one shape that go through a tail together to be predicted on a CPU.
_ITEMS = 16
# The same for what is in memory at a time: at a width of 384, activations of 100 MB.
_CHUNK, _CHUNK_OF_TOKENS = 256, 65_536
# The same for large items, such as maps of several layers, and for those that a thread has in hand.
_CHUNK_OF_BYTES, _BYTES = 2**26, 2**23


class Batch(ABC):
    """Activations of some items, where one tensor does not hold them."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items."""

    @abstractmethod
    def __getitem__(self, part: slice | int) -> Self:
        """Some of the items, one after the other."""

    @abstractmethod
    def to(self, device: Any) -> Self:
        """The same on a device."""

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Axes of the activations."""


class Rows(ABC):
    """What a frozen part made of items."""

    @abstractmethod
    def take(self, numbers: np.ndarray) -> Any:
        """Some of them, as a module takes them: a tensor, or a `Batch`."""

    @abstractmethod
    def alike(self, device: torch.device) -> list[np.ndarray]:
        """Numbers of items that are predicted together, whatever else is predicted."""


def rows_of(
    items: Items, prefix: FrozenPass, dtype: Any, *, path: Path | None = None, keep: bool = True
) -> Rows:
    """Compute the frozen part of items.

    Parameters
    ----------
    items : Items
    prefix : FrozenPass
    dtype : dtype
        What activations are held in.
    path : path or None
        A file to hold them; None is memory.
    keep : bool
        Whether the store is asked and filled.
    """
    kind: Any = MapRows if _is_of_maps(prefix) else EvenRows
    if -1 in prefix.shape:
        kind = TextRows
    return kind(items, prefix, dtype, path=path, keep=keep)


def _is_of_maps(prefix: FrozenPass) -> bool:
    """Whether an item becomes several arrays."""
    return prefix.pooling is None and len(prefix.layers) > 1


def sizes_of(items: Items, prefix: FrozenPass) -> np.ndarray | None:
    """Windows and tokens in each of every text, (n, 2); None for items of one shape."""
    if -1 not in prefix.shape:
        return None
    return np.array([one.shape[:2] for one in prefix.at((), None).rows(items)])


def chunks_of(items: Items, prefix: FrozenPass) -> list[np.ndarray]:
    """Numbers of the items whose rows are in memory at a time, to be predicted.

    Texts are sorted by length, so that as many as can be of each are together.
    """
    n, sizes = len(items), sizes_of(items, prefix)
    if sizes is None:
        size = max(1, min(_CHUNK, _CHUNK_OF_BYTES // max(1, _bytes_of(prefix))))
        return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
    order = np.lexsort((sizes[:, 0], sizes[:, 1]))
    chunk = np.cumsum(sizes[order].prod(axis=1)) // _CHUNK_OF_TOKENS
    return np.split(order, np.flatnonzero(np.diff(chunk)) + 1)


def _room(shape: tuple[int, ...], dtype: Any, path: Path | None) -> Any:
    return np.empty(shape, dtype) if path is None else np.memmap(path, dtype, "w+", shape=shape)


def _bytes_of(prefix: FrozenPass) -> int:
    """What an item takes."""
    return math.prod(prefix.shape) * prefix.dtype.itemsize


def _even_batches(n: int, device: torch.device, n_bytes: int) -> list[np.ndarray]:
    """Items of one shape that go through a tail together."""
    size = n
    if device.type == "cpu":
        size = min(_ITEMS, -(-n // 2), _BYTES // max(1, n_bytes))
    size = max(1, size)
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]


class EvenRows(Rows):
    """Rows of one shape, in one array."""

    def __init__(
        self, items: Items, prefix: FrozenPass, dtype: Any, *, path: Path | None, keep: bool
    ):
        room = _room((len(items), *prefix.shape), dtype, path)
        self._rows = prefix.rows(items, room, keep=keep)

    def take(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._rows[numbers]))

    def alike(self, device: torch.device) -> list[np.ndarray]:
        return _even_batches(len(self._rows), device, self._rows[:1].nbytes)


# Maps of several layers, each of one shape.


@dataclass(frozen=True, eq=False)
class MapBatch(Batch):
    """Maps of some items.

    Attributes
    ----------
    maps : tuple of Tensor of shape (n, ...)
        One for each layer.
    """

    maps: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.maps[0])

    def __getitem__(self, part: slice | int) -> MapBatch:
        if not isinstance(part, slice):
            part = slice(part, part + 1)
        return MapBatch(tuple(one[part] for one in self.maps))

    def to(self, device: Any) -> MapBatch:
        return MapBatch(tuple(one.to(device) for one in self.maps))

    @property
    def ndim(self) -> int:
        return max(one.ndim for one in self.maps)


class MapRows(Rows):
    """Maps of several layers, an array of each."""

    def __init__(
        self, items: Items, prefix: FrozenPass, dtype: Any, *, path: Path | None, keep: bool
    ):
        room = [
            _room((len(items), *shape), dtype, path and path.with_suffix(f".{number}"))
            for number, shape in enumerate(prefix.shapes)
        ]
        self._maps = prefix.rows(items, room, keep=keep)

    def take(self, numbers: np.ndarray) -> MapBatch:
        return MapBatch(
            tuple(torch.from_numpy(np.ascontiguousarray(one[numbers])) for one in self._maps)
        )

    def alike(self, device: torch.device) -> list[np.ndarray]:
        n_bytes = sum(one[:1].nbytes for one in self._maps)
        return _even_batches(len(self._maps[0]), device, n_bytes)


# Texts, each of as many windows and tokens as it has.


@dataclass(frozen=True, eq=False)
class TextBatch(Batch):
    """Texts of different lengths, the windows of all side by side and filled up to the longest.

    Attributes
    ----------
    values : Tensor of shape (n_windows, n_tokens, ...)
        Activations, or the tokens themselves.
    words : Tensor of shape (n_windows, n_tokens), int32
        The third place of each token, as `TextPreparation` has it; `PADDING` behind the last.
    texts : Tensor of shape (n_windows,), int64
        Number of the text of each window, rising.
    n : int
        Texts.
    n_words : int
        The largest number of a word, also of texts that were in the batch it is a part of.
    """

    values: torch.Tensor
    words: torch.Tensor
    texts: torch.Tensor
    n: int
    n_words: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, part: slice | int) -> TextBatch:
        """Some of the texts, one after the other, no longer than the longest of them."""
        if not isinstance(part, slice):
            part = slice(part, part + 1)
        start, stop, _ = part.indices(self.n)
        chosen = (self.texts >= start) & (self.texts < stop)
        words = self.words[chosen]
        longest = int((words > PADDING).sum(1).max()) if len(words) else 1
        return TextBatch(
            self.values[chosen, :longest],
            words[:, :longest],
            self.texts[chosen] - start,
            max(0, stop - start),
            self.n_words,
        )

    def to(self, device: Any) -> TextBatch:
        parts = {name: getattr(self, name).to(device) for name in ("values", "words", "texts")}
        return replace(self, **parts)

    @property
    def ndim(self) -> int:
        return self.values.ndim


class TextRows(Rows):
    """Rows of different lengths: an array (n_windows, n_tokens, ...) of each text.

    Attributes
    ----------
    sizes : ndarray of shape (n, 2)
        Windows, and tokens in each.
    """

    def __init__(
        self, items: Items, prefix: FrozenPass, dtype: Any, *, path: Path | None, keep: bool
    ):
        tokens = prefix.at((), None).rows(items)
        self._words = [one[..., 2] for one in tokens]
        self.sizes = np.array([one.shape for one in self._words])
        self._rows: Any = tokens
        if prefix.layers:
            self._rows = _InMemory(len(items), dtype) if path is None else _InFile(path, dtype)
            prefix.rows(items, self._rows, keep=keep)

    def take(self, numbers: np.ndarray) -> TextBatch:
        rows = [self._rows[number] for number in numbers]
        counts = [len(one) for one in rows]
        longest = max((one.shape[1] for one in rows), default=1)
        words = np.full((sum(counts), longest), PADDING, np.int32)
        values = np.zeros((*words.shape, *rows[0].shape[2:]), rows[0].dtype)
        at = 0
        for number, row in zip(numbers, rows, strict=True):
            part = (slice(at, at + len(row)), slice(row.shape[1]))
            values[part], words[part] = row, self._words[number]
            at += len(row)
        texts = np.repeat(np.arange(len(rows)), counts)
        return TextBatch(
            torch.from_numpy(values),
            torch.from_numpy(words),
            torch.from_numpy(texts),
            len(rows),
            int(words.max(initial=0)),
        )

    def alike(self, device: torch.device) -> list[np.ndarray]:
        """Texts of equal shape: nothing is filled up, so that none hangs on its neighbours."""
        most = batch_tokens(device)
        found = []
        for shape in np.unique(self.sizes, axis=0):
            numbers = np.flatnonzero((self.sizes == shape).all(axis=1))
            size = max(1, most // int(shape.prod()))
            found += [numbers[i : i + size] for i in range(0, len(numbers), size)]
        return found


class _InMemory:
    """Arrays as they come; those that the store holds in memory are not copied."""

    def __init__(self, n: int, dtype: Any):
        self._rows: list[Any] = [None] * n
        self._dtype = dtype

    def __setitem__(self, row: int, value: Any) -> None:
        self._rows[row] = np.asarray(value, self._dtype)

    def __getitem__(self, row: int) -> np.ndarray:
        found: np.ndarray = self._rows[row]
        return found


class _InFile:
    """Arrays one behind the other in a file."""

    def __init__(self, path: Path, dtype: Any):
        self._path, self._dtype = path, np.dtype(dtype)
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._end, self._lock = 0, threading.Lock()

    def __setitem__(self, row: int, value: Any) -> None:
        array = np.ascontiguousarray(value, self._dtype)
        with self._lock, open(self._path, "ab") as file:
            file.write(array.data)
            self._places[row] = self._end, array.shape
            self._end += array.nbytes

    def __getitem__(self, row: int) -> np.ndarray:
        start, shape = self._places[row]
        size = int(np.prod(shape)) * self._dtype.itemsize
        with open(self._path, "rb") as file:
            file.seek(start)
            return np.frombuffer(file.read(size), self._dtype).reshape(shape)


def order_by_length(order: np.ndarray, sizes: Sequence[Any] | np.ndarray, pool: int) -> np.ndarray:
    """Put items of about one length side by side, within pools of so many."""
    lengths = np.asarray(sizes)
    parts = [order[i : i + pool] for i in range(0, len(order), pool)]
    # By tokens first, which are filled up; windows of long texts are as long as can be.
    return np.concatenate(
        [part[np.lexsort((lengths[part, 0], lengths[part, 1]))] for part in parts]
    )
