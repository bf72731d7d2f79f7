"""Scores by name, applied to what a network makes of the photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._h_score import h_score
from ._inputs import as_classes, is_regression
from ._logme import logme_score
from ._passes import Seen
from ._probe import cv_score, make_splits
from ._source_scores import leep_score, nce_score
from ._transrate import transrate_score

__all__ = ["METRICS", "Metric", "check_target", "metric_names", "score_of"]

METRICS = ("logme", "h_score", "leep", "nce", "transrate", "cv")
_FOR_VALUES = ("logme", "cv")
# The others grow with the width of the codes, so that they cannot compare layers.
_OF_ANY_WIDTH = ("logme", "cv")
Metric = str | Callable[[np.ndarray, np.ndarray], float]


def metric_names(metric: Metric | Sequence[Metric]) -> dict[str, Metric]:
    """The metrics asked for, by name, the one that ranks first.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    asked = [metric] if isinstance(metric, str) or callable(metric) else list(metric)
    if not asked:
        raise ValueError(f"metric must name one of {', '.join(METRICS)}, got an empty list.")
    for one in asked:
        if not callable(one) and one not in METRICS:
            raise ValueError(f"metric must be of {', '.join(METRICS)}, or a function, got {one!r}.")
    return {
        one if isinstance(one, str) else getattr(one, "__name__", repr(one)): one for one in asked
    }


def check_target(y: Any, metrics: dict[str, Metric], cv: Any, regression: bool | str) -> bool:
    """Refuse targets before the first pass rather than after; tells whether they are values."""
    if not is_regression(y, regression):
        as_classes(y)
        if "cv" in metrics:
            make_splits(np.asarray(y), cv)
        return False
    for name, metric in metrics.items():
        if isinstance(metric, str) and metric not in _FOR_VALUES:
            raise ValueError(
                f"metric={name!r} is defined for classes only, and y holds values: take one of "
                f"{', '.join(_FOR_VALUES)}."
            )
    return True


def score_of(
    metric: Metric, seen: Seen, y: np.ndarray, cv: Any, regression: bool, *, depth: bool
) -> tuple[float, str]:
    """The score of a network, and the layer whose codes have it.

    Parameters
    ----------
    depth : bool
        Whether the best of several layers counts, where widths do not make scores incomparable.

    Raises
    ------
    ValueError
        If the network has no outputs that the metric needs.
    """
    if metric in ("leep", "nce"):
        if seen.probabilities is None:
            raise ValueError(f"{metric}: {seen.no_probabilities}")
        if metric == "leep":
            return leep_score(seen.probabilities, y), seen.asked
        return nce_score(seen.probabilities.argmax(axis=1), y), seen.asked
    if not depth or metric not in _OF_ANY_WIDTH:
        return _of_codes(metric, seen.codes, y, cv, regression), seen.asked
    scores = {k: _of_codes(metric, one, y, cv, regression) for k, one in seen.layers.items()}
    best = max(reversed(scores), key=lambda name: scores[name])
    return scores[best], best


def _of_codes(metric: Metric, codes: np.ndarray, y: np.ndarray, cv: Any, values: bool) -> float:
    if metric == "logme":
        return logme_score(codes, y, regression=values)
    if metric == "cv":
        return cv_score(codes, y, cv=cv, regression=values)
    if callable(metric):
        return float(metric(codes, y))
    return h_score(codes, y) if metric == "h_score" else transrate_score(codes, y)
