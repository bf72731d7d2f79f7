"""Networks by name: those of the libraries, and those that users add."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..exceptions import UnknownBackboneError, WeightsUnavailableError
from ._architecture import Architecture, Pretrained
from ._checkpoint import read_state
from ._packaged import PackagedArchitecture, packaged_names
from ._spec import Preprocessing, as_preprocessing
from ._suggest import did_you_mean
from ._timm import HubArchitecture, TimmArchitecture, timm_names
from ._torchvision import TorchvisionArchitecture, torchvision_names

__all__ = ["find_architecture", "list_backbones", "register_backbone"]

SOURCES = ("packaged", "registered", "torchvision", "timm")
_registered: dict[str, RegisteredArchitecture] = {}


class RegisteredArchitecture(Architecture):
    """A network that a user gave a name."""

    source = "registered"
    portable = False

    def __init__(
        self,
        name: str,
        builder: Callable[[], nn.Module],
        weights: Path | None,
        preprocessing: Preprocessing,
    ):
        self.name = name
        self.reference = self.identity = f"registered:{name}"
        self._builder, self._weights, self._preprocessing = builder, weights, preprocessing

    def build(self, num_classes: int | None = None) -> nn.Module:
        return self._builder()

    def weights_names(self) -> list[str]:
        return ["default"]

    def default_preprocessing(self) -> Preprocessing:
        return self._preprocessing

    def pretrained(self, weights: str, *, verbose: int = 0) -> Pretrained:
        if weights != "default":
            raise WeightsUnavailableError(
                f'weights={weights!r}: the registered network {self.name!r} has only "default".'
            )
        module = self._builder()
        if self._weights is not None:
            module.load_state_dict(read_state(self._weights))
        return Pretrained(module, "default", self._preprocessing)

    def from_state(self, state: Any, what: str) -> nn.Module:
        module = self._builder()
        module.load_state_dict(state)
        return module


def register_backbone(
    name: str,
    builder: Callable[[], nn.Module],
    *,
    preprocessing: Preprocessing | Mapping[str, Any],
    weights: str | Path | None = None,
) -> None:
    """Give a network of your own a name.

    Parameters
    ----------
    name : str
        Without a colon. A registered name comes before torchvision's and timm's.
    builder : callable
        Without arguments; gives the network, a ``torch.nn.Module`` for images (n, 3, h, w).
    preprocessing : Preprocessing or dict
        What its images must be.
    weights : path, default=None
        File of a state dict that is loaded into what `builder` gives; None if `builder`
        gives the weights as well.

    Raises
    ------
    ValueError
        If the name holds a colon or is that of a packaged network.
    """
    if ":" in name or name in packaged_names() or not name:
        raise ValueError(
            f"name={name!r} must not be empty, hold a colon or be one of {packaged_names()}."
        )
    path = None if weights is None else Path(weights)
    facts = as_preprocessing(preprocessing)
    _registered[name] = RegisteredArchitecture(name, builder, path, facts)


def list_backbones(pattern: str | None = None, *, source: str | None = None) -> list[str]:
    """Names of networks.

    Parameters
    ----------
    pattern : str, default=None
        Such as ``"*resnet*"``; None lists all.
    source : {"packaged", "registered", "torchvision", "timm"}, default=None
        Where to look; None is everywhere.

    Returns
    -------
    names : list of str
        Packaged and registered ones first. A name that was listed before carries its source,
        as in ``"timm:resnet50"``.

    Raises
    ------
    ValueError
        If there is no such source.

    Examples
    --------
    >>> from sktransfer import list_backbones
    >>> list_backbones(source="packaged")
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"source must be None or one of {SOURCES}, got {source!r}.")
    names: dict[str, None] = {}
    for one in SOURCES if source is None else (source,):
        for name in _names_of(one):
            if pattern is None or fnmatch.fnmatchcase(name, pattern):
                names.setdefault(name if name not in names else f"{one}:{name}")
    return list(names)


def _names_of(source: str) -> list[str]:
    named = {
        "packaged": packaged_names,
        "registered": lambda: list(_registered),
        "torchvision": torchvision_names,
        "timm": timm_names,
    }
    return named[source]()


def find_architecture(name: str) -> Architecture:
    """The architecture of a name, which may say its source before a colon.

    Raises
    ------
    UnknownBackboneError
        If there is none; the message names the nearest.
    """
    prefix, colon, rest = name.partition(":")
    if prefix == "hf-hub":
        return HubArchitecture(rest)
    if colon and prefix in SOURCES:
        sources, bare = (prefix,), rest
    else:
        sources, bare = SOURCES, name
    for source in sources:
        # Only timm's names carry a tag of weights behind a dot.
        stem = bare.partition(".")[0] if source == "timm" else bare
        if stem in _names_of(source):
            return _make(source, bare)
    known = [one for source in sources for one in _names_of(source)]
    raise UnknownBackboneError(
        f"backbone={name!r} is no known network. {did_you_mean(name, known)}"
        f"list_backbones() lists all; names may begin with {', '.join(f'{s}:' for s in SOURCES)} "
        "or hf-hub:."
    )


def _make(source: str, name: str) -> Architecture:
    if source == "registered":
        return _registered[name]
    if source == "packaged":
        return PackagedArchitecture(name)
    return TorchvisionArchitecture(name) if source == "torchvision" else TimmArchitecture(name)
