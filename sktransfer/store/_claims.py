"""Claims in the database: which thread of which process is computing which row.

A claim names its owner; a sign of life is one number per owner, not per claim.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence

from ._owners import Owner, is_alive

CHUNK = 500  # SQLite before 3.32 takes 999 parameters
_IS = "host = ? AND pid = ? AND start = ? AND thread = ?"  # the fields of an Owner


def chunks(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut keys into as many as one statement can name.

    Parameters
    ----------
    keys : sequence of bytes
        Any number.

    Yields
    ------
    sequence of bytes
    """
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


def marks(keys: Sequence[bytes]) -> str:
    """Write ``?,?,?`` for an ``IN (...)``.

    Parameters
    ----------
    keys : sequence of bytes
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
    dead = {o for o in set(held.values()) - {me} if not _alive(sql, o, lease)}
    if dead:
        for owner in dead:
            _bury(sql, owner)
        _take(sql, mine, space, keys)
        held = holders(sql, space, keys)
    return [held.get(key) == me for key in keys]


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
        for owner, renewed in _owners(sql):  # once per thread: clean up after the dead
            if not is_alive(owner, renewed, lease):
                _bury(sql, owner)
        sql.execute(
            "INSERT INTO owners (renewed, host, pid, start, thread) VALUES (?, ?, ?, ?, ?)",
            (now, *me),
        )
    return int(sql.execute(f"SELECT id FROM owners WHERE {_IS}", me).fetchone()[0])


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
    alive = {o for o in set(held.values()) - {me} if _alive(sql, o, lease)}
    return [key for key, owner in held.items() if owner in alive]


def holders(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> dict[bytes, Owner]:
    """Look up who has claimed keys, dead or alive.

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
    dict of bytes to Owner
        Without the keys that nobody claims.
    """
    held = {}
    for some in chunks(keys):
        found = sql.execute(
            "SELECT key, host, pid, start, thread FROM claims JOIN owners ON owners.id = owner "
            f"WHERE space = ? AND key IN ({marks(some)})",
            (space, *some),
        )
        held.update({key: Owner(*owner) for key, *owner in found})
    return held


def release(sql: sqlite3.Connection, me: Owner, space: str, keys: Sequence[bytes]) -> None:
    """End the claims of one owner; within a transaction.

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


def _owners(sql: sqlite3.Connection) -> list[tuple[Owner, float]]:
    found = sql.execute("SELECT host, pid, start, thread, renewed FROM owners").fetchall()
    return [(Owner(*row[:4]), row[4]) for row in found]


def _alive(sql: sqlite3.Connection, owner: Owner, lease: float) -> bool:
    found = sql.execute(f"SELECT renewed FROM owners WHERE {_IS}", owner).fetchone()
    return found is not None and is_alive(owner, found[0], lease)


def _bury(sql: sqlite3.Connection, owner: Owner) -> None:
    sql.execute(f"DELETE FROM claims WHERE owner IN (SELECT id FROM owners WHERE {_IS})", owner)
    sql.execute(f"DELETE FROM owners WHERE {_IS}", owner)
