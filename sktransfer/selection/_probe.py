"""The linear probe: a linear model on standardised codes, judged by cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ._inputs import as_classes, as_codes, is_regression

__all__ = ["PROBE_C", "cv_score", "make_probe", "make_splits"]

# Strength of the penalty on standardised codes of some hundred to some thousand numbers.
PROBE_C = 1e-2


def cv_score(
    codes: Any, y: Any, *, cv: Any = 5, estimator: Any = None, regression: bool | str = "auto"
) -> float:
    """Cross-validated accuracy of a linear classifier on the codes: the yardstick.

    A probe in the sense of [1]_: codes are standardised and a logistic regression is fitted, with
    weights pulled to zero as suits codes wider than photographs are many. In regression the
    coefficient of determination of a ridge regression.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each photograph.
    y : array-like of shape (n_samples,)
        Labels, or values in regression.
    cv : int or splitter, default=5
        Folds, shuffled always in the same way and fewer where a class is smaller; or one of
        scikit-learn's splitters.
    estimator : estimator, default=None
        Another one than the probe.
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.

    Returns
    -------
    score : float
        Mean over the folds.

    Raises
    ------
    ValueError
        If codes are not finite, lengths differ, or a class has one photograph.

    References
    ----------
    .. [1] G. Alain, Y. Bengio (2017). Understanding intermediate layers using linear classifier
       probes. ICLR workshop.
    """
    rows = as_codes(codes, y)
    values = is_regression(y, regression)
    probe = make_probe(regression=values) if estimator is None else estimator
    target = np.asarray(y)
    splits = make_splits(target, cv, regression=values)
    return float(cross_val_score(probe, rows, target, cv=splits).mean())


def make_probe(*, regression: bool = False) -> BaseEstimator:
    """An unfitted probe."""
    if regression:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13)))
    return make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=1000))


def make_splits(y: Any, cv: Any, *, regression: bool = False, groups: Any = None) -> Any:
    """Folds as (train, test) numbers.

    Raises
    ------
    ValueError
        If a class has but one photograph (or group), so that no fold can both learn and test it.
    """
    n = len(y)
    if groups is not None and len(np.unique(groups)) == n:
        groups = None  # nothing is there twice
    if hasattr(cv, "split"):
        return list(cv.split(np.zeros((n, 1)), y, groups))
    if not isinstance(cv, (int, np.integer)):
        return list(cv)
    if cv < 2:
        raise ValueError(f"cv must be at least 2, got {cv}.")
    if regression:
        return list(KFold(min(cv, n), shuffle=True, random_state=0).split(np.zeros(n)))
    classes, numbers = as_classes(y)
    owners = np.arange(n) if groups is None else np.asarray(groups)
    sizes = [len(np.unique(owners[numbers == number])) for number in range(len(classes))]
    small = [classes[i] for i, size in enumerate(sizes) if size < 2]
    if small:
        raise ValueError(
            "every class must have at least 2 different photographs for cross-validation, but "
            f"these have one: {[str(one) for one in small]}. Leave them out, or add photographs."
        )
    folds = min(int(cv), min(sizes))
    if groups is None:
        return list(StratifiedKFold(folds, shuffle=True, random_state=0).split(numbers, numbers))
    kind = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(kind.split(numbers, numbers, owners))
