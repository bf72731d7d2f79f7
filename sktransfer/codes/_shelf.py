"""Where in the store the codes of an image stand."""

from __future__ import annotations

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
    """

    spaces: tuple[str, ...]

    @property
    def claim_space(self) -> str:
        """One for each set of layers: a row of one layer does not mean that all are there."""
        return self.spaces[0] if len(self.spaces) == 1 else "claim " + " ".join(self.spaces)

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where one is missing."""
        columns = [store.get_many(space, keys) for space in self.spaces]
        rows = zip(*columns, strict=True)
        return [None if any(part is None for part in row) else row for row in rows]

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
    slices : tuple of slice
        Where in the row each layer asked for stands.
    """

    space: str
    slices: tuple[slice, ...]

    @property
    def claim_space(self) -> str:
        return self.space

    def get(self, store: Store, keys: Sequence[bytes]) -> list[tuple[np.ndarray, ...] | None]:
        """The codes of each image, layer by layer, or None where they are missing."""
        rows = store.get_many(self.space, keys)
        return [None if row is None else self.take(row) for row in rows]

    def take(self, row: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(row[..., part] for part in self.slices)

    def put(self, store: Store, keys: Sequence[bytes], outputs: Sequence[np.ndarray]) -> None:
        """Keep all layers of a batch."""
        store.put_many(self.space, keys, list(np.concatenate(outputs, axis=1)))


Shelf = LayerShelf | PackedShelf
