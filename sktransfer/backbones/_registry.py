"""Networks by name."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from ..exceptions import UnknownBackboneError, shown
from ._architecture import Architecture
from ._checkpoint import SUFFIXES
from ._packaged import PackagedArchitecture, packaged_names
from ._registered import LEFT_BEHIND, REGISTERED
from ._suggest import did_you_mean, names_elsewhere
from ._timm import TimmArchitecture
from ._timm_hub import HubArchitecture
from ._torchvision import TorchvisionArchitecture, torchvision_names

__all__ = ["architecture_of", "find_architecture", "list_backbones"]

SOURCES = ("packaged", "registered", "torchvision", "timm")
_HUB = ("hf-hub", "hf_hub")


def list_backbones(pattern: str | None = None, *, source: str | None = None) -> list[str]:
    """Names of networks.

    Parameters
    ----------
    pattern : str, default=None
        Such as ``"*resnet*"``; None lists all. A pattern with a dot, such as
        ``"resnet50.*"``, lists the sets of weights of timm's networks as well.
    source : {"packaged", "registered", "torchvision", "timm"}, default=None
        Where to look; None is everywhere.

    Returns
    -------
    names : list of str
        Names that :func:`load_backbone` understands, packaged and registered ones first. One
        that means another source's network when bare carries its own, as in
        ``"timm:resnet50"``.

    Raises
    ------
    ValueError
        If there is no such source.

    Examples
    --------
    >>> from sktransfer import list_backbones
    >>> list_backbones(source="packaged")
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    >>> list_backbones("resnet18")
    ['resnet18', 'timm:resnet18']
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"source must be None or one of {SOURCES}, got {source!r}.")
    tagged = pattern is not None and "." in pattern
    listed: list[str] = []
    taken: set[str] = set()
    for one in SOURCES:
        names = list(_names_of(one, tagged=tagged))
        if source in (None, one):
            fits = [n for n in names if pattern is None or _matches(n, one, pattern)]
            listed += [f"{one}:{name}" if name in taken else name for name in fits]
        taken.update(names)
        if one == source:
            break
    return listed


def _matches(name: str, source: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(one, pattern) for one in (name, f"{source}:{name}"))


def _names_of(source: str, *, tagged: bool = False) -> Iterable[str]:
    if source == "packaged":
        return packaged_names()
    if source == "registered":
        return list(REGISTERED)
    if source == "torchvision":
        return torchvision_names()
    import timm

    return timm.list_models() + (timm.list_pretrained() if tagged else [])


def find_architecture(name: str) -> Architecture:
    """The architecture of a name, which may say its source before a colon.

    Raises
    ------
    UnknownBackboneError
        If there is none; the message names the nearest.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _HUB:
        return HubArchitecture(rest)
    if colon and prefix not in SOURCES:
        raise UnknownBackboneError(
            f"backbone={name!r}: before the colon must stand one of {', '.join(SOURCES)} or "
            f"hf-hub, got {prefix!r}."
        )
    sources, bare = ((prefix,), rest) if colon else (SOURCES, name)
    for source in sources:
        if (found := _find(source, bare)) is not None:
            return found
    raise UnknownBackboneError(_explain(name, bare, sources))


def architecture_of(description: Mapping[str, Any]) -> Architecture:
    """The architecture that described itself so; nothing is downloaded."""
    prefix, _, rest = description["reference"].partition(":")
    if prefix in _HUB:
        return HubArchitecture(rest, description["config"])
    return find_architecture(description["reference"])


def _find(source: str, name: str) -> Architecture | None:
    if source == "registered":
        return REGISTERED.get(name)
    if source == "packaged":
        return PackagedArchitecture(name) if name in packaged_names() else None
    if source == "torchvision":
        return TorchvisionArchitecture(name) if name in torchvision_names() else None
    import timm

    if not timm.is_model(name):  # tags are left out of account
        return None
    return TimmArchitecture(_current_name(name))


def _current_name(name: str) -> str:
    """timm still knows the names that some networks had, but builds them with a warning."""
    from timm.models import get_deprecated_models

    stem = name.partition(".")[0]
    if stem not in (renamed := get_deprecated_models()):
        return name
    if not renamed[stem]:
        raise UnknownBackboneError(f"backbone={name!r} was removed from timm.")
    warnings.warn(
        f"timm calls {stem!r} {renamed[stem]!r} now; take that name.", FutureWarning, stacklevel=5
    )
    return str(renamed[stem])


def _explain(name: str, bare: str, sources: Iterable[str]) -> str:
    known = [one for source in sources for one in _names_of(source)]
    # Of organisation/name the name, and of a file none.
    last = "" if bare.endswith(SUFFIXES) else bare.rpartition("/")[2]
    stem = last if last in known else last.partition(".")[0]
    hint = did_you_mean(stem, known, elsewhere(bare))
    if "/" in bare:
        return (
            f"backbone={shown(repr(name))} is no known network. {hint}Repositories of the hub are "
            f'"hf-hub:{shown(bare)}"; a file of weights goes to weights=, beside the name of its '
            "architecture."
        )
    if bare in LEFT_BEHIND:
        return (
            f"backbone={shown(repr(name))} is not registered in this process: "
            f"{shown(LEFT_BEHIND[bare])}. Call register_backbone here too, in a module that worker "
            "processes import, or give it a function at the top level of a module."
        )
    return (
        f"backbone={shown(repr(name))} is no known network. {hint}"
        "list_backbones() lists all. A name may say where to look, as packaged:, registered:, "
        "torchvision:, timm: or hf-hub:organisation/name. A network of your own needs "
        "register_backbone first."
    )


def elsewhere(name: str) -> list[str]:
    """Networks of timm that others call by `name`."""
    import timm

    return [f"timm:{one}" for one in names_elsewhere(name) if timm.is_model(one)]
