"""Where in the store the codes of an image stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..store import Store

__all__ = ["LayerShelf", "PackedShelf", "Shelf"]


@dataclass(frozen=True)
class LayerShelf:
    """One row for each layer: what is asked for is kept, and shared layer by layer.

    Attributes
    ----------
    spaces : tuple of str
        Address of each layer that is computed, which is each one asked for.
    shapes : tuple of tuple of int
        Of the row of each.
    """

    spaces: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where one is missing."""
        columns = [
            _believable(store, space, keys, shape, (...,))
            for space, shape in zip(self.spaces, self.shapes, strict=True)
        ]
        return [
            None if any(parts is None for parts in row) else sum(row, ())
            for row in zip(*columns, strict=True)
        ]

    def put(self, store: Store, keys: Sequence[bytes], outputs: Sequence[np.ndarray]) -> None:
        """Keep the codes of a batch."""
        for space, rows in zip(self.spaces, outputs, strict=True):
            store.put_many(space, keys, list(rows))


@dataclass(frozen=True)
class PackedShelf:
    """One row for all layers of a network: what a search over layers will ask for.

    Attributes
    ----------
    space : str
    width : int
        Of the row.
    slices : tuple of slice
        Where in the row each layer asked for stands.
    """

    space: str
    width: int
    slices: tuple[slice, ...]

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where they are missing."""
        return _believable(store, self.space, keys, (self.width,), self.slices)

    def put(self, store: Store, keys: Sequence[bytes], outputs: Sequence[np.ndarray]) -> None:
        """Keep all layers of a batch."""
        store.put_many(self.space, keys, list(np.concatenate(outputs, axis=1)))


Shelf = LayerShelf | PackedShelf


def _believable(
    store: Store, space: str, keys: Sequence[bytes], shape: tuple[int, ...], parts: Sequence
) -> list[tuple[np.ndarray, ...] | None]:
    """Parts of the rows that are what an engine makes; what is not is dropped from the store.

    A store may be a folder that others write to: a row that is sound need not be a code.
    """
    found: list[tuple[np.ndarray, ...] | None] = []
    wrong = []
    for key, row in zip(keys, store.get_many(space, keys), strict=True):
        taken = None
        if row is not None:
            if row.dtype == np.float32 and row.shape == shape:
                taken = tuple(row[part] for part in parts)
                taken = taken if all(map(_is_finite, taken)) else None
            if taken is None:
                wrong.append(key)
        found.append(taken)
    if wrong:
        store.discard(space, wrong)
    return found


def _is_finite(part: np.ndarray) -> bool:
    flat = part.reshape(-1)
    # A sum of squares is a quarter of the work, and finite only if all numbers are.
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())
