"""The database files of a folder, and the open ones of each thread."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import warnings
from pathlib import Path

from ..exceptions import StoreError, StoreWarning, shown
from ._database import (
    BUSY_SECONDS,
    FORMAT_VERSION,
    RETRY_SECONDS,
    SIBLINGS,
    Database,
    ForeignFileError,
    code_of,
    is_damage,
)

_NAME = re.compile(rf"codes-v{FORMAT_VERSION}(?:-(\d+))?\.sqlite(?:\.corrupt-[\d-]+)?")
_ATTEMPTS = 20
_local = threading.local()
# What another program's lock did not let happen in a folder, and until when not to wait again.
_locked: dict[tuple[Path, str], float] = {}


def database(folder: Path) -> Database:
    """Give the calling thread's connection to a folder; open it where there is none.

    Parameters
    ----------
    folder : Path
        Absolute; made on demand, parents too.

    Returns
    -------
    Database

    Raises
    ------
    OSError
        The folder cannot be made or listed.
    sqlite3.Error
        The file in it cannot be opened.
    """
    opened: dict[Path, Database] = _local.__dict__.setdefault("databases", {})
    found = opened.pop(folder, None)  # one that is of no use any more closes when it is dropped
    if found is None or found.pid != os.getpid() or not found.is_current():
        found = _open_newest(folder)
    opened[folder] = found
    return found


def forget(folder: Path) -> None:
    """Close the calling thread's connection to a folder.

    Parameters
    ----------
    folder : Path
        Absolute.
    """
    _local.__dict__.setdefault("databases", {}).pop(folder, None)


def note_locked(folder: Path, what: str) -> None:
    """Remember that a lock was waited for in vain, so that not every call waits.

    Parameters
    ----------
    folder : Path
        Absolute.
    what : str
        What it did not let happen.
    """
    _locked[folder, what] = time.monotonic() + RETRY_SECONDS


def is_locked(folder: Path, what: str) -> bool:
    """Tell whether a lock was waited for in vain a short time ago.

    Parameters
    ----------
    folder : Path
        Absolute.
    what : str
        What it did not let happen.

    Returns
    -------
    bool
    """
    return time.monotonic() < _locked.get((folder, what), 0.0)


def set_aside(path: Path) -> None:
    """Rename a damaged file, and warn. Another process may have done it just before.

    Parameters
    ----------
    path : Path
        The file.

    Warns
    -----
    StoreWarning
        Names the new path.
    """
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in SIBLINGS:
        try:
            os.replace(f"{path}{end}", f"{aside}{end}")
        except FileNotFoundError:
            pass
    warnings.warn(
        f"the store of codes {shown(path)} is damaged; it was moved to {shown(aside)} and a new "
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
        f"no usable store of codes could be made in {shown(folder)}: {_ATTEMPTS} files there are "
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
