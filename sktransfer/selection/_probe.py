"""The linear probe: a linear model on standardised codes, judged by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import curve_fit
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_consistent_length

from ..codes import CNNCodes
from ..exceptions import ImageError, shown
from ..finetune._targets import array_of, labels_of, unique_labels, values_of
from ..inputs import Images
from ._features import pass_over

__all__ = [
    "LIKELY",
    "PROBE_C",
    "SURE",
    "TALL_SHARE",
    "LayerScore",
    "LearningCurve",
    "as_classes",
    "as_codes",
    "as_targets",
    "best_framing",
    "best_layer",
    "cv_score",
    "is_better",
    "is_regression",
    "layer_to_tune",
    "learning_curve_of",
    "make_probe",
    "make_splits",
    "other_framings",
    "probe_framing",
    "probe_layer",
    "suspect_labels",
    "tall_share",
]


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


# Which layer: probes on codes by depth, judged on the same folds.


# Standard errors by which another layer must be better for a verdict on the photographs, and to
# be taken: it is taken on weaker grounds, since to keep the last one by mistake costs as much.
SURE, LIKELY = 2.0, 1.0
# Photographs from which on a network that is fine-tuned is better cut behind an earlier layer.
_ENOUGH_TO_CUT = 200


@dataclass(frozen=True, eq=False)
class LayerScore:
    """A probe on the codes of a layer.

    Attributes
    ----------
    name : str
    mean, spread : float
        Of the accuracies of the folds: mean and standard deviation.
    correct : ndarray of bool
        Whether each photograph was told when it was held out.
    probabilities : ndarray of shape (n_samples, n_classes)
        What the probe said of each photograph that it had not learnt from.
    """

    name: str
    mean: float
    spread: float
    correct: np.ndarray
    probabilities: np.ndarray


def probe_layer(name: str, codes: np.ndarray, numbers: np.ndarray, splits: Any) -> LayerScore:
    """Judge a layer by cross-validation; `numbers` are those of classes, from 0 on."""
    said = cross_val_predict(make_probe(), codes, numbers, cv=splits, method="predict_proba")
    correct = said.argmax(axis=1) == numbers
    folds = [correct[test].mean() for _, test in splits]
    return LayerScore(name, float(np.mean(folds)), float(np.std(folds)), correct, said)


def is_better(one: LayerScore, other: LayerScore, errors: float) -> bool:
    """Whether one tells the same photographs better, by so many standard errors."""
    difference = one.correct.astype(float) - other.correct
    error = difference.std() / np.sqrt(len(difference))
    return bool(difference.mean() > errors * error and difference.mean() > 0)


def best_layer(scores: Sequence[LayerScore]) -> LayerScore:
    """The last layer, unless another is likely to be better."""
    last = scores[-1]
    best = max(scores, key=lambda score: score.mean)
    return best if is_better(best, last, LIKELY) else last


def layer_to_tune(scores: Sequence[LayerScore]) -> LayerScore:
    """Where a network ends of which the last stages are fine-tuned.

    With the best of the earlier layers, whether or not the last is better as it is: what learns
    makes an earlier layer as specific as the last one, and more fitting. Of the few photographs
    from which it cannot, the last layer of the pretrained network knows more; and where all
    layers learn, which are the best is as good a guide as for a probe.
    """
    if len(scores) == 1 or len(scores[-1].correct) < _ENOUGH_TO_CUT:
        return scores[-1]
    return max(scores[:-1], key=lambda score: score.mean)


# Would more photographs help? The learning curve of the probe, and where it leads.


_SHARES = (0.2, 0.35, 0.6, 1.0)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Accuracy of the probe by the number of photographs it learns from.

    Parameters
    ----------
    sizes : ndarray of int
        Photographs that were learnt from.
    means, spreads : ndarray
        Mean and standard deviation over the folds.
    law : tuple of float or None
        (a, b, c) of error = a + b * size ** -c; None where no such curve fits.
    """

    sizes: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    law: tuple[float, float, float] | None

    def expected(self, size: float | np.ndarray) -> Any:
        """Accuracy that the curve leads to; NaN where none fits.

        Parameters
        ----------
        size : float or ndarray
            Photographs to learn from.

        Returns
        -------
        accuracy : float or ndarray
        """
        if self.law is None:
            return np.full(np.shape(size), np.nan)[()]
        a, b, c = self.law
        return 1 - np.clip(a + b * np.asarray(size, dtype=float) ** -c, 0, 1)


def learning_curve_of(codes: np.ndarray, numbers: np.ndarray, splits: Any) -> LearningCurve:
    """Learn from parts of each fold, nested in one another, and test on the fold."""
    found: dict[float, list[float]] = {share: [] for share in _SHARES}
    sizes: dict[float, list[int]] = {share: [] for share in _SHARES}
    for seed, (learn, test) in enumerate(splits):
        order = _by_turns(numbers[learn], seed)
        for share in _SHARES:
            part = learn[order[: max(2, round(share * len(learn)))]]
            if len(np.unique(numbers[part])) < 2:
                continue
            probe = clone(make_probe()).fit(codes[part], numbers[part])
            found[share].append(probe.score(codes[test], numbers[test]))
            sizes[share].append(len(part))
    shares = [share for share in _SHARES if found[share]]
    counts = np.array([round(np.mean(sizes[share])) for share in shares])
    means = np.array([np.mean(found[share]) for share in shares])
    spreads = np.array([np.std(found[share]) for share in shares])
    return LearningCurve(counts, means, spreads, _law(counts, means))


def _by_turns(numbers: np.ndarray, seed: int) -> np.ndarray:
    """An order in which every beginning has the classes in their shares."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(numbers))
    for label in np.unique(numbers):
        own = np.flatnonzero(numbers == label)
        place[rng.permutation(own)] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.argsort(place, kind="stable")


def _law(sizes: np.ndarray, means: np.ndarray) -> tuple[float, float, float] | None:
    """Fit the usual power law to the errors."""
    if len(sizes) < 3 or means[-1] <= means[0]:
        return None

    def error(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a + b * n**-c

    start = (0.5 * (1 - means[-1]), 1.0, 0.5)
    bounds = ([0, 0, 0.05], [1 - means[-1] + 1e-9, 100, 1.5])
    try:
        law, _ = curve_fit(error, sizes.astype(float), 1 - means, p0=start, bounds=bounds)
    except (RuntimeError, ValueError):
        return None
    return tuple(law)


# Codes and targets, checked before a score is made of them.


def as_codes(codes: Any, y: Any, name: str = "codes") -> np.ndarray:
    """Rows of finite numbers, as many as there are targets.

    Raises
    ------
    ValueError
        If they are not two-dimensional or not finite, or not as many as targets.
    """
    rows = check_array(codes, dtype=np.float64, input_name=name)
    check_consistent_length(rows, y)
    return rows


def as_classes(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and the number of the class of each photograph.

    Raises
    ------
    ValueError
        If labels are missing, there are fewer than two classes, or no class has two
        photographs: nothing can be said about a class from one.
    """
    labels = labels_of(y)
    unique_labels(labels)
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes, got only {classes.tolist()}: there is nothing to "
            "tell apart."
        )
    if counts.max() < 2:
        raise ValueError(
            f"y must hold at least 2 photographs of some class, got {len(classes)} classes of one "
            "photograph each. For numbers to be predicted there are "
            "rank_backbones(..., regression=True) and FineTuneRegressor."
        )
    return classes, numbers


def is_regression(y: Any, asked: bool | str) -> bool:
    """Whether targets are numbers to be predicted; "auto" is so for floats with fractions."""
    if isinstance(asked, (bool, np.bool_)):
        return bool(asked)
    if asked != "auto":
        raise ValueError(f'regression must be True, False or "auto", got {asked!r}.')
    targets = array_of(y)
    if targets.dtype.kind != "f":
        return False
    bad = ~np.isfinite(targets.reshape(len(targets), -1) if targets.ndim else targets)
    if bad.any():
        index = int(np.argwhere(bad)[0][0]) if targets.ndim else 0
        raise ValueError(
            "y must hold a label or a finite number for each image, but is "
            f"{shown(targets[index])} for {int(bad.sum())}, first for image {index}."
        )
    return type_of_target(targets).startswith("continuous")


def as_targets(y: Any, regression: bool | str) -> np.ndarray:
    """Columns to be predicted from codes: one for each class or value, float64."""
    if is_regression(y, regression):
        values = values_of(y)
        return values.reshape(len(values), -1)
    classes, numbers = as_classes(y)
    return np.eye(len(classes))[numbers]


# Labels that look wrong.
#
# Reference: C. Northcutt, L. Jiang, I. Chuang (2021). Confident learning: Estimating uncertainty in
# dataset labels. JAIR 70. Section 3.1: a class is believed where it is as probable as it is, on
# average, of photographs that bear its name.


# Share of the probability of the likeliest class below which a label is tiny.
_TINY = 0.1


def suspect_labels(probabilities: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Photographs whose label is improbable while another is as probable as its own usually are.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Said of photographs that were held out.
    numbers : ndarray of int
        Classes given.

    Returns
    -------
    indexes : ndarray of int
        The most suspect first.
    """
    own = probabilities[np.arange(len(numbers)), numbers]
    usual = np.array([own[numbers == k].mean() for k in range(probabilities.shape[1])])
    likeliest = probabilities.argmax(axis=1)
    top = probabilities.max(axis=1)
    odd = (likeliest != numbers) & (top >= usual[likeliest]) & (own < _TINY * top)
    found = np.flatnonzero(odd)
    return found[np.argsort(own[found] / top[found], kind="stable")]


# How photographs that are not square are framed: worth some points on some of them.


# Of photographs that are not about square, from which on other framings are tried.
TALL_SHARE = 0.1
_FRAMINGS = ("pad", "squash", "crop")
# Photographs whose sides are looked at, and how far from square one must be to count.
_LOOKED_AT, _TALL = 200, 1.1


def tall_share(images: Images, readable: np.ndarray | None = None) -> float:
    """Share of photographs that are not about square, of some of them."""
    numbers = np.arange(len(images)) if readable is None else np.flatnonzero(readable)
    chosen = numbers[:: max(1, len(numbers) // _LOOKED_AT)]
    tall = []
    for index in chosen:
        try:
            width, height = images.open(int(index)).picture().size
        except ImageError:  # the pass will say so
            continue
        tall.append(max(width, height) > _TALL * min(width, height))
    return float(np.mean(tall)) if tall else 0.0


def other_framings(codes: CNNCodes) -> list[str]:
    """What is to be tried besides the framing in use."""
    return [resize for resize in _FRAMINGS if resize != codes.resize]


def probe_framing(X: Any, codes: CNNCodes, numbers: np.ndarray, splits: Any) -> LayerScore:
    """A probe on the last layer with the framing of a transformer."""
    last = list(pass_over(codes, X).layers.values())[-1]
    return probe_layer(codes.resize, last, numbers, splits)


def best_framing(framings: dict[str, LayerScore]) -> str:
    """The first, which is in use, unless another is likely to be better."""
    current = next(iter(framings))
    best = max(framings, key=lambda name: framings[name].mean)
    return best if is_better(framings[best], framings[current], LIKELY) else current
