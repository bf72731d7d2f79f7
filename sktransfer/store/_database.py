"""One SQLite file in a folder: finding it, opening it, putting it aside when it is damaged.

A folder may hold several files. ``codes-v3.sqlite`` is the usual one; if that is damaged, or of
another program, ``codes-v3-1.sqlite`` follows, and so on: the newest is used. A name is never
used twice, because some process may still have the old file open, and SQLite finds the log of a
database by its name.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._files import no_regular_file
from ..exceptions import StoreError

FORMAT_VERSION = 3  # 1 had checksums that did not cover the space; 2 had other owners of claims
APPLICATION_ID = 0x736B7466  # "sktf", so that `file` and we know whose database it is
BUSY_SECONDS = 3  # for a lock of another; those of this package last for milliseconds
CHECK_SECONDS = 3  # for looking through a file in which damage was found
RETRY_SECONDS = 30  # until a file that could only be read is opened again
SIBLINGS = ("", "-wal", "-shm", "-journal")  # the ends of the names of SQLite's files
# Rows are 1 to 16 KB, and a page holds a whole number of their heads: with pages of 4 or 16 KB
# rows of 512 or 2048 float32 take twice their size on disk. Pages of 1 KB waste 1 to 8% (at most
# 38%, for rows of 384 numbers and fewer), for some 20 µs more a row.
PAGE_BYTES = 1024
LOG_PAGES = 4096  # until the log is written back into the file: 4 MB

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS rows (
    id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key BLOB NOT NULL,
    dtype TEXT NOT NULL, shape TEXT NOT NULL, checksum BLOB NOT NULL, data BLOB NOT NULL,
    UNIQUE (space, key));
CREATE TABLE IF NOT EXISTS owners (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, renewed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS claims (
    space TEXT NOT NULL, key BLOB NOT NULL, owner INTEGER NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
"""


class ForeignFileError(Exception):
    """The file is a sound database, but not of this format."""


class DamageError(sqlite3.DatabaseError):
    """What the database holds is not what this package has written."""


class Database:
    """An open connection; for one thread of one process.

    Mode "immutable" reads a file beside which nothing can be written.
    """

    def __init__(self, path: Path, mode: str = "rwc", *, patience: float) -> None:
        self.path, self.mode, self.pid = path, mode, os.getpid()
        if wrong := no_regular_file(*(f"{path}{end}" for end in SIBLINGS)):
            raise StoreError(f"{wrong}. Remove it, or name another folder for the store of codes.")
        query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
        self.sql = sqlite3.connect(
            f"{path.as_uri()}?{query}",
            uri=True,
            timeout=patience,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,  # the garbage collector may close it from any thread
        )
        try:
            self.sql.text_factory = _lenient_text
            # A damaged file must not lead SQLite astray, nor run what somebody put into it.
            self.sql.execute("PRAGMA trusted_schema = OFF")
            self.sql.execute("PRAGMA cell_size_check = ON")
            _check_format(self.sql, new_is_fine=mode == "rwc")
            if mode == "rwc":
                _prepare(self.sql, is_network_folder(path.parent))
                self.sql.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
            self._file = _identity(path)
            self._expires = math.inf if mode == "rwc" else time.monotonic() + RETRY_SECONDS
        except BaseException:
            self.sql.close()
            raise

    def is_current(self) -> bool:
        """Tell whether the file is still the one at its path.

        Returns
        -------
        bool
            False after somebody deleted or moved it, as what is written now would be lost; and
            after a while where it could be opened to read only, as that may have changed.
        """
        if time.monotonic() > self._expires:
            return False
        return self._file is not None and self._file == _identity(self.path)

    def close(self) -> None:
        """Close the connection."""
        self.sql.close()

    def __del__(self) -> None:
        if not hasattr(self, "sql"):
            return
        if self.pid == os.getpid():
            self.sql.close()
        else:  # a fork must not even close what belongs to its parent
            _inherited.append(self.sql)

    def check(self) -> None:
        """Raise `DamageError` if the pages do not hang together; look for some seconds at most."""
        end = time.monotonic() + CHECK_SECONDS
        self.sql.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            told = [line for (line,) in self.sql.execute("PRAGMA quick_check")]
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_INTERRUPT:
                raise
        else:
            # Values of the wrong type are the business of checksums.
            if wrong := [line for line in told if line != "ok" and " value in " not in line]:
                raise DamageError(wrong[0])
        finally:
            self.sql.set_progress_handler(None, 0)

    def shrink(self) -> None:
        """Give unused space back to the disk."""
        self.sql.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
        self.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, even for Ctrl-C and kill -9."""
        with _transaction(self.sql):
            yield self.sql


@contextmanager
def _transaction(sql: sqlite3.Connection) -> Iterator[None]:
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:  # some errors have rolled back already
            sql.execute("ROLLBACK")
        raise


_inherited: list[sqlite3.Connection] = []


def _lenient_text(text: bytes) -> str:
    return text.decode(errors="replace")  # damaged text is for the checksum to notice


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_format(sql: sqlite3.Connection, new_is_fine: bool) -> None:
    sql.execute("BEGIN")  # one moment for all: another process may be making the file just now
    application = the_one(sql.execute("PRAGMA application_id"))
    version = the_one(sql.execute("PRAGMA user_version"))
    schema = _schema_of(sql)
    sql.execute("COMMIT")
    if (application, version) == (APPLICATION_ID, FORMAT_VERSION):
        if schema != _right_schema():
            raise DamageError("its tables are not those of this package")
    elif (application, version, schema) != (0, 0, set()) or not new_is_fine:
        raise ForeignFileError(f"application {application:#x}, version {version}")


def _schema_of(sql: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(sql.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"))


@lru_cache(maxsize=1)
def _right_schema() -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as sql:
        sql.executescript(_SCHEMA)
        return _schema_of(sql)


def _prepare(sql: sqlite3.Connection, on_network: bool) -> None:
    sql.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # these two work on a new file only
    sql.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if on_network or not _write_ahead(sql):
        sql.execute("PRAGMA journal_mode = TRUNCATE")
    # A crash of the machine may lose the last rows, which can be computed again, no more.
    sql.execute("PRAGMA synchronous = NORMAL")
    sql.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    sql.execute(f"PRAGMA journal_size_limit = {2 * LOG_PAGES * PAGE_BYTES}")
    if the_one(sql.execute("PRAGMA user_version")) == FORMAT_VERSION:
        return
    with _transaction(sql):
        for statement in _SCHEMA.split(";"):
            sql.execute(statement)
        sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        sql.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def _write_ahead(sql: sqlite3.Connection) -> bool:
    try:
        return bool(the_one(sql.execute("PRAGMA journal_mode = WAL")) == "wal")
    except sqlite3.OperationalError as error:
        if code_of(error) == sqlite3.SQLITE_BUSY:
            raise
        return False


def the_one(answer: sqlite3.Cursor) -> Any:
    """Take the first field of the row that there must be, or it is a `DamageError`."""
    row = answer.fetchone()
    if row is None:
        raise DamageError("a row is missing that was just written")
    return row[0]


def code_of(error: Exception) -> int:
    """Give SQLite's primary result code; 0 if the error does not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: Exception) -> bool:
    """Tell a damaged file from one that cannot be used just now."""
    # SQLite quotes a damaged schema in its messages, which are then no text; on a sound file no
    # statement of ours breaks a constraint or misses a table.
    return (
        isinstance(error, DamageError | UnicodeDecodeError)
        or code_of(error) in _DAMAGE
        or (code_of(error) == sqlite3.SQLITE_ERROR and "no such" in str(error))
    )


_DAMAGE = (
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT,
)  # fmt: skip


# Is a folder on a network file system?


# SQLite's write-ahead log needs memory that all its users share. These file systems pretend to
# have it between machines, or between a machine and its host, and the database would suffer.
NETWORK_TYPES = frozenset(
    "9p afs beegfs ceph cifs davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs "
    "panfs pvfs2 smb3 smbfs vboxsf virtiofs".split()
)


def is_network_folder(folder: Path) -> bool:
    """Tell whether a folder may be shared by several machines, where the system says that."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:
        return False
    kind = file_system_type(folder.resolve(), mounts)
    return kind in NETWORK_TYPES or kind.startswith("fuse")


def file_system_type(folder: Path, mounts: str) -> str:
    """Find the file system of a folder in a table like ``/proc/self/mounts``; "" if it is none."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # Of two mounts on one point the later one is seen, hence >=.
        if len(point.parts) >= best and folder.is_relative_to(point):
            best, kind = len(point.parts), fields[2]
    return kind


def _unescape(text: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text
