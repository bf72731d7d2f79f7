"""Networks whose head takes maps of several layers, from fine to coarse."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..exceptions import LayerError
from ..networks import Backbone, Cuttable, Layer, as_map
from ._model import Cut, Design, PixelModule, normalization_before, suit_images
from ._rows import MapBatch

__all__ = ["MapDesign", "MapModule"]


@dataclass(frozen=True, kw_only=True)
class MapDesign(Design):
    """The parameters that decide what such a network is.

    Attributes
    ----------
    layers, batchnorm : object
        As in the estimator.
    image_size : tuple of int
        Height and width that the network sees.
    """

    pooling: str | None = None
    layers: Any
    batchnorm: str
    image_size: tuple[int, int]

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in super().given.items() if name != "image_size"}

    def ends(self, cuts: Cuttable) -> tuple[Cuttable, tuple[Layer, ...]]:
        order = cuts.every()
        taps = cuts.taps() if self.layers is None else cuts.several(self.layers)
        taps = tuple(sorted(taps, key=order.index))
        for one in taps:
            if one.grid is None:
                raise LayerError(
                    f"layers= must name layers that give maps, but {one.name!r} gives "
                    f"{one.shape}. Those of {cuts.name} that are taken with layers=None are "
                    f"{[tap.name for tap in cuts.taps()]}."
                )
        return cuts.up_to(taps[-1].name), taps

    @abstractmethod
    def new_head(self, table: Cuttable, taps: tuple[Layer, ...]) -> nn.Module:
        """A new head: it takes a list of maps (n, channels, height, width), one of each tap."""

    def module(self, backbone: Backbone, tail: nn.Module, cut: Cut, head: nn.Module) -> MapModule:
        suit_images(tail)
        normalization = normalization_before(backbone, cut)
        return MapModule(tail, head, cut, normalization, live_norms=self.batchnorm == "train")


class MapModule(PixelModule):
    """What is trained of a network whose head takes maps.

    Parameters
    ----------
    tail, head, normalization, live_norms : object
        As in `PixelModule`.
    cut : Cut
        Says what is frozen.
    """

    def __init__(
        self, tail: nn.Module, head: nn.Module, cut: Cut, normalization: Any, *, live_norms: bool
    ):
        super().__init__(tail, head, normalization, live_norms=live_norms)
        self.taps, self.n_frozen = cut.taps, len(cut.frozen_taps)

    def codes(self, activations: Any) -> list[torch.Tensor]:
        values = _values(activations)
        found = list(values[: self.n_frozen])
        if self.n_frozen < len(self.taps):
            found += self.tail_now(self.before_tail(values[-1]))
        return self._maps(found)

    def as_maps(self, activations: Any) -> list[torch.Tensor]:
        return self._maps(_values(activations))

    def as_rows(self, codes: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([one.mean((2, 3)) for one in codes], 1)

    def answers(self, head: nn.Module, codes: list[torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = head(codes)
        return out

    def _maps(self, values: Any) -> list[torch.Tensor]:
        return [as_map(one.float(), tap) for one, tap in zip(values, self.taps, strict=True)]


def _values(activations: Any) -> tuple[torch.Tensor, ...]:
    """The arrays of several layers, or of one."""
    return activations.maps if isinstance(activations, MapBatch) else (activations,)
