"""Activations of items: rows of one shape, or of as many tokens as each text has."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compute import FrozenPass, batch_tokens
from ..inputs import Items

__all__ = [
    "PADDING",
    "EvenRows",
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


class Rows(ABC):
    """What a frozen part made of items."""

    @abstractmethod
    def take(self, numbers: np.ndarray) -> Any:
        """A batch of some of them, as a module takes it: a tensor, or a `TextBatch`."""

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
    kind = TextRows if -1 in prefix.shape else EvenRows
    return kind(items, prefix, dtype, path=path, keep=keep)


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
        return [np.arange(i, min(i + _CHUNK, n)) for i in range(0, n, _CHUNK)]
    order = np.lexsort((sizes[:, 0], sizes[:, 1]))
    chunk = np.cumsum(sizes[order].prod(axis=1)) // _CHUNK_OF_TOKENS
    return np.split(order, np.flatnonzero(np.diff(chunk)) + 1)


class EvenRows(Rows):
    """Rows of one shape, in one array."""

    def __init__(
        self, items: Items, prefix: FrozenPass, dtype: Any, *, path: Path | None, keep: bool
    ):
        shape = (len(items), *prefix.shape)
        room: Any = np.empty(shape, dtype)
        if path is not None:
            room = np.memmap(path, dtype, "w+", shape=shape)
        self._rows = prefix.rows(items, room, keep=keep)

    def take(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._rows[numbers]))

    def alike(self, device: torch.device) -> list[np.ndarray]:
        n = len(self._rows)
        size = max(1, min(_ITEMS, -(-n // 2))) if device.type == "cpu" else n
        return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]


# Texts, each of as many windows and tokens as it has.


@dataclass(frozen=True, eq=False)
class TextBatch:
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
        """The same on a device."""
        parts = {name: getattr(self, name).to(device) for name in ("values", "words", "texts")}
        return replace(self, **parts)

    @property
    def ndim(self) -> int:
        """Axes of the activations."""
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
