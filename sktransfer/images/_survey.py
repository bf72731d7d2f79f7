"""One look at all arrays of an input, some at a time: their extremes, and bad images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError
from ._arrays import as_array, is_array_like, no_pixels, to_hwc
from ._collect import Collected
from ._kinds import is_missing
from ._range import BYTE, DARK, UNIT, Range, family

_BLOCK = 2**22  # values looked at together
_DARK_BYTE = 255 * DARK
_BLACK_UNIT = 0.1  # floats that never pass it are as black from 0 to 1 as from 0 to 255


@dataclass
class Survey:
    """What the arrays of an input hold: (min, max) for each family of dtypes, and bad images."""

    extremes: dict[str, Range] = field(default_factory=dict)
    causes: dict[int, str] = field(default_factory=dict)
    fractions: bool = False  # whether there are floats that are no whole numbers
    to_one: int | None = None  # the first image of floats that looks like one of 0 to 1

    def add(self, first: int, block: np.ndarray, *, trust_dtype: bool) -> None:
        """Look at images `first`, `first` + 1, … stacked in `block`."""
        kind = family(block.dtype)
        if kind == "bool" and trust_dtype:
            self._widen(kind, UNIT)
        elif kind == "uint8" and trust_dtype:
            # It cannot leave its range. One bright image says that it uses it, no more is looked
            # at; only where all are dark all are looked at.
            if self.extremes.get(kind) != BYTE:
                self._widen(kind, BYTE if _is_bright(block) else (0.0, float(block.max())))
        else:
            self._look(kind, first, block, trust_dtype)

    def _look(self, kind: str, first: int, block: np.ndarray, trust_dtype: bool) -> None:
        with np.errstate(invalid="ignore"):  # NaN is looked for
            low, high = float(block.min()), float(block.max())
        if math.isfinite(low) and math.isfinite(high):
            self._widen(kind, (low, high))
            if kind == "float":
                self._look_at_scale(first, block, high)
        elif len(block) == 1:
            self.causes[first] = "holds NaN" if math.isnan(low) else "holds infinity"
        else:
            for offset in range(len(block)):
                self.add(first + offset, block[offset : offset + 1], trust_dtype=trust_dtype)

    def _look_at_scale(self, first: int, block: np.ndarray, high: float) -> None:
        if not self.fractions and high < 2:  # the only ones it matters of
            self.fractions = any(map(_has_fractions, block))
        if self.to_one is None:
            highest = block.max(axis=tuple(range(1, block.ndim)))
            for offset in np.flatnonzero((highest <= 1) & (highest > _BLACK_UNIT)):
                if _has_fractions(block[offset]) and block[offset].min() < highest[offset]:
                    self.to_one = first + int(offset)
                    return

    def _widen(self, kind: str, seen: Range) -> None:
        low, high = self.extremes.get(kind, seen)
        self.extremes[kind] = (min(low, seen[0]), max(high, seen[1]))


def _is_bright(block: np.ndarray) -> bool:
    return bool(block[0, ::4].max() > _DARK_BYTE or block.max() > _DARK_BYTE)


def _has_fractions(image: np.ndarray) -> bool:
    return bool((image != np.rint(image)).any())


def survey_arrays(collected: Collected, *, trust_dtype: bool) -> Survey:
    """Look at all arrays; with `trust_dtype` uint8 and bool need no look."""
    survey = Survey()
    for first, block in _blocks(collected, survey.causes):
        survey.add(first, block, trust_dtype=trust_dtype)
    return survey


def _blocks(collected: Collected, causes: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    """Give all arrays, some images at a time; note those that are no images in `causes`."""
    items = collected.items
    if not isinstance(items, np.ndarray):
        yield from _list_blocks(items, causes)
    elif items.size == 0:
        causes.update(dict.fromkeys(range(len(items)), no_pixels(items.shape[1:])))
    else:
        step = max(1, _BLOCK // items[0].size)
        for first in range(0, len(items), step):
            yield first, items[first : first + step]


def _list_blocks(items: Any, causes: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    for index, item in enumerate(items):
        if is_missing(item):
            causes[index] = f"is missing ({item!r})"
        # a PIL image is array-like too, but its values need no range
        elif is_array_like(item) and not isinstance(item, Image.Image):
            try:
                yield index, to_hwc(as_array(item))[None]
            except ImageError as error:
                causes[index] = error.cause
