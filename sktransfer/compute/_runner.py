"""From images to rows: look up what is known, compute what is not, keep it at once."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..exceptions import EngineError, ImageError, StoreWarning
from ..inputs import Images, OpenedImage, frame, tell
from ..store import MemoryStore, Store
from ._plan import Pass, Plan
from ._threads import available_cores, worker_pool

__all__ = ["BatchRunner", "Waiting", "compute_codes"]


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


# One chunk of images: what the store knows, what this process computes, what others do.


Waiting = tuple[int, OpenedImage]
Outcome = tuple[list[bytes], list[tuple[np.ndarray, ...]], list[ImageError]]
# How long to wait for another process before looking whether it is still alive, and how long for
# one that is alive and gets nothing done.
_PATIENCE, _LONGEST = 5.0, 30.0


class BatchRunner:
    """Computes the codes of chunks of images.

    Parameters
    ----------
    plan : Plan
    store : Store or None
    pool : ThreadPoolExecutor
    batch_size, n_jobs : int or None
    computed : callable or None
        Told how many images have gone through the network, batch by batch.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store | None,
        pool: ThreadPoolExecutor,
        *,
        batch_size: int | None,
        n_jobs: int | None,
        computed: Callable[[int], None] | None = None,
    ):
        self.plan, self.store, self.pool, self.computed = plan, store, pool, computed
        cores = available_cores()
        self.workers = cores if n_jobs is None or n_jobs < 1 else min(n_jobs, cores)
        self.batch_size = batch_size

    def fill(self, opened: Sequence[Waiting], out: np.ndarray, progress: Any) -> list[ImageError]:
        """Write the rows of some images; give back those that could not be decoded."""
        self._places: dict[bytes, list[int]] = {}
        self._out, self._progress = out, progress
        images: dict[bytes, OpenedImage] = {}
        for index, image in opened:
            # Without a store every image is computed, also one that is there twice.
            key = image.digest if self.store is not None else index.to_bytes(16, "big")
            self._places.setdefault(key, []).append(index)
            images.setdefault(key, image)
        failures: list[ImageError] = []
        missing = self._look_up(list(images))
        claim, since = True, time.monotonic()
        while missing:
            wanted = {key: images[key] for key in missing}
            postponed = self._compute(wanted, failures, claim=claim)
            free = self._await_others(postponed)
            missing = self._look_up(postponed) if postponed else []
            if len(missing) < len(wanted):
                since = time.monotonic()
            # Nobody is at them and yet they were not granted, which is a store gone wrong; or
            # others say for long that they are and finish none. Compute them.
            idle = time.monotonic() - since > _LONGEST
            claim = not ((free or idle) and len(missing) == len(wanted))
        return failures

    def _look_up(self, keys: list[bytes]) -> list[bytes]:
        """Write what the store knows; give back the keys it does not know."""
        if self.store is None or not keys:
            return keys
        for shelf in self.plan.shelves:
            found = shelf.get(self.store, keys)
            for key, parts in zip(keys, found, strict=True):
                if parts is not None:
                    self._write(key, parts)
            keys = [key for key, parts in zip(keys, found, strict=True) if parts is None]
            if not keys:
                break
        return keys

    def _write(self, key: bytes, parts: tuple[np.ndarray, ...]) -> None:
        places = self._places[key]
        row = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for index in places:
            self._out[index] = row
        if self._progress is not None:
            self._progress.update(len(places))

    def _compute(
        self, images: dict[bytes, OpenedImage], failures: list[ImageError], *, claim: bool
    ) -> list[bytes]:
        """Compute what no other process is computing; give back the keys of the rest."""
        postponed: list[bytes] = []
        running: deque[Future[Outcome]] = deque()
        try:
            for way, keys in self._batches(list(images), postponed if claim else None):
                batch = [images[key] for key in keys]
                running.append(self.pool.submit(self._work, way, keys, batch))
                # Each worker has a batch in hand and one waiting, never the whole set.
                while len(running) >= 2 * self.workers:
                    self._finish(running.popleft(), failures)
            while running:
                self._finish(running.popleft(), failures)
        finally:
            # After Ctrl-C: batches under way are finished and kept, the others given up.
            for future in running:
                if not future.cancel():
                    future.exception()
            self._release_all(images)
        return postponed

    def _batches(
        self, keys: list[bytes], postponed: list[bytes] | None
    ) -> Iterator[tuple[Pass, list[bytes]]]:
        """Claim keys batch by batch, so that two processes share a chunk between them.

        Keys that others compute are added to `postponed`; None claims nothing.
        """
        expected = self.plan.runs_on
        divided = self.plan.divide(self.store, keys)
        if self.plan.runs_on != expected:  # the engine is another, and so are the addresses
            keys = self._look_up(keys)
            divided = self.plan.divide(self.store, keys)
        if not keys:
            return
        size = self.batch_size or self._even_size(divided[0][0], len(keys))
        if self.store is None or postponed is None:
            for way, some in divided:
                yield from ((way, some[i : i + size]) for i in range(0, len(some), size))
            return
        mine: dict[Pass, list[bytes]] = {}
        for start in range(0, len(keys), size):
            part = keys[start : start + size]
            granted = self.store.claim(self.plan.claim_space, part)
            taken = [key for key, ok in zip(part, granted, strict=True) if ok]
            postponed += [key for key, ok in zip(part, granted, strict=True) if not ok]
            # Another process may have finished them since they were looked up.
            for way, some in self.plan.divide(self.store, self._look_up(taken)):
                waiting = mine.setdefault(way, [])
                waiting += some
                while len(waiting) >= size:
                    yield way, waiting[:size]
                    del waiting[:size]
        yield from ((way, waiting) for way, waiting in mine.items() if waiting)

    def _even_size(self, way: Pass, n_images: int) -> int:
        """The engine's batch size, or less where there is not one batch for each worker."""
        return max(1, min(way.engine.batch_size, -(-n_images // self.workers)))

    def _work(self, way: Pass, keys: list[bytes], images: list[OpenedImage]) -> Outcome:
        """Read, compute and keep one batch; runs in a thread of the pool."""
        good: list[bytes] = []
        read: list[OpenedImage] = []
        pixels: list[np.ndarray] = []
        failures: list[ImageError] = []
        for key, image in zip(keys, images, strict=True):
            try:
                pixels.append(frame(image.pixels(), self.plan.framing))
                good.append(key)
                read.append(image)
            except ImageError as error:
                failures += [
                    ImageError(error.cause, index, error.source) for index in self._places[key]
                ]
        if not good:
            return [], [], failures
        outputs = way.engine.run(np.stack(pixels))
        self._check(way, outputs, read)
        if self.store is not None:
            way.shelf.put(self.store, good, outputs)
        rows = zip(*(outputs[i] for i in way.wanted), strict=True)
        return good, list(rows), failures

    def _check(
        self, way: Pass, outputs: tuple[np.ndarray, ...], images: list[OpenedImage]
    ) -> None:
        """Refuse codes that are not numbers: the images were read, so it is the network."""
        for layer, rows in ((way.layers[i], outputs[i]) for i in way.wanted):
            if len(rows) != len(images):
                raise EngineError(
                    f"Layer {layer!r} of {self.plan.network} must give one row for each image, "
                    f"but gives {len(rows)} for {len(images)}: it puts images and places into one "
                    "axis. Take another layer."
                )
            # A sum is not finite if one number is not, and is had in a fifth of the time.
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(rows.sum()):
                    continue
            for image, row in zip(images, rows, strict=True):
                if not np.isfinite(row).all():
                    self._refuse(image, layer, way.engine.precision)

    def _refuse(self, image: OpenedImage, layer: str, precision: str) -> None:
        cause = "Its weights may be damaged, or preprocessing= may not be theirs"
        if precision == "float16":
            cause = 'float16 holds nothing above 65,504: take precision="float32" or "bfloat16"'
        raise EngineError(
            f"{image.label}: its codes of layer {layer!r} of {self.plan.network}, in {precision}, "
            f"are NaN or infinite, though it could be read. {cause}."
        )

    def _finish(self, future: Future[Outcome], failures: list[ImageError]) -> None:
        keys, rows, failed = future.result()
        for key, parts in zip(keys, rows, strict=True):
            self._write(key, parts)
        failures += failed
        if self.computed is not None:
            self.computed(len(keys))
        if self.store is not None:
            self.store.release(self.plan.claim_space, keys)

    def _release_all(self, images: dict[bytes, OpenedImage]) -> None:
        if self.store is not None:
            self.store.release(self.plan.claim_space, list(images))

    def _await_others(self, keys: list[bytes]) -> bool:
        """Wait for what others compute; False if they have not finished in time."""
        if not keys or self.store is None:
            return True
        return self.store.wait(self.plan.claim_space, keys, _PATIENCE)
