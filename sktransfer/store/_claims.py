"""Claims: which thread of which process is computing which row.

A claim in the database names its owner, and an owner is alive while it is renewed: a thread beats
for the whole process as long as it has claims, however long a batch takes. What a process leaves
that was killed, stopped or cut off is free after one lease, on whatever machine it was. Threads of
one process know of each other without that.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from ._database import the_one

LEASE = 10.0  # seconds; a process that holds Python's lock for long is not robbed of its claims
_BEATS = 4  # in a lease
CHUNK = 450  # SQLite before 3.32 takes 999 parameters, and a statement may name keys twice


class _ThreadMark:
    """Lives in a thread's local storage, hence exactly as long as the thread."""


_marks: weakref.WeakValueDictionary[int, _ThreadMark] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_local = threading.local()
_process = uuid.uuid4().hex


def this_thread() -> int:
    """A number of the calling thread; never used again, as idents of threads are."""
    if not hasattr(_local, "mark"):
        _local.number, _local.mark = next(_numbers), _ThreadMark()
        _marks[_local.number] = _local.mark
    number: int = _local.number
    return number


def runs(thread: int) -> bool:
    """Whether a thread of this process has not ended."""
    return thread in _marks


def owner() -> str:
    """A name of the calling thread among those of all processes."""
    return f"{_process}-{this_thread()}"


def _is_alive(name: Any, renewed: Any, lease: float) -> bool:
    """Whether an owner may be at work; one whose fields are not those of an owner is not."""
    if not isinstance(name, str) or not isinstance(renewed, float):
        return False
    if _is_of_this_process(name):
        return runs(int(name.rpartition("-")[2]))
    return abs(time.time() - renewed) < lease  # a clock that was set back makes nothing eternal


def _is_of_this_process(name: str) -> bool:
    process, _, thread = name.rpartition("-")
    return process == _process and thread.isdecimal()


# In the database: `sql` is a connection; what writes expects a transaction.


def chunks(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut keys into as many as one statement can name."""
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def marks(keys: Sequence[Any]) -> str:
    """Write ``?,?,?`` for an ``IN (...)``."""
    return ",".join("?" * len(keys))


def claim(
    sql: sqlite3.Connection, me: str, space: str, keys: Sequence[bytes], lease: float
) -> list[bool]:
    """Take the keys that have no row and no live claimer."""
    mine = _number_of(sql, me, lease)
    _take(sql, mine, space, keys)
    held = holders(sql, space, keys)
    alive = {mine} | _living(sql, lease)
    # Also of owners that are nothing that could be found again.
    left = [(space, key) for key, number in held.items() if number not in alive]
    if left:
        sql.executemany("DELETE FROM claims WHERE space = ? AND key = ?", left)
        _take(sql, mine, space, keys)
        held = holders(sql, space, keys)
    return [held.get(key) == mine for key in keys]


def held_by_others(
    sql: sqlite3.Connection, me: str, space: str, keys: Sequence[bytes], lease: float
) -> list[bytes]:
    """Find the keys that somebody else, who is alive, has claimed."""
    alive = _living(sql, lease, but=me)
    return [key for key, number in holders(sql, space, keys).items() if number in alive]


def holders(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> dict[bytes, int]:
    """Numbers of the owners that have claimed keys, dead, alive or unknown."""
    held: dict[bytes, int] = {}
    for some in chunks(keys):
        query = f"SELECT key, owner FROM claims WHERE space = ? AND key IN ({marks(some)})"
        held.update(sql.execute(query, (space, *some)).fetchall())
    return held


def release(sql: sqlite3.Connection, me: str, space: str, keys: Sequence[bytes]) -> None:
    """End the claims of one owner."""
    for some in chunks(keys):
        sql.execute(
            f"DELETE FROM claims WHERE space = ? AND key IN ({marks(some)}) "
            "AND owner = (SELECT id FROM owners WHERE name = ?)",
            (space, *some, me),
        )


def fulfil(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> None:
    """End anybody's claims on rows that are there now."""
    for some in chunks(keys):
        query = f"DELETE FROM claims WHERE space = ? AND key IN ({marks(some)})"
        sql.execute(query, (space, *some))


def claimers_here(sql: sqlite3.Connection) -> list[int]:
    """Numbers of the threads of this process that hold claims."""
    query = "SELECT id, name FROM owners WHERE id IN (SELECT owner FROM claims)"
    return [
        number
        for number, name in sql.execute(query)
        if isinstance(name, str) and _is_of_this_process(name) and _is_alive(name, 0.0, 0.0)
    ]


def renew(sql: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Give a sign of life."""
    now = time.time()
    sql.executemany("UPDATE owners SET renewed = ? WHERE id = ?", [(now, n) for n in numbers])


def _number_of(sql: sqlite3.Connection, me: str, lease: float) -> int:
    """The number of an owner, which gives a sign of life."""
    update = "UPDATE owners SET renewed = ? WHERE name = ?"
    if not sql.execute(update, (time.time(), me)).rowcount:
        # Once a thread: clean up after the dead.
        alive = _living(sql, lease)
        for (number,) in sql.execute("SELECT id FROM owners").fetchall():
            if number not in alive:
                sql.execute("DELETE FROM claims WHERE owner = ?", (number,))
                sql.execute("DELETE FROM owners WHERE id = ?", (number,))
        sql.execute("INSERT INTO owners (renewed, name) VALUES (?, ?)", (time.time(), me))
    return int(the_one(sql.execute("SELECT id FROM owners WHERE name = ?", (me,))))


def _living(sql: sqlite3.Connection, lease: float, but: str = "") -> set[int]:
    found = sql.execute("SELECT id, name, renewed FROM owners").fetchall()
    return {n for n, name, renewed in found if name != but and _is_alive(name, renewed, lease)}


def _take(sql: sqlite3.Connection, number: int, space: str, keys: Sequence[bytes]) -> None:
    sql.executemany(
        "INSERT OR IGNORE INTO claims (space, key, owner) SELECT ?, ?, ? WHERE NOT EXISTS "
        "(SELECT 1 FROM rows WHERE key = ? AND space = (SELECT id FROM spaces WHERE name = ?))",
        [(space, key, number, key, space) for key in keys],
    )


# The heart of a process.

_lock = threading.Lock()
_beating: dict[Hashable, int] = {}  # how often it was said that there are claims


def keep_alive(place: Hashable, lease: float, beat: Callable[[], bool]) -> None:
    """Have signs of life given in the background, as long as there is something to live for.

    Parameters
    ----------
    place : hashable
        Where the claims are: each has a thread of its own.
    lease : float
        Seconds.
    beat : callable
        Gives a sign of life; False if there are no claims any more.
    """
    with _lock:
        _beating[place] = _beating.get(place, 0) + 1
        if _beating[place] > 1:
            return

    def live() -> None:
        while True:
            time.sleep(lease / _BEATS)
            said = _beating.get(place)
            if not beat():
                with _lock:
                    if _beating.get(place) == said:  # else there are new claims by now
                        _beating.pop(place, None)
                        return

    threading.Thread(target=live, name="sktransfer-claims", daemon=True).start()


def _after_fork() -> None:
    """A child is another process, in which nothing beats."""
    global _process, _lock
    _process, _lock = uuid.uuid4().hex, threading.Lock()
    _beating.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
