"""From images to rows: look up what is known, compute what is not, keep it at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..engines import worker_pool
from ..exceptions import ImageError, StoreWarning
from ..images import Images, OpenedImage, tell
from ..store import MemoryStore, Store
from ._batches import BatchRunner, Waiting
from ._plan import Plan

__all__ = ["compute_codes"]

# Opened images hold the bytes of their files, so a chunk ends at whichever comes first.
_CHUNK_IMAGES, _CHUNK_BYTES = 512, 64 * 2**20


def compute_codes(
    images: Images,
    plan: Plan,
    store: Store | None,
    out: np.ndarray,
    *,
    batch_size: int | None = None,
    n_jobs: int | None = None,
    stop_at_error: bool = True,
    progress: Any = None,
    known: Callable[[int, bytes], bool] | None = None,
    computed: Callable[[int], None] | None = None,
    kept: str = "the codes computed so far are kept where there is a cache",
) -> list[ImageError]:
    """Fill rows with the codes of images.

    Parameters
    ----------
    images : Images
    plan : Plan
    store : Store or None
        Asked first; every batch is kept in it as soon as it is done.
    out : ndarray of shape (n_images, ...), float32
        Filled, or anything with rows that can be set; rows of images that cannot be read
        become NaN.
    batch_size, n_jobs : int or None
        Images a batch, and batches at a time; None is the engine's own and all cores.
    stop_at_error : bool
        Raise the first error, after what is under way is done and kept.
    progress : tqdm or None
        Moved on by one for each image.
    known : callable or None
        Tells by the number and digest of an image that its row need not be filled.
    computed : callable or None
        Told how many images have gone through the network, batch by batch.
    kept : str
        What an error says has become of the codes computed so far.

    Returns
    -------
    list of ImageError
        Images that could not be read, in order.
    """
    tell(images)
    store = _shareable(store, plan)
    pool = worker_pool()
    runner = BatchRunner(
        plan, store, pool, batch_size=batch_size, n_jobs=n_jobs, computed=computed
    )
    failures: list[ImageError] = []
    for chunk in _chunks(images, pool):
        opened = [item for item in chunk if isinstance(item[1], OpenedImage)]
        failed = [item[1] for item in chunk if isinstance(item[1], ImageError)]
        if known is not None:
            wanted = [item for item in opened if not known(item[0], item[1].digest)]
            if progress is not None:
                progress.update(len(opened) - len(wanted))
            opened = wanted
        failed += runner.fill(opened, out, progress)
        for error in failed:
            out[error.index] = np.nan
        if progress is not None:
            progress.update(len(failed))
        failures += sorted(failed, key=lambda error: error.index or 0)
        if failures and stop_at_error:
            first = failures[0]
            what = "file" if first.source else "image"
            cause = (
                f"{first.cause}. Fix or remove the {what}, or have a row of NaN with "
                f'on_error="nan"; {kept}'
            )
            raise ImageError(cause, first.index, first.source) from first
    tell(images)
    return failures


def _shareable(store: Store | None, plan: Plan) -> Store | None:
    """The store, or None where it would show other processes what they cannot identify."""
    if store is None or not plan.private or isinstance(store, MemoryStore):
        return store
    warnings.warn(
        "The network cannot be identified: it has hooks, or holds objects or functions that cannot "
        "be compared. Its codes are right, but they are not kept on disk. Put what the hooks "
        "compute into forward(), or set cache='memory'.",
        StoreWarning,
        stacklevel=2,
    )
    return None


def _chunks(images: Images, pool: ThreadPoolExecutor) -> Iterator[Sequence[Waiting | Any]]:
    """Open images a few at a time, so that memory does not grow with their number."""
    chunk: list[Any] = []
    size, step = 0, 32
    for start in range(0, len(images), step):
        numbers = range(start, min(start + step, len(images)))
        for item in pool.map(lambda i: (i, _open(images, i)), numbers):
            chunk.append(item)
            size += getattr(item[1], "n_bytes", 0)
        if len(chunk) >= _CHUNK_IMAGES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _open(images: Images, index: int) -> OpenedImage | ImageError:
    try:
        return images.open(index)
    except ImageError as error:
        # Without its traceback, which would keep alive what the frames hold.
        return ImageError(error.cause, error.index, error.source)
