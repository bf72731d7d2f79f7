"""Ways of doing the same thing, timed in turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Way:
    """One way to make codes.

    `run(n)` gives the codes of the first n images; n is a multiple of `step`, at most `most`.
    `width` is how many numbers a code has; None where `run` gives none. `check`, if there is one,
    is called with the first codes and raises where they are wrong.
    """

    name: str
    run: Callable
    most: int
    step: int = 1
    width: int | None = None
    check: Callable | None = None


@dataclass
class Absent:
    """A way that cannot be measured, and why."""

    name: str
    reason: str


class WrongCodes(Exception):
    """A way does not compute what it is timed for."""


def measure(ways, *, repeats, seconds):
    """Images per second of each way in each turn; a way that cannot run turns `Absent`.

    Slow ways take fewer images a turn, so that each takes about the same time. Every way runs
    twice before the first turn, and what it gives is looked at.
    """
    numbers, rates = {}, {}
    for way in ways:
        if isinstance(way, Way):
            numbers[way.name] = _warm_up(way, seconds)
            rates[way.name] = []
    for _ in range(repeats):
        for way in ways:
            if isinstance(way, Way):
                rates[way.name].append(_rate(way, numbers[way.name]))
    return {name: np.array(found) for name, found in rates.items()}


def _warm_up(way, seconds):
    """Check the codes, and settle how many images make a turn."""
    few = min(way.step, way.most)
    codes = way.run(few)
    if way.width is not None:
        check_codes(way.name, codes, (few, way.width))
    if way.check is not None:
        way.check(np.asarray(codes))
    steps = round(_rate(way, few) * seconds / way.step)
    return max(few, min(steps * way.step, way.most))


def _rate(way, number):
    start = time.perf_counter()
    way.run(number)
    return number / (time.perf_counter() - start)


def check_codes(name, codes, shape):
    """Raise unless codes have a shape, are finite, and differ from image to image."""
    codes = np.asarray(codes)
    if codes.shape != shape:
        raise WrongCodes(f"{name} gives codes of shape {codes.shape}, not {shape}")
    if not np.isfinite(codes).all():
        raise WrongCodes(f"{name} gives codes that are not finite")
    if len(codes) > 1 and not codes.std(axis=0).any():
        raise WrongCodes(f"{name} gives the same code for every image")


def seconds_of(tasks, repeats):
    """Seconds of each task in each turn, after one turn that does not count."""
    found = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                found[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in found.items()}
