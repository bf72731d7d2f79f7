"""A folder of checkpoints of one fit: each file is whole or not there."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..exceptions import CheckpointError, CheckpointWarning

__all__ = ["Checkpoints", "Follower"]

_FORMAT = 1


class Checkpoints:
    """The checkpoints of one fit.

    Parameters
    ----------
    folder : path
        Made if it is not there. ``{fit}`` in it stands for the signature, so that fits with
        other parameters or photographs, as those of a search, have folders of their own.
    signature : str
        What the fit is, see :func:`signature_of`.
    keep : int
        Files that are kept.

    Attributes
    ----------
    state : dict or None
        The newest checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoints are of another fit, cannot be read, or are being written by another
        process.
    """

    def __init__(self, folder: str | os.PathLike[str], signature: str, keep: int):
        self.folder = Path(os.fspath(folder).replace("{fit}", signature[:16]))
        self.signature, self.keep = signature, keep
        self._lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise CheckpointError(
                f"Another fit is writing checkpoints into {self.folder} at this moment. Give each "
                'fit a checkpoint_dir of its own; "{fit}" in the path does that.'
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"checkpoint_dir must be a folder that can be written, got {self.folder}: {error}"
            ) from error
        try:
            self.state = self._newest()
        except BaseException:
            self.close()
            raise

    def save(self, state: dict[str, Any], epoch: int, *, finished: bool = False) -> None:
        """Write a checkpoint and delete the oldest; training goes on if that fails."""
        state = {**state, "format": _FORMAT, "signature": self.signature, "finished": finished}
        # A finished fit sorts behind its last epoch.
        path = self.folder / f"epoch-{epoch:06}{'-finished' if finished else ''}.pt"
        partial = path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            for old in self._files()[: -self.keep]:
                old.unlink()
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as RuntimeError.
            partial.unlink(missing_ok=True)
            warnings.warn(
                f"The checkpoint of epoch {epoch} could not be written to {self.folder}: {error}. "
                "The fit goes on; killed now, it goes on from an earlier epoch.",
                CheckpointWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Let others write here."""
        self._lock.release()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"), key=lambda path: path.stem)

    def _newest(self) -> dict[str, Any] | None:
        for partial in self.folder.glob("epoch-*.partial"):
            partial.unlink()
        files = self._files()
        if not files:
            return None
        state = _read(files[-1])
        if state.get("signature") != self.signature:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of another fit: its parameters, photographs, "
                "labels or weights were others. Name another checkpoint_dir, or delete the "
                'folder; "{fit}" in the path gives each fit its own.'
            )
        return state


class Follower:
    """Checkpoints that another process writes.

    Parameters
    ----------
    state : dict or None
        The newest.
    """

    def __init__(self, state: dict[str, Any] | None):
        self.state = state

    def save(self, state: dict[str, Any], epoch: int, *, finished: bool = False) -> None:
        """Nothing: the first process writes."""

    def close(self) -> None:
        """Nothing."""


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError(f"its format must be {_FORMAT}")
        return state
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error}. Delete it to go on from an earlier "
            "one, or from the start."
        ) from error
