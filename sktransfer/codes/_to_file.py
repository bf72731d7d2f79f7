"""`transform_to`: codes that go to disk as they are computed, and a pass that can be resumed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._files import NO_LINK, lock_file, no_regular_file
from ..compute import FrozenPass, normalize_rows
from ..exceptions import CodesFileError, ItemError, shown
from ..inputs import OR_NAN, skipped, unreadable

__all__ = ["CodeFile", "Journal", "TransformReport", "check_target", "write_codes"]


DTYPES = ("float32", "float16")


def write_codes(
    frozen: FrozenPass,
    items: Any,
    place: Path,
    kind: np.dtype,
    *,
    overwrite: bool,
    normalize: str | None,
    stop_at_error: bool,
    progress: AbstractContextManager[Any],
    began: float,
) -> TransformReport:
    """Fill a file with rows of codes, one for each item."""
    shape = (len(items), *frozen.shape)
    facts = _facts(frozen, shape, kind, normalize)
    file = CodeFile(
        place, shape, kind, facts, overwrite=overwrite, normalize=normalize, noun=items.noun
    )
    try:
        if not overwrite:
            _check_items(file, items)
        with progress as bar:
            errors = frozen.fill(
                items, file, known=file.holds, stop_at_error=stop_at_error, progress=bar
            )
        if errors and stop_at_error:
            kept = f"the codes computed so far are kept in {shown(file.partial)}: call again to"
            raise unreadable(errors[:1], f"{OR_NAN}; {kept} resume") from errors[0]
        file.finish()
    finally:
        file.close()
    if errors:
        warnings.warn(skipped(errors, len(items)), stacklevel=3)
    return TransformReport(
        place, shape, kind, file.n_new, file.n_known, tuple(errors), time.monotonic() - began
    )


def check_target(path: str | os.PathLike[str], dtype: Any) -> tuple[Path, np.dtype]:
    """Where codes are to be written, and as what numbers; or an error if they cannot be."""
    name = ""
    with suppress(TypeError):
        name = np.dtype(dtype).name
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}.")
    place = Path(os.fsdecode(path))
    if place.suffix != ".npy":
        raise ValueError(f'path must end in ".npy", NumPy\'s own format, got {shown(path)}.')
    try:
        place = place.expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(place)
        found = place.parent.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        # A zero byte, a name too long, no right to look, no home.
        raise CodesFileError(
            f"Codes cannot be written to {shown(path)}: {shown(error)}. Give another path."
        ) from error
    if not found:
        raise CodesFileError(
            f"The folder {shown(place.parent)}, where {shown(place.name)} is to be, was not found."
            " Make it first, or give another path."
        )
    return place, np.dtype(name)


def _facts(
    frozen: FrozenPass, shape: tuple[int, ...], dtype: np.dtype, normalize: str | None
) -> Any:
    """Everything but the items that decides what is in the file, as JSON has it.

    The fingerprint, which is the key of the codes in the store, covers the weights and
    all that is done to items; the rest tells a reader what differs.
    """
    engine, precision = frozen.runs_on
    facts = {
        "shape": shape,
        "dtype": dtype.name,
        "network": frozen.network.name,
        "layers": [layer.name for layer in frozen.layers],
        "pooling": frozen.pooling,
        "normalize": normalize,
        **frozen.preparation.facts,
        "engine": engine,
        "precision": precision,
        "fingerprint": frozen.spaces,
    }
    return json.loads(json.dumps(facts))


def _check_items(file: CodeFile, items: Any) -> None:
    """Refuse another list before a row of the old one is lost."""

    def digest_of(number: int) -> bytes | None:
        try:
            return items.open(number).digest
        except ItemError:
            return None

    if file.is_of_others(digest_of):
        raise CodesFileError(
            f"{shown(file.path)} is of other {items.noun}s, or of these in another order. {_REMEDY}"
        )


_REMEDY = "Give another path, or replace it with overwrite=True."
_SAMPLE = 32  # rows that tell whether a file is of these items


class CodeFile:
    """Rows of a ``.npy`` file; while some are missing its name ends in ``.partial``.

    A row is written first and then noted in the journal with its checksum: after a kill a row
    that is noted is there, and after a power cut one that is not there does not fit its
    checksum, so nothing waits for the disk. Rows are written, not mapped: they do not count as
    memory of the process, and a full disk is an error where a map would kill the process.
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
        noun: str = "image",
    ):
        self.noun = noun
        self.path, self.shape, self.dtype, self.normalize = path, shape, dtype, normalize
        self.partial = path.with_name(path.name + ".partial")
        self.n_new = self.n_known = self.n_skipped = 0
        self._n_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self._digests: dict[int, bytes] = {}
        self._file: Any = None
        journal = path.with_name(path.name + ".journal")
        if wrong := no_regular_file(path, self.partial, journal):
            raise CodesFileError(f"{wrong}. Remove it, or give another path.")
        self.journal = Journal(journal, shape[0])
        try:
            self._check_facts(facts, overwrite)
            if not (self.journal.facts and (self._open(self.partial) or self._open_finished())):
                self._create({**facts, "replaces": self._replaces})
        except BaseException:
            self.close()
            raise

    def _check_facts(self, facts: Mapping[str, Any], overwrite: bool) -> None:
        there = dict(self.journal.facts)
        # What was allowed to be replaced when the pass began still is.
        self._replaces = overwrite or there.pop("replaces", False) is True
        other = [name for name in facts if there and there.get(name) != facts[name]]
        if other and not overwrite:
            # The fingerprint says something only where nothing else does.
            told = [name for name in other if name != "fingerprint"] or other
            differ = "; ".join(
                f"{name} {shown(repr(there.get(name)))}, now {shown(repr(facts[name]))}"
                for name in told
            )
            raise CodesFileError(f"{shown(self.path)} holds other codes: {differ}. {_REMEDY}")
        if other:
            self.journal.begin({})

    def _open(self, path: Path) -> bool:
        """Open a file, if an array of this shape and kind is in it."""
        self.close_file()
        self._current = path
        if not path.exists():
            return False
        with _writing(path):
            self._file = open(os.open(path, os.O_RDWR | NO_LINK), "r+b", buffering=0)
        try:
            np.lib.format.read_magic(self._file)
            found = np.lib.format.read_array_header_1_0(self._file)
        except Exception:  # of a damaged header NumPy's parser makes errors of a dozen kinds
            return False
        self._start = self._file.tell()
        whole = self._start + self.shape[0] * self._n_bytes
        return found == (self.shape, False, self.dtype) and path.stat().st_size >= whole

    def _open_finished(self) -> bool:
        """Open the finished array, if it is the one that the journal speaks of."""
        if not self._open(self.path):
            return False
        some = [(self.journal[n], self._read(n)) for n in self.journal.some(_SAMPLE)]
        return not some or any(noted == _note(noted[:-_CHECK], row) for noted, row in some)

    def _create(self, facts: Mapping[str, Any]) -> None:
        if self.path.exists() and not self._replaces:
            raise CodesFileError(
                f"{shown(self.path)} exists already, and its content is not known. {_REMEDY}"
            )
        needed, beside = self.shape[0] * self._n_bytes, self.journal.bytes_of(facts)
        free = shutil.disk_usage(self.path.parent).free
        if needed + beside > free:
            raise CodesFileError(
                errno.ENOSPC,
                f"The codes need {needed:,} bytes and the journal beside them {beside:,}, and the "
                f"disk has {free:,} left",
                shown(self.path),
            )
        self.journal.begin({})
        self.close_file()
        with _writing(self.partial):
            self.partial.unlink(missing_ok=True)
            # Anew, never into what somebody has put there meanwhile.
            handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666)
            with open(handle, "r+b") as file:
                header = {"descr": np.lib.format.dtype_to_descr(self.dtype),
                          "fortran_order": False, "shape": self.shape}  # fmt: skip
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + needed)
        self.journal.begin(facts)
        self._take_partial()

    def _take_partial(self) -> None:
        if not self._open(self.partial):
            raise CodesFileError(
                f"{shown(self.partial)} was changed by another program meanwhile. {_REMEDY}"
            )

    def is_of_others(self, digest_of: Callable[[int], bytes | None]) -> bool:
        """Whether most of the rows that are there are not of these items."""
        some = [(digest_of(number), self.journal[number]) for number in self.journal.some(_SAMPLE)]
        known = [noted.startswith(now) for now, noted in some if now is not None]
        return 2 * sum(known) < len(known)

    def holds(self, index: int, digest: bytes) -> bool:
        """Whether the row of this item is there; else it is to be written."""
        noted = self.journal[index]
        if noted.startswith(digest) and noted == _note(digest, self._read(index)):
            self.n_known += 1
            return True
        self._digests[index] = digest
        return False

    def __setitem__(self, index: int, row: np.ndarray | float) -> None:
        """Write a row; NaN is of an item that cannot be read, which is tried again next time."""
        if np.ndim(row) == 0:
            self._digests.pop(index, None)
            self.n_skipped += 1
            nothing = np.full(self.shape[1:], np.nan, self.dtype).tobytes()
            if self._read(index) != nothing:
                self._write(index, nothing)
            self.journal[index] = bytes(_NOTE)
            return
        code = normalize_rows(np.array(row, dtype=np.float32)[None], self.normalize)[0]
        with np.errstate(over="ignore"):
            data = code.astype(self.dtype)
        if not np.array_equal(np.isfinite(data), np.isfinite(code)):
            raise OverflowError(
                f"The code of {self.noun} {index} reaches {np.abs(code).max():.6g}, more than "
                f'{self.dtype} can hold. Take dtype="float32", or normalize="l2".'
            )
        self._write(index, data.tobytes())
        self.journal[index] = _note(self._digests.pop(index), data.tobytes())
        self.n_new += 1

    def _read(self, index: int) -> bytes:
        self._file.seek(self._start + index * self._n_bytes)
        data: bytes = self._file.read(self._n_bytes)
        return data

    def _write(self, index: int, data: bytes) -> None:
        if self._current == self.path:  # a finished file that is to change is not finished
            self.close_file()
            os.replace(self.path, self.partial)
            self._take_partial()
        with _writing(self.partial):
            _write_at(self._file, self._start + index * self._n_bytes, data)

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
                f"{shown(self.path)} was created by another program meanwhile. All codes are in "
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


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the disk refuses, as an error that says what to do."""
    try:
        yield
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        what = "make it writable" if refused else "make room"
        raise CodesFileError(
            error.errno,
            f"{error.strerror}; {what} and call again: finished rows are kept",
            shown(path),
        ) from error


def _write_at(file: Any, place: int, data: bytes) -> None:
    file.seek(place)
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_CHECK, _NOTE = 8, 24  # bytes
_MAGIC = b"sktransfer codes 1 "


def _note(digest: bytes, row: bytes) -> bytes:
    """What is noted of a row: the digest of its item, and a checksum of both."""
    return digest + hashlib.sha256(digest + row).digest()[:_CHECK]


class Journal:
    """What a file of codes is of, in one line, and then a note of each row that is done.

    Nobody else can have it open meanwhile; the lock ends with the process.
    """

    def __init__(self, path: Path, n_rows: int):
        self.path, self._notes = path, np.zeros((n_rows, _NOTE), np.uint8)
        self.facts: dict[str, Any] = {}
        with _writing(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
        self._file = open(handle, "r+b", buffering=0)
        try:
            lock_file(self._file)
            self._load()
        except BlockingIOError as error:
            self.close()
            raise CodesFileError(
                "Another process or thread is writing these codes just now, or has their journal "
                f"open ({shown(path)} is locked). Wait until it has ended, or give another path."
            ) from error
        except OSError as error:
            self.close()
            raise CodesFileError(
                f"The journal {shown(path)} cannot be locked or read: {error.strerror}. Give a "
                "path on another disk."
            ) from error
        except ValueError as error:
            self.close()
            raise CodesFileError(
                f"The journal {shown(path)}, which describes the codes beside it, is damaged: "
                f"{shown(error)}. Delete it, and the file of codes beside it, to start again."
            ) from error

    def _load(self) -> None:
        self._file.seek(0)
        line, _, notes = self._file.read(2**20 + self._notes.size).partition(b"\n")
        if not line:
            return  # it was not begun
        text = line[len(_MAGIC) :].rpartition(b" ")[0]
        if line + b"\n" != _first_line(text):
            raise ValueError("its first line is not as it was written")
        self.facts, self._start = json.loads(text), len(line) + 1
        there = min(len(notes) // _NOTE, len(self._notes))
        self._notes[:there] = np.frombuffer(notes[: there * _NOTE], np.uint8).reshape(-1, _NOTE)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Say what the file is of, and that no row is done; of nothing: that it was not begun."""
        self.facts, self._notes[:] = dict(facts), 0
        with _writing(self.path):
            self._file.truncate(0)
            if facts:
                line = _first_line(json.dumps(self.facts).encode())
                self._start = len(line)
                _write_at(self._file, 0, line)
                self._file.truncate(self.bytes_of(facts))
                os.fsync(self._file.fileno())

    def bytes_of(self, facts: Mapping[str, Any]) -> int:
        """What a journal takes on disk."""
        return len(_first_line(json.dumps(dict(facts)).encode())) + self._notes.size

    def __getitem__(self, number: int) -> bytes:
        """The note of a row; zeros where it is not done."""
        return bytes(self._notes[number])

    def __setitem__(self, number: int, note: bytes) -> None:
        if note != self[number]:
            with _writing(self.path):
                _write_at(self._file, self._start + number * _NOTE, note)
            self._notes[number] = np.frombuffer(note, np.uint8)

    def some(self, count: int) -> list[int]:
        """Numbers of some rows that are done, from all over the file."""
        done = np.flatnonzero(self._notes.any(axis=1)).tolist()
        return done[:: max(1, -(-len(done) // count))]

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()


def _first_line(facts: bytes) -> bytes:
    return _MAGIC + facts + b" " + hashlib.sha256(facts).hexdigest()[:16].encode() + b"\n"


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
    skipped : tuple of ItemError
        Images that could not be read, whose rows are NaN: each with its ``index``, its
        path as ``source``, and the ``cause``.
    seconds : float
        What this call took.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    n_new: int
    n_known: int
    skipped: tuple[ItemError, ...]
    seconds: float

    @property
    def items_per_second(self) -> float:
        """Items settled by this call, known ones among them, for each second."""
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
            f"{self.seconds:.1f} s, {self.items_per_second:,.0f} rows/s",
            *(f"  skipped {error}" for error in self.skipped[:10]),
        ]
        if len(self.skipped) > 10:
            lines.append(f"  … and {len(self.skipped) - 10:,} more")
        return "\n".join(lines)
