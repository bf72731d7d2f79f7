"""A rung of the ladder, and the clock that says whether there is time for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["RUNGS", "Clock", "Rung"]

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
        Accuracies of the folds; empty where it was not tried.
    seconds : float
        That it took.
    reason : str
        Why it was not tried, or not to the end.
    """

    name: str
    estimator: Any
    scores: np.ndarray
    seconds: float
    reason: str = ""

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
    n_fits : int
        That a rung takes: one for each fold, and the last one to all photographs.
    """

    deadline: float
    n_fits: int

    def fits(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.perf_counter() + seconds < self.deadline

    def no_time(
        self, name: str, estimator: Any, fit: float | None = None, seconds: float = 0.0
    ) -> Rung:
        """The rung for which there is none: what a fit would take, and what was spent on it."""
        left = max(0.0, self.deadline - time.perf_counter())
        cost = ""
        if fit is not None:
            cost = (
                f", {self.n_fits} fits (the last to all photographs) take about "
                f"{self.n_fits * fit:.1f} s"
            )
        return Rung(name, estimator, np.empty(0), seconds, f"no time: {left:.1f} s left{cost}")
