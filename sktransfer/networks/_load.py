"""From a name, weights and facts to a network."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from .._lru import LRU
from ..config import config_context, shows_progress
from ..exceptions import (
    BackboneError,
    PreprocessingError,
    UnknownBackboneError,
    WeightsUnavailableError,
    shown,
)
from ._module import check_network, from_module, settle_channels
from ._registry import find_architecture
from ._spec import Backbone, Preprocessing, as_preprocessing, weights_by_name
from ._weights import SUFFIXES, Architecture, check_finite, finish, read_state, sha256_of

__all__ = ["CACHE", "Loaded", "bytes_of_modules", "load_backbone"]


# The networks that were used last, one of each for the whole process, within a bound.




@dataclass(frozen=True)
class Loaded:
    """A network before it is settled how its images are prepared.

    Attributes
    ----------
    module : torch.nn.Module
    weights : str or None
    facts : Preprocessing or None
        What the weights tell of it, if they do.
    fingerprint : str
    portable : bool
    """

    module: nn.Module
    weights: str | None
    facts: Preprocessing | None
    fingerprint: str
    portable: bool


def bytes_of_modules(modules: Iterable[nn.Module]) -> int:
    """Memory of their weights, each once: tables of one network at several sizes share them."""
    tensors = {
        id(tensor): tensor.nbytes
        for module in modules
        for tensor in module.state_dict(keep_vars=True).values()
    }
    return sum(tensors.values())


CACHE: LRU[Loaded] = LRU(4, 2**30, lambda kept: bytes_of_modules(one.module for one in kept))


def load_backbone(
    backbone: str | nn.Module,
    *,
    weights: str | os.PathLike[str] | enum.Enum | None = "default",
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    verbose: int = 0,
) -> Backbone:
    """Have a network; the few that were used last are kept, so that clones share them.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        A name, as :func:`list_backbones` lists them, or ``"hf-hub:organisation/name"``; or a
        module, which is copied. A bare name means packaged and registered networks first,
        then torchvision's, then timm's.
    weights : str, enum member of torchvision, path or None, default="default"
        ``"default"``; the name of a set of weights, such as ``"IMAGENET1K_V2"`` of
        torchvision or the tag ``"a1_in1k"`` of timm; one of torchvision's objects, such as
        ``ResNet50_Weights.IMAGENET1K_V2``; a local ``.pth``, ``.pt`` or ``.safetensors``
        file; or None for random weights, always the same ones with one
        version of torch. A module has its own.
    preprocessing : Preprocessing, dict, "default" or None, default=None
        What images must be, where the weights do not tell; ``"default"`` is what the default
        weights of the architecture want. It wins over what the weights tell.
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

    Notes
    -----
    Files are read without running any code in them. The classifier may have any number of
    classes, or be missing, since it is cut off.

    Examples
    --------
    >>> from sktransfer.networks import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> backbone.source, backbone.weights, backbone.preprocessing.image_size
    ('packaged', 'efficientnet-lite0-57934424.pth', (224, 224))
    """
    if isinstance(backbone, nn.Module):
        _check_own_weights(weights)
        own = from_module(backbone, preprocessing)
        check_finite(own.module, f"backbone, a module ({type(backbone).__name__})")
        return own
    if not isinstance(backbone, str):
        raise UnknownBackboneError(
            "backbone must be the name of a network, or a torch.nn.Module (an instance, not a "
            f"class), got {backbone!r}."
        )
    # A mistake in small things is told before large ones are loaded.
    given = _as_given(preprocessing)
    choice = _as_choice(weights)
    architecture = find_architecture(backbone)
    if isinstance(choice, str):
        choice = _settled(architecture, choice)
    key = (architecture.reference, architecture.token, _key_of(choice))
    with config_context(progress=shows_progress(verbose)):
        loaded = CACHE.get(key, lambda: _load(architecture, choice))
    facts = _settle(loaded, architecture, given)
    if facts.n_channels != 3 or architecture.source == "registered":
        facts = settle_channels(loaded.module, facts, architecture.reference)
    return Backbone(
        name=architecture.name,
        source=architecture.source,
        reference=architecture.reference,
        weights=loaded.weights,
        module=loaded.module,
        preprocessing=facts,
        fingerprint=loaded.fingerprint,
        portable=loaded.portable,
        architecture=architecture,
    )


def _as_given(preprocessing: Any) -> Preprocessing | Literal["default"] | None:
    if preprocessing is None or _is_default(preprocessing):
        return preprocessing
    return as_preprocessing(preprocessing)


def _check_own_weights(weights: Any) -> None:
    if not (weights is None or _is_default(weights)):
        raise BackboneError(
            f"weights={weights!r}: a module has its own weights. Load them into it first: "
            "module.load_state_dict(torch.load(path, weights_only=True))."
        )


def _as_choice(weights: Any) -> str | Path | None:
    """Tell names of weights from files."""
    if weights is None:
        return None
    weights = weights_by_name(weights)
    if isinstance(weights, os.PathLike):
        return _as_path(os.fspath(weights))
    if not isinstance(weights, str):
        raise WeightsUnavailableError(
            "weights must be the name of weights, one of torchvision's weights objects, the path "
            f"of a file or None, got {shown(weights)} ({type(weights).__name__})."
        )
    if weights.endswith(SUFFIXES) or "/" in weights or os.sep in weights or weights[:1] == "~":
        return _as_path(weights)
    return weights


def _settled(architecture: Architecture, weights: str) -> str:
    if _is_default(weights):
        return architecture.default_of(weights)
    family = weights.rpartition(".")[0]
    network = re.fullmatch(r"(\w+)_(?:Quantized)?Weights", family)
    if network and architecture.source != "torchvision":
        raise WeightsUnavailableError(
            f"weights={shown(weights)} are torchvision's, but {architecture.reference} is not one "
            'of its networks. Take weights="default", or the network that they are of as '
            f'backbone="torchvision:{network[1].lower()}".'
        )
    return weights


def _as_path(weights: Any) -> Path:
    # Of a user without a home it says that there is no such file, where Path would fail.
    return Path(os.path.expanduser(os.fsdecode(weights)))


def _key_of(choice: str | Path | None) -> Hashable:
    """A file that is written again is another file."""
    if not isinstance(choice, Path):
        return choice
    try:
        status = choice.stat()
    except (OSError, ValueError):  # ValueError: a null character in the name
        return choice  # reading it will say what is wrong
    # Copies may keep the time of a change; that of the file itself nobody can set.
    own = (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)
    return choice.resolve(), own


def _load(architecture: Architecture, choice: str | Path | None) -> Loaded:
    name: str | None
    facts: Preprocessing | None
    if isinstance(choice, Path):
        module, name, facts = _from_file(architecture, choice)
    elif choice is None:
        module, name, facts = architecture.random(), None, _default_facts(architecture)
    else:
        found = architecture.pretrained(choice)
        module, name, facts = found.module, found.weights, found.preprocessing
    check_network(module, architecture.reference)
    module = finish(module)
    what = architecture.reference
    check_finite(module, f"{what} with weights {shown(name)}" if name else what)
    return Loaded(
        module=module,
        weights=name,
        facts=facts,
        fingerprint=architecture.fingerprint_of(module),
        # Random numbers differ between versions of torch and between processors.
        portable=architecture.portable and isinstance(choice, str),
    )


def _from_file(
    architecture: Architecture, path: Path
) -> tuple[nn.Module, str, Preprocessing | None]:
    if path.suffix not in SUFFIXES and path.is_file():
        raise WeightsUnavailableError(
            f"weights={str(path)!r}: the name of a file of weights must end in "
            f"{', '.join(SUFFIXES)}."
        )
    # By its hash first: a truncated file is known by its name as well.
    known = architecture.published(path, sha256_of(path))
    module = architecture.from_state(
        read_state(path), f"{shown(path)} does not fit {architecture.reference}"
    )
    name, facts = known or (str(path), None)
    return module, name, facts


def _settle(
    loaded: Loaded, architecture: Architecture, given: Preprocessing | Literal["default"] | None
) -> Preprocessing:
    if isinstance(given, Preprocessing):
        return given
    if loaded.facts is not None:
        return loaded.facts
    if given is not None:
        return architecture.default_preprocessing()
    usual = _default_facts(architecture)
    offer = f'If the published ones will do, pass preprocessing="default" ({usual}). Else pass '
    raise PreprocessingError(
        f"nothing tells how images are prepared for {loaded.weights or 'random weights'} of "
        f"{architecture.reference}. {offer if usual else 'Pass '}"
        "preprocessing=Preprocessing(image_size=..., mean=..., std=...)."
    )


def _default_facts(architecture: Architecture) -> Preprocessing | None:
    try:
        return architecture.default_preprocessing()
    except PreprocessingError:
        return None


def _is_default(given: Any) -> bool:
    return isinstance(given, str) and given.casefold() == "default"
