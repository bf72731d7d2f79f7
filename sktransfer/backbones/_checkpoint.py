"""Weights out of a file, without running any code that the file may hold."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..exceptions import WeightsMismatchError, WeightsUnavailableError

__all__ = ["read_file", "read_state", "sha256_of", "state_of"]

# Where training scripts put the weights, best first: averaged weights are the better ones.
_CONTAINERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
_WRAPPERS = ("_orig_mod.", "module.")  # torch.compile, DataParallel


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, which must be there and not empty."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise WeightsUnavailableError(
            f"weights={str(path)!r}: the file cannot be read ({error.strerror or error}). Check "
            "the path; a relative one starts at the current directory."
        ) from error
    if not size:
        raise WeightsMismatchError(f"{path} is empty. Fetch or save the file again.")
    return digest


def read_file(path: Path) -> Any:
    """Whatever a file of weights holds."""
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
    except (SafetensorError, ValueError) as error:
        raise _damage(path, error) from error


def _damage(path: Path, error: Exception) -> WeightsMismatchError:
    reason = str(error).split("\n")[0][:150] or type(error).__name__
    return WeightsMismatchError(
        f"{path} is no whole file of weights ({path.stat().st_size} bytes): {reason}. It may be "
        "truncated or be another kind of file. Fetch or save it again."
    )


def _refusal(path: Path, reason: str) -> WeightsMismatchError:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    if named is None and "TorchScript" not in reason:
        return _damage(path, pickle.UnpicklingError("it cannot be unpickled"))
    what = f"objects of {named[1]}" if named else "a TorchScript program"
    return WeightsMismatchError(
        f"{path} is refused: beside weights it holds {what}, and reading those could run any "
        "code. If you trust it, read it with torch yourself and save the weights alone: "
        "torch.save(model.state_dict(), ...), or safetensors.torch.save_file()."
    )


def state_of(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Find the weights in what a training script saved."""
    found = content
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            found = content[key]
            break
    tensors = _plain_names(found) if isinstance(found, Mapping) else None
    if not tensors:
        keys = f" with {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else ""
        raise WeightsMismatchError(
            f"{path} holds no weights but a {type(content).__name__}{keys}. Save "
            "model.state_dict()."
        )
    return tensors


def _plain_names(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """The tensors, without the prefixes of wrappers around the whole network."""
    tensors: Any = OrderedDict((k, v) for k, v in state.items() if isinstance(v, torch.Tensor))
    tensors.pop("n_averaged", None)  # torch.optim.swa_utils counts here
    if hasattr(state, "_metadata"):
        tensors._metadata = state._metadata
    while prefix := next((p for p in _WRAPPERS if _all_start_with(tensors, p)), None):
        tensors = OrderedDict((name.removeprefix(prefix), v) for name, v in tensors.items())
    return tensors


def _all_start_with(tensors: Mapping[Any, Any], prefix: str) -> bool:
    return bool(tensors) and all(str(name).startswith(prefix) for name in tensors)
