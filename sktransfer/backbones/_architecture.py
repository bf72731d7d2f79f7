"""What every source of networks can tell and do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._build import build_random, build_structure, describe_mismatch, load_state
from ._checkpoint import find_weights
from ._fingerprint import fingerprint
from ._spec import Preprocessing

__all__ = ["Architecture", "Pretrained", "load_any_head", "n_classes", "named", "without_head"]

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Pretrained:
    """A network with published weights."""

    module: nn.Module
    weights: str
    preprocessing: Preprocessing


class Architecture(ABC):
    """A network by name, before any weights are chosen.

    Attributes
    ----------
    source, name, reference : str
        As in `Backbone`.
    identity : str
        What the fingerprint starts from: the same for everything that computes the same.
    portable : bool
        Whether its published weights can be had anywhere by their name.
    token : str
        Tells builders apart that one name was given to, one after the other.
    """

    source: str
    name: str
    reference: str
    identity: str
    portable = True
    token = ""

    def fingerprint_of(self, module: nn.Module) -> str:
        """The fingerprint of a network that was built."""
        return fingerprint(self.identity, module)

    def describe(self) -> dict[str, Any] | None:
        """Plain values from which it can be had again anywhere; None if there are none."""
        return {"reference": self.reference}

    @abstractmethod
    def build(self, num_classes: int | None = None) -> nn.Module:
        """The network with random weights; None is the usual number of classes."""

    @abstractmethod
    def weights_names(self) -> list[str]:
        """Names of published weights, the default first."""

    def default_of(self, weights: str) -> str:
        """What "default", in any mixture of large and small letters, means for this network."""
        return "default"

    @abstractmethod
    def pretrained(self, weights: str, *, verbose: int = 0) -> Pretrained:
        """The network with published weights; "default" is their default."""

    @abstractmethod
    def default_preprocessing(self) -> Preprocessing:
        """That of the default weights."""

    def published(self, path: Path, sha256: str) -> tuple[str, Preprocessing] | None:
        """Name and preprocessing of published weights that a file holds, if it does."""
        return None

    def random(self) -> nn.Module:
        """The network with random weights, the same ones every time."""
        return build_random(self.build)

    def structure(self) -> nn.Module:
        """The network without memory for its weights, where it can be built so."""
        return build_structure(self.build)

    def from_state(self, state: State, what: str) -> nn.Module:
        """The network with weights from a file."""
        return load_any_head(self.build, state, what)


def head_weights(build: Callable[[int], nn.Module]) -> set[str]:
    """Names of the weights whose shape depends on the number of classes."""
    two = build_structure(partial(build, 2)).state_dict()
    three = build_structure(partial(build, 3)).state_dict()
    return {name for name in two if two[name].shape != three[name].shape}


def n_classes(state: State, heads: set[str]) -> int | None:
    """The number of classes of weights; None if they have no classifier."""
    sizes = {state[name].shape[0] for name in heads if name in state and state[name].ndim}
    # Where two classifiers do not agree, the comparison of shapes will say so.
    return max(sizes, default=None)


def load_any_head(
    build: Callable[[int], nn.Module],
    state: State,
    what: str,
    heads: set[str] | None = None,
    *,
    extra: tuple[str, ...] = (),
) -> nn.Module:
    """Load weights whose classifier has any number of classes or is missing.

    The classifier is cut off for codes, so nothing is lost.

    Parameters
    ----------
    build : callable
        From a number of classes to the network.
    state : mapping of str to Tensor
    what : str
        Whose weights these are, for messages.
    heads : set of str, default=None
        Names of the classifier's weights; None finds them out.
    extra : tuple of str
        How names begin of weights that such files may hold beside, for training alone.
    """
    heads = head_weights(build) if heads is None else heads
    n = n_classes(state, heads)
    module = build_structure(partial(build, n or 1))
    if n is None or describe_mismatch(module, state):
        state, prefix = find_weights(state, module.state_dict(), what, heads)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(extra)}
        what, n = named(what, prefix), n_classes(state, heads)
        module = build_structure(partial(build, n or 1))
    if n is None:
        shapes = module.state_dict()
        zeros = {name: torch.zeros(shapes[name].shape) for name in heads}
        state = {**without_head(state, heads), **zeros}
    return load_state(module, state, what)


def without_head(state: State, heads: Iterable[str]) -> State:
    """Weights without those of whatever was put in the place of the classifier."""
    places = tuple(name.rpartition(".")[0] + "." for name in heads)
    return {name: tensor for name, tensor in state.items() if not name.startswith(places)}


def named(what: str, prefix: str) -> str:
    """Whose weights these are, and what was taken off their names."""
    return f"{what}, whose names were read without {prefix!r}" if prefix else what
