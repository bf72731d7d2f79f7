"""A folder of checkpoints of one fit: each file is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from skorch.callbacks import Callback
from skorch.history import History

from .._content import Untellable, content_of, digest_of
from .._files import atomic_write, sweep
from ..compute import worker_pool
from ..exceptions import CheckpointError, CheckpointWarning, shown
from ._gradients import Team
from ._model import attributes_of, put_back

__all__ = [
    "Checkpointing",
    "Checkpoints",
    "Follower",
    "Run",
    "Signature",
    "digest_of",
    "from_json",
    "key_of_fit",
    "open_checkpoints",
    "restore",
    "state_of",
    "to_json",
    "watched_of",
]


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
        other parameters or samples, as those of a search, have folders of their own.
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
        """Write a checkpoint and delete the oldest; training continues if that fails."""
        state = {
            **state, "format": _FORMAT, "finished": finished,
            "signature": self.signature.name, "facts": self.signature.facts,
        }  # fmt: skip
        # A finished fit sorts behind its last epoch.
        path = self.folder / f"epoch-{epoch:06}{'-finished' if finished else ''}.pt"
        try:
            with atomic_write(path) as draft:
                _write(draft, state)
            for old in self._files()[: -self.keep]:
                old.unlink()
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as RuntimeError.
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
        sweep(self.folder)  # nobody else writes here
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
                # To begin again what may have taken days is for the caller to decide.
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
    ends = {"done": (0, len(history)), "seed": (0, 2**32 - 1), "n_views": (1, 2**31 - 1)}
    for name, (low, high) in ends.items():
        if isinstance(state[name], bool) or not low <= state[name] <= high:
            raise ValueError(f"{name!r} must be from {low} to {high}, got {state[name]}")
    for name, value in state["facts"].items():
        texts = [name, *value] if isinstance(value, (tuple, list)) else []
        if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise ValueError("'facts' must hold a hash and a text for each part of the fit")
    np.random.default_rng().bit_generator.state = json.loads(state["mixing"])


# Everything that a fit has in hand after an epoch, taken out of a net and put back.


class Checkpointing(Callback):
    """Resume from a checkpoint, and write one after each epoch; the last of all callbacks.

    Parameters
    ----------
    saved : Checkpoints or Follower
    state : dict or None
        What to resume from.
    facts : dict
        More that is put into each.
    first : int
        Epochs of an earlier part of the fit, behind whose checkpoints these come.
    """

    def __init__(
        self,
        saved: Checkpoints | Follower,
        state: dict[str, Any] | None,
        facts: dict[str, Any],
        first: int = 0,
    ):
        self.saved, self.state, self.facts, self.first = saved, state, facts, first
        self.done = 0

    def on_train_begin(self, net: Any, **_: Any) -> None:
        # Taken here, since gradual unfreezing hides some names in the first epochs.
        self.names = learning_names(net.module_)
        if self.state is not None:
            restore(net, self.state, self.saved.source)
            self.done = self.state["done"]

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.done += 1
        self.write(net)

    def write(self, net: Any, *, finished: bool = False) -> None:
        """Write the state as it is now."""
        state = {**self.facts, **state_of(net, self.names), "done": self.done}
        self.saved.save(state, self.first + len(net.history), finished=finished)


def learning_names(module: torch.nn.Module) -> list[str]:
    """What may change in training: weights that are trained, the head, and statistics."""
    weights = dict(module.named_parameters())
    return [
        name
        for name in module.state_dict()
        if name not in weights or weights[name].requires_grad or name.startswith("head.")
    ]


def state_of(net: Any, names: list[str]) -> dict[str, Any]:
    """Weights, optimizer, callbacks, history and generators, as tensors and plain values."""
    weights = net.module_.state_dict()
    generator = _order(net)
    return {
        "weights": {name: weights[name] for name in names},
        "beside": {
            name: torch.from_numpy(value)
            for name, value in attributes_of(net.module_.head).items()
        },
        "optimizer": net.optimizer_.state_dict(),
        "scaler": net.scaler_.state_dict(),
        "callbacks": {name: _callback_state(one) for name, one in net.callbacks_},
        "history": to_json(net.history),
        "order": None if generator is None else generator.get_state(),
        "mixing": json.dumps(net.recipe.generator.bit_generator.state),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(net.device) if "cuda" in net.device else None,
    }


def restore(net: Any, state: dict[str, Any], source: Any) -> None:
    """Put a state back into a net that was made for the same fit.

    Raises
    ------
    CheckpointError
        If it does not fit the net.
    """
    try:
        _restore(net, state)
    except Exception as error:  # optimizers and callbacks of all kinds take their states back
        raise CheckpointError(
            f"The checkpoint {shown(source)} does not fit this fit: "
            f"{type(error).__name__}: {shown(error)}. Delete it to start from the beginning."
        ) from error


def _restore(net: Any, state: dict[str, Any]) -> None:
    _check_tensors(net.module_, state["weights"])
    net.module_.load_state_dict(state["weights"], strict=False)
    beside = state.get("beside", {})
    put_back(net.module_.head, {name: value.numpy() for name, value in beside.items()})
    net.optimizer_.load_state_dict(state["optimizer"])
    _check_moments(net.optimizer_)
    if state["scaler"] and net.scaler_.is_enabled():
        net.scaler_.load_state_dict(state["scaler"])
    for name, callback in net.callbacks_:
        _restore_callback(callback, state["callbacks"].get(name, {}))
    net.history_ = from_json(state["history"])
    generator = _order(net)
    if generator is not None:
        generator.set_state(state["order"])
    net.recipe.generator.bit_generator.state = json.loads(state["mixing"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and "cuda" in net.device:
        torch.cuda.set_rng_state(state["cuda"], net.device)


def _check_tensors(module: torch.nn.Module, weights: dict[str, Any]) -> None:
    """Exactly what may have changed in training, each of its shape and type."""
    own = module.state_dict()
    names = set(learning_names(module))
    if different := sorted(names ^ set(weights), key=str):
        raise ValueError(f"it must hold the tensor {different[0]!r} and no others")
    for name in names:
        value = weights[name]
        facts = [(tuple(one.shape), one.dtype) for one in (own[name], value)]
        if facts[0] != facts[1]:
            raise ValueError(f"{name!r} must be {facts[0]}, got {facts[1]}")


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """AdamW and SGD keep means in the shapes of the weights; others what they like."""
    if type(optimizer) not in (torch.optim.AdamW, torch.optim.SGD):
        return
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if name != "step" and torch.is_tensor(value) and value.shape != weight.shape:
                raise ValueError(
                    f"{name!r} of the optimizer must be of the shape {tuple(weight.shape)}, got "
                    f"{tuple(value.shape)}"
                )


def _order(net: Any) -> Any:
    return net.get_params_for("iterator_train").get("generator")


def _callback_state(callback: Callback) -> dict[str, Any]:
    """What a callback keeps in attributes that begin or end with an underscore."""
    if hasattr(callback, "state_dict"):
        return {"state_dict": _plain(callback.state_dict())}
    state = {}
    for name, value in vars(callback).items():
        if not (name.startswith("_") or name.endswith("_")):
            continue
        if hasattr(value, "state_dict") and not isinstance(value, type):
            state[f"{name} state_dict"] = _plain(value.state_dict())
        elif _is_plain(value):
            state[name] = _plain(value)
    return state


def _restore_callback(callback: Callback, state: dict[str, Any]) -> None:
    device = None
    if "state_dict" in state:
        callback.load_state_dict(state["state_dict"])
        return
    for name, value in state.items():
        if name.endswith(" state_dict"):
            owner = getattr(callback, name.removesuffix(" state_dict"), None)
            if owner is not None:  # a finished fit has no scheduler in hand
                owner.load_state_dict(value)
            continue
        old = getattr(callback, name, None)
        if isinstance(old, dict):
            device = next((v.device for v in old.values() if torch.is_tensor(v)), None)
            value = {k: v.to(device) if torch.is_tensor(v) else v for k, v in value.items()}
        setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str, np.generic, torch.Tensor))


def _plain(value: Any) -> Any:
    """The same with numbers of numpy as Python's; what is neither becomes None."""
    if isinstance(value, Counter):
        return value
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, np.generic):
        return value.item()
    return value if _is_plain(value) else None


def watched_of(saved: Checkpoints | Follower | None) -> dict[str, Any] | None:
    """What early stopping had found when all samples were trained on; None before that.

    Raises
    ------
    CheckpointError
        If the checkpoint tells it wrongly.
    """
    state = None if saved is None else saved.state
    if saved is None or state is None or "watched" not in state:
        return None
    found = {name: state.get(name) for name in ("watched", "n_watched", "best_epoch")}
    try:
        n, best = len(from_json(str(found["watched"]))), found["best_epoch"]
        if found["n_watched"] != n or not (isinstance(best, int) and 0 <= best <= n):
            raise ValueError(f"epoch {best} of {found['n_watched']} cannot be the best of {n}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {shown(saved.source)} does not fit this fit: {shown(error)}. Delete "
            "it to start from the beginning."
        ) from error
    return found


def to_json(history: History) -> str:
    """A history as text."""
    return json.dumps(list(history), default=_number)


def from_json(text: str) -> History:
    """The history that was made text of."""
    return History(json.loads(text))


def _number(value: Any) -> Any:
    """Numbers that callbacks record may be numpy's or tensors."""
    return value.item() if hasattr(value, "item") else repr(value)


# What tells one call of `fit` from another of the same estimator.


@dataclass(frozen=True)
class Run:
    """One call of `fit` or `partial_fit`.

    Attributes
    ----------
    epochs : int
        To learn for, those before it was killed included.
    go_on : bool
        Whether it begins with what was learnt before.
    saved : Checkpoints, Follower or None
    team : Team or None
        The processes that share the batches.
    final : bool
        Whether it leaves the fitted network, and not only a number of epochs.
    verbose : int
        As in the estimator; 0 in all processes but the first.
    watched : dict
        What early stopping found, where all samples are trained on afterwards: the history
        ("watched", as text), its length ("n_watched") and "best_epoch". Empty in any other fit.
    """

    epochs: int
    continues: bool = False
    saved: Checkpoints | Follower | None = None
    team: Team | None = None
    final: bool = True
    verbose: int = 0
    watched: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any] | None:
        """The checkpoint to resume from; one of the watched epochs is none of the later fit."""
        state = None if self.saved is None else self.saved.state
        if state is None or bool(self.watched) != ("watched" in state):
            return None
        return state

    @property
    def refit(self) -> bool:
        """Whether all samples are trained on after early stopping held some of them out."""
        return bool(self.watched)

    @property
    def leads(self) -> bool:
        """Whether this process prints and warns."""
        return self.team is None or self.team.rank == 0


def open_checkpoints(
    folder: Any, signature: Signature, keep: int, team: Team | None
) -> Checkpoints | Follower:
    """The checkpoints of a fit; of several processes the first has them, and tells the others.

    Raises
    ------
    CheckpointError
        If they cannot be used; in every process.
    """
    if team is None:
        return Checkpoints(folder, signature, keep)
    saved, error, state, source = None, None, None, ""
    if team.rank == 0:
        try:
            saved = Checkpoints(folder, signature, keep)
            state, source = saved.state, saved.source
        except Exception as caught:
            error = caught
    error, state, source = team.same((error, state, source))
    if error is not None:
        raise error
    return Follower(state, source) if saved is None else saved


# What makes two fits the same: parameters, samples, targets and weights, each with a hash.


# They change where and how something is computed or kept, not what comes out; the network is
# told by its fingerprint, and the seed is given.
_NO_MATTER = {
    "backbone", "bundle_weights", "cache", "cache_activations", "checkpoint_dir", "device",
    "distributed", "keep_checkpoints", "n_jobs", "random_state", "tokenizer", "verbose",
    "warm_start", "weights",
}  # fmt: skip
_MOST_NAMED = 4


class Signature(NamedTuple):
    """What a fit is.

    Attributes
    ----------
    name : str
        One hash of all.
    facts : dict of str to (str, str)
        The hash of each part, and how a message shows it.
    """

    name: str
    facts: dict[str, tuple[str, str]]

    def differs_from(self, facts: dict[str, tuple[str, str]]) -> str:
        """Which parts of another fit are others, with both values."""
        told = []
        for name in sorted({*self.facts, *facts}):
            was, now = facts.get(name, ("", "not there")), self.facts.get(name, ("", "not there"))
            if was[0] != now[0]:
                values = "differs" if was[1] == now[1] else f"was {was[1]} and is {now[1]}"
                told.append(f"{name} {values}")
        more = len(told) - _MOST_NAMED
        return "; ".join(told[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def key_of_fit(
    params: dict[str, Any],
    seed: int | None,
    facts: dict[str, Any],
    classes: Any,
    parts: list[Any],
    groups: Any,
    start: dict[str, Any] | None,
) -> Signature:
    """What a fit is.

    Parameters
    ----------
    params : dict
        Of the estimator.
    seed : int or None
        None where the fit takes the one that it had before.
    facts : dict of str to object
        What decides it besides, by what a message calls it.
    classes : ndarray or None
    parts : list of Part
        Items to train on and to validate on.
    groups : array or None
    start : dict of str to ndarray, or None
        What had been learnt before the fit.

    Raises
    ------
    CheckpointError
        If the value of a parameter cannot be told from others.
    """
    told = {
        name: (_parameter(name, value), shown(repr(value), 80))
        for name, value in params.items()
        if name not in _NO_MATTER
    }
    told["random_state"] = digest_of(seed), shown(repr(params["random_state"]), 80)
    told |= {name: (digest_of(value), shown(repr(value), 80)) for name, value in facts.items()}
    told["the set of classes"] = digest_of(classes), _size(classes, "classes")
    for where, part in zip(("X", "X of validation_data"), parts, strict=False):
        told[where] = _digest_of(part.items), f"{len(part.items)} {part.items.noun}s"
        y, weight = where.replace("X", "y"), "sample_weight" + where.removeprefix("X")
        told[y] = digest_of(part.target), _size(part.target, "targets")
        told[weight] = digest_of(part.weight), _size(part.weight, "weights")
    told["groups"] = digest_of(groups), _size(groups, "groups")
    told["what was learnt before"] = digest_of(start), _size(start, "tensors")
    return Signature(digest_of({name: told[name][0] for name in sorted(told)}), told)


def _size(values: Any, what: str) -> str:
    return "not given" if values is None else f"{len(values)} {what}"


def _digest_of(items: Any) -> str:
    digests = worker_pool().map(lambda number: items.open(number).digest, range(len(items)))
    return hashlib.sha256(b"".join(digests)).hexdigest()[:32]


def _parameter(name: str, value: Any) -> str:
    try:
        return digest_of(_settings(value))
    except Untellable as error:
        raise CheckpointError(
            f"checkpoint_dir needs parameters whose values can be compared after a restart, but "
            f"{name} holds {shown(error)}."
        ) from error


def _settings(value: Any) -> Any:
    """Callbacks by their parameters: what begins or ends with an underscore was made in a fit."""
    if isinstance(value, (list, tuple)):
        return [_settings(one) for one in value]
    if not isinstance(value, Callback):
        return value
    own = {k: v for k, v in vars(value).items() if not k.startswith("_") and not k.endswith("_")}
    # An open log tells nothing about what is learnt.
    return type(value), {k: v if content_of(v).digest else type(v) for k, v in own.items()}
