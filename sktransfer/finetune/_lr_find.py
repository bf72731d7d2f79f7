"""The range of learning rates at which a fit learns.

Reference: L. Smith (2017). Cyclical learning rates for training neural networks. WACV. Section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from skorch.callbacks import Callback

from .._optional import import_pyplot
from ..exceptions import TrainingError

__all__ = ["LearningRateRange", "find_range"]


# Share of the running mean of the losses that stays at each step.
_SMOOTH = 0.9
# The test is over when the smoothed loss is this many times the lowest.
_DIVERGED = 4.0


@dataclass(frozen=True, repr=False)
class LearningRateRange:
    """What :meth:`sktransfer.FineTuneClassifier.lr_find` found.

    Parameters
    ----------
    lrs : ndarray
        Learning rates of the head that were tried, rising.
    losses : ndarray
        Loss of the batch at each, smoothed.

    Attributes
    ----------
    suggestion_ : float
        A tenth of the learning rate at which the loss was lowest. Where the head starts from a
        linear probe the loss is low from the start and continues falling at learning rates that
        would spoil it over a whole fit, so that this is the most that is worth trying.
    """

    lrs: np.ndarray
    losses: np.ndarray

    @property
    def suggestion_(self) -> float:
        return float(self.lrs[int(np.argmin(self.losses))] / 10)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(suggestion_={self.suggestion_:.2g}, {len(self.lrs)} learning "
            f"rates from {self.lrs[0]:.2g} to {self.lrs[-1]:.2g}, lowest loss "
            f"{self.losses.min():.3g})"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the learning rates.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        """
        plt = import_pyplot("plot")
        ax = plt.subplots()[1] if ax is None else ax
        ax.plot(self.lrs, self.losses)
        ax.axvline(self.suggestion_, linestyle=":", color="0.5", label=f"{self.suggestion_:.2g}")
        ax.set(xscale="log", xlabel="learning rate of the head", ylabel="loss, smoothed")
        ax.legend()
        return ax


class _Over(Exception):
    """The test has seen enough."""


class _Rising(Callback):
    """Let the learning rates of all groups rise geometrically with every batch."""

    def __init__(self, lr: float, start: float, end: float, steps: int):
        self.lr, self.start, self.end, self.steps = lr, start, end, steps

    def initialize(self) -> _Rising:
        self.lrs_: list[float] = []
        self.losses_: list[float] = []
        self.mean_, self.lowest_ = 0.0, math.inf
        return self

    def on_batch_begin(self, net: Any, training: bool = True, **_: Any) -> None:
        if not training:
            return
        done = len(self.losses_) / max(1, self.steps - 1)
        self.now_ = self.start * (self.end / self.start) ** done
        for group in net.optimizer_.param_groups:
            base = group.setdefault("initial_lr", group["lr"])
            group["lr"] = base / self.lr * self.now_

    def on_batch_end(self, net: Any, training: bool = True, loss: Any = None, **_: Any) -> None:
        if not training:
            return
        self.mean_ = _SMOOTH * self.mean_ + (1 - _SMOOTH) * float(loss)
        # Divided by what is missing of the first steps.
        smoothed = self.mean_ / (1 - _SMOOTH ** (len(self.losses_) + 1))
        if not math.isfinite(smoothed):
            raise _Over
        self.lrs_.append(self.now_)
        self.losses_.append(smoothed)
        self.lowest_ = min(self.lowest_, smoothed)
        if len(self.losses_) >= self.steps or smoothed > _DIVERGED * self.lowest_:
            raise _Over


def find_range(
    fit: Callable[[Callback], object], lr: float, start: float, end: float, n_steps: int
) -> LearningRateRange:
    """Train with rising learning rates until the loss diverges.

    Parameters
    ----------
    fit : callable
        Trains something with a schedule, for as many steps or more.
    lr : float
        The learning rate of the head that it trains with.
    start, end : float
        First and last learning rate of the head.
    n_steps : int
    """
    if not 0 < start < end:
        raise ValueError(f"start must be above 0 and below end, got start={start} and end={end}.")
    if n_steps < 2:
        raise ValueError(f"n_steps must be at least 2, got {n_steps}.")
    rising = _Rising(lr, start, end, n_steps)
    try:
        fit(rising)
    except _Over:
        pass
    except TrainingError:
        # A loss that is not a number ends the test; before the first step, it is an error.
        if not rising.losses_:
            raise
    return LearningRateRange(np.array(rising.lrs_), np.array(rising.losses_))
