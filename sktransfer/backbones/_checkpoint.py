"""Weights out of a file, without running any code that the file may hold."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import re
import stat
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from ..exceptions import WeightsMismatchError, WeightsUnavailableError, shown

__all__ = [
    "SUFFIXES",
    "find_weights",
    "open_regular",
    "read_file",
    "read_state",
    "sha256_of",
    "state_of",
]

State = Mapping[str, torch.Tensor]

SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")

# What training scripts call the weights, in dictionaries around them and before their names.
# Where a file holds a network several times, the first of these is taken: averaged weights are
# the better ones.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "module_ema", "ema",
             "teacher")  # fmt: skip
_PLAIN = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights",
          "params", "encoder_q", "student", "backbone", "encoder", "_orig_mod")  # fmt: skip
_WORDS = (*_AVERAGED, "", *_PLAIN)
# Copies that follow the network which is trained, for a loss.
_FOLLOWERS = ("encoder_k", "key_encoder", "momentum_encoder", "target_encoder", "target_network")

_INSIDE = "\x1f"  # in names, between a dictionary and what it holds
_DEEPEST = 8


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights in a ``.pth``, ``.pt`` or ``.safetensors`` file.

    Raises
    ------
    WeightsUnavailableError
        If there is no such file or it cannot be opened.
    WeightsMismatchError
        If it is empty, damaged, holds no weights, or could be read only by running code.
    """
    return state_of(read_file(path), path)


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, which must be there and not empty."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> BufferedReader:
    try:
        file = open_regular(path)
    except OSError as error:
        raise WeightsUnavailableError(
            f"weights={shown(repr(str(path)))}: the file cannot be read "
            f"({error.strerror or error}). Check the path; a relative one starts at the current "
            "directory."
        ) from error
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise WeightsMismatchError(f"{shown(path)} is empty. Download or save the file again.")
    return file


def read_file(path: Path) -> Any:
    """Whatever a file of weights holds."""
    _opened(path).close()
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in every way there is
        if "TorchScript" in str(error):
            raise _refusal(path, "TorchScript") from error
        raise _damage(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except MemoryError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise _damage(path, error) from error


def _damage(path: Path, error: Exception) -> WeightsMismatchError:
    reason = str(error).split("\n")[0][:150] or type(error).__name__
    return WeightsMismatchError(
        f"{shown(path)} is not a whole file of weights ({path.stat().st_size} bytes): {reason}. It "
        "may be truncated or be another kind of file. Download or save it again."
    )


def _refusal(path: Path, reason: str) -> WeightsMismatchError:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    if named is None and "TorchScript" not in reason:
        return _damage(path, pickle.UnpicklingError("it cannot be unpickled"))
    what = f"objects of {named[1]}" if named else "a TorchScript program"
    return WeightsMismatchError(
        f"{shown(path)} is refused: beside weights it holds {what}, and reading those could run "
        "any code. If you trust it, read it with torch yourself and save the weights alone: "
        "torch.save(model.state_dict(), ...), or safetensors.torch.save_file()."
    )


def state_of(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """All weights in what a training script saved; `find_weights` takes a network's out of them.

    Raises
    ------
    WeightsMismatchError
        If there are none, or some that no network computes with.
    """
    found: Any = OrderedDict(_tensors_in(content))
    if not found:
        raise WeightsMismatchError(
            f"{shown(path)} holds no weights but {_described(content)}. Save model.state_dict()."
        )
    for name, tensor in found.items():
        if kind := _kind_of(tensor):
            raise WeightsMismatchError(
                f"{shown(path)} holds {kind} numbers in {_plain(name)}; weights must be dense "
                "tensors of real numbers. Save model.state_dict() of the plain network."
            )
    if hasattr(content, "_metadata"):
        found._metadata = content._metadata
    return found


def _tensors_in(content: Any, before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    # An optimizer keeps tensors as large as the weights, which are none.
    if not isinstance(content, Mapping) or "param_groups" in content or depth > _DEEPEST:
        return
    for key, value in content.items():
        if isinstance(value, torch.Tensor) and isinstance(key, str):
            yield before + key, value
        else:
            yield from _tensors_in(value, f"{before}{key}{_INSIDE}", depth + 1)


def _described(content: Any) -> str:
    if isinstance(content, torch.Tensor):
        return f"a single tensor of shape {tuple(content.shape)}"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    optimizers = [one for one in (content, *content.values()) if _is_optimizer(one)]
    if optimizers:
        return "the state of an optimizer"
    if not content:
        return "an empty dict"
    return f"a dict with {', '.join(shown(one, 40) for one in list(content)[:5])}"


def _is_optimizer(content: Any) -> bool:
    return isinstance(content, Mapping) and "param_groups" in content


def _kind_of(tensor: torch.Tensor) -> str | None:
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.is_complex():
        return "complex"
    return "no" if tensor.is_meta else None


def find_weights(
    state: State, wanted: Mapping[str, torch.Tensor], what: str, heads: Collection[str] = ()
) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of a network among those of a file, which has them under longer names.

    Training scripts put the network into others, and its weights into dictionaries: what is
    ``conv1.weight`` for the network is ``state_dict``, ``model.encoder.conv1.weight`` in the file.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `state_of` gives them.
    wanted : mapping of str to Tensor
        The network's own names, with tensors of the right shapes.
    what : str
        Whose weights these are, for the message.
    heads : collection of str
        Those of its classifier, which may be missing or replaced.

    Returns
    -------
    weights : dict of str to Tensor
        The part of `state` that fits best, under the network's names.
    prefix : str
        What stood before them.

    Raises
    ------
    WeightsMismatchError
        If the network is there more than once and nothing tells which is meant.
    """
    trunk = {k for k in wanted if k not in heads and not k.endswith("num_batches_tracked")}
    fitting = Counter(prefix for name in state for prefix, own in _cuts(name) if own in trunk)
    most = max(fitting.values(), default=0)
    if 2 * most <= len(trunk):  # another network, or the same under its authors' names
        return _without(state, prefix := _usual_prefix(state)), _plain(prefix)
    places = tuple(name.rpartition(".")[0] + "." for name in heads)
    found = [prefix for prefix, n in fitting.items() if n == most]
    parts = {one: _without(state, one, *(o for o in found if o != one)) for one in found}

    def misfits(prefix: str) -> int:
        """Weights of a larger network that has all names of this one."""
        own = parts[prefix]
        shapes = sum(own[k].shape != wanted[k].shape for k in trunk & own.keys())
        return shapes + sum(k not in wanted and not k.startswith(places) for k in own)

    least = min(map(misfits, found))
    first, *others = sorted((one for one in found if misfits(one) == least), key=_rank)
    for other in others:
        if _rank(other) == _rank(first) and not _same(parts[first], parts[other]):
            raise WeightsMismatchError(
                f"{what}: it holds weights of this network twice, under {_plain(first)!r} and "
                f"under {_plain(other)!r}. Save those that are wanted alone."
            )
    return parts[first], _plain(first)


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Every way to take a name for a prefix and a name."""
    yield "", name
    for dot in re.finditer(rf"[.{_INSIDE}]", name):
        yield name[: dot.end()], name[dot.end() :]


def _without(state: State, prefix: str, *others: str) -> dict[str, torch.Tensor]:
    """What has a prefix, without it, and without what is in dictionaries or networks within."""
    inner = tuple(one for one in others if one.startswith(prefix))
    own = ((k, v) for k, v in state.items() if k.startswith(prefix) and not k.startswith(inner))
    bare: Any = OrderedDict((k.removeprefix(prefix), v) for k, v in own)
    for name in [k for k in bare if _INSIDE in k]:
        del bare[name]
    if not prefix and hasattr(state, "_metadata"):
        bare._metadata = state._metadata
    return bare


def _usual_prefix(state: State) -> str:
    """The dictionary that weights of other names are usually in, and the wrappers they share."""
    prefix = min({k[: k.rfind(_INSIDE) + 1] for k in state}, key=_rank)
    names = list(_without(state, prefix))
    while word := next((w for w in _WORDS if w and all(n.startswith(f"{w}.") for n in names)), ""):
        prefix += f"{word}."
        names = [name.removeprefix(f"{word}.") for name in names]
    return prefix


def _rank(prefix: str) -> tuple[bool, list[int], bool]:
    """Smaller for the place to be taken first; the same where nothing tells."""
    words = _plain(prefix).split(".")[:-1] or [""]
    known = sorted(_WORDS.index(one) for one in words if one in _WORDS)
    follows = any(one in _FOLLOWERS for one in words)
    return follows, known or [len(_WORDS)], len(known) < len(words)


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def _plain(name: str) -> str:
    return name.replace(_INSIDE, ".")
