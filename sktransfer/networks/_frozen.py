"""The frozen part of a network as a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import nn

__all__ = ["FrozenModule"]


class FrozenModule(nn.Module, ABC):
    """The part of a network before a cut, as an engine runs it: raw items in, codes of layers out.

    ``forward`` takes a batch of items as they are prepared (bytes of pixels) and gives one tensor
    for each layer.
    """

    @abstractmethod
    def in_precision(self, dtype: torch.dtype) -> Self:
        """Change, in place, what the network computes in."""

    @abstractmethod
    def folded(self) -> Self:
        """A copy that computes the same in fewer passes over memory."""
