"""A folder of checkpoints of one fit: each file is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..exceptions import CheckpointError, CheckpointWarning, shown
from ._signature import Signature

__all__ = ["Checkpoints", "Follower"]

_FORMAT = 2
_NAME = re.compile(r"epoch-(\d{6,})(-finished)?\.pt")
# What a file ends with: the comment of its zip archive, which holds a hash of all before it.
_MARK = b"sktransfer sha256 "
_TAIL = len(_MARK) + 64
_PARTS = {
    "weights": dict, "optimizer": dict, "scaler": dict, "callbacks": dict, "history": str,
    "order": (torch.Tensor, type(None)), "mixing": str, "torch": torch.Tensor,
    "cuda": (torch.Tensor, type(None)), "done": int, "finished": bool, "seed": int,
    "n_views": int, "signature": str, "facts": dict,
}  # fmt: skip


class Checkpoints:
    """The checkpoints of one fit.

    Parameters
    ----------
    folder : path
        Made if it is not there. ``{fit}`` in it stands for the signature, so that fits with
        other parameters or images, as those of a search, have folders of their own.
    signature : Signature
        What the fit is.
    keep : int
        Files that are kept.

    Attributes
    ----------
    state : dict or None
        The newest checkpoint that is whole.
    source : str
        Its file, for messages.

    Raises
    ------
    CheckpointError
        If the checkpoints are of another fit, cannot be read, or are being written by another
        process.
    """

    def __init__(self, folder: str | os.PathLike[str], signature: Signature, keep: int):
        name = os.path.expanduser(os.fsdecode(folder))
        if not name.strip():
            raise CheckpointError(
                f"checkpoint_dir must be the path of a folder, got {str(folder)!r}. Take '.' for "
                "the current folder, or None for no checkpoints."
            )
        if name.startswith("~"):
            raise CheckpointError(
                f"checkpoint_dir={shown(folder)}: there is no such home folder; write the whole "
                "path."
            )
        self.folder = Path(name.replace("{fit}", signature.name[:16]))
        self.signature, self.keep, self.source = signature, keep, ""
        self._lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_kind(self.folder / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise CheckpointError(
                f"Another fit is writing checkpoints into {shown(self.folder)} at this moment. "
                "Give each "
                'fit a checkpoint_dir of its own; "{fit}" in the path does that.'
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            raise CheckpointError(
                f"checkpoint_dir must be a folder that can be written, got {shown(self.folder)}: "
                f"{shown(error).rstrip('.')}."
            ) from error
        try:
            self.state = self._newest()
        except BaseException:
            self.close()
            raise

    def save(self, state: dict[str, Any], epoch: int, *, finished: bool = False) -> None:
        """Write a checkpoint and delete the oldest; training goes on if that fails."""
        state = {
            **state, "format": _FORMAT, "finished": finished,
            "signature": self.signature.name, "facts": self.signature.facts,
        }  # fmt: skip
        # A finished fit sorts behind its last epoch.
        path = self.folder / f"epoch-{epoch:06}{'-finished' if finished else ''}.pt"
        partial = path.with_suffix(".partial")
        try:
            partial.unlink(missing_ok=True)
            _write(partial, state)
            os.replace(partial, path)
            for old in self._files()[: -self.keep]:
                old.unlink()
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as RuntimeError.
            _remove(partial)
            warnings.warn(
                f"The checkpoint of epoch {epoch} could not be written to {shown(self.folder)}: "
                f"{shown(error)}. The fit continues; killed now, it resumes from an earlier epoch.",
                CheckpointWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Let others write here."""
        self._lock.release()

    def _files(self) -> list[Path]:
        """From the oldest to the newest."""
        found = [(match, path) for path in self.folder.iterdir() if (match := _match(path))]
        return [path for _, path in sorted(found)]

    def _newest(self) -> dict[str, Any] | None:
        for partial in self.folder.glob("epoch-*.partial"):
            _remove(partial)
        files = self._files()
        damaged: list[tuple[Path, CheckpointError]] = []
        for path in reversed(files):
            try:
                state = _read(path)
                break
            except _Damaged as error:
                damaged.append((path, error))
        else:
            if damaged:
                # To begin anew what may have taken days is for the caller to decide.
                raise CheckpointError(
                    f"{damaged[0][1]} Delete it to start from the beginning."
                ) from damaged[0][1]
            return None
        if state["signature"] != self.signature.name:
            raise CheckpointError(
                f"{shown(self.folder)} holds checkpoints of another fit: "
                f"{self.signature.differs_from(state['facts'])}. Name another checkpoint_dir, or "
                'delete the folder; "{fit}" in the path gives each fit its own.'
            )
        for bad, why in damaged:
            aside = _set_aside(bad)
            warnings.warn(
                f"{why} It was renamed to {aside.name}; the fit resumes from {path.name}.",
                CheckpointWarning,
                stacklevel=2,
            )
        self.source = str(path)
        return state


class Follower:
    """Checkpoints that another process writes.

    Parameters
    ----------
    state : dict or None
        The newest.
    source : str
        Its file.
    """

    def __init__(self, state: dict[str, Any] | None, source: str = ""):
        self.state, self.source = state, source

    def save(self, state: dict[str, Any], epoch: int, *, finished: bool = False) -> None:
        """Nothing: the first process writes."""

    def close(self) -> None:
        """Nothing."""


class _Damaged(CheckpointError):
    """A file that is not what was written."""


def _match(path: Path) -> tuple[int, bool] | None:
    match = _NAME.fullmatch(path.name)
    return None if match is None else (int(match[1]), bool(match[2]))


def _check_kind(path: Path) -> None:
    """A link would have another file written, and a pipe would be waited for without end."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        raise CheckpointError(
            f"{shown(path)} must be a plain file, but is a link, a folder, a pipe or a device. "
            "Remove it, or name another checkpoint_dir."
        )


def _remove(path: Path) -> None:
    """Delete a file or a link; what cannot be deleted is said when it is written."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _set_aside(path: Path) -> Path:
    """Rename a damaged file to a name that nothing has yet."""
    names = [f"{path.name}.damaged{number}" for number in ("", *(f"-{n}" for n in range(2, 100)))]
    free = [path.with_name(name) for name in names if not os.path.lexists(path.with_name(name))]
    try:
        if not free:
            raise FileExistsError(f"{names[0]} and all up to {names[-1]} are there")
        os.replace(path, free[0])
    except OSError as error:
        raise CheckpointError(
            f"The damaged checkpoint {shown(path)} cannot be renamed: "
            f"{shown(error).rstrip('.')}. Delete it to resume from an earlier one."
        ) from error
    return free[0]


class _Hashing:
    """A file that is only written to, and a hash of all that was."""

    def __init__(self, file: Any):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, state: dict[str, Any]) -> None:
    with open(path, "xb") as file:
        hashing = _Hashing(file)
        torch.save(state, hashing)  # type: ignore[arg-type]
        # The last two bytes of a zip archive are the length of its comment.
        file.seek(-2, os.SEEK_END)
        file.write(_TAIL.to_bytes(2, "little") + _MARK + hashing.digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint, if it is what was written.

    Raises
    ------
    CheckpointError
        If it is a link or a pipe, of another version, or damaged.
    """
    _check_kind(path)
    try:
        with open(path, "rb") as file:
            whole = _is_whole(file)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True) if whole else None
        if state is not None:
            _check_parts(state)
            return state
    except CheckpointError:
        raise
    except Exception as error:  # torch raises almost anything on files that are not its own
        raise _Damaged(
            f"The checkpoint {shown(path)} cannot be read: {shown(error).rstrip('.')}."
        ) from error
    raise _Damaged(
        f"The checkpoint {shown(path)} cannot be read: it was damaged, or written by another "
        "version of sktransfer."
    )


def _is_whole(file: Any) -> bool:
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL + 2:
        return False
    file.seek(size - _TAIL - 2)
    length, comment = file.read(2), file.read(_TAIL)
    if length != _TAIL.to_bytes(2, "little") or not comment.startswith(_MARK):
        return False
    digest, left = hashlib.sha256(), size - _TAIL - 2
    file.seek(0)
    while left and (block := file.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    digest.update(b"\0\0")  # no comment yet
    return comment.removeprefix(_MARK) == digest.hexdigest().encode()


def _check_parts(state: Any) -> None:
    """Whole files of this version hold what is read from them."""
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"its format must be {_FORMAT}")
    for name, kind in _PARTS.items():
        if not isinstance(state.get(name, ...), kind):  # type: ignore[arg-type]
            raise ValueError(f"{name!r} is missing or of another kind")
    history = json.loads(state["history"])
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise ValueError("'history' must be a list of rows")
    ends = {"done": (0, len(history)), "seed": (0, 2**32 - 1), "n_views": (0, 2**31 - 1)}
    for name, (low, high) in ends.items():
        if isinstance(state[name], bool) or not low <= state[name] <= high:
            raise ValueError(f"{name!r} must be from {low} to {high}, got {state[name]}")
    for name, value in state["facts"].items():
        texts = [name, *value] if isinstance(value, (tuple, list)) else []
        if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise ValueError("'facts' must hold a hash and a text for each part of the fit")
    np.random.default_rng().bit_generator.state = json.loads(state["mixing"])
