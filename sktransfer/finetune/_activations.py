"""What the tail learns from: views of every item, computed once and drawn in turn."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..compute import FrozenPass, worker_pool
from ..inputs import Subset
from ._augment import Augment, Augmented, MovedTogether, Targets
from ._rows import Rows, order_by_length, rows_of

__all__ = ["BatchIterator", "Examples", "Storage", "Views", "choose_storage", "room_for"]


# Batches among which texts are sorted by length.
_POOL = 50
# Batches that are read from disk while others are learnt from.
_AHEAD = 3


class Views:
    """Activations of items, in one view or several.

    Parameters
    ----------
    items : Items
    prefix : FrozenPass
    augment : Augment or None
        None is one view, the item as it is.
    n_views : int
        How many; epoch e draws view e modulo this.
    where : {"memory", "disk", "nowhere"}
        Where they are kept for the time of a fit; "nowhere" computes them for each batch.
    dtype : str
        "float16" takes half the room; what is not computed, such as pixels, stays as it is.
    sizes : ndarray of shape (n, 2) or None
        Windows and tokens of texts.
    moving : Targets or None
        What moves with the items.
    """

    def __init__(
        self,
        items: Any,
        prefix: FrozenPass,
        augment: Augment | None,
        n_views: int,
        *,
        where: str,
        dtype: str,
        sizes: np.ndarray | None = None,
        moving: Targets | None = None,
    ):
        self._items, self._prefix, self._augment = items, prefix, augment
        self._moving = moving
        self.n_views, self._where, self.sizes = n_views, where, sizes
        self._dtype = np.dtype(dtype) if prefix.layers else prefix.dtype
        self._kept: dict[int, Rows] = {}
        self._kept_targets: dict[int, np.ndarray] = {}
        self._folder = tempfile.TemporaryDirectory() if where == "disk" else None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def noun(self) -> str:
        """What one is called."""
        return self._items.noun

    @property
    def on_disk(self) -> bool:
        """Whether it takes time to read what is kept."""
        return self._where == "disk"

    def batch(self, view: int, numbers: np.ndarray) -> Any:
        """Activations of some items in one view, as a module takes them."""
        view %= self.n_views
        if self._where == "nowhere":
            items = Subset(self._of(view), numbers)
            rows = rows_of(items, self._prefix, self._dtype, keep=False)
            return rows.take(np.arange(len(numbers)))
        if view not in self._kept:
            # Views of a transform that cannot be told from others are for this fit alone.
            keep = view == 0 or self._augment is None or self._augment.key is not None
            path = self._path(f"view-{view}.bin")
            rows = rows_of(self._of(view), self._prefix, self._dtype, path=path, keep=keep)
            self._kept[view] = rows
        return self._kept[view].take(numbers)

    def targets(self, view: int, numbers: np.ndarray) -> np.ndarray | None:
        """What is said of some items in one view; None where it is the same in all."""
        view %= self.n_views
        if self._moving is None or self._augment is None or view == 0:
            return None
        moved, to = self._of(view), self._prefix.preparation
        if self._where == "nowhere":
            return np.stack([*worker_pool().map(lambda i: moved.target(int(i), to), numbers)])
        if view not in self._kept_targets:
            first = moved.target(0, to)
            path, shape = self._path(f"targets-{view}.bin"), (len(self), *first.shape)
            room: Any = (
                np.empty(shape, first.dtype)
                if path is None
                else np.memmap(path, first.dtype, "w+", shape=shape)
            )
            every = worker_pool().map(lambda i: moved.target(i, to), range(len(self)))
            for number, one in enumerate(every):
                room[number] = one
            self._kept_targets[view] = room
        return self._kept_targets[view][numbers]

    def _of(self, view: int) -> Any:
        if self._augment is None:
            return self._items
        if self._moving is None:
            return Augmented(self._items, self._augment, view)
        return MovedTogether(self._items, self._augment, view, self._moving)  # type: ignore[arg-type]

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else Path(self._folder.name) / name

    def close(self) -> None:
        """Give the room back."""
        self._kept.clear()
        self._kept_targets.clear()
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

    @property
    def noun(self) -> str:
        """What one is called."""
        return self.views.noun

    def __getitem__(self, number: int) -> Any:
        x, (target, weight) = self.batch(np.array([number]))
        return x[0], (target[0], weight[0])

    def batch(self, numbers: np.ndarray) -> Any:
        """Some examples: activations, and targets with weights."""
        x = self.views.batch(self.epoch, numbers)
        moved = self.views.targets(self.epoch, numbers)
        target = self.target[numbers] if moved is None else torch.from_numpy(moved)
        return x, (target, self.weight[numbers])


class BatchIterator:
    """Batches cut from whole arrays: no workers, no collating of single rows.

    Texts are in batches of about one length, so that little is filled up: those of 50 batches are
    sorted by length, and the batches come in random order.

    Parameters
    ----------
    dataset : Examples
    batch_size : int
    generator : torch.Generator or None
        Draws the order of each epoch; None keeps it.
    joins_single : bool
        Whether a last batch of one item joins the one before: it has no statistics of its own.
    """

    def __init__(
        self,
        dataset: Examples,
        batch_size: int = 32,
        generator: torch.Generator | None = None,
        joins_single: bool = False,
    ):
        self.dataset, self.batch_size, self.generator = dataset, batch_size, generator
        self.joins_single = joins_single

    def __len__(self) -> int:
        return len(self._bounds()) - 1

    def _bounds(self) -> list[int]:
        n = len(self.dataset)
        starts = list(range(0, n, self.batch_size))
        if self.joins_single and len(starts) > 1 and starts[-1] == n - 1 and self.batch_size > 1:
            starts.pop()
        return [*starts, n]

    def __iter__(self) -> Iterator[Any]:
        n, sizes = len(self.dataset), self.dataset.views.sizes
        if self.generator is None:
            parts = [np.arange(start, stop) for start, stop in pairwise(self._bounds())]
        else:
            order = torch.randperm(n, generator=self.generator).numpy()
            if sizes is not None:
                order = order_by_length(order, sizes, _POOL * self.batch_size)
            parts = [order[start:stop] for start, stop in pairwise(self._bounds())]
            if sizes is not None:
                drawn = torch.randperm(len(parts), generator=self.generator)
                parts = [parts[number] for number in drawn]
        if self.dataset.views.on_disk and len(parts) > 1:
            yield from self._ahead(parts)
            return
        for part in parts:
            yield self.dataset.batch(part)

    def _ahead(self, parts: list[np.ndarray]) -> Iterator[Any]:
        """Batches from disk, some of which are read while those before are learnt from."""
        # The first here, not in the thread: of a new view it computes the activations.
        yield self.dataset.batch(parts[0])
        reader = ThreadPoolExecutor(1, "sktransfer-reader")
        try:
            waiting = deque(reader.submit(self.dataset.batch, part) for part in parts[1:][:_AHEAD])
            for part in [*parts[1 + _AHEAD :], *[None] * len(waiting)]:
                batch = waiting.popleft().result()
                if part is not None:
                    waiting.append(reader.submit(self.dataset.batch, part))
                yield batch
        finally:  # also where nobody wants the rest
            reader.shutdown(cancel_futures=True)


# How many views are kept, and where.


_MOST_VIEWS = 4
# Shares of free memory and free disk that one fit may take.
_MEMORY, _DISK = 0.25, 0.25


@dataclass(frozen=True)
class Storage:
    """What was decided.

    Attributes
    ----------
    n_views : int
    where : {"memory", "disk", "nowhere"}
    n_bytes : int
        Room that the views take together.
    """

    n_views: int
    where: str
    n_bytes: int


def choose_storage(
    n_bytes: int,
    *,
    views: int | None,
    augmented: bool,
    from_pixels: bool,
    epochs: int,
    asked: object,
) -> Storage:
    """Decide by what one view takes.

    Parameters
    ----------
    n_bytes : int
        Of one view of all items.
    views : int or None
        `augment_views`; None is as many as epochs, at most 4, and as there is room for.
    augmented : bool
        Without augmentation there is one view.
    from_pixels : bool
        Whether nothing is frozen; then views cost no pass, and each epoch has its own.
    epochs : int
    asked : {"auto", "memory", "disk", False}
        `cache_activations`.
    """
    wanted = 1
    if augmented:
        wanted = views or (max(1, epochs) if from_pixels else min(_MOST_VIEWS, max(1, epochs)))
    fresh = augmented and from_pixels and views is None
    if asked is False or (fresh and asked == "auto"):
        everyone = max(1, epochs) if augmented and views is None else wanted
        return Storage(everyone, "nowhere", 0)
    memory, disk = _MEMORY * free_memory(), _DISK * shutil.disk_usage(tempfile.gettempdir()).free
    if asked in ("memory", "disk"):
        room = memory if asked == "memory" else disk
        if views is None and augmented:
            wanted = max(1, min(wanted, int(room // max(n_bytes, 1))))
        return Storage(wanted, str(asked), wanted * n_bytes)
    for where, room in (("memory", memory), ("disk", disk)):
        if views is None and augmented:
            fits = min(wanted, int(room // max(n_bytes, 1)))
            if fits >= min(2, wanted):
                return Storage(fits, where, fits * n_bytes)
        elif wanted * n_bytes <= room:
            return Storage(wanted, where, wanted * n_bytes)
    return Storage(wanted, "nowhere", 0)


@contextmanager
def room_for(n_bytes: int) -> Iterator[Path | None]:
    """A file for so many bytes that is deleted in the end; None where memory has room for them."""
    if n_bytes <= _MEMORY * free_memory():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "maps.bin"


def free_memory() -> int:
    """Bytes of memory that are free; 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30
