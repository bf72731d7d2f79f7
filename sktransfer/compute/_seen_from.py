"""A network seen from one of its layers: what is behind it can be derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..networks import Layer, as_kept
from ._frozen_pass import FrozenPass

if TYPE_CHECKING:
    import torch

__all__ = ["SeenFrom"]


@dataclass(frozen=True, eq=False)
class SeenFrom:
    """What an estimator computes of an item, in two parts: up to a layer, and from there on.

    Attributes
    ----------
    layer : Layer
    frozen : FrozenPass
        What is computed first of items.
    before : callable
        Makes what the layer gives, (n, channels, height, width) or (n, tokens, channels), of a
        batch of what `frozen` gives.
    behind : callable
        Makes outputs (n, n_outputs) of what the layer gives; can be derived.
    device : torch.device or str
        Where both compute.
    """

    layer: Layer
    frozen: FrozenPass
    before: Callable[[torch.Tensor], torch.Tensor]
    behind: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device | str = "cpu"

    @property
    def kept(self) -> Layer:
        """The layer, with the axes that `before` gives."""
        return as_kept(self.layer)
