"""The linear probe: a linear model on standardised codes, judged by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.optimize import curve_fit
from sklearn.base import clone
from sklearn.utils.validation import check_array, check_consistent_length

from ..compute import blas_on_one_core
from ..exceptions import TruncationWarning
from ._features import pass_over
from ._kinds import LABELS, Kind, kind_of

__all__ = [
    "LIKELY",
    "SURE",
    "LayerScore",
    "LearningCurve",
    "as_codes",
    "as_targets",
    "best_layer",
    "best_reading",
    "cv_score",
    "folds_of_best",
    "is_better",
    "layer_to_tune",
    "learning_curve_of",
    "probe_layer",
    "probe_reading",
    "work_of",
]


def cv_score(
    codes: Any, y: Any, *, cv: Any = 5, estimator: Any = None, regression: bool | str = "auto"
) -> float:
    """Cross-validated accuracy of a linear classifier on the codes: the reference.

    A probe in the sense of [1]_: codes are standardised and a logistic regression is fitted, with
    weights pulled to zero as suits codes wider than items are many. In regression the
    coefficient of determination of a ridge regression; of several tags an item the mean of their
    average precisions.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each item.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags)
        Labels, values in regression, or a matrix of tags: 0, 1, and NaN where it is not known.
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
        If codes are not finite, lengths differ, or a class has one item.

    References
    ----------
    .. [1] G. Alain, Y. Bengio (2017). Understanding intermediate layers using linear classifier
       probes. ICLR workshop.
    """
    rows = as_codes(codes, y)
    kind = kind_of(y, regression)
    probe = kind.probe() if estimator is None else estimator
    target = kind.read(y)
    found = []
    with blas_on_one_core(work_of(rows, target)):
        for learn, test in kind.make_splits(target, cv):
            fitted = clone(probe).fit(rows[learn], target[learn])
            found.append(kind.test(fitted, rows[test], target[test]))
    return float(np.nanmean(found))


def work_of(codes: Any, target: np.ndarray) -> float:
    """Multiplications in which a linear model computes all its outputs for some codes."""
    outputs = len(np.unique(target)) if target.ndim == 1 else target.shape[1]
    return float(getattr(codes, "size", 0) * outputs)


# Which layer: probes on codes by depth, judged on the same folds.


# Standard errors by which another layer must be better for a verdict on the items, and to
# be taken: it is taken on weaker grounds, since to keep the last one by mistake costs as much.
SURE, LIKELY = 2.0, 1.0
# Items from which on a network that is fine-tuned is better cut behind an earlier layer.
_ENOUGH_TO_CUT = 200


@dataclass(frozen=True, eq=False)
class LayerScore:
    """A probe on the codes of a layer.

    Attributes
    ----------
    name : str
    mean, std : float
        Of the scores of the folds, such as accuracies: mean and standard deviation.
    marks : ndarray of shape (n_samples,)
        How good the answer was for each item when it was held out: whether a label was right.
    answers : ndarray of shape (n_samples, ...)
        What the probe said of each item that it had not learnt from, such as probabilities.
    folds : ndarray of shape (n_folds,)
        The scores.
    """

    name: str
    mean: float
    std: float
    marks: np.ndarray
    answers: np.ndarray
    folds: np.ndarray = field(default_factory=lambda: np.empty(0))


def probe_layer(
    name: str,
    codes: np.ndarray,
    target: np.ndarray,
    splits: Any,
    kind: Kind = LABELS,
    model: Any = None,
) -> LayerScore:
    """Judge a layer by cross-validation of a probe, or anything else by that of another model."""
    with blas_on_one_core(work_of(codes, target)):
        said = kind.answers(kind.probe() if model is None else model, codes, target, splits)
    folds = np.array([kind.score(said[test], target[test]) for _, test in splits])
    marks = kind.marks(said, target)
    return LayerScore(name, float(np.nanmean(folds)), float(np.nanstd(folds)), marks, said, folds)


def is_better(one: LayerScore, other: LayerScore, errors: float) -> bool:
    """Whether one tells the same items better, by so many standard errors."""
    difference = one.marks.astype(float) - other.marks
    error = difference.std() / np.sqrt(len(difference))
    return bool(difference.mean() > errors * error and difference.mean() > 0)


def best_layer(scores: Sequence[LayerScore]) -> LayerScore:
    """The last layer, unless another is likely to be better."""
    last = scores[-1]
    best = max(scores, key=lambda score: score.mean)
    return best if is_better(best, last, LIKELY) else last


def folds_of_best(scores: Sequence[LayerScore], splits: Any) -> np.ndarray:
    """What to expect of the layer that `best_layer` takes: chosen without the fold it is judged on.

    The score of the best of several on the folds on which it was chosen is too high.
    Reference: S. Varma, R. Simon (2006). Bias in error estimation when using cross-validation for
    model selection. BMC Bioinformatics 7.
    """
    found = []
    for fold, (_, test) in enumerate(splits):
        rest = np.ones(len(scores[0].marks), dtype=bool)
        rest[test] = False
        others = [
            replace(one, mean=float(np.nanmean(np.delete(one.folds, fold))), marks=one.marks[rest])
            for one in scores
        ]
        chosen = best_layer(others).name
        found.append(next(one.folds[fold] for one in scores if one.name == chosen))
    return np.array(found)


def layer_to_tune(scores: Sequence[LayerScore]) -> LayerScore:
    """Where a network ends of which the last stages are fine-tuned.

    With the best of the earlier layers, whether or not the last is better as it is: what is trained
    makes an earlier layer as specific as the last one, and more fitting. Of the few items
    from which it cannot, the last layer of the pretrained network knows more; and where all
    layers learn, which are the best is as good a guide as for a probe.
    """
    if len(scores) == 1 or len(scores[-1].marks) < _ENOUGH_TO_CUT:
        return scores[-1]
    return max(scores[:-1], key=lambda score: score.mean)


# Would more items help? The learning curve of the probe, and where it leads.


_SHARES = (0.2, 0.35, 0.6, 1.0)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Accuracy of the probe by the number of images, or texts, it learns from.

    Parameters
    ----------
    sizes : ndarray of int
        Items that were learnt from.
    means, stds : ndarray
        Mean and standard deviation over the folds.
    law : tuple of float or None
        (a, b, c) of error = a + b * size ** -c; None where no such curve fits.
    """

    sizes: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    law: tuple[float, float, float] | None

    def expected(self, size: float | np.ndarray) -> Any:
        """Extrapolated accuracy; NaN if no curve fits.

        Parameters
        ----------
        size : float or ndarray
            Items to learn from.

        Returns
        -------
        accuracy : float or ndarray
        """
        if self.law is None:
            return np.full(np.shape(size), np.nan)[()]
        a, b, c = self.law
        return 1 - np.clip(a + b * np.asarray(size, dtype=float) ** -c, 0, 1)


def learning_curve_of(
    codes: np.ndarray, target: np.ndarray, splits: Any, kind: Kind = LABELS, model: Any = None
) -> LearningCurve:
    """Learn from parts of each fold, nested in one another, and test on the fold."""
    model = kind.probe() if model is None else model
    found: dict[float, list[float]] = {share: [] for share in _SHARES}
    sizes: dict[float, list[int]] = {share: [] for share in _SHARES}
    for seed, (learn, test) in enumerate(splits):
        order = kind.order(target[learn], seed)
        for share in _SHARES:
            part = learn[order[: max(2, round(share * len(learn)))]]
            if not kind.can_learn(target[part]):
                continue
            with blas_on_one_core(work_of(codes, target)):
                probe = clone(model).fit(codes[part], target[part])
            found[share].append(kind.test(probe, codes[test], target[test]))
            sizes[share].append(len(part))
    shares = [share for share in _SHARES if found[share]]
    counts = np.array([round(np.mean(sizes[share])) for share in shares])
    means = np.array([np.nanmean(found[share]) for share in shares])
    stds = np.array([np.nanstd(found[share]) for share in shares])
    return LearningCurve(counts, means, stds, _law(counts, means))


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


def as_targets(y: Any, regression: bool | str) -> np.ndarray:
    """Columns to be predicted from codes: one for each class, value or tag, float64.

    NaN is a tag that is not known.
    """
    kind = kind_of(y, regression)
    return kind.columns(kind.read(y))


# How items that do not fit the network are read: worth some points on some of them.


def probe_reading(
    X: Any, codes: Any, name: str, target: np.ndarray, splits: Any, kind: Kind = LABELS
) -> LayerScore:
    """A probe on the last layer with a transformer that reads items in the way of this name."""
    with warnings.catch_warnings():
        # It is known that long texts are cut so.
        warnings.simplefilter("ignore", TruncationWarning)
        last = list(pass_over(codes, X).layers.values())[-1]
    return probe_layer(name, last, target, splits, kind)


def best_reading(readings: dict[str, LayerScore]) -> str:
    """The first, which is in use, unless another is likely to be better."""
    current = next(iter(readings))
    best = max(readings, key=lambda name: readings[name].mean)
    return best if is_better(readings[best], readings[current], LIKELY) else current
