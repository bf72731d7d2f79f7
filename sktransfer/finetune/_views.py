"""What the tail learns from: views of every photograph, computed once and drawn in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ._augment import Augment, Augmented
from ._prefix import Opens, Prefix, Some

__all__ = ["BatchIterator", "Examples", "Views"]


class Views:
    """Activations of photographs, one array for each view.

    Parameters
    ----------
    images : sequence of images
    prefix : Prefix
    augment : Augment or None
        None is one view, the photograph as it is.
    n_views : int
        How many; epoch e draws view e modulo this.
    where : {"memory", "disk", "nowhere"}
        Where they are kept for the time of a fit; "nowhere" computes them for each batch.
    dtype : str
        "float16" takes half the room; pixels are bytes always.
    """

    def __init__(
        self,
        images: Opens,
        prefix: Prefix,
        augment: Augment | None,
        n_views: int,
        *,
        where: str,
        dtype: str,
    ):
        self._images, self._prefix, self._augment = images, prefix, augment
        self.n_views, self._where = n_views, where
        self._dtype = prefix.dtype if prefix.dtype == np.uint8 else np.dtype(dtype)
        self._kept: dict[int, np.ndarray] = {}
        self._folder = tempfile.TemporaryDirectory() if where == "disk" else None

    def __len__(self) -> int:
        return len(self._images)

    def rows(self, view: int, numbers: np.ndarray) -> np.ndarray:
        """Activations of some photographs in one view."""
        view %= self.n_views
        if self._where == "nowhere":
            images = Some(self._of(view), numbers)
            return self._prefix.compute(images, keep=False).astype(self._dtype, copy=False)
        if view not in self._kept:
            # Views of a transform that cannot be told from others are for this fit alone.
            keep = view == 0 or self._augment is None or self._augment.key is not None
            room = self._room(view)
            self._kept[view] = self._prefix.compute(self._of(view), room, keep=keep)
        return self._kept[view][numbers]

    def _of(self, view: int) -> Opens:
        if self._augment is None:
            return self._images
        return Augmented(self._images, self._augment, view)

    def _room(self, view: int) -> Any:
        shape = (len(self._images), *self._prefix.shape)
        if self._folder is None:
            return np.empty(shape, self._dtype)
        path = Path(self._folder.name) / f"view-{view}.bin"
        return np.memmap(path, self._dtype, "w+", shape=shape)

    def close(self) -> None:
        """Give the room back."""
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()


class Examples(Dataset):
    """Views with their targets and weights; the view changes with the epoch.

    Parameters
    ----------
    views : Views
    target : ndarray
    weight : ndarray or None
    """

    def __init__(self, views: Views, target: np.ndarray, weight: np.ndarray | None):
        self.views, self.target = views, torch.from_numpy(target)
        weight = np.ones(len(target)) if weight is None else weight
        self.weight = torch.from_numpy(weight.astype(np.float32))
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: int) -> Any:
        x, (target, weight) = self.batch(np.array([number]))
        return x[0], (target[0], weight[0])

    def batch(self, numbers: np.ndarray) -> Any:
        """Some examples: activations, and targets with weights."""
        x = torch.from_numpy(np.ascontiguousarray(self.views.rows(self.epoch, numbers)))
        return x, (self.target[numbers], self.weight[numbers])


class BatchIterator:
    """Batches cut from whole arrays: no workers, no collating of single rows.

    Parameters
    ----------
    dataset : Examples
    batch_size : int
    generator : torch.Generator or None
        Draws the order, anew each epoch; None keeps it.
    """

    def __init__(
        self, dataset: Examples, batch_size: int = 32, generator: torch.Generator | None = None
    ):
        self.dataset, self.batch_size, self.generator = dataset, batch_size, generator

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        if self.generator is None:
            order = np.arange(n)
        else:
            order = torch.randperm(n, generator=self.generator).numpy()
        for start in range(0, n, self.batch_size):
            yield self.dataset.batch(order[start : start + self.batch_size])
