"""Value ranges: what black and white are in arrays, told once for the whole input."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..exceptions import ClippingWarning, ValueRangeError

Range = tuple[float, float]

BYTE: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)
_TOLERANCE = 1e-6  # of the range: what resampling in float32 overshoots
_DARKEST_BYTE_MAXIMUM = 128
_USUAL_WHITES = (1, 255, 1023, 4095, 16383, 65535)


def family(dtype: np.dtype[Any]) -> str:
    """Name the kind of numbers that share one rule: uint8, bool, int or float."""
    if dtype == np.uint8:
        return "uint8"
    return {"b": "bool", "f": "float"}.get(dtype.kind, "int")


def check_value_range(value_range: Any, name: str = "value_range") -> Range | None:
    """Give (low, high) as floats, or None for "auto"."""
    if isinstance(value_range, str) and value_range == "auto":
        return None
    if isinstance(value_range, Iterable) and not isinstance(value_range, str):
        ends = tuple(value_range)
        if len(ends) == 2 and all(isinstance(end, numbers.Real) for end in ends):
            low, high = float(ends[0]), float(ends[1])
            if math.isfinite(low) and math.isfinite(high) and low < high:
                return low, high
    raise ValueRangeError(
        f'{name} must be "auto" or (low, high), two finite numbers with low < high, '
        f"got {value_range!r}"
    )


def given_ranges(extremes: dict[str, Range], given: Range) -> dict[str, Range]:
    """Take the range that the user gave; warn once if values lie beyond it."""
    low = min((seen[0] for seen in extremes.values()), default=given[0])
    high = max((seen[1] for seen in extremes.values()), default=given[1])
    if not _within((low, high), given):
        warnings.warn(
            f"the arrays hold values from {low:g} to {high:g}; those beyond "
            f"value_range=({given[0]:g}, {given[1]:g}) are clipped to it",
            ClippingWarning,
            stacklevel=4,
        )
    return dict.fromkeys(extremes, given)


def auto_ranges(extremes: dict[str, Range], float_range: Range | None) -> dict[str, Range]:
    """Tell the range of each family by the documented rule."""
    rules = {"uint8": lambda _: BYTE, "bool": lambda _: UNIT, "int": _integers}
    return {
        kind: _floats(seen, float_range) if kind == "float" else rules[kind](seen)
        for kind, seen in extremes.items()
    }


def _integers(seen: Range) -> Range:
    if _within(seen, BYTE):
        return BYTE
    raise _refusal(seen, 'with value_range="auto" integers must lie within 0 and 255')


def _floats(seen: Range, fitted: Range | None) -> Range:
    if fitted is not None:
        if _within(seen, fitted):
            return fitted
        low, high = fitted
        raise _refusal(seen, f"floats must lie within {low:g} and {high:g}, as they did in fit")
    if _within(seen, UNIT):
        return UNIT
    if _within(seen, BYTE) and seen[1] >= _DARKEST_BYTE_MAXIMUM:
        return BYTE
    raise _refusal(
        seen,
        'with value_range="auto" floats must lie within 0 and 1, or within 0 and 255 with a '
        f"maximum of at least {_DARKEST_BYTE_MAXIMUM}, over the whole input",
    )


def _refusal(seen: Range, rule: str) -> ValueRangeError:
    low, high = seen
    if low < 0:
        white = max(1, math.ceil(max(-low, high)))
        example = (-white, white)
    else:
        example = (0, next((w for w in _USUAL_WHITES if high <= w), math.ceil(high)))
    return ValueRangeError(
        f"{rule}, got values from {low:g} to {high:g}. Say what black and white are: "
        f"value_range=(low, high), for example value_range={example}"
    )


def _within(seen: Range, allowed: Range) -> bool:
    slack = _TOLERANCE * (allowed[1] - allowed[0])
    return allowed[0] - slack <= seen[0] and seen[1] <= allowed[1] + slack


def to_uint8(array: np.ndarray, value_range: Range) -> np.ndarray:
    """Scale `value_range` linearly to 0 … 255, clip, and round to nearest."""
    low, high = value_range
    if array.dtype == np.uint8 and value_range == BYTE:
        return array
    wide = np.result_type(array.dtype, np.float32)
    scaled = (array.astype(wide) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
