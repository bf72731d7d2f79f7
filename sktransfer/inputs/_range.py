"""Value ranges: what black and white are in arrays, told once for the whole input."""

from __future__ import annotations

import math
import numbers
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..exceptions import ClippingWarning, ValueRangeError

Range = tuple[float, float]

BYTE: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)
_TOLERANCE = 1e-6  # of the range: what resampling in float32 overshoots
_DARKEST_BYTE_MAXIMUM = 128
# Floats below it are taken for 0 to 1 with what bicubic resizing overshoots.
_BRIGHTEST_UNIT_MAXIMUM = 2
_USUAL_WHITES = (1, 255, 1023, 4095, 16383, 65535)
# Whole inputs that never pass this part of their range are nearly black.
DARK = 1 / 15


def family(dtype: np.dtype[Any]) -> str:
    """Name the kind of numbers that share one rule: uint8, uint16 (or more), bool, int or float."""
    if dtype == np.uint8:
        return "uint8"
    return {"b": "bool", "f": "float", "u": "uint16"}.get(dtype.kind, "int")


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
    if not within((low, high), given):
        warn(clipped("the arrays hold", (low, high), given), ClippingWarning)
    return dict.fromkeys(extremes, given)


def clipped(subject: str, seen: Range, given: Range) -> str:
    """Say that values lie beyond the range that was given."""
    return (
        f"{subject} values from {seen[0]:g} to {seen[1]:g}; those beyond "
        f"value_range=({given[0]:g}, {given[1]:g}) are clipped to it"
    )


def auto_ranges(
    extremes: dict[str, Range],
    float_range: Range | None,
    *,
    fractions: bool = True,
    to_one: int | None = None,
) -> dict[str, Range]:
    """Tell the range of each family by the documented rule.

    Parameters
    ----------
    extremes : dict
        Of each family over the whole input.
    float_range : (low, high) or None
        What floats were in an earlier call.
    fractions : bool
        Whether there are floats that are no whole numbers.
    to_one : int or None
        An image of floats that looks like one of 0 to 1.
    """
    ranges: dict[str, Range] = {}
    for kind, seen in extremes.items():
        if kind == "float":
            ranges[kind] = _floats(seen, float_range, fractions)
            if ranges[kind] == BYTE and to_one is not None and seen[1] > _BRIGHTEST_UNIT_MAXIMUM:
                raise ValueRangeError(
                    f"floats of all images must have one scale, but image {to_one} holds fractions "
                    f"up to 1, and others values up to {seen[1]:g}. Multiply it by 255; if it is "
                    "that dark, set value_range=(0, 255)"
                )
        elif kind == "bool":
            ranges[kind] = UNIT
        else:
            ranges[kind] = BYTE if kind == "uint8" else _integers(seen)
    return ranges


def _integers(seen: Range) -> Range:
    if within(seen, BYTE):
        return BYTE
    raise _refusal(seen, 'with value_range="auto" integers must lie within 0 and 255')


def _floats(seen: Range, fitted: Range | None, fractions: bool) -> Range:
    if fitted is not None:
        low, high = fitted
        if fitted == BYTE and fractions and within(seen, (-1, _BRIGHTEST_UNIT_MAXIMUM)):
            raise ValueRangeError(
                "floats must lie within 0 and 255, as they did in fit, got fractions from "
                f"{seen[0]:g} to {seen[1]:g}, which would be black. Multiply them by 255, or fit "
                "with floats from 0 to 1; if they are that dark, fit with value_range=(0, 255)"
            )
        if within(seen, fitted):
            return fitted
        raise ValueRangeError(
            f"floats must lie within {low:g} and {high:g}, as they did in fit, got values from "
            f"{seen[0]:g} to {seen[1]:g}. {_back_to(fitted, seen)}"
        )
    if within(seen, UNIT):
        return UNIT
    if within(seen, BYTE) and seen[1] >= _DARKEST_BYTE_MAXIMUM:
        return BYTE
    raise _refusal(
        seen,
        'with value_range="auto" floats must lie within 0 and 1, or within 0 and 255 with a '
        f"maximum of at least {_DARKEST_BYTE_MAXIMUM}, over the whole input",
    )


def _back_to(fitted: Range, seen: Range) -> str:
    """Say how to give floats the scale that those of `fit` had."""
    if fitted == UNIT and example_range(seen) == UNIT:
        return "Clip them, or fit with value_range=(0, 1), which clips"
    if fitted == UNIT and within(seen, BYTE):
        return "Divide them by 255, as those of fit, or fit with floats from 0 to 255"
    return "Scale them as those of fit, or fit with a value_range=(low, high) that holds for both"


def _refusal(seen: Range, rule: str) -> ValueRangeError:
    low, high = seen
    message = (
        f"{rule}, got values from {low:g} to {high:g}. Say what black and white are: "
        f"value_range=(low, high), for example value_range={example_range(seen)}"
    )
    if -5 < low < -1 and 1 < high < 5:
        message += (
            ". If they were normalised by a mean and standard deviation, pass them as they were "
            "before: the network's own are applied here"
        )
    return ValueRangeError(message)


def example_range(seen: Range) -> Range:
    """Propose a range for values between two extremes, with which they are not nearly black."""
    low, high = seen
    # What resizing overshoots is clipped; a usual white is no more than four times the largest.
    for white in _USUAL_WHITES:
        highest = _BRIGHTEST_UNIT_MAXIMUM if white == 1 else white
        lowest = -0.2 * white if white <= BYTE[1] else 0
        if white / 4 < high <= highest and low >= lowest:
            return (0, white)
    if low >= 0:
        return (0, max(1, math.ceil(high)) if high > 0.25 else _round_up(high))
    if high / 2 <= -low <= 2 * high:
        white = max(1, math.ceil(max(-low, high)))
        return (-white, white)
    return (math.floor(low), max(math.ceil(high), math.floor(low) + 1))


def _round_up(value: float) -> float:
    """The next number of two digits."""
    if value <= 0:
        return 1
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.6g}")


def are_bright(extremes: dict[str, Range], ranges: dict[str, Range]) -> bool:
    """Tell whether arrays use their range, so that dark ones beside them are dark."""
    return _share(extremes, ranges) > DARK


def _share(extremes: dict[str, Range], ranges: dict[str, Range]) -> float:
    """The largest part of its range that a kind of numbers reaches."""
    shares = [
        (seen[1] - ranges[kind][0]) / (ranges[kind][1] - ranges[kind][0])
        for kind, seen in extremes.items()
    ]
    return max(shares, default=0)


def told_of_dark_arrays(
    extremes: dict[str, Range], ranges: dict[str, Range], *, given: bool, bright: bool = False
) -> str | None:
    """Say that arrays may be darker as they are read than they are; None where nothing hints at it.

    The whole input decides: one dark image among others is as dark as it is. So it is if those of
    an earlier call were `bright`, but for masks.
    """
    share = _share(extremes, ranges)
    if share <= 0:
        return None
    high = max(seen[1] for seen in extremes.values())
    if share <= DARK and bright and high > 1:
        return None
    if share <= DARK:
        white = max(found[1] for found in ranges.values())
        return (
            f"the arrays hold no value above {high:g} and are read as nearly black, since white is "
            f"{white:g}. If it is not, say what black and white are: value_range=(low, high), for "
            f"example value_range={example_range((0, high))}"
        )
    if "uint16" in extremes and not given:
        return (
            f"arrays of 16 bits or more hold no value above {extremes['uint16'][1]:g}, so 255 is "
            "taken for white. If it is not, say what black and white are, for example "
            "value_range=(0, 4095); value_range=(0, 255) is what is done now, without this warning"
        )
    return None


def within(seen: Range, allowed: Range) -> bool:
    """Tell whether values lie within a range, but for what resampling overshoots."""
    slack = _TOLERANCE * (allowed[1] - allowed[0])
    return allowed[0] - slack <= seen[0] and seen[1] <= allowed[1] + slack


_said: ContextVar[set[Any] | None] = ContextVar("said", default=None)


@contextmanager
def each_told_once() -> Iterator[None]:
    """Warn of each thing once in the block, where estimators see the same images several times."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user that called sktransfer, maybe by way of scikit-learn."""
    said = _said.get()
    if said is not None:
        what = category, re.sub(r"[\d.]+", "", message)  # of a fold the numbers are others
        if what in said:
            return
        said.add(what)
    frame, level = sys._getframe(1), 2
    while frame is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in ("sktransfer", "sklearn", "joblib")


def to_uint8(array: np.ndarray, value_range: Range) -> np.ndarray:
    """Scale `value_range` linearly to 0 … 255, clip, and round to nearest."""
    low, high = value_range
    if array.dtype == np.uint8 and value_range == BYTE:
        return array
    wide = np.result_type(array.dtype, np.float32)
    scaled = (array.astype(wide) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
