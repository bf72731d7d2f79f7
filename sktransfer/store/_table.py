"""Rows in the database: reading, writing, forgetting, counting."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from ._claims import chunks, marks
from ._database import the_one
from ._rows import Record, decode


def read(
    sql: sqlite3.Connection,
    space: str,
    keys: Sequence[bytes],
    found: dict[bytes, np.ndarray],
    damaged: list[int],
) -> None:
    """Look rows up. What was found before an error is not lost.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    found : dict of bytes to ndarray
        Sound rows are added to it.
    damaged : list of int
        The numbers of rows that are not sound are added to it.
    """
    for some in chunks(keys):
        rows = sql.execute(
            "SELECT id, key, dtype, shape, checksum, data FROM rows "
            f"WHERE space = (SELECT id FROM spaces WHERE name = ?) AND key IN ({marks(some)})",
            (space, *some),
        )
        for number, key, *fields in rows:
            row = decode(space, key, Record(*fields))
            if row is None:
                damaged.append(number)
            else:
                found[key] = row


def known(sql: sqlite3.Connection, spaces: Sequence[str], keys: Sequence[bytes]) -> set[bytes]:
    """Tell which keys have a row in one of some spaces; the rows are not read.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.
    spaces : sequence of str
        Fingerprints of the spaces.
    keys : sequence of bytes
        16 bytes each.

    Returns
    -------
    set of bytes
    """
    numbers = [
        number
        for some in chunks(spaces)
        for (number,) in sql.execute(f"SELECT id FROM spaces WHERE name IN ({marks(some)})", some)
    ]
    found: set[bytes] = set()
    for number in numbers:
        for some in chunks([key for key in keys if key not in found]):
            query = f"SELECT key FROM rows WHERE space = ? AND key IN ({marks(some)})"
            found.update(key for (key,) in sql.execute(query, (number, *some)))
    return found


def write(
    sql: sqlite3.Connection, space: str, keys: Sequence[bytes], records: Sequence[Record]
) -> None:
    """Add rows; those that are there stay as they are.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    space : str
        Fingerprint of the space.
    keys : sequence of bytes
        16 bytes each.
    records : sequence of Record
        One per key.
    """
    sql.execute("INSERT OR IGNORE INTO spaces (name) VALUES (?)", (space,))
    number = the_one(sql.execute("SELECT id FROM spaces WHERE name = ?", (space,)))
    insert = (
        "INSERT OR IGNORE INTO rows (space, key, dtype, shape, checksum, data) "
        "VALUES (?, ?, ?, ?, ?, ?)"
    )
    values = [(number, key, *record) for key, record in zip(keys, records, strict=True)]
    if sql.executemany(insert, values).rowcount == len(keys):
        return
    # Others had some of them before; or what stands there is damaged, row or index.
    found: dict[bytes, np.ndarray] = {}
    damaged: list[int] = []
    read(sql, space, keys, found, damaged)
    if len(found) < len(set(keys)):
        repair(sql, damaged)
        sql.executemany(insert, values)


def discard(sql: sqlite3.Connection, space: str, keys: Sequence[bytes]) -> None:
    """Remove rows by space and key.

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
        sql.execute(
            f"DELETE FROM rows WHERE space = (SELECT id FROM spaces WHERE name = ?) "
            f"AND key IN ({marks(some)})",
            (space, *some),
        )


def repair(sql: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Remove rows by number, and put indexes right, which may be damaged as well.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    numbers : sequence of int
        As `read` reports them.
    """
    sql.executemany("DELETE FROM rows WHERE id = ?", [(number,) for number in numbers])
    sql.execute("REINDEX rows")
    sql.execute("REINDEX spaces")


def used_bytes(sql: sqlite3.Connection) -> int:
    """Count the bytes of the file that are in use, without looking at the rows.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.

    Returns
    -------
    int
    """
    size, pages, free = (
        the_one(sql.execute(f"PRAGMA {name}"))
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (pages - free))


def evict(sql: sqlite3.Connection, max_bytes: int) -> None:
    """Remove the oldest rows until the file uses no more than it may.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    max_bytes : int
        The bound.
    """
    # Oldest first, not least recently used: noting each use would make every reader a writer.
    while (excess := used_bytes(sql) - max_bytes) > 0:
        excess += max_bytes // 50  # so that not every batch has to evict
        oldest = []
        for number, size in sql.execute("SELECT id, length(data) FROM rows ORDER BY id"):
            oldest.append(number)
            excess -= size
            if excess <= 0:
                break
        if not oldest:
            return
        sql.execute("DELETE FROM rows WHERE id <= ?", oldest[-1:])


def clear(sql: sqlite3.Connection, space: str | None) -> None:
    """Remove the rows of one space, or all.

    Parameters
    ----------
    sql : sqlite3.Connection
        In a transaction that may write.
    space : str or None
        Fingerprint of the space; ``None`` means every space.
    """
    if space is None:
        sql.execute("DELETE FROM rows")
        sql.execute("DELETE FROM spaces")
    else:
        sql.execute(
            "DELETE FROM rows WHERE space = (SELECT id FROM spaces WHERE name = ?)", (space,)
        )
        sql.execute("DELETE FROM spaces WHERE name = ?", (space,))


def count(sql: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of each space.

    Parameters
    ----------
    sql : sqlite3.Connection
        Nothing is written.

    Returns
    -------
    dict of str to int
    """
    return dict(
        sql.execute(
            "SELECT name, n FROM (SELECT space, count(*) AS n FROM rows GROUP BY space) "
            "JOIN spaces ON spaces.id = space ORDER BY name"
        ).fetchall()
    )
