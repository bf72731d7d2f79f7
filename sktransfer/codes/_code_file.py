"""An array of codes on disk that is filled row by row and survives its writer."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import CodesFileError, shown
from ..store._database import no_regular_file
from ._journal import Journal
from ._transforming import normalize_rows

__all__ = ["CodeFile"]

_REMEDY = "Give another path, or replace it with overwrite=True."
# What the journal takes: each row in it, and each row anew in its log until that is written back.
_JOURNAL_ROW, _LOG_ROW, _LOG_ROWS, _JOURNAL_START = 64, 1100, 1000, 100_000
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
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
            if wrong := no_regular_file(place, ("",)):
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
            handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666)
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
            handle = os.open(self._current, os.O_RDWR | _NO_LINK)
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
