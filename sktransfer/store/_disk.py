"""The store that processes and runs share: an SQLite database in a folder.

SQLite was chosen over LMDB, diskcache and zarr after measuring all four: see the page on the
store in the documentation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..exceptions import StoreError, StoreWarning, shown
from . import _claims, _table
from ._base import Store, StoreInfo, check_keys, check_max_bytes
from ._database import Database, code_of, is_damage
from ._folder import database, forget, is_locked, note_locked, set_aside
from ._owners import LEASE, current_owner
from ._rows import encode

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
    lease : float, default=60.0
        Seconds without a sign of life after which a claim by another machine ends; five times
        that for a process of this machine that lives but hangs. One that died is noticed.

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
        self.max_bytes = None if max_bytes is None else check_max_bytes(max_bytes, 2**20)
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
        self._attempt("read", lambda base: _table.read(base.sql, space, keys, found, damaged), None)
        if damaged:
            # To remove a row from tables that do not hang together would spoil others.
            self._attempt("read", lambda base: base.check(), None)
            self._write(lambda sql: _table.repair(sql, damaged), None)
            self._warn("trusted", f"{len(damaged)} rows are damaged; is the disk failing?")
        return [found.get(key) for key in keys]

    def knows(self, spaces: Sequence[str], keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        none: set[bytes] = set()
        known = self._attempt("read", lambda base: _table.known(base.sql, spaces, keys), none)
        return [key in known for key in keys]

    def discard(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        self._write(lambda sql: _table.discard(sql, space, keys), None)
        self._warn("trusted", f"{len(keys)} rows are not codes of this network")

    def put_many(self, space: str, keys: Sequence[bytes], rows: Sequence[np.ndarray]) -> None:
        check_keys(keys, rows)
        records = [encode(space, key, row) for key, row in zip(keys, rows, strict=True)]

        def put(sql: sqlite3.Connection) -> bool:
            _table.write(sql, space, keys, records)
            _claims.fulfil(sql, space, keys)
            if self.max_bytes is not None:
                _table.evict(sql, self.max_bytes)
            return True

        if not self._write(put, False):
            # Nobody must wait for rows that could not be kept.
            self._write(lambda sql: _claims.fulfil(sql, space, keys), None)

    def claim(self, space: str, keys: Sequence[bytes]) -> list[bool]:
        check_keys(keys)
        me = current_owner()

        def take(sql: sqlite3.Connection) -> list[bool]:
            return _claims.claim(sql, me, space, keys, self.lease)

        # Where nobody can write down who does what, everybody does everything.
        return self._write(take, [True] * len(keys))

    def release(self, space: str, keys: Sequence[bytes]) -> None:
        check_keys(keys)
        me = current_owner()
        self._write(lambda sql: _claims.release(sql, me, space, keys), None)

    def wait(self, space: str, keys: Sequence[bytes], timeout: float | None = None) -> bool:
        check_keys(keys)
        me, left, pause = current_owner(), list(keys), _POLL[0]
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
        self._write(lambda sql: _table.clear(sql, space), None)
        self._attempt("written", lambda base: base.shrink(), None)

    def info(self) -> StoreInfo:
        nothing: dict[str, int] = {}
        spaces = self._attempt("read", lambda base: _table.count(base.sql), nothing)
        size = self._attempt("read", lambda base: _table.used_bytes(base.sql), 0)
        return StoreInfo(sum(spaces.values()), size, spaces, self.max_bytes)

    def close(self) -> None:
        """Close the calling thread's connection; the next use opens another."""
        forget(self.path)

    def _attempt(self, what: str, action: Callable[[Database], T], otherwise: T) -> T:
        """Do something with the database; where that fails, say so once and go on."""
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
                f"the store of codes in {shown(self.path)} could not be {what} ({shown(cause)}). "
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
            f"the store of codes must be a folder, but {shown(path)}, or a part of this path, is "
            "a file. Name another folder."
        )
    return (
        f"the store of codes in {shown(path)} cannot be opened ({shown(error)}): make this folder "
        "writable, or name another one."
    )
