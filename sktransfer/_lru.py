"""A few things that are costly to make and are kept: networks, engines, heads.

(The rows of :class:`sktransfer.store.MemoryStore` are another matter: a million small things that
are asked for by the hundred, counted byte by byte, and claimed before they are made.)
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["LRU"]

T = TypeVar("T")


class LRU(Generic[T]):
    """The things used last, shared by the threads of a process.

    Parameters
    ----------
    max_count : int
        How many are kept at most.
    max_bytes : int or None, default=None
        How much memory they take at most; the newest is kept however large it is.
    bytes_of : callable, default=None
        The memory that several things take together, some of which they may share.
    of_process : bool, default=False
        Whether things serve the process alone that made them, since they have threads. A forked
        child forgets them without ending them: it would wait for threads that it does not have.
    """

    def __init__(
        self,
        max_count: int,
        max_bytes: int | None = None,
        bytes_of: Callable[[Collection[T]], int] | None = None,
        *,
        of_process: bool = False,
    ):
        self.of_process = of_process
        self._max_count, self._max_bytes, self._bytes_of = max_count, max_bytes, bytes_of
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.RLock()
        _instances.add(self)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of a key; one is made at a time, and whoever asks meanwhile waits for it."""
        with self._lock:
            found = self.find(key)
            return self.put(key, make()) if found is None else found

    def find(self, key: Hashable) -> T | None:
        """The thing of a key, if it is there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, thing: T) -> T:
        """Keep a thing, and forget those used longest ago."""
        with self._lock:
            self._kept[key] = thing
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._is_full():
                self._kept.popitem(last=False)
            return thing

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()

    def _is_full(self) -> bool:
        if len(self._kept) > self._max_count:
            return True
        if self._max_bytes is None or self._bytes_of is None:
            return False
        return self._bytes_of(self._kept.values()) > self._max_bytes


_instances: weakref.WeakSet[LRU[Any]] = weakref.WeakSet()
# What the process had that this one was forked from.
_of_parents: list[Any] = []


def _after_fork() -> None:
    """A thread that held a lock, or works for an engine, does not live in the child."""
    for lru in list(_instances):
        lru._lock = threading.RLock()
        if lru.of_process:
            _of_parents.append(lru._kept)
            lru._kept = OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
