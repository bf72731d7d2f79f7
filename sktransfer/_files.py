"""Files that others may see: written whole or not at all, and read only if they are plain files."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from .exceptions import shown

__all__ = [
    "NO_LINK", "atomic_write", "draft_folder", "lock_file", "no_regular_file", "open_regular",
    "sweep",
]  # fmt: skip

# To open a file for writing that is a file: on Windows without a change of line ends.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

_DRAFT = "draft-sktransfer-"
_ABANDONED = 7 * 86_400.0  # seconds after which nobody is still writing a draft


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place when the block ends, and never if it fails.

    Whoever must not lose it to a power cut calls ``os.fsync`` in the block.

    Yields
    ------
    draft : Path
        A file that is to be made, of the same name in a folder beside.
    """
    with draft_folder(path.parent) as folder:
        draft = folder / path.name
        yield draft
        os.replace(draft, path)


@contextmanager
def draft_folder(parent: Path) -> Iterator[Path]:
    """A folder for a block, on the same disk: nobody has put links in the place of its files."""
    sweep(parent, _ABANDONED)
    folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, age: float = 0.0) -> None:
    """Remove the drafts that processes have left that were killed, if they are so old."""
    for draft in parent.glob(f"{_DRAFT}*"):
        with suppress(OSError):
            if time.time() - draft.lstat().st_mtime >= age:
                shutil.rmtree(draft)


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a plain file to be read: a pipe or a device would be read for ever.

    Parameters
    ----------
    path : Path
    follow : bool, default=True
        Whether it may be a link to one.

    Raises
    ------
    OSError
        If it is anything else, or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:
        raise OSError(errno.EINVAL, "its name holds a null character") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        what = "a folder" if stat.S_ISDIR(kind) else "a device or pipe"
        raise OSError(errno.EINVAL, f"it is {what}")
    return open(descriptor, "rb")


def lock_file(file: IO[bytes]) -> None:
    """Keep all others from locking an open file, of this process too, until it is closed.

    Raises
    ------
    BlockingIOError
        If somebody else has locked it.
    OSError
        If the disk knows no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**40)  # far behind what is in it: there a lock is in nobody's way
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def no_regular_file(*paths: Path | str) -> str | None:
    """What stands in the place of a file of ours, if it is no plain file.

    A link could lead what is written anywhere, and to open a pipe may take for ever.

    Returns
    -------
    str or None
        Such as "/codes/a.sqlite must be a regular file, but is a link"; None where all is well.
    """
    for path in paths:
        with suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode):
                kind = _KINDS.get(stat.S_IFMT(mode), "a device")
                return f"{shown(path)} must be a regular file, but is {kind}"
    return None


_KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe",
          stat.S_IFSOCK: "a socket"}  # fmt: skip
