"""How photographs that are not square are framed: worth some points on some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..codes import CNNCodes
from ..exceptions import ImageError
from ..images import Images
from ._layers import LIKELY, LayerScore, is_better, probe_layer
from ._passes import pass_over

__all__ = ["TALL_SHARE", "best_framing", "other_framings", "probe_framing", "tall_share"]

# Of photographs that are not about square, from which on other framings are tried.
TALL_SHARE = 0.1
_FRAMINGS = ("pad", "squash", "crop")
# Photographs whose sides are looked at, and how far from square one must be to count.
_LOOKED_AT, _TALL = 200, 1.1


def tall_share(images: Images, readable: np.ndarray | None = None) -> float:
    """Share of photographs that are not about square, of some of them."""
    numbers = np.arange(len(images)) if readable is None else np.flatnonzero(readable)
    chosen = numbers[:: max(1, len(numbers) // _LOOKED_AT)]
    tall = []
    for index in chosen:
        try:
            width, height = images.open(int(index)).picture().size
        except ImageError:  # the pass will say so
            continue
        tall.append(max(width, height) > _TALL * min(width, height))
    return float(np.mean(tall)) if tall else 0.0


def other_framings(codes: CNNCodes) -> list[str]:
    """What is to be tried besides the framing in use."""
    return [resize for resize in _FRAMINGS if resize != codes.resize]


def probe_framing(X: Any, codes: CNNCodes, numbers: np.ndarray, splits: Any) -> LayerScore:
    """A probe on the last layer with the framing of a transformer."""
    last = list(pass_over(codes, X).layers.values())[-1]
    return probe_layer(codes.resize, last, numbers, splits)


def best_framing(framings: dict[str, LayerScore]) -> str:
    """The first, which is in use, unless another is likely to be better."""
    current = next(iter(framings))
    best = max(framings, key=lambda name: framings[name].mean)
    return best if is_better(framings[best], framings[current], LIKELY) else current
