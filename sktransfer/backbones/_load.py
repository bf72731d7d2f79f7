"""From a name, weights and facts to a network."""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..exceptions import PreprocessingError, UnknownBackboneError, WeightsUnavailableError
from ._architecture import Architecture
from ._build import finish
from ._checkpoint import read_state, sha256_of
from ._fingerprint import describe_code, fingerprint
from ._registry import find_architecture
from ._spec import Backbone, Preprocessing, as_preprocessing

__all__ = ["load_backbone"]

_KEPT = 4
_loaded: OrderedDict[Hashable, Backbone] = OrderedDict()
_lock = threading.RLock()
_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".tar")


def load_backbone(
    backbone: str | nn.Module,
    *,
    weights: str | os.PathLike[str] | None = "default",
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    verbose: int = 0,
) -> Backbone:
    """Have a network; the few that were loaded last are kept, so clones share them.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        A name, or a module, which is copied.
    weights : str, path or None, default="default"
        ``"default"``, the name of a set of weights, a local file, or None for random weights,
        always the same ones. A module has its own.
    preprocessing : Preprocessing, dict, "default" or None, default=None
        What images must be, where the weights do not tell; ``"default"`` is what the default
        weights of the architecture want.
    verbose : int, default=0
        1 shows a progress bar while weights are downloaded.

    Returns
    -------
    Backbone

    Raises
    ------
    UnknownBackboneError
        If no network has this name.
    WeightsUnavailableError
        If there is no such file, no network connection, no package.
    WeightsMismatchError
        If the weights are damaged or those of another network.
    PreprocessingError
        If nobody knows what images must be.
    """
    if isinstance(backbone, nn.Module):
        return _from_module(backbone, preprocessing)
    if not isinstance(backbone, str):
        raise UnknownBackboneError(
            f"backbone must be the name of a network or a torch.nn.Module, got {backbone!r}."
        )
    architecture = find_architecture(backbone)
    key = (architecture.reference, id(architecture) if not architecture.portable else None,
           _identity_of(weights))  # fmt: skip
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(architecture, weights, verbose)
            while len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _with_facts(_loaded[key], architecture, preprocessing)


def _identity_of(weights: str | os.PathLike[str] | None) -> Hashable:
    """A file that is written anew is another file."""
    path = _as_path(weights)
    if path is None or not path.exists():
        return None if weights is None else str(weights)
    status = path.stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


def _as_path(weights: str | os.PathLike[str] | None) -> Path | None:
    if weights is None:
        return None
    if isinstance(weights, os.PathLike):
        return Path(weights).expanduser()
    if weights.endswith(_SUFFIXES) or os.sep in weights or weights.startswith("~"):
        return Path(weights).expanduser()
    return None


def _load(
    architecture: Architecture, weights: str | os.PathLike[str] | None, verbose: int
) -> Backbone:
    path = _as_path(weights)
    facts: Preprocessing | None
    if path is not None:
        module, name, facts = _from_file(architecture, path)
        portable = False
    elif weights is None:
        module, name, facts = architecture.random(), None, architecture.default_preprocessing()
        portable = architecture.portable
    else:
        found = architecture.pretrained(str(weights), verbose=verbose)
        module, name, facts = found.module, found.weights, found.preprocessing
        portable = architecture.portable
    module = finish(module)
    return Backbone(
        name=architecture.name,
        source=architecture.source,
        reference=architecture.reference,
        weights=name,
        module=module,
        preprocessing=facts,
        fingerprint=fingerprint(architecture.identity, module),
        portable=portable,
    )


def _from_file(
    architecture: Architecture, path: Path
) -> tuple[nn.Module, str, Preprocessing | None]:
    if not path.is_file():
        raise WeightsUnavailableError(
            f"weights={str(path)!r}: there is no such file (looked in {path.parent.resolve()}). "
            f"Named weights of {architecture.name} are "
            f"{', '.join(architecture.weights_names()) or 'not published'}."
        )
    name, facts = architecture.published(path, sha256_of(path)) or (str(path), None)
    return architecture.from_state(read_state(path), str(path)), name, facts


def _with_facts(backbone: Backbone, architecture: Architecture, given: Any) -> Backbone:
    if given is None and backbone.preprocessing is None:
        raise PreprocessingError(
            f"nothing tells how images are prepared for {backbone.weights}. If they are what "
            f'the published weights of {backbone.name} want, pass preprocessing="default" '
            f"({architecture.default_preprocessing()}); else preprocessing=Preprocessing(...)."
        )
    if given is None:
        return backbone
    facts = architecture.default_preprocessing() if _is_default(given) else as_preprocessing(given)
    return replace(backbone, preprocessing=facts)


def _is_default(given: Any) -> bool:
    return isinstance(given, str) and given == "default"


def _from_module(module: nn.Module, given: Any) -> Backbone:
    name = type(module).__name__
    if given is None or _is_default(given):
        raise PreprocessingError(
            f"backbone is a module ({name}), which does not tell how its images are prepared: "
            "pass preprocessing=Preprocessing(image_size=..., mean=..., std=...)."
        )
    copied = finish(copy.deepcopy(module))
    return Backbone(
        name=name,
        source="module",
        reference=None,
        weights=None,
        module=copied,
        preprocessing=as_preprocessing(given),
        fingerprint=fingerprint(describe_code(copied), copied),
        portable=False,
    )
