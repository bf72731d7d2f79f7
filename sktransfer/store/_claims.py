"""Claims in the database: which thread of which process is computing which row.

A claim names its owner; a sign of life is one number per owner, not per claim.
"""

from __future__ import annotations

import itertools
import os
import platform
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ._database import the_one

CHUNK = 450  # SQLite before 3.32 takes 999 parameters, and a statement may name keys twice
_IS = "host = ? AND pid = ? AND start = ? AND thread = ?"  # the fields of an Owner


def chunks(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut keys into as many as one statement can name.

    Parameters
    ----------
    keys : sequence
        Any number.

    Yields
    ------
    sequence
    """
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def marks(keys: Sequence[Any]) -> str:
    """Write ``?,?,?`` for an ``IN (...)``.

    Parameters
    ----------
    keys : sequence
        The parameters it stands for.

    Returns
    -------
    str
    """
    return ",".join("?" * len(keys))


def claim(
    sql: sqlite3.Connection, me: Owner, space: str, keys: Sequence[bytes], lease: float
) -> list[bool]:
    """Take the keys that have no row and no live claimer; within a transaction.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    me : Owner
        The calling thread.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    lease : float
        Seconds; see `is_alive`.

    Returns
    -------
    list of bool
    """
    mine = renew(sql, me, lease)
    _take(sql, mine, space, keys)
    held = holders(sql, space, keys)
    alive = {number: _alive(sql, number, lease) for number in set(held.values()) - {mine}}
    if not all(alive.values()):
        for number, lives in alive.items():
            if not lives:
                _bury(sql, number)
        # Also those whose owner is nothing that could be found again.
        sql.executemany(
            "DELETE FROM claims WHERE space = ? AND key = ?",
            [(space, key) for key, number in held.items() if not alive.get(number, True)],
        )
        _take(sql, mine, space, keys)
        held = holders(sql, space, keys)
    return [held.get(key) == mine for key in keys]


def renew(sql: sqlite3.Connection, me: Owner, lease: float) -> int:
    """Give a sign of life; within a transaction.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    me : Owner
        The calling thread.
    lease : float
        Seconds; see `is_alive`.

    Returns
    -------
    int
        The number of this owner in the database.
    """
    now = time.time()
    if not sql.execute(f"UPDATE owners SET renewed = ? WHERE {_IS}", (now, *me)).rowcount:
        # Once per thread: clean up after the dead.
        for (number,) in sql.execute("SELECT id FROM owners").fetchall():
            if not _alive(sql, number, lease):
                _bury(sql, number)
        sql.execute(
            "INSERT INTO owners (renewed, host, pid, start, thread) VALUES (?, ?, ?, ?, ?)",
            (now, *me),
        )
    return int(the_one(sql.execute(f"SELECT id FROM owners WHERE {_IS}", me)))


def held_by_others(
    sql: sqlite3.Connection, me: Owner, space: str, keys: Sequence[bytes], lease: float
) -> list[bytes]:
    """Find the keys that somebody else, who is alive, has claimed.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.
    me : Owner
        The calling thread.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    lease : float
        Seconds; see `is_alive`.

    Returns
    -------
    list of bytes
    """
    held = holders(sql, space, keys)
    mine = [number for (number,) in sql.execute(f"SELECT id FROM owners WHERE {_IS}", me)]
    alive = {n for n in set(held.values()) - set(mine) if _alive(sql, n, lease)}
    return [key for key, number in held.items() if number in alive]


def holders(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> dict[bytes, int]:
    """Look up who has claimed keys, dead, alive or unknown.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.

    Returns
    -------
    dict of bytes to int
        Numbers of owners, without the keys that nobody claims.
    """
    held: dict[bytes, int] = {}
    for some in chunks(keys):
        query = f"SELECT key, owner FROM claims WHERE space = ? AND key IN ({marks(some)})"
        held.update(sql.execute(query, (space, *some)).fetchall())
    return held


def release(sql: sqlite3.Connection, me: Owner, space: str, keys: Sequence[bytes]) -> None:
    """End the claims of one owner, which is a sign of life; within a transaction.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    me : Owner
        Whose claims.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    """
    for some in chunks(keys):
        sql.execute(
            f"DELETE FROM claims WHERE space = ? AND key IN ({marks(some)}) "
            f"AND owner IN (SELECT id FROM owners WHERE {_IS})",
            (space, *some, *me),
        )
    sql.execute(f"UPDATE owners SET renewed = ? WHERE {_IS}", (time.time(), *me))


def fulfil(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> None:
    """End anybody's claims on rows that are there now; within a transaction.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    """
    for some in chunks(keys):
        these = f"claims WHERE space = ? AND key IN ({marks(some)})"
        # A sign of life of the claimer, though another of its threads may be the one that puts.
        sql.execute(
            f"UPDATE owners SET renewed = ? WHERE id IN (SELECT owner FROM {these})",
            (time.time(), space, *some),
        )
        sql.execute(f"DELETE FROM {these}", (space, *some))


def _take(sql: sqlite3.Connection, owner: int, space: str, keys: Sequence[bytes]) -> None:
    sql.executemany(
        "INSERT OR IGNORE INTO claims (space, key, owner) SELECT ?, ?, ? WHERE NOT EXISTS "
        "(SELECT 1 FROM rows WHERE key = ? AND space = (SELECT id FROM spaces WHERE name = ?))",
        [(space, key, owner, key, space) for key in keys],
    )


def _alive(sql: sqlite3.Connection, number: int, lease: float) -> bool:
    """Tell whether an owner may be at work; one whose fields are not those of an owner is not."""
    query = "SELECT host, pid, start, thread, renewed FROM owners WHERE id = ?"
    found = sql.execute(query, (number,)).fetchone()
    if found is None or [type(field) for field in found] != [str, int, str, int, float]:
        return False
    return is_alive(Owner(*found[:4]), found[4], lease)


def _bury(sql: sqlite3.Connection, number: int) -> None:
    sql.execute("DELETE FROM claims WHERE owner = ?", (number,))
    sql.execute("DELETE FROM owners WHERE id = ?", (number,))


# Who holds a claim, and is it still alive?
#
# An owner is one thread of one process. On its own machine its death shows at once, so a lease
# only has to catch what hangs; of another machine nothing but the lease is known.


LEASE = 60.0  # seconds without a sign of life until a claim of another machine ends
# One batch of a big network on a slow CPU may take minutes, and a death here is seen anyway.
LOCAL_PATIENCE = 5


class Owner(NamedTuple):
    """One thread of one process; never the same twice."""

    host: str
    pid: int
    start: str  # when the process started: pids are used again
    thread: int


class _ThreadMark:
    """Lives in a thread's local storage, hence exactly as long as the thread."""


_marks: weakref.WeakValueDictionary[int, _ThreadMark] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_local = threading.local()


def current_owner() -> Owner:
    """Name the calling thread.

    Returns
    -------
    Owner
    """
    if not hasattr(_local, "mark"):
        # Idents of threads are used again at once; this number is not.
        _local.number, _local.mark = next(_numbers), _ThreadMark()
        _marks[_local.number] = _local.mark
    return Owner(*_this_process(os.getpid()), _local.number)


def is_alive(owner: Owner, renewed: float, lease: float) -> bool:
    """Tell whether an owner may still be at work.

    Parameters
    ----------
    owner : Owner
        Any thread of any process on any machine.
    renewed : float
        Its last sign of life, as ``time.time()`` gives it.
    lease : float
        Seconds that a sign of life counts; five times that where death would show.

    Returns
    -------
    bool
    """
    host, pid, start = _this_process(os.getpid())
    if not 0 < owner.pid < 2**31:  # not a process of any system
        return False
    age = abs(time.time() - renewed)  # a clock that was set back must not make claims eternal
    if owner.host != host:
        return age < lease
    if (owner.pid, owner.start) == (pid, start):
        running = owner.thread in _marks
    else:
        running = _start_of(owner.pid) in (owner.start, "?")
    return running and age < LOCAL_PATIENCE * lease


@lru_cache(maxsize=1)  # asked again after a fork, where the pid is another
def _this_process(pid: int) -> tuple[str, int, str]:
    if os.name != "posix":
        # Without a cheap way to watch a pid every process counts as a machine of its own.
        return f"{platform.node()}/{pid}", pid, str(time.time())
    return _host(), pid, _start_of(pid) or "?"


def _host() -> str:
    """Name the reach of a pid: this boot of this machine, this container."""
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux
    return "/".join(parts)


def _start_of(pid: int) -> str | None:
    """When a process started; "?" if it runs but does not say, None if it does not run."""
    try:
        # The name in brackets may hold blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # killed, not yet buried by its parent
    except (OSError, IndexError):
        pass  # no such process, no /proc, or one that hides the processes of others
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # it runs, as another user
    return "?"
