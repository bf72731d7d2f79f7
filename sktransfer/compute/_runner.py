"""From items to rows: look up what is known, compute what is not, keep it at once."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from ..exceptions import EngineError, ItemError, StoreWarning
from ..inputs import Item, Items, Preparation
from ..store import MemoryStore, Store
from ._base import Engine, as_batch
from ._count import count
from ._plan import Pass, Plan
from ._threads import CPU, available_cores, worker_pool

__all__ = ["BatchRunner", "Waiting", "compute_rows", "prepare_rows"]


# Opened items hold the bytes of their files, so a chunk ends at whichever comes first.
_CHUNK_ITEMS, _CHUNK_BYTES = 512, 64 * 2**20
# Texts are put into batches of one length, which needs many to choose from.
_CHUNK_OF_WINDOWS = 8192

Waiting = tuple[int, Item]
Failures = dict[int, ItemError]


def compute_rows(
    items: Items,
    plan: Plan,
    store: Store | None,
    out: Any,
    *,
    batch_size: int | None = None,
    n_jobs: int | None = None,
    stop_at_error: bool = True,
    progress: Any = None,
    known: Callable[[int, bytes], bool] | None = None,
) -> list[ItemError]:
    """Fill rows with what the layers of a plan make of items.

    Parameters
    ----------
    items : Items
    plan : Plan
    store : Store or None
        Asked first; every batch is kept in it as soon as it is done.
    out : ndarray of shape (n_items, ...), float32
        Filled, or anything with rows that can be set; rows of items that cannot be read
        become NaN.
    batch_size, n_jobs : int or None
        Items a batch, of texts tokens, and batches at a time; None is the engine's own and all
        cores.
    stop_at_error : bool
        End after the first chunk with an item that cannot be read, what is under way done and kept.
    progress : tqdm or None
        Moved on by one for each item.
    known : callable or None
        Tells by the row and digest of an item that its row need not be filled.

    Returns
    -------
    list of ItemError
        Of items that could not be read, in order; each with its number in the whole input.
    """
    items.tell()
    store = _shareable(store, plan)
    pool = worker_pool()
    runner = BatchRunner(plan, store, pool, len(items), batch_size=batch_size, n_jobs=n_jobs)
    errors: list[ItemError] = []
    chunk = _CHUNK_OF_WINDOWS if plan.preparation.in_windows else _CHUNK_ITEMS
    digests = store is not None or known is not None
    for opened, failures in _chunks(items, pool, chunk, digests=digests):
        if plan.preparation.counts_all:
            failures.update(_prepared(opened, plan.preparation))
            opened = [one for one in opened if one[0] not in failures]
        if known is not None:
            wanted = [one for one in opened if not known(one[0], one[1].digest)]
            if progress is not None:
                progress.update(len(opened) - len(wanted))
            opened = wanted
        failures.update(runner.fill(opened, out, progress))
        for row in failures:
            out[row] = np.nan
        if progress is not None:
            progress.update(len(failures))
        errors += [failures[row] for row in sorted(failures)]
        if errors and stop_at_error:
            return errors
    items.tell()
    return errors


def prepare_rows(items: Items, preparation: Preparation, out: Any) -> list[ItemError]:
    """Fill rows with the prepared items themselves; rows of those that cannot be read stay."""

    def one(row: int) -> None:
        out[row] = preparation(items.open(row))

    errors = []
    for future in [worker_pool().submit(one, row) for row in range(len(items))]:
        error = future.exception()
        if isinstance(error, ItemError):
            errors.append(error)
        elif error is not None:
            raise error
    items.tell()
    return errors


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


def _chunks(
    items: Items, pool: ThreadPoolExecutor, chunk: int, *, digests: bool
) -> Iterator[tuple[list[Waiting], Failures]]:
    """Open items a few at a time, so that memory does not grow with their number."""
    opened: list[Waiting] = []
    failures: Failures = {}
    size, step = 0, 32

    def open_part(rows: range) -> list[Item | ItemError]:
        return [_open(items, row, digests=digests) for row in rows]

    for start in range(0, len(items), step):
        rows = range(start, min(start + step, len(items)))
        # A few in one go: handing over one alone takes longer than opening an array.
        here = items.in_memory or len(rows) == 1
        parts = [open_part(rows)] if here else pool.map(open_part, _in_parts(4, rows))
        for row, item in zip(rows, chain.from_iterable(parts), strict=True):
            if isinstance(item, ItemError):
                failures[row] = item
            else:
                opened.append((row, item))
                size += item.n_bytes
        if len(opened) + len(failures) >= chunk or size >= _CHUNK_BYTES:
            yield opened, failures
            opened, failures, size = [], {}, 0
    if opened or failures:
        yield opened, failures


def _open(items: Items, row: int, *, digests: bool) -> Item | ItemError:
    try:
        item = items.open(row)
        if digests:
            item.digest  # noqa: B018  (found here, by several threads, instead of by the one who asks)
        return item
    except ItemError as error:
        # Without its traceback, which would keep alive what the frames hold.
        return type(error)(error.cause, error.index, error.source)


def _prepared(opened: Sequence[Waiting], preparation: Preparation) -> Failures:
    """Prepare items, which keep what is made of them; those that cannot be."""
    failures = {}
    for row, item in opened:
        try:
            preparation(item)
        except ItemError as error:
            failures[row] = error
    return failures


def _alike(arrays: Iterable[Prepared]) -> list[list[Prepared]]:
    """One group, unless the preparation keeps the shapes of items."""
    groups: dict[tuple[int, ...], list[Prepared]] = {}
    for one in arrays:
        groups.setdefault(one[2].shape, []).append(one)
    return list(groups.values())


def _in_parts(size: int, several: Any) -> Iterator[Any]:
    for start in range(0, len(several), size):
        yield several[start : start + size]


# One chunk of items: what the store knows, what this process computes, what others do.


# Key and item with the array that was made of it.
Prepared = tuple[bytes, Item, np.ndarray]
Outcome = tuple[list[bytes], list[tuple[np.ndarray, ...]], dict[bytes, str]]
# How long to wait for another process before looking whether it is still alive, and how long for
# one that is alive and gets nothing done.
_PATIENCE, _LONGEST = 5.0, 30.0


class BatchRunner:
    """Computes the rows of chunks of items.

    Parameters
    ----------
    plan : Plan
    store : Store or None
    pool : ThreadPoolExecutor
    n_items : int
        Of all chunks.
    batch_size, n_jobs : int or None
    """

    def __init__(
        self,
        plan: Plan,
        store: Store | None,
        pool: ThreadPoolExecutor,
        n_items: int,
        *,
        batch_size: int | None,
        n_jobs: int | None,
    ):
        self.plan, self.store, self.pool = plan, store, pool
        self.cores = available_cores()
        self.workers = self.cores if n_jobs is None or n_jobs < 1 else min(n_jobs, self.cores)
        self.batch_size = batch_size
        # Rows that are kept, or stand beside others of the same call, are those of one core.
        self.exact = store is not None or n_items >= self.workers

    def fill(self, opened: Sequence[Waiting], out: Any, progress: Any) -> Failures:
        """Write the rows of some items; give back those that could not be decoded."""
        self._places: dict[bytes, list[Waiting]] = {}
        self._out, self._progress = out, progress
        for row, item in opened:
            # Without a store every item is computed, also one that is there twice.
            key = item.digest if self.store is not None else row.to_bytes(16, "big")
            self._places.setdefault(key, []).append((row, item))
        items = {key: places[0][1] for key, places in self._places.items()}
        failures: Failures = {}
        missing = self._look_up(list(items))
        claim, since = True, time.monotonic()
        while missing:
            wanted = {key: items[key] for key in missing}
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
        for layout in self.plan.layouts:
            found = layout.get(self.store, keys)
            for key, parts in zip(keys, found, strict=True):
                if parts is not None:
                    self._write(key, parts)
            keys = [key for key, parts in zip(keys, found, strict=True) if parts is None]
            if not keys:
                break
        return keys

    def _write(self, key: bytes, parts: tuple[np.ndarray, ...]) -> None:
        places = self._places[key]
        value: Any = parts
        if not self.plan.separate:
            value = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for row, _ in places:
            self._out[row] = value
        if self._progress is not None:
            self._progress.update(len(places))

    def _compute(
        self, items: dict[bytes, Item], failures: Failures, *, claim: bool
    ) -> list[bytes]:
        """Compute what no other process is computing; give back the keys of the rest."""
        postponed: list[bytes] = []
        running: deque[Future[Outcome]] = deque()
        few = len(items) < self.workers == self.cores and not self.plan.preparation.in_windows
        self.plan.few = few
        try:
            for way, keys in self._batches(items, postponed if claim else None, few=few):
                batch = [items[key] for key in keys]
                if few and (outcome := self._work_on_all_cores(way, keys, batch)):
                    self._finish(outcome, failures)
                    continue
                step = 1 if few else len(keys)
                for i in range(0, len(keys), step):
                    part = keys[i : i + step], batch[i : i + step]
                    running.append(self.pool.submit(self._work, way, *part))
                # Each worker has a batch in hand and one waiting, never the whole set.
                while len(running) >= 2 * self.workers:
                    self._finish(running.popleft().result(), failures)
            while running:
                self._finish(running.popleft().result(), failures)
        finally:
            # After Ctrl-C: batches under way are finished and kept, the others given up.
            for future in running:
                if not future.cancel():
                    future.exception()
            if self.store is not None:
                self.store.release(self.plan.claim_space, list(items))
        return postponed

    def _batches(
        self, items: dict[bytes, Item], postponed: list[bytes] | None, *, few: bool
    ) -> Iterator[tuple[Pass, list[bytes]]]:
        """Claim keys batch by batch, so that two processes share a chunk between them.

        Keys that others compute are added to `postponed`; None claims nothing.
        """
        keys = list(items)
        expected = self.plan.runs_on
        divided = self.plan.divide(self.store, keys)
        if self.plan.runs_on != expected:  # the engine is another, and so are the keys
            keys = self._look_up(keys)
            divided = self.plan.divide(self.store, keys)
        if not keys:
            return
        engine, in_windows = divided[0][0].engine, self.plan.preparation.in_windows
        size = self.batch_size or (len(keys) if few else self._even_size(engine, len(keys)))
        cut = partial(self._by_length, items, engine) if in_windows else partial(_in_parts, size)
        if self.store is None or postponed is None:
            for way, some in divided:
                yield from ((way, part) for part in cut(some))
            return
        mine: dict[Pass, list[bytes]] = {}
        for part in cut(keys):
            granted = self.store.claim(self.plan.claim_space, part)
            taken = [key for key, ok in zip(part, granted, strict=True) if ok]
            postponed += [key for key, ok in zip(part, granted, strict=True) if not ok]
            # Another process may have finished them since they were looked up.
            for way, some in self.plan.divide(self.store, self._look_up(taken)):
                if in_windows:  # of one length, to which no others may be added
                    yield way, some
                    continue
                waiting = mine.setdefault(way, [])
                waiting += some
                while len(waiting) >= size:
                    yield way, waiting[:size]
                    del waiting[:size]
        yield from ((way, waiting) for way, waiting in mine.items() if waiting)

    def _even_size(self, engine: Engine, n_items: int) -> int:
        """The engine's batch size, or less where there is not one batch for each worker."""
        return max(1, min(engine.batch_size, -(-n_items // self.workers)))

    def _by_length(
        self, items: dict[bytes, Item], engine: Engine, keys: Sequence[bytes]
    ) -> Iterator[list[bytes]]:
        """Batches of items whose arrays are of one shape, and of so many tokens at most.

        So nothing is filled up, and what becomes of an item does not hang on its batch.
        """
        shapes: dict[tuple[int, ...], list[bytes]] = {}
        for key in keys:
            try:
                shape = self.plan.preparation(items[key]).shape
            except ItemError:  # said by who computes it
                shape = ()
            shapes.setdefault(shape, []).append(key)
        for shape in sorted(shapes, key=lambda one: one[::-1]):
            n_tokens = max(1, math.prod(shape[:2]))
            yield from _in_parts(max(1, self._most_tokens(engine) // n_tokens), shapes[shape])

    def _most_tokens(self, engine: Engine) -> int:
        return self.batch_size or engine.batch_tokens

    def _work(self, way: Pass, keys: list[bytes], items: list[Item]) -> Outcome:
        """Read, compute and keep one batch; runs in a thread of the pool."""
        prepared, causes = self._prepare(keys, items)
        outputs = [self._run(way.engine, [array for _, _, array in one]) for one in prepared]
        return self._kept(way, prepared, outputs, causes)

    def _work_on_all_cores(
        self, way: Pass, keys: list[bytes], items: list[Item]
    ) -> Outcome | None:
        """The same for items that are fewer than cores; None if cores are taken."""
        if not CPU.is_free:
            return None
        ones = [([key], [item]) for key, item in zip(keys, items, strict=True)]
        spread = map if len(ones) == 1 else self.pool.map
        each = list(spread(lambda one: self._prepare(*one), ones))
        causes = {key: cause for _, some in each for key, cause in some.items()}
        prepared = _alike(one for groups, _ in each for group in groups for one in group)
        outputs = []
        for group in prepared:
            arrays = as_batch([array for _, _, array in group])
            found = way.engine.run_on_all_cores(arrays, exact=self.exact)
            if found is None:
                return None
            outputs.append(found)
        return self._kept(way, prepared, outputs, causes)

    def _prepare(
        self, keys: list[bytes], items: list[Item]
    ) -> tuple[list[list[Prepared]], dict[bytes, str]]:
        """Arrays of items, those of one shape together; and why others have none."""
        arrays: list[Prepared] = []
        causes: dict[bytes, str] = {}
        for key, item in zip(keys, items, strict=True):
            try:
                arrays.append((key, item, self.plan.preparation(item)))
            except ItemError as error:
                causes[key] = error.cause
        return _alike(arrays), causes

    def _kept(
        self,
        way: Pass,
        prepared: list[list[Prepared]],
        outputs: list[tuple[np.ndarray, ...]],
        causes: dict[bytes, str],
    ) -> Outcome:
        """Count, check and keep what was computed."""
        good: list[bytes] = []
        rows: list[tuple[np.ndarray, ...]] = []
        for group, found in zip(prepared, outputs, strict=True):
            some, read, _ = zip(*group, strict=True)
            count(len(group))
            self._check(way, found, read)
            if self.store is not None:
                way.layout.put(self.store, some, found)
            good += some
            rows += zip(*(found[i] for i in way.wanted), strict=True)
        return good, rows, causes

    def _run(self, engine: Engine, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """What an engine makes of arrays of one shape, a row for each."""
        merge = self.plan.merge
        if merge is None:
            return engine.run(as_batch(arrays))
        windows = np.concatenate(arrays)
        step = max(1, self._most_tokens(engine) // windows.shape[1])
        parts = [engine.run(part) for part in _in_parts(step, windows)]
        outputs = [np.concatenate(one) for one in zip(*parts, strict=True)]
        tokens = np.stack(arrays)
        return tuple(merge(one, tokens) for one in outputs)

    def _check(
        self, way: Pass, outputs: tuple[np.ndarray, ...], items: Sequence[Item]
    ) -> None:
        """Refuse codes that are not numbers: the items were read, so it is the network."""
        for layer, rows in ((way.layers[i], outputs[i]) for i in way.wanted):
            if len(rows) != len(items):
                raise EngineError(
                    f"Layer {layer!r} of {self.plan.network} must give one row for each item, "
                    f"but gives {len(rows)} for {len(items)}: it puts items and places into one "
                    "axis. Take another layer."
                )
            # A sum is not finite if one number is not, and takes a fifth of the time.
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(rows.sum()):
                    continue
            for item, row in zip(items, rows, strict=True):
                if not np.isfinite(row).all():
                    self._refuse(item, layer, way.engine.precision)

    def _refuse(self, item: Item, layer: str, precision: str) -> None:
        cause = "Its weights may be damaged, or preprocessing= may not be theirs"
        if precision == "float16":
            cause = 'float16 holds nothing above 65,504: take precision="float32" or "bfloat16"'
        raise EngineError(
            f"{item.label}: its codes of layer {layer!r} of {self.plan.network}, in {precision}, "
            f"are NaN or infinite, though it could be read. {cause}."
        )

    def _finish(self, outcome: Outcome, failures: Failures) -> None:
        keys, rows, causes = outcome
        for key, parts in zip(keys, rows, strict=True):
            self._write(key, parts)
        for key, cause in causes.items():
            failures.update({row: item.error(cause) for row, item in self._places[key]})
        if self.store is not None:
            self.store.release(self.plan.claim_space, keys)

    def _await_others(self, keys: list[bytes]) -> bool:
        """Wait for what others compute; False if they have not finished in time."""
        if not keys or self.store is None:
            return True
        return self.store.wait(self.plan.claim_space, keys, _PATIENCE)
