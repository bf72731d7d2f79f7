"""What a file of codes is of and which of its rows are done: a small SQLite file beside it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import CodesFileError, shown
from ..store._database import no_regular_file

__all__ = ["Journal"]

APPLICATION_ID = 0x736B746A  # "sktj"
_PATIENCE = 1.0  # seconds; who else has the file keeps it for the whole of a pass
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY, digest BLOB NOT NULL, checksum BLOB NOT NULL);
"""


class Journal:
    """An open journal, which nobody else can open meanwhile: it is the lock as well.

    SQLite holds the lock as long as this process lives, and a killed process leaves what
    it committed. Nothing waits for the disk: a row is believed only if its checksum fits.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CodesFileError
        Another process, or another thread, has it open; or it is damaged, or no regular file.
    """

    def __init__(self, path: Path):
        self.path = path
        if wrong := no_regular_file(path):
            raise CodesFileError(f"{wrong}. Remove it, or give another path.")
        try:
            self._sql = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._sql.close()
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise CodesFileError(self._explain(error)) from error

    def _prepare(self) -> None:
        sql = self._sql
        sql.execute("PRAGMA trusted_schema = OFF")
        sql.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = sql.execute("PRAGMA application_id").fetchone()[0]
        tables = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found != APPLICATION_ID and (found or tables):
            raise sqlite3.DatabaseError("it is a database of another program")
        sql.execute("PRAGMA page_size = 1024")  # a row is 40 bytes, and whole pages are logged
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = NORMAL")
        sql.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            sql.execute(statement)
        sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        sql.execute("COMMIT")

    def _explain(self, error: Exception) -> str:
        code, where = getattr(error, "sqlite_errorcode", 0) & 0xFF, shown(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return (
                f"another process or thread is writing these codes just now, or has their journal "
                f"open ({where} is locked). Wait until it has ended, or give another path."
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return (
                f"{where} could not be written: {error}; make room and call again: what is "
                "done is kept."
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return (
                f"the journal {where} cannot be opened for writing: {error}. Make its folder "
                "writable, or give another path."
            )
        return (
            f"the journal {where}, which says what the codes beside it are of, is damaged: "
            f"{shown(error)}. Delete it, and the file of codes beside it, to begin anew."
        )

    def facts(self) -> dict[str, Any]:
        """What the file is of; empty where it was not begun."""
        found = self._ask("SELECT name, value FROM facts")
        try:
            return {name: json.loads(value) for name, value in found}
        except (ValueError, TypeError, RecursionError) as error:
            raise CodesFileError(self._explain(error)) from error

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Say what the file is of, and that no row is done; all or nothing."""
        self._ask("BEGIN IMMEDIATE")
        self._ask("DELETE FROM rows")
        self._ask("DELETE FROM facts")
        for name, value in facts.items():
            self._ask("INSERT INTO facts VALUES (?, ?)", name, json.dumps(value))
        self._ask("COMMIT")

    def clear(self) -> None:
        """Forget everything: whoever finds the file knows that it was not begun."""
        self.begin({})

    def get(self, number: int) -> tuple[bytes, bytes] | None:
        """Digest of the image and checksum of a row that is done."""
        found = self._ask("SELECT digest, checksum FROM rows WHERE number = ?", number)
        return found[0] if found else None

    def put(self, number: int, digest: bytes, checksum: bytes) -> None:
        """Say that a row is done."""
        self._ask("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", number, digest, checksum)

    def drop(self, number: int) -> None:
        """Say that a row is not done."""
        self._ask("DELETE FROM rows WHERE number = ?", number)

    def some(self, count: int, n_rows: int) -> list[tuple[int, bytes, bytes]]:
        """Numbers, digests and checksums of some rows that are done, from all over the file."""
        total = self._ask("SELECT count(*) FROM rows")[0][0]
        query = "SELECT number, digest, checksum FROM rows ORDER BY number LIMIT 1 OFFSET ?"
        offsets = sorted({i * total // count for i in range(count)}) if total else []
        found = [row for offset in offsets for row in self._ask(query, offset)]
        # What is no such row is damaged: it will be computed again.
        return [
            row for row in found
            if list(map(type, row)) == [int, bytes, bytes] and 0 <= row[0] < n_rows
        ]  # fmt: skip

    def _ask(self, query: str, *values: Any) -> list[Any]:
        try:
            return self._sql.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise CodesFileError(self._explain(error)) from error

    def close(self) -> None:
        """Give up the lock."""
        self._sql.close()
