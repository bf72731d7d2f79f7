"""`transform_to`: codes that go to disk as they are computed, and a pass that can be resumed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._files import NO_LINK, no_regular_file
from ..compute._frozen_pass import FrozenPass, normalize_rows
from ..exceptions import CodesFileError, ImageError, ImageSkippedWarning, shown
from ..inputs import Images, skipped, unreadable

__all__ = ["OR_NAN", "CodeFile", "Journal", "TransformReport", "check_target", "write_codes"]


DTYPES = ("float32", "float16")


# What to do about an image that cannot be read, besides fixing it.
OR_NAN = ', or have a row of NaN with on_error="nan"'


def write_codes(
    frozen: FrozenPass,
    images: Images,
    place: Path,
    kind: np.dtype,
    *,
    overwrite: bool,
    normalize: str | None,
    stop_at_error: bool,
    progress: AbstractContextManager[Any],
    began: float,
) -> TransformReport:
    """Fill a file with rows of codes, one for each image."""
    shape = (len(images), *frozen.shape)
    facts = _facts(frozen, shape, kind, normalize)
    file = CodeFile(place, shape, kind, facts, overwrite=overwrite, normalize=normalize)
    try:
        if not overwrite:
            _check_photographs(file, images)
        with progress as bar:
            errors = frozen.fill(
                images, file, known=file.holds, stop_at_error=stop_at_error, progress=bar
            )
        if errors and stop_at_error:
            kept = f"the codes computed so far are kept in {shown(file.partial)}: call again to"
            raise unreadable(errors[:1], f"{OR_NAN}; {kept} resume") from errors[0]
        file.finish()
    finally:
        file.close()
    if errors:
        warnings.warn(skipped(errors, len(images)), ImageSkippedWarning, stacklevel=3)
    return TransformReport(
        place, shape, kind, file.n_new, file.n_known, tuple(errors), time.monotonic() - began
    )


def check_target(path: str | os.PathLike[str], dtype: Any) -> tuple[Path, np.dtype]:
    """Where codes are to be written, and as what numbers.

    Raises
    ------
    ValueError
        If the path does not end in ``.npy``, or the dtype is another than those allowed.
    CodesFileError
        If no file can be written there.
    """
    return _check_path(path), _check_dtype(dtype)


def _check_path(path: str | os.PathLike[str]) -> Path:
    place = Path(os.fsdecode(path))
    if place.suffix != ".npy":
        raise ValueError(f'path must end in ".npy", NumPy\'s own format, got {shown(path)}.')
    try:
        place = place.expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(place)
        found, is_folder = place.parent.is_dir(), place.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        # A zero byte, a name too long, no right to look, no home.
        raise CodesFileError(
            f"codes cannot be written to {shown(path)}: {shown(error)}. Give another path."
        ) from error
    if not found:
        raise CodesFileError(
            f"the folder {shown(place.parent)}, where {shown(place.name)} is to be, was not found."
            " Make it first, or give another path."
        )
    if is_folder:
        raise CodesFileError(f"{shown(place)} is a folder. Give the name of a file in it.")
    return place


def _check_dtype(dtype: Any) -> np.dtype:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = "?"
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}.")
    return np.dtype(name)


def _facts(
    frozen: FrozenPass, shape: tuple[int, ...], dtype: np.dtype, normalize: str | None
) -> Any:
    """Everything but the images that decides what is in the file, as JSON has it.

    The fingerprint, which is the address of the codes in the store, covers the weights and
    all that is done to pixels; the rest tells a reader what differs.
    """
    engine, precision = frozen.runs_on
    facts = {
        "shape": shape,
        "dtype": dtype.name,
        "network": frozen.network.name,
        "layers": [layer.name for layer in frozen.layers],
        "pooling": frozen.pooling,
        "normalize": normalize,
        "image size": frozen.preparation.shape[:2],
        "resize": getattr(frozen.preparation, "resize", None),
        "engine": engine,
        "precision": precision,
        "fingerprint": frozen.addresses,
    }
    return json.loads(json.dumps(facts))


def _check_photographs(file: CodeFile, images: Images) -> None:
    """Refuse another list before a row of the old one is lost."""

    def digest_of(number: int) -> bytes | None:
        try:
            return images.open(number).digest
        except ImageError:
            return None

    if file.of_other_photographs(digest_of):
        raise CodesFileError(
            f"{shown(file.path)} is of other images, or of these in another order. Give another "
            "path, or replace it with overwrite=True."
        )


# An array of codes on disk that is filled row by row and survives its writer.


_REMEDY = "Give another path, or replace it with overwrite=True."
# What the journal takes: each row in it, and each row anew in its log until that is written back.
_JOURNAL_ROW, _LOG_ROW, _LOG_ROWS, _JOURNAL_START = 64, 1100, 1000, 100_000
_SAMPLE = 32  # rows that tell whether a file is of these photographs


class CodeFile:
    """Rows of a ``.npy`` file; while some are missing its name ends in ``.partial``.

    A row is written first and then noted in the journal together with its checksum, so
    that a row which is noted is there, whatever ends the process or the machine. Rows are
    written, not mapped: they do not count as memory of the process, and a full disk is an
    error where a map would kill the process.

    Parameters
    ----------
    path : Path
        Ends in ``.npy``.
    shape : tuple of int
    dtype : numpy.dtype
    facts : mapping of str to JSON values
        What the codes are of.
    overwrite : bool
        Whether a file of something else may be replaced.
    normalize : {"l2", "power"} or None

    Raises
    ------
    CodesFileError
        If the file is of something else, is being written by another process, is no regular
        file, or there is no room for it.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        facts: Mapping[str, Any],
        *,
        overwrite: bool,
        normalize: str | None = None,
    ):
        self.path, self.shape, self.dtype, self.normalize = path, shape, dtype, normalize
        self.partial = path.with_name(path.name + ".partial")
        self.n_new = self.n_known = self.n_skipped = 0
        self._digests: dict[int, bytes] = {}
        for place in (self.path, self.partial):
            if wrong := no_regular_file(place):
                raise CodesFileError(f"{wrong}. Remove it, or give another path.")
        self.journal = Journal(path.with_name(path.name + ".journal"))
        self._file: Any = None
        try:
            self._check_facts(facts, overwrite)
            self._current = self._find() or self._create(facts)
            self._open()
        except BaseException:
            self.close()
            raise

    def _check_facts(self, facts: Mapping[str, Any], overwrite: bool) -> None:
        there = self.journal.facts()
        # What was allowed to be replaced when the pass began still is.
        self._replaces = overwrite or there.pop("replaces", False) is True
        other = [name for name in facts if there and there.get(name) != facts[name]]
        if not other:
            return
        if not overwrite:
            # The fingerprint says something only where nothing else does.
            told = [name for name in other if name != "fingerprint"] or other
            differ = "; ".join(
                f"{name} {shown(repr(there.get(name)))}, now {shown(repr(facts[name]))}"
                for name in told
            )
            raise CodesFileError(f"{shown(self.path)} is of something else: {differ}. {_REMEDY}")
        self.journal.clear()

    def _find(self) -> Path | None:
        """The file with the rows that the journal knows."""
        if not self.journal.facts():
            return None
        for path in (self.partial, self.path):
            found = self._array_in(path)
            if found is not None and (path == self.partial or self._is_ours(found)):
                return path
        return None

    def _array_in(self, path: Path) -> np.memmap | None:
        """The array of a file, if there is one of this shape and kind in it."""
        try:
            found: np.memmap = np.lib.format.open_memmap(path, mode="r")
        except Exception:  # of a damaged header NumPy's parser makes errors of a dozen kinds
            return None
        fits = found.shape == self.shape and found.dtype == self.dtype
        return found if fits and found.flags.c_contiguous else None

    def _is_ours(self, found: np.ndarray) -> bool:
        """Whether a finished array is the one that the journal speaks of."""
        noted = self.journal.some(_SAMPLE, self.shape[0])
        return not noted or any(
            _checksum(digest, found[number].tobytes()) == checksum
            for number, digest, checksum in noted
        )

    def _create(self, facts: Mapping[str, Any]) -> Path:
        if self.path.exists() and not self._replaces:
            raise CodesFileError(
                f"{shown(self.path)} is there already, and what it is of is not known. {_REMEDY}"
            )
        n_rows, needed = self.shape[0], int(np.prod(self.shape)) * self.dtype.itemsize
        beside = _JOURNAL_START + n_rows * _JOURNAL_ROW + min(n_rows, _LOG_ROWS) * _LOG_ROW
        free = shutil.disk_usage(self.path.parent).free
        if needed + beside > free:
            raise CodesFileError(
                errno.ENOSPC,
                f"the codes need {needed:,} bytes and the journal beside them {beside:,}, and the "
                f"disk has {free:,} left",
                shown(self.path),
            )
        self.journal.clear()
        try:
            self.partial.unlink(missing_ok=True)
            # Anew, never into what somebody has put there meanwhile.
            handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666)
            with open(handle, "r+b") as file:
                facts_of_array = {
                    "descr": np.lib.format.dtype_to_descr(self.dtype),
                    "fortran_order": False,
                    "shape": self.shape,
                }
                np.lib.format.write_array_header_1_0(file, facts_of_array)
                file.truncate(file.tell() + needed)
        except OSError as error:
            raise self._not_written(error) from error
        self.journal.begin({**facts, "replaces": self._replaces})
        return self.partial

    def _open(self) -> None:
        found = self._array_in(self._current)
        if found is None:
            raise CodesFileError(
                f"{shown(self._current)} was changed by someone else meanwhile. {_REMEDY}"
            )
        self._offset = found.offset
        self._row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        try:
            handle = os.open(self._current, os.O_RDWR | NO_LINK)
        except OSError as error:
            raise CodesFileError(
                error.errno, f"cannot be written: {error.strerror}", shown(self._current)
            ) from error
        self._file = open(handle, "r+b", buffering=0)

    def of_other_photographs(self, digest_of: Callable[[int], bytes | None]) -> bool:
        """Whether most of the rows that are there are not of these photographs."""
        some = self.journal.some(_SAMPLE, self.shape[0])
        noted = [(digest_of(number), digest) for number, digest, _ in some]
        known = [now == then for now, then in noted if now is not None]
        return 2 * sum(known) < len(known)

    def holds(self, index: int, digest: bytes) -> bool:
        """Whether the row of this photograph is there; else it is to be written."""
        noted = self.journal.get(index)
        if noted and noted == (digest, _checksum(digest, self._read(index))):
            self.n_known += 1
            return True
        self._digests[index] = digest
        return False

    def __setitem__(self, index: int, row: np.ndarray | float) -> None:
        if np.ndim(row) == 0:
            self._skip(index)
            return
        code = np.array(row, dtype=np.float32)
        code = normalize_rows(code[None], self.normalize)[0]
        with np.errstate(over="ignore"):
            data = code.astype(self.dtype)
        if not np.array_equal(np.isfinite(data), np.isfinite(code)):
            raise OverflowError(
                f"the code of image {index} reaches {np.abs(code).max():.6g}, more than "
                f'{self.dtype} can hold. Take dtype="float32", or normalize="l2"'
            )
        self._write(index, data.tobytes())
        digest = self._digests.pop(index)
        self.journal.put(index, digest, _checksum(digest, data.tobytes()))
        self.n_new += 1

    def _skip(self, index: int) -> None:
        """NaN for a photograph that cannot be read; it is tried again the next time."""
        self._digests.pop(index, None)
        self.n_skipped += 1
        if self.journal.get(index):
            self.journal.drop(index)
        nothing = np.full(self.shape[1:], np.nan, self.dtype).tobytes()
        if self._read(index) != nothing:
            self._write(index, nothing)

    def _read(self, index: int) -> bytes:
        self._file.seek(self._offset + index * self._row_bytes)
        data: bytes = self._file.read(self._row_bytes)
        return data

    def _write(self, index: int, data: bytes) -> None:
        if self._current == self.path:
            self._take_back()
        try:
            self._file.seek(self._offset + index * self._row_bytes)
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> CodesFileError:
        reason = f"{error.strerror}; make room and call again: what is done is kept"
        return CodesFileError(error.errno, reason, shown(self.partial))

    def _take_back(self) -> None:
        """A finished file that is to change is not finished."""
        self._file.close()
        os.replace(self.path, self.partial)
        self._current = self.partial
        self._open()

    def finish(self) -> None:
        """Give the file its name, now that all rows are there."""
        settled = self.n_new + self.n_known + self.n_skipped
        if settled != self.shape[0]:
            raise RuntimeError(f"{settled} of {self.shape[0]} rows were settled: please report it")
        os.fsync(self._file.fileno())
        self.close_file()
        if self._current == self.path:
            return
        if self.path.exists() and not self._replaces:
            raise CodesFileError(
                f"{shown(self.path)} was made by someone else meanwhile. The codes are all in "
                f"{shown(self.partial)}: move the former away and call again, or take "
                "overwrite=True."
            )
        os.replace(self.partial, self.path)

    def close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Let others at the file; what is written stays."""
        self.close_file()
        self.journal.close()


def _checksum(digest: bytes, row: bytes) -> bytes:
    return hashlib.sha256(digest + row).digest()[:8]


# What a file of codes is of and which of its rows are done: a small SQLite file beside it.


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
        if wrong := no_regular_file(*(f"{path}{end}" for end in ("", "-wal", "-shm", "-journal"))):
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


# What became of codes that were written to a file.


@dataclass(frozen=True, repr=False)
class TransformReport:
    """What `CNNCodes.transform_to` did.

    Attributes
    ----------
    path : Path
        The file, in NumPy's own format.
    shape : tuple of int
        Rows, and numbers in each.
    dtype : numpy.dtype
        Of the numbers.
    n_new : int
        Rows that this call wrote.
    n_known : int
        Rows that an earlier call had written.
    skipped : tuple of ImageError
        Photographs that could not be read, whose rows are NaN: each with its ``index``, its
        path as ``source``, and the ``cause``.
    seconds : float
        What this call took.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    n_new: int
    n_known: int
    skipped: tuple[ImageError, ...]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Photographs settled by this call, known ones among them, for each second."""
        return self.shape[0] / self.seconds

    def load(self) -> np.ndarray:
        """Map the file into memory; what is not looked at is not read.

        Returns
        -------
        codes : memmap of shape (n_samples, n_features)
            Read-only.
        """
        codes: np.ndarray = np.load(self.path, mmap_mode="r")
        return codes

    def __repr__(self) -> str:
        size = " × ".join(f"{side:,}" for side in self.shape)
        lines = [
            f"{self.path}: {size} {self.dtype}",
            f"  {self.n_new:,} rows new, {self.n_known:,} known, {len(self.skipped):,} skipped; "
            f"{self.seconds:.1f} s, {self.images_per_second:,.0f} images/s",
            *(f"  skipped {error}" for error in self.skipped[:10]),
        ]
        if len(self.skipped) > 10:
            lines.append(f"  … and {len(self.skipped) - 10:,} more")
        return "\n".join(lines)
