"""What can be cut: layers by name, stages, the frozen part before a layer and the tail behind it.

Whatever is inside a network, the rooms that freeze, train and choose know it as a `Cuttable`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..exceptions import LayerError

if TYPE_CHECKING:
    from torch import nn

    from ._frozen import FrozenModule

__all__ = [
    "POOLINGS",
    "Cuttable",
    "Layer",
    "NumberedLayers",
    "Stage",
    "as_kept",
    "has_token",
    "pooled_shape",
]


@dataclass(frozen=True)
class Layer:
    """A place where a network can be cut.

    Attributes
    ----------
    name : str
        Path of the outermost module whose output this is, such as ``"layer4"``.
    shape : tuple of int
        Shape of its output for one item, without the batch axis; -1 for lengths that differ.
    kind : {"map", "map_last", "tokens", "vector", "text"}
        What the axes are: (channels, height, width), (height, width, channels),
        (tokens, channels), (channels,), or (windows, tokens, channels).
    n_prefix_tokens : int
        Tokens before the first patch: class and register tokens.
    is_token : bool
        Whether it is a row that was made of the class token alone.
    grid : tuple of int or None
        Rows and columns of the places of an image, one of each patch where it gives tokens; None
        where there are no places.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    n_prefix_tokens: int = 0
    is_token: bool = False
    grid: tuple[int, int] | None = None

    @property
    def n_channels(self) -> int:
        return self.shape[0] if self.kind == "map" else (1, *self.shape)[-1]


@dataclass(frozen=True)
class Stage:
    """Some of the layers of a network, between two cut points.

    Attributes
    ----------
    name : str
        Path of its first module with more than one layer, such as ``"layer4"``.
    start : Layer or None
        The cut point before it; None is the pixels.
    end : Layer
        The cut point behind it.
    """

    name: str
    start: Layer | None
    end: Layer


class Cuttable(Protocol):
    """A network that can be cut at its layers.

    Attributes
    ----------
    name : str
        For messages and the names of columns.
    layers : list of Layer
        Cut points in order, from the input; the last is the default, where the codes are taken.
    has_default : bool
        Whether there is a default.
    identity : str
        All that decides what it computes of a prepared item, the same in every process.
    private : bool
        Whether it cannot be told from another one, so that no other process must believe
        what is kept of it.
    """

    name: str
    layers: list[Layer]
    has_default: bool

    def __hash__(self) -> int: ...

    @property
    def identity(self) -> str: ...

    @property
    def private(self) -> bool: ...

    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by name or number; None is the default."""
        ...

    def several(self, layer: str | int | Sequence[str | int] | None) -> tuple[Layer, ...]:
        """The layers that a parameter means: one, or a list of different ones."""
        ...

    def listed(self) -> list[Layer]:
        """The numbered layers, and what the network gives behind the last of them."""
        ...

    def nameable(self) -> list[Layer]:
        """The numbered layers, and all cut points behind the last of them."""
        ...

    def every(self) -> list[Layer]:
        """All cut points, from the input to the output."""
        ...

    def keeps_items_apart(self, layer: Layer) -> bool:
        """Whether the first axis of a layer is that of the items alone."""
        ...

    def up_to(self, layer: str | int | None) -> Cuttable:
        """The same network, ending with a layer; None is the default."""
        ...

    def stages(self) -> list[Stage]:
        """What people mean by "the last two blocks", from the input to the default layer."""
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """All pretrained parameters by name; nobody may change them."""
        ...

    def parameters_of(self, stage: Stage) -> list[str]:
        """Names of the parameters of a stage, in order of computation."""
        ...

    def cut_before(self, parameters: Collection[str]) -> Layer | None:
        """The last layer before all of some parameters; None is the input."""
        ...

    def merge(
        self, pooling: str | None
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        """Makes one row of those of the windows of an item; None where items have no windows."""
        ...

    def prefix(self, layers: Sequence[Layer], pooling: str | None) -> FrozenModule:
        """What is before some layers, each of them pooled, without gradients."""
        ...

    def taps(self) -> list[Layer]:
        """Layers that give maps of an image: of each resolution the last that stages end with."""
        ...

    def tail(self, start: Layer | None, ends: Sequence[Layer] = ()) -> nn.Module:
        """A copy of what is between a layer and the default one, which can be trained.

        Of several `ends` behind the layer it gives a tuple, what each of them gives.
        """
        ...

    def classifier(self) -> list[tuple[str, nn.Module | None]]:
        """Names and modules of what is behind the default layer and computes something."""
        ...


class NumberedLayers(ABC):
    """Layers by name and by number from the end: what all networks that can be cut have."""

    name: str
    layers: list[Layer]

    @abstractmethod
    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by name or by number; None is the default."""

    def numbered(self, layer: int) -> Layer:
        """Find a layer by its number, -1 for the last.

        Raises
        ------
        LayerError
            If there are not so many.
        """
        if -len(self.layers) <= layer < 0:
            return self.layers[layer]
        raise LayerError(
            f"layer={layer!r} is not a cut point of {self.name}: numbers go from -1 "
            f"({self.layers[-1].name}) to {-len(self.layers)} (nearest the input)."
        )

    def several(self, layer: str | int | Sequence[str | int] | None) -> tuple[Layer, ...]:
        """The layers that a parameter means: one by name or number, or a list of these.

        Raises
        ------
        LayerError
            If one of them does not exist, or the list is empty or names a layer twice.
        """
        if layer is None or isinstance(layer, (str, int)):
            return (self.resolve(layer),)
        layers = tuple(self.resolve(one) for one in layer)
        if not layers or len(set(layers)) < len(layers):
            raise LayerError(
                f"layer={layer!r} must be one or more different layers, "
                f"but means {[one.name for one in layers]}."
            )
        return layers


# From the map of a layer to a row of numbers.


POOLINGS = ("avg", "avg_all", "max", "gem", "token", "last", "flatten")
def as_kept(layer: Layer) -> Layer:
    """A layer of whose map the axes are those in which a frozen pass keeps it: channels first."""
    if layer.kind != "map_last":
        return layer
    return replace(layer, kind="map", shape=pooled_shape(layer, None))


def has_token(layer: Layer) -> bool:
    """Whether a layer gives a class token."""
    in_front = layer.kind == "tokens" and layer.n_prefix_tokens > 0
    return layer.is_token or in_front or layer.kind == "text"


def pooled_shape(layer: Layer, pooling: str | None) -> tuple[int, ...]:
    """Shape of the codes of one image."""
    if layer.kind in ("vector", "other"):
        return (_size(layer.shape),)
    if layer.kind == "text":
        return layer.shape if pooling is None else layer.shape[-1:]
    if pooling == "flatten":
        return (_size(layer.shape),)
    if pooling is not None:
        return (layer.n_channels,)
    if layer.kind == "map_last":
        return (layer.shape[2], layer.shape[0], layer.shape[1])
    return layer.shape


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
