"""A rung of the ladder, and the clock that says whether there is time for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["RUNGS", "Clock", "Rung", "best_of"]

RUNGS = ("probe", "framing", "layers", "stacked", "fine-tune last", "fine-tune all")


@dataclass(frozen=True, eq=False)
class Rung:
    """A strategy that was tried, or for which there was no time.

    Attributes
    ----------
    name : str
    estimator : estimator
        Not fitted.
    scores : ndarray
        Accuracies of the folds, or of the first ones; empty where it was not tried.
    seconds : float
        That it took.
    reason : str
        Why it was not tried, or not to the end.
    last_fit : float
        Seconds that the fit to all photographs is expected to take, where that is long.
    """

    name: str
    estimator: Any
    scores: np.ndarray
    seconds: float
    reason: str = ""
    last_fit: float = 0.0

    @property
    def mean(self) -> float:
        return float(self.scores.mean()) if len(self.scores) else float("nan")


@dataclass(frozen=True)
class Clock:
    """Tells what there is time for.

    Attributes
    ----------
    deadline : float
        Of `time.perf_counter`.
    """

    deadline: float

    def fits(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.perf_counter() + seconds < self.deadline

    def no_time(
        self, name: str, estimator: Any, needs: float | None = None, seconds: float = 0.0
    ) -> Rung:
        """The rung for which there is none: what it would take, and what was spent on it."""
        left = max(0.0, self.deadline - time.perf_counter())
        cost = "" if needs is None else f", a fold and the last fit take about {needs:.1f} s"
        return Rung(name, estimator, np.empty(0), seconds, f"no time: {left:.1f} s left{cost}")


def best_of(rungs: Sequence[Rung]) -> Rung:
    """The best by the folds that two have in common; of equals the first, which is the cheapest."""
    tried = [rung for rung in rungs if len(rung.scores)]
    best = tried[0]
    for rung in tried[1:]:
        shared = min(len(best.scores), len(rung.scores))
        if rung.scores[:shared].mean() > best.scores[:shared].mean():
            best = rung
    return best
