"""What makes a row of numbers, or a map, of what a layer gives."""

from __future__ import annotations

import torch
from torch import nn

from ..exceptions import LayerError
from ._cut import Layer, has_token

__all__ = ["Pool", "as_map"]


_GEM_POWER = 3.0
_GEM_FLOOR = 1e-6


class Pool(nn.Module):
    """Pool the output of one layer.

    Parameters
    ----------
    pooling : {"avg", "max", "gem", "token", "flatten"} or None
        Mean, largest or generalised mean (power 3) over all places, the first token, all
        numbers in (channels, height, width) order, or the map itself.
    layer : Layer
        Says which axis is which. Class and register tokens take no part in means and
        maxima.

    References
    ----------
    F. Radenović, G. Tolias, O. Chum (2019). Fine-tuning CNN image retrieval with no human
    annotation, section 3.2 (generalised mean).
    """

    def __init__(self, pooling: str | None, layer: Layer):
        super().__init__()
        if pooling == "token" and not has_token(layer):
            raise LayerError(
                f'pooling="token" needs a layer with a class token, but {layer.name!r} gives '
                f"{layer.shape}. Take a block of a vision transformer, or another pooling."
            )
        self.pooling, self.kind, self.skip = pooling, layer.kind, layer.n_prefix_tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "vector" or self.kind == "other":
            # A clone, for the output of the network must not alias what follows in place.
            return x.flatten(1).clone() if x.ndim > 1 else x[:, None].clone()
        if self.kind == "map_last":
            x = x.permute(0, 3, 1, 2)
        if self.pooling is None or self.pooling == "flatten":
            x = x.contiguous().clone() if self.kind != "map" else x.clone()
            return x.flatten(1) if self.pooling == "flatten" else x
        if self.pooling == "token":
            return x[:, 0].clone()
        places = x[:, self.skip :].transpose(1, 2) if self.kind == "tokens" else x.flatten(2)
        return _reduce(places, self.pooling)


def as_map(values: torch.Tensor, layer: Layer) -> torch.Tensor:
    """What a layer gives without a pooling, (n, ...), as a map (n, channels, height, width).

    Raises
    ------
    LayerError
        If it has no places.
    """
    if layer.grid is None:
        raise LayerError(f"The layer {layer.name!r} gives {layer.shape}, which is no map.")
    if layer.kind != "tokens":
        return values
    patches = values[:, layer.n_prefix_tokens :]
    return patches.transpose(1, 2).unflatten(2, layer.grid)


def _reduce(places: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce (n, channels, places) over the places."""
    if pooling == "max":
        return places.amax(2)
    if pooling == "gem":
        powers = places.clamp(min=_GEM_FLOOR).pow(_GEM_POWER)
        return powers.mean(2).pow(1 / _GEM_POWER)
    return places.mean(2)
