"""Learning rates over time, and stages that begin to learn one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["SCHEDULES", "make_schedule"]

SCHEDULES = ("cosine", "constant", "step")


def make_schedule(schedule: Any, steps: int, warmup: float) -> Callback | None:
    """A callback that sets the rates of every group before each batch.

    Parameters
    ----------
    schedule : {"cosine", "constant", "step"} or skorch.callbacks.LRScheduler
        "cosine" falls to zero, "step" to a tenth after two thirds of all steps.
    steps : int
        Batches in the whole fit.
    warmup : float
        Share of the steps in which rates rise from zero.
    """
    if not isinstance(schedule, str):
        return schedule
    factor = _factor(schedule, max(1, steps), warmup)
    # Each call of fit has a schedule of its own, whatever was learnt before.
    return LRScheduler(LambdaLR, lr_lambda=factor, step_every="batch", last_epoch=-1)


def _factor(schedule: str, steps: int, warmup: float) -> Callable[[int], float]:
    rising = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min(1.0, (step - rising) / max(1, steps - rising))
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 0.1 if schedule == "step" and done >= 2 / 3 else 1.0

    return factor
