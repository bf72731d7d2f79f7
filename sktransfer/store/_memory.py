"""The store of one process: a bounded dictionary, shared by every clone."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import cache_memory, on_cache_memory, whole_bytes
from ._base import Store, StoreInfo, check_keys, freeze
from ._claims import runs, this_thread

ROW_OVERHEAD = 512  # key, array object and dictionary entry; measured 350 to 450 bytes
_NOTICE_DEATH = 1.0  # seconds; a thread that dies does not notify

_Place = tuple[str, bytes]


class MemoryStore(Store):
    """Rows in the memory of this process; the least recently used go first.

    Safe to use from many threads and after a fork. Copies of it are itself, so that the clones
    of an estimator share it. The process-wide one pickles as a reference: in another process
    it is that process's own.

    Parameters
    ----------
    max_bytes : int or None, default=None
        Bound on the memory taken, bookkeeping included. 0 keeps nothing; a row beyond the bound
        is not kept. None is the ``cache_memory`` of :func:`sktransfer.set_config`.

    Raises
    ------
    ValueError
        ``max_bytes`` is not a whole number of at least 0.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes if max_bytes is None else whole_bytes("max_bytes", max_bytes, 0)
        self._rows: OrderedDict[_Place, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._in_space: Counter[str] = Counter()
        self._forget_claims()
        _instances.add(self)

    @property
    def max_bytes(self) -> int:
        """Bound on the memory taken."""
        return cache_memory() if self._max_bytes is None else self._max_bytes

    def _forget_claims(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._claims: dict[_Place, int] = {}  # the thread that has each

    def get_many(self, space: str, keys: Sequence[bytes]) -> list[np.ndarray | None]:
        check_keys(keys)
        with self._changed:
            found = [self._rows.get((space, key)) for key in keys]
            for key, row in zip(keys, found, strict=True):
                if row is not None:
                    self._rows.move_to_end((space, key))
        return found

    def put_many(self, space: str, keys: Sequence[bytes], rows: Sequence[np.ndarray]) -> None:
        check_keys(keys, rows)
        frozen = [freeze(row) for row in rows]  # copies: outside the lock
        with self._changed:
            for key, row in zip(keys, frozen, strict=True):
                if (space, key) not in self._rows:
                    self._rows[space, key] = row
                    self._bytes += row.nbytes + ROW_OVERHEAD
                    self._in_space[space] += 1
                self._claims.pop((space, key), None)
            self._evict()
            self._changed.notify_all()

    def _evict(self) -> None:
        limit = self.max_bytes
        while self._bytes > limit:
            self._forget_row(*self._rows.popitem(last=False))

    def _forget_row(self, place: _Place, row: np.ndarray) -> None:
        self._bytes -= row.nbytes + ROW_OVERHEAD
        self._in_space[place[0]] -= 1

    def claim(self, space: str, keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        me = this_thread()
        with self._changed:
            answer = []
            for place in ((space, key) for key in keys):
                free = place not in self._rows and not self._held_by_other(place, me)
                if free:
                    self._claims[place] = me
                answer.append(free)
        return answer

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        me = this_thread()
        with self._changed:
            for place in ((space, key) for key in keys):
                if self._claims.get(place) == me:
                    del self._claims[place]
            self._changed.notify_all()

    def wait(self, space: str, keys: Sequence[bytes], timeout: float | None = None) -> bool:
        check_keys(keys)
        me, places = this_thread(), [(space, key) for key in keys]
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while places := [place for place in places if self._held_by_other(place, me)]:
                left = _NOTICE_DEATH if end is None else end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _NOTICE_DEATH))
        return True

    def _held_by_other(self, place: _Place, me: int) -> bool:
        thread = self._claims.get(place)
        return thread is not None and thread != me and runs(thread)

    def knows(self, spaces: Sequence[str], keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        with self._changed:
            # Of all layers of a network few have rows, mostly none.
            spaces = [space for space in spaces if self._in_space[space]]
            return [any((space, key) in self._rows for space in spaces) for key in keys]

    def discard(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        with self._changed:
            for key in keys:
                if (row := self._rows.pop((space, key), None)) is not None:
                    self._forget_row((space, key), row)

    def clear(self, space: str | None = None) -> None:
        with self._changed:
            for place in [p for p in self._rows if space is None or p[0] == space]:
                self._forget_row(place, self._rows.pop(place))

    def info(self) -> StoreInfo:
        with self._changed:
            spaces = {space: n for space, n in self._in_space.items() if n}
            return StoreInfo(len(self._rows), self._bytes, spaces, self.max_bytes)

    def __copy__(self) -> MemoryStore:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MemoryStore:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (memory_store, ()) if self is _process_wide else (MemoryStore, (self._max_bytes,))

    def __repr__(self) -> str:
        return f"MemoryStore(max_bytes={self._max_bytes})"


_instances: weakref.WeakSet[MemoryStore] = weakref.WeakSet()
_process_wide = MemoryStore()


def memory_store() -> MemoryStore:
    """Give the one memory store of this process.

    Returns
    -------
    MemoryStore
    """
    return _process_wide


def _fit_to_limit() -> None:
    for store in list(_instances):
        with store._changed:
            store._evict()


on_cache_memory.append(_fit_to_limit)

_held_for_fork: list[MemoryStore] = []
# Threads that fork at the same time take turns: what one holds, another must not release.
_forking = threading.RLock()


def _before_fork() -> None:
    _forking.acquire()
    # A fork between two lines of another thread would leave the child half a change.
    for store in list(_instances):
        store._changed.acquire()
        _held_for_fork.append(store)


def _after_fork_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop()._changed.release()
    _forking.release()


def _after_fork_in_child() -> None:
    # The threads that held locks and claims exist in the parent only.
    while _held_for_fork:
        _held_for_fork.pop()._forget_claims()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
