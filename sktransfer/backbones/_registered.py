"""Networks that users give a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..exceptions import BackboneError, WeightsUnavailableError
from ._architecture import Architecture, Pretrained, named
from ._build import build_random, load_state
from ._checkpoint import find_weights, read_state
from ._fingerprint import describe_code
from ._packaged import packaged_names
from ._spec import Preprocessing, as_preprocessing

__all__ = ["REGISTERED", "RegisteredArchitecture", "register_backbone"]

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
    ):
        self.name = name
        self.reference = f"registered:{name}"
        self._builder, self._weights, self._preprocessing = builder, weights, preprocessing

    def identity_of(self, module: nn.Module) -> str:
        return f"{self.reference}\n{describe_code(module)}"

    def build(self, num_classes: int | None = None) -> nn.Module:
        module = self._builder()
        if not isinstance(module, nn.Module):
            raise BackboneError(
                f"the builder of {self.reference} must give a torch.nn.Module, got {module!r}."
            )
        return module

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


def register_backbone(
    name: str,
    builder: Callable[[], nn.Module],
    *,
    preprocessing: Preprocessing | Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Give a network of your own a name, for this process.

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
    if not callable(builder):
        raise ValueError(f"builder must be callable without arguments, got {builder!r}.")
    path = None if weights is None else Path(os.path.expanduser(weights))
    REGISTERED[name] = RegisteredArchitecture(name, builder, path, as_preprocessing(preprocessing))
