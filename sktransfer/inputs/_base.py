"""What goes in: items that are opened one at a time, and how each becomes an array.

A network sees arrays. Whatever an input is (images, texts), it is a sequence of items with a digest
of their content, and a preparation that makes an array of each; the rooms behind this one know no
more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..exceptions import ImageSkippedWarning, ItemError, ItemSkippedWarning, TextSkippedWarning

__all__ = ["OR_NAN", "Item", "Items", "Preparation", "Subset", "skipped", "unreadable"]


class Item(Protocol):
    """One item whose content is in memory.

    Attributes
    ----------
    digest : bytes
        16 bytes that tell its content from any other; with the preparation they decide its array.
    n_bytes : int
        Size of what is kept in memory until the array is made.
    label : str
        Its name in messages, such as ``image 3 (photos/a.jpg)``.
    """

    n_bytes: int

    @property
    def digest(self) -> bytes: ...

    @property
    def label(self) -> str: ...

    def error(self, cause: str) -> ItemError:
        """What is wrong with it, with its number in the whole input and its source."""
        ...


class Items(Protocol):
    """A sequence of items; may be opened from several threads at once.

    Attributes
    ----------
    noun : str
        What one is called in messages: "image", "text".
    in_memory : bool
        Whether opening one takes next to no time, so that no thread is worth it.
    """

    @property
    def noun(self) -> str: ...

    @property
    def in_memory(self) -> bool: ...

    def __len__(self) -> int: ...

    def open(self, index: int) -> Item:
        """Read one item.

        Raises
        ------
        ItemError
            If it cannot be read; names its number in the whole input, and its source.
        """
        ...

    def tell(self) -> None:
        """Warn of what was met in the items that were opened so far; of each thing once."""
        ...


class Preparation(Protocol):
    """Makes an item an array.

    Attributes
    ----------
    key : str
        What decides the array of an item of some digest, the same in every process: part of the
        keys of the cache.
    shape : tuple of int
        Of the array of an item; arrays of other shapes go through the network by themselves. -1
        stands for a length that differs from item to item.
    dtype : numpy.dtype
    in_windows : bool
        Whether an item becomes several arrays of `shape`, stacked: windows of a long text. Then
        batches are made of items whose arrays are of one shape.
    counts_all : bool
        Whether every item is to be prepared, also where what becomes of it is known, so that what
        is left out of items is told.
    """

    in_windows: ClassVar[bool]

    @property
    def counts_all(self) -> bool: ...

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, in words for people, as JSON has it."""
        ...

    @property
    def key(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __call__(self, item: Item) -> np.ndarray:
        """The array of an item.

        Raises
        ------
        ItemError
            If it cannot be decoded.
        """
        ...

    def probes(self) -> list[np.ndarray]:
        """Batches of made-up arrays, by which networks are followed and engines compared."""
        ...


@dataclass(frozen=True)
class Subset:
    """Some items of a sequence, in the order of their numbers.

    Attributes
    ----------
    items : Items
    numbers : sequence of int
    tells : bool
        Whether what is met in them is told; else who has the whole sequence does.
    """

    items: Items
    numbers: Sequence[int] | np.ndarray
    tells: bool = True

    @property
    def noun(self) -> str:
        return self.items.noun

    @property
    def in_memory(self) -> bool:
        return self.items.in_memory

    def __len__(self) -> int:
        return len(self.numbers)

    def open(self, index: int) -> Item:
        """Read one of them; errors name its number in the whole input."""
        return self.items.open(int(self.numbers[index]))

    def tell(self) -> None:
        """Warn of what was met in the sequence."""
        if self.tells:
            self.items.tell()


# For `unreadable`, where a row may be missing.
OR_NAN = ', or get a row of NaN with on_error="nan"'


def unreadable(errors: Sequence[ItemError], remedy: str | None = None) -> ItemError:
    """The error to raise where some items cannot be read: the first, and what to do about it.

    Parameters
    ----------
    errors : sequence of ItemError
        At least one; of more their number is told.
    remedy : str or None
        What may be done besides fixing or removing it, with the comma or semicolon before it.
    """
    first, more = errors[0], len(errors) - 1
    also = f", and {more} more cannot be read" if more else ""
    if remedy is None:
        remedy = "; load_image_folder(..., verify=True) skips such files" if first.source else ""
    what = "file" if first.source else first.noun
    return type(first)(
        first.cause, first.index, first.source, f"{also}. Fix or remove the {what}{remedy}"
    )


def skipped(failures: Sequence[ItemError], n_items: int, where: str = "") -> ItemSkippedWarning:
    """What to warn of where some items have rows of NaN."""
    told = "\n".join(f"  {error}" for error in failures[:20])
    more = f"\n  … and {len(failures) - 20} more" if len(failures) > 20 else ""
    noun = failures[0].noun
    kinds: dict[str, Any] = {"image": ImageSkippedWarning, "text": TextSkippedWarning}
    return kinds.get(noun, ItemSkippedWarning)(
        f"{len(failures)} of {n_items} {noun}s{where} could not be read; their rows are NaN:\n"
        f"{told}{more}"
    )
