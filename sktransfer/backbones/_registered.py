"""Networks that users give a name."""

from __future__ import annotations

import os
import pickle
import uuid
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._content import content_of
from .._optional import cloudpickle
from ..exceptions import BackboneError, SktransferWarning, WeightsUnavailableError, shown
from ._architecture import Architecture, Pretrained, named
from ._build import build_random, load_state
from ._checkpoint import find_weights, read_state
from ._fingerprint import fingerprint_of_module
from ._module import copy_module
from ._packaged import packaged_names
from ._spec import Preprocessing, as_preprocessing

__all__ = ["LEFT_BEHIND", "REGISTERED", "RegisteredArchitecture", "Registration",
           "register_backbone"]  # fmt: skip

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

    def pretrained(self, weights: str, *, verbose: int = 0) -> Pretrained:
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
        raise ValueError(f"name={name!r} is taken; pass overwrite=True to give it away anew.")
    if not callable(builder) or isinstance(builder, nn.Module):
        raise ValueError(
            "builder must be a function without arguments that gives the network, got "
            f"{shown(builder)}. Pass a function that builds it, or use the module as backbone=."
        )
    path = None if weights is None else Path(os.path.abspath(os.path.expanduser(weights)))
    REGISTERED[name] = RegisteredArchitecture(name, builder, path, as_preprocessing(preprocessing))
