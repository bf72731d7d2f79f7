"""A rung that fine-tunes: a trial tells what it costs, folds are fitted as far as the time goes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from ._rungs import Clock, Rung
from ._study import take_photographs

__all__ = ["fine_tune_rung"]

# Photographs of the trial.
_TRIAL = 64


def fine_tune_rung(
    name: str,
    estimator: Any,
    X: Any,
    y: np.ndarray,
    splits: Any,
    clock: Clock,
    *,
    pass_seconds: float = 0.0,
    reserve: float = 0.0,
) -> Rung:
    """Judge a fine-tuned network on the folds, as many as there is time for with the last fit.

    `pass_seconds` is what the frozen part takes, `reserve` what the last fit of an earlier rung
    takes, which must be left if this one is not the best.
    """
    begin = time.perf_counter()
    # The trial itself takes about as long as two small epochs.
    if not clock.fits(1.2 * reserve):
        return clock.no_time(name, estimator)
    fold = pass_seconds + seconds_of_fit(estimator, X, y, splits[0][0])
    more = len(y) / len(splits[0][0])  # photographs of the last fit to those of a fold
    scores: list[float] = []
    for split in splits:
        # What is tried must also be fitted to all photographs in the end.
        if not clock.fits(fold + max(reserve, more * fold)):
            break
        start = time.perf_counter()
        scores += cross_val_score(clone(estimator), X, y, cv=[split], error_score="raise").tolist()
        fold = time.perf_counter() - start
    seconds = time.perf_counter() - begin
    if not scores:
        return clock.no_time(name, estimator, (1 + more) * fold, seconds)
    left_out = len(splits) - len(scores)
    reason = f"no time for {left_out} of {len(splits)} folds" if left_out else ""
    return Rung(name, estimator, np.array(scores), seconds, reason, more * fold)


def seconds_of_fit(estimator: Any, X: Any, y: np.ndarray, learn: np.ndarray) -> float:
    """What a fit will take once the frozen part has been computed.

    Two epochs of a few of the photographs: what is done once is told from what each epoch costs,
    and the first epoch, in which libraries warm up, does not count.
    """
    part = learn[:: max(1, len(learn) // _TRIAL)][:_TRIAL]
    if len(np.unique(y[part])) < 2:
        part = learn
    short = clone(estimator).set_params(max_epochs=2)
    photographs = take_photographs(X, part, len(y))
    start = time.perf_counter()
    short.fit(photographs, y[part])
    whole = time.perf_counter() - start
    epochs = short.history_[:, "dur"]
    once = max(0.0, whole - sum(epochs))
    return once + epochs[-1] * estimator.max_epochs * len(learn) / len(part)
