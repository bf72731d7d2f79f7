"""The store that processes and runs share: an SQLite database in a folder.

SQLite was chosen over LMDB, diskcache and zarr after measuring all four: see the page on the
store in the documentation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..config import whole_bytes
from ..exceptions import StoreError, StoreWarning, shown
from . import _claims
from ._base import Record, Store, StoreInfo, check_keys, decode, encode
from ._claims import LEASE, chunks, keep_alive, marks, owner
from ._database import (
    BUSY_SECONDS,
    FORMAT_VERSION,
    RETRY_SECONDS,
    SIBLINGS,
    Database,
    ForeignFileError,
    code_of,
    is_damage,
    the_one,
)

T = TypeVar("T")

_POLL = (0.005, 0.1)  # seconds between two looks while waiting: at first, at most
# What may pass, so that hours of work must not stop for it.
_PASSING_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
_PASSING_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_warned: set[tuple[Path, str]] = set()


class DiskStore(Store):
    """Rows in a folder on disk, for any number of threads, processes and runs at once.

    A process may be killed at any moment, and the disk may run full: the rows that were
    written stay, and none is ever wrong: each has a checksum, and one that is damaged counts as
    missing. A batch is kept as a whole or not at all. What cannot be kept is a `StoreWarning`,
    not an error, and so is a lock of another program, which is waited for three seconds. `clear`
    gives the disk space back; the ``bytes`` of `info` are those in use.

    Parameters
    ----------
    path : str or os.PathLike
        The folder; made on demand, parents too. Copies and pickles hold the path alone.
    max_bytes : int or None, default=None
        Bound on the size of the database; the oldest rows go first. Its log takes up to
        8 MB more. ``None`` means no bound.
    lease : float, default=10.0
        Seconds after which what a process had claimed that was killed or stopped is free. A
        process that lives gives a sign of life four times in a lease.

    Raises
    ------
    StoreError
        The folder cannot be made, is a file, or cannot be written and holds no store yet; or
        a link, a pipe or a folder stands where a file of the store should.
    ValueError
        ``max_bytes`` is not a whole number of at least 1 MB.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        lease: float = LEASE,
    ) -> None:
        # Absolute: a worker process may stand in another folder.
        try:
            self.path = Path(os.path.abspath(Path(path).expanduser()))
        except RuntimeError as error:  # in a container, for one
            raise StoreError(
                f"cache={shown(path)}: this user has no home folder; write the whole path."
            ) from error
        self.max_bytes = None
        if max_bytes is not None:
            self.max_bytes = whole_bytes("max_bytes", max_bytes, 2**20)
        self.lease = lease
        try:
            database(self.path)
        except StoreError:
            raise
        except (OSError, sqlite3.DatabaseError, ValueError) as error:  # of a zero byte in it
            if not _may_pass(error):
                raise StoreError(_why_not(self.path, error)) from error
            self._warn("opened", error)

    def get_many(self, space: str, keys: Sequence[bytes]) -> list[np.ndarray | None]:
        check_keys(keys)
        found: dict[bytes, np.ndarray] = {}
        damaged: list[int] = []
        self._attempt("read", lambda base: read(base.sql, space, keys, found, damaged), None)
        if damaged:
            # To remove a row from tables that do not hang together would spoil others.
            self._attempt("read", lambda base: base.check(), None)
            self._write(lambda sql: repair(sql, damaged), None)
            self._warn("trusted", f"{len(damaged)} rows are damaged; is the disk failing?")
        return [found.get(key) for key in keys]

    def knows(self, spaces: Sequence[str], keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        none: set[bytes] = set()
        found = self._attempt("read", lambda base: known(base.sql, spaces, keys), none)
        return [key in found for key in keys]

    def discard(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        self._write(lambda sql: discard(sql, space, keys), None)
        self._warn("trusted", f"{len(keys)} rows are not codes of this network")

    def put_many(self, space: str, keys: Sequence[bytes], rows: Sequence[np.ndarray]) -> None:
        check_keys(keys, rows)
        records = [encode(space, key, row) for key, row in zip(keys, rows, strict=True)]

        def put(sql: sqlite3.Connection) -> bool:
            write(sql, space, keys, records)
            _claims.fulfil(sql, space, keys)
            if self.max_bytes is not None:
                evict(sql, self.max_bytes)
            return True

        if not self._write(put, False):
            # Nobody must wait for rows that could not be kept.
            self._write(lambda sql: _claims.fulfil(sql, space, keys), None)

    def claim(self, space: str, keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        me = owner()

        def take(sql: sqlite3.Connection) -> list[bool]:
            return _claims.claim(sql, me, space, keys, self.lease)

        # Where nobody can write down who does what, everybody does everything.
        granted = self._write(take, [True] * len(keys))
        if any(granted):
            keep_alive((self.path, self.lease), self.lease, self._beat)
        return granted

    def _beat(self) -> bool:
        """Renew the claims of this process; False if there are none, or nothing to renew."""
        if not self.path.is_dir():
            return False
        try:
            base = database(self.path)
            if numbers := _claims.claimers_here(base.sql):
                with base.transaction() as sql:
                    _claims.renew(sql, numbers)
            return bool(numbers)
        except (OSError, sqlite3.Error, UnicodeDecodeError, StoreWarning):
            return True  # the next time, maybe
        finally:
            forget(self.path)

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        me = owner()
        self._write(lambda sql: _claims.release(sql, me, space, keys), None)

    def wait(self, space: str, keys: Sequence[bytes], timeout: float | None = None) -> bool:
        check_keys(keys)
        me, left, pause = owner(), list(keys), _POLL[0]
        end = None if timeout is None else time.monotonic() + timeout

        def look(base: Database) -> list[bytes]:
            return _claims.held_by_others(base.sql, me, space, left, self.lease)

        nobody: list[bytes] = []
        while left := self._attempt("read", look, nobody):
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
            pause = min(2 * pause, _POLL[1])
        return True

    def clear(self, space: str | None = None) -> None:
        self._write(lambda sql: clear(sql, space), None)
        self._attempt("written", lambda base: base.shrink(), None)

    def info(self) -> StoreInfo:
        nothing: dict[str, int] = {}
        spaces = self._attempt("read", lambda base: count(base.sql), nothing)
        size = self._attempt("read", lambda base: used_bytes(base.sql), 0)
        return StoreInfo(sum(spaces.values()), size, spaces, self.max_bytes)

    def close(self) -> None:
        """Close the calling thread's connection; the next use opens another."""
        forget(self.path)

    def _attempt(self, what: str, action: Callable[[Database], T], otherwise: T) -> T:
        """Do something with the database; where that fails, say so once and continue."""
        if is_locked(self.path, what):
            return otherwise
        for again in (True, False):
            base = None
            try:
                base = database(self.path)
                return action(base)
            except sqlite3.ProgrammingError:
                raise  # a mistake of ours, which must show
            except (OSError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if again and base is not None and is_damage(error):
                    self._recover(base)
                    continue
                if code_of(error) == sqlite3.SQLITE_BUSY:
                    note_locked(self.path, what)
                self._warn(what, error)
                return otherwise
        return otherwise

    def _write(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        def within_transaction(base: Database) -> T:
            with base.transaction() as sql:
                return action(sql)

        return self._attempt("written", within_transaction, otherwise)

    def _recover(self, base: Database) -> None:
        forget(self.path)
        if base.mode == "rwc":  # else it is not ours, or being changed under our eyes
            with contextlib.suppress(OSError):
                set_aside(base.path)

    def _warn(self, what: str, cause: object) -> None:
        topic = "damage" if what == "trusted" else "access"  # that it fails, not each way it does
        if (self.path, topic) not in _warned:
            _warned.add((self.path, topic))
            warnings.warn(
                f"The store of codes in {shown(self.path)} could not be {what} ({shown(cause)}). "
                "The codes are right, but some have to be computed again. This is said once.",
                StoreWarning,
                stacklevel=4,
            )

    def __copy__(self) -> DiskStore:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DiskStore:
        return self

    def __repr__(self) -> str:
        bound = "" if self.max_bytes is None else f", max_bytes={self.max_bytes}"
        return f"DiskStore({str(self.path)!r}{bound})"


def _may_pass(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return code_of(error) in _PASSING_CODES
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def _why_not(path: Path, error: Exception) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return (
            f"The store of codes must be a folder, but {shown(path)}, or a part of this path, is "
            "a file. Name another folder."
        )
    return (
        f"The store of codes in {shown(path)} cannot be opened ({shown(error)}): make this folder "
        "writable, or name another one."
    )


# The database files of a folder, and the open ones of each thread.


_NAME = re.compile(rf"codes-v{FORMAT_VERSION}(?:-(\d+))?\.sqlite(?:\.corrupt-[\d-]+)?")
_ATTEMPTS = 20
_local = threading.local()
# What another program's lock did not let happen in a folder, and until when not to wait again.
_locked: dict[tuple[Path, str], float] = {}


def database(folder: Path) -> Database:
    """Give the calling thread's connection to a folder, which is made on demand."""
    opened: dict[Path, Database] = _local.__dict__.setdefault("databases", {})
    found = opened.pop(folder, None)  # one that is of no use any more closes when it is dropped
    if found is None or found.pid != os.getpid() or not found.is_current():
        found = _open_newest(folder)
    opened[folder] = found
    return found


def forget(folder: Path) -> None:
    """Close the calling thread's connection to a folder."""
    _local.__dict__.setdefault("databases", {}).pop(folder, None)


def note_locked(folder: Path, what: str) -> None:
    """Remember that a lock was waited for in vain, so that not every call waits."""
    _locked[folder, what] = time.monotonic() + RETRY_SECONDS


def is_locked(folder: Path, what: str) -> bool:
    """Tell whether a lock was waited for in vain a short time ago."""
    return time.monotonic() < _locked.get((folder, what), 0.0)


def set_aside(path: Path) -> None:
    """Rename a damaged file, and warn. Another process may have done it just before."""
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in SIBLINGS:
        try:
            os.replace(f"{path}{end}", f"{aside}{end}")
        except FileNotFoundError:
            pass
    warnings.warn(
        f"The store of codes {shown(path)} is damaged; it was moved to {shown(aside)} and a new "
        "one begun. "
        "What it held is computed again. A failing disk may be the cause.",
        StoreWarning,
        stacklevel=2,
    )


def _open_newest(folder: Path) -> Database:
    folder.mkdir(parents=True, exist_ok=True)
    newest = _newest(folder)
    for number in range(newest, newest + _ATTEMPTS):
        path = folder / f"codes-v{FORMAT_VERSION}{f'-{number}' if number else ''}.sqlite"
        try:
            return _open(path)
        except ForeignFileError:
            continue  # not ours to touch
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            set_aside(path)
    raise StoreError(
        f"No usable store of codes could be made in {shown(folder)}: {_ATTEMPTS} files there are "
        "of other programs. Name another folder."
    )


def _newest(folder: Path) -> int:
    """Number of the newest file; the one after it if that was set aside."""
    number = 0
    for name in os.listdir(folder):
        if match := _NAME.fullmatch(name):
            number = max(number, int(match[1] or 0) + (".corrupt-" in name))
    return number


def _open(path: Path) -> Database:
    patience = 0.0 if is_locked(path.parent, "opened") else BUSY_SECONDS
    end = time.monotonic() + patience
    while True:
        try:
            return Database(path, patience=patience)
        except sqlite3.OperationalError as error:
            # Two that make the same file at once: SQLite does not wait by itself here.
            if code_of(error) == sqlite3.SQLITE_BUSY:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                note_locked(path.parent, "opened")
            if (found := _open_to_read(path)) is not None:
                return found
            raise


def _open_to_read(path: Path) -> Database | None:
    """Use what is there where nothing can be written: a read-only folder, a full disk."""
    log = Path(f"{path}-wal")
    settled = not log.exists() or log.stat().st_size == 0
    for mode in ("ro", "immutable") if settled else ("ro",):
        try:
            return Database(path, mode, patience=0.0)
        except (sqlite3.DatabaseError, UnicodeDecodeError, ForeignFileError):
            continue
    return None


# Rows in the database: reading, writing, forgetting, counting.


def read(
    sql: sqlite3.Connection,
    space: str,
    keys: Sequence[bytes],
    found: dict[bytes, np.ndarray],
    damaged: list[int],
) -> None:
    """Look rows up, and the numbers of damaged ones. What was found before an error is not lost."""
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
    """Tell which keys have a row in one of some spaces; the rows are not read."""
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
    """Add rows; those that are there stay as they are."""
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
    """Remove rows by space and key."""
    for some in chunks(keys):
        sql.execute(
            f"DELETE FROM rows WHERE space = (SELECT id FROM spaces WHERE name = ?) "
            f"AND key IN ({marks(some)})",
            (space, *some),
        )


def repair(sql: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Remove rows by number, and put indexes right, which may be damaged as well."""
    sql.executemany("DELETE FROM rows WHERE id = ?", [(number,) for number in numbers])
    sql.execute("REINDEX rows")
    sql.execute("REINDEX spaces")


def used_bytes(sql: sqlite3.Connection) -> int:
    """Count the bytes of the file that are in use, without looking at the rows."""
    size, pages, free = (
        the_one(sql.execute(f"PRAGMA {name}"))
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (pages - free))


def evict(sql: sqlite3.Connection, max_bytes: int) -> None:
    """Remove the oldest rows until the file uses no more than it may."""
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
    """Remove the rows of one space, or all."""
    if space is None:
        sql.execute("DELETE FROM rows")
        sql.execute("DELETE FROM spaces")
    else:
        sql.execute(
            "DELETE FROM rows WHERE space = (SELECT id FROM spaces WHERE name = ?)", (space,)
        )
        sql.execute("DELETE FROM spaces WHERE name = ?", (space,))


def count(sql: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of each space."""
    return dict(
        sql.execute(
            "SELECT name, n FROM (SELECT space, count(*) AS n FROM rows GROUP BY space) "
            "JOIN spaces ON spaces.id = space ORDER BY name"
        ).fetchall()
    )
