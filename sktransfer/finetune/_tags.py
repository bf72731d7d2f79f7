"""Several tags a sample: each is there, is not there, or is not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import expit, log_expit
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from ..exceptions import shown
from ._targets import (
    array_of,
    check_length,
    is_missing,
    labels_of,
    unique_labels,
    weights_by_class,
    weights_by_label,
)
from ._tasks import ENOUGH, LinearFit, Sides, Task, logistic_fit

__all__ = ["Tags", "as_tags", "fit_each_tag", "is_indicator", "stratified_sides"]


@dataclass(frozen=True, eq=False)
class Tags(Task):
    """Tags of samples; encoded as a matrix of 0 and 1, NaN where it is not known.

    The loss of a sample is the mean of those of its known tags, weighted by their class weights,
    and the sample weighs what these weigh together: a sample of which half of the tags are known
    weighs half of one of which all are known.

    Attributes
    ----------
    classes : ndarray of shape (n_tags,)
        The numbers of the tags, as scikit-learn's MLPClassifier and OneVsRestClassifier have it.
    names : tuple of str or None
        Columns of the data frame in the first call of `fit`.
    class_weight : ndarray of shape (2, n_tags) or None
        What a tag weighs where it is not there, and where it is.
    label_smoothing : float
        Share of the target that is spread over both answers.
    """

    kind: ClassVar[str] = "tags"
    classes: np.ndarray
    names: tuple[str, ...] | None = None
    class_weight: np.ndarray | None = None
    label_smoothing: float = 0.0

    @classmethod
    def of(
        cls, y: Any, n_samples: int, classes: Any = None, name: str = "y"
    ) -> tuple[Self, np.ndarray]:
        """The task of the first targets, and these encoded."""
        target, names = as_tags(y, n_samples, name)
        task = cls(np.arange(target.shape[1]), names)
        if classes is not None:
            task.check_classes(classes)
        return task, target

    def weighted(self, class_weight: Any, target: np.ndarray) -> Self:
        """The same with the weights that a parameter `class_weight` means for these targets."""
        return replace(self, class_weight=_class_weights(class_weight, target))

    def check_classes(self, classes: Any) -> None:
        """Refuse classes that are not those of the tags."""
        _check_classes(classes, self.n_outputs)

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    @property
    def net_params(self) -> dict[str, Any]:
        return {
            "criterion": nn.BCEWithLogitsLoss, "predict_nonlinearity": torch.sigmoid,
            "classes": list(range(self.n_outputs)), "callbacks__valid_acc": None,
        }  # fmt: skip

    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        return as_tags(y, len(items), name, self.n_outputs, self.names)[0]

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        known = ~torch.isnan(target)
        there = torch.where(known, target, 0.0)
        weight = known.to(out.dtype)
        if self.class_weight is not None:
            absent, present = torch.as_tensor(
                self.class_weight, dtype=weight.dtype, device=weight.device
            )
            weight = weight * torch.where(there > 0, present, absent)
        smooth = there * (1 - self.label_smoothing) + self.label_smoothing / 2
        each = nn.functional.binary_cross_entropy_with_logits(
            out, smooth, weight=weight, reduction="none"
        )
        return each.sum(1) / weight.sum(1).clamp(min=1e-12)

    def unsmoothed(self) -> Task:
        return replace(self, label_smoothing=0.0)

    def guess(self, target: torch.Tensor | None = None) -> float:
        return math.log(2)

    def hits(self, out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Nothing equals NaN.
        return ((out > 0).to(target.dtype) == target).sum(1), (~torch.isnan(target)).sum(1)

    def sample_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None and not np.isnan(target).any():
            return weight
        name = "class_weight" if self.class_weight is not None else "the share of known tags"
        return weights_by_class(self._weights(target).mean(axis=1), weight, name)

    def _weights(self, target: np.ndarray) -> np.ndarray:
        """Weights of all tags of all samples; 0 where nothing is known."""
        known = ~np.isnan(target)
        if self.class_weight is None:
            return known.astype(np.float64)
        return known * np.where(target == 1, self.class_weight[1], self.class_weight[0])

    def fit_linear(
        self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> LinearFit:
        """A logistic regression for each tag; one that is always the same is nearly certain."""
        weights = self._weights(target)
        if weight is not None:
            weights *= (weight / weights.mean(axis=1))[:, None]
        enough = ENOUGH // self.n_outputs

        def fit(tag: int, used: np.ndarray, own: np.ndarray, there: np.ndarray) -> LinearFit:
            return logistic_fit(own, there, weights[used, tag], enough=enough)[1:]

        return fit_each_tag(codes, target, weights > 0, fit)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return (self.predict_proba(outputs) > 0.5).astype(np.int64)

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        return expit(outputs.astype(np.float64))

    def predict_log_proba(self, outputs: np.ndarray) -> np.ndarray:
        return log_expit(outputs.astype(np.float64))

    def decision_function(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def score(self, y: Any, predicted: np.ndarray, sample_weight: Any = None) -> float:
        """Share of samples all of whose known tags are predicted right."""
        target = self.encode(y, predicted)
        known = ~np.isnan(target)
        some = known.any(axis=1)
        right = ((predicted == target) | ~known).all(axis=1)[some]
        weight = None if sample_weight is None else np.asarray(sample_weight)[some]
        return float(accuracy_score(np.ones(len(right), bool), right, sample_weight=weight))

    def _split(self, every: np.ndarray, target: np.ndarray, fraction: float, seed: int) -> Sides:
        return self._split_groups(every, target, every, fraction, seed)

    def _split_groups(
        self, every: np.ndarray, target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
    ) -> Sides:
        return stratified_sides(target, groups, fraction, seed)

    @staticmethod
    def folds(target: np.ndarray, n_folds: int, groups: np.ndarray, seed: int) -> list[Sides]:
        """Folds that have each tag in its share, as far as there are samples of it."""
        group_of = np.unique(groups, return_inverse=True)[1].ravel()
        n_folds = min(n_folds, int(group_of.max()) + 1)
        total = _rarer(target).sum(axis=0)
        want = np.tile(total / n_folds, (n_folds, 1))
        room = np.full(n_folds, len(target) / n_folds)
        side = _sides(target, group_of, want, room, seed)
        numbers = range(n_folds)
        return [(np.flatnonzero(side != k), np.flatnonzero(side == k)) for k in numbers]


def stratified_sides(
    target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> Sides:
    """Samples to train on and to hold out, of each tag as large a share as of all samples.

    Parameters
    ----------
    target : ndarray of shape (n_samples, n_tags)
        0 and 1, NaN where it is not known.
    groups : ndarray of shape (n_samples,)
        Samples of one group stay together.
    fraction : float
        Share that is held out; of each tag at least one sample on either side.
    seed : int
    """
    group_of = np.unique(groups, return_inverse=True)[1].ravel()
    n, total = len(target), _rarer(target).sum(axis=0)
    held_out = np.where(total > 1, np.clip(fraction * total, 1, total - 1), fraction * total)
    size = min(max(1, math.ceil(fraction * n)), n - 1)
    want, room = np.stack([total - held_out, held_out]), np.array([n - size, size])
    side = _sides(target, group_of, want, room, seed)
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def fit_each_tag(
    codes: np.ndarray,
    target: np.ndarray,
    used: np.ndarray,
    fit: Callable[[int, np.ndarray, np.ndarray, np.ndarray], LinearFit],
) -> LinearFit:
    """A linear fit of each tag; one that is always the same is nearly certain.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, width)
    target : ndarray of shape (n_samples, n_tags)
    used : ndarray of bool of shape (n_samples, n_tags)
        Which samples each tag is fitted to.
    fit : callable
        Fits a tag of two answers, of its number, the samples used, their codes and answers: coef
        and intercept as scikit-learn has them.
    """
    coef, intercept = np.zeros((target.shape[1], codes.shape[1])), np.zeros(target.shape[1])
    for tag, own in enumerate(used.T):
        there = target[own, tag].astype(np.int64)
        if not len(there):
            continue  # nothing is known: as likely as not
        if there.min() == there.max():
            # As if there were one example more of each answer.
            intercept[tag] = (2 * there[0] - 1) * np.log(len(there) + 1.0)
            continue
        found = fit(tag, own, codes if own.all() else codes[own], there)
        coef[tag], intercept[tag] = found[0][0], found[1][0]
    return coef, intercept


def _rarer(target: np.ndarray) -> np.ndarray:
    """Where each tag has the rarer one of its two answers."""
    there, not_there = target == 1, target == 0
    return np.where(there.sum(axis=0) <= not_there.sum(axis=0), there, not_there)


def _sides(
    target: np.ndarray, group_of: np.ndarray, want: np.ndarray, room: np.ndarray, seed: int
) -> np.ndarray:
    """The side of each sample, the rarest tags first: where most of the tag is still wanted.

    Parameters
    ----------
    target : ndarray of shape (n_samples, n_tags)
    group_of : ndarray of shape (n_samples,)
        Samples of one number stay together.
    want : ndarray of shape (n_sides, n_tags)
        Samples wanted of the rarer answer of each tag.
    room : ndarray of shape (n_sides,)
        Samples wanted.
    seed : int

    References
    ----------
    K. Sechidis, G. Tsoumakas, I. Vlahavas (2011). On the stratification of multi-label data.
    ECML PKDD.
    """
    want, room = want.astype(np.float64), room.astype(np.float64)
    n_groups = int(group_of.max()) + 1
    counts, sizes = np.zeros((n_groups, target.shape[1])), np.bincount(group_of)
    np.add.at(counts, group_of, _rarer(target))
    side = np.full(n_groups, -1)
    order = np.random.default_rng(seed).permutation(n_groups)

    def put(group: int, where: int) -> None:
        side[group] = where
        want[where] -= counts[group]
        room[where] -= sizes[group]

    while (left := counts[side < 0].sum(axis=0)).any():
        tag = int(np.argmin(np.where(left > 0, left, np.inf)))
        having = order[(side[order] < 0) & (counts[order, tag] > 0)]
        for group in having[np.argsort(-counts[having, tag], kind="stable")]:
            put(group, int(np.lexsort((room, want[:, tag]))[-1]))
    for group in order[side[order] < 0]:
        put(group, int(np.argmax(room)))
    for where in range(len(room)):  # groups may be large
        if not (side == where).any():
            several = np.isin(side, np.flatnonzero(np.bincount(side, minlength=len(room)) > 1))
            put(int(np.argmin(np.where(several, sizes, np.inf))), where)
    return side[group_of]


# Tags as users give them, checked before the first epoch.


def is_indicator(y: Any) -> bool:
    """Whether targets are tags: a matrix of several columns that holds 0, 1 and what is missing."""
    if getattr(y, "ndim", 2) != 2 or isinstance(y, (str, bytes)) or not hasattr(y, "__len__"):
        return False
    plain = array_of(y)
    if plain.ndim != 2 or plain.shape[1] < 2 or plain.dtype.kind not in "biufO":
        return False
    return bool((_known(plain) | _missing(plain)).all())


def _known(plain: np.ndarray) -> np.ndarray:
    if plain.dtype != object:
        return np.isin(plain, (0, 1))
    flat = [isinstance(one, (Real, np.bool_)) and one in (0, 1) for one in plain.ravel().tolist()]
    return np.array(flat, bool).reshape(plain.shape)


def _missing(plain: np.ndarray) -> np.ndarray:
    if plain.dtype != object:
        return np.isnan(plain) if plain.dtype.kind == "f" else np.zeros(plain.shape, bool)
    return np.array([is_missing(one) for one in plain.ravel()], bool).reshape(plain.shape)


def as_tags(
    y: Any,
    n_samples: int,
    name: str = "y",
    n_tags: int | None = None,
    names: tuple[str, ...] | None = None,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Tags of shape (n_samples, n_tags), float32, NaN where it is not known; names of columns.

    Parameters
    ----------
    y : array-like, sparse matrix or data frame
    n_samples : int
    name : str
        For messages.
    n_tags : int or None
        Columns that there must be.
    names : tuple of str or None
        Names that they must have, where they have names.

    Raises
    ------
    ValueError
        If they are no matrix of 0, 1 and NaN with a row for each sample, or nothing is known.
    """
    if y is None:
        raise ValueError(f"{name} must be an indicator matrix of tags, got None.")
    plain = array_of(y)
    columns = f"{n_tags} columns, as in the first fit" if n_tags else "a column for each tag"
    if plain.ndim != 2 or (n_tags is not None and plain.shape[1] != n_tags):
        raise ValueError(
            f"{name} must be an indicator matrix with {columns}, got "
            f"{'an array of shape ' + str(plain.shape) if plain.ndim else type(y).__name__}."
        )
    check_length(plain, n_samples, name)
    missing = _missing(plain)
    bad = ~(_known(plain) | missing)
    if bad.any():
        row, column = (int(one) for one in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must hold 0, 1, and NaN where it is not known whether a tag is there, got "
            f"{shown(repr(plain[row].tolist()[column]))} for sample {row}, tag {column}."
        )
    if missing.all():
        raise ValueError(
            f"{name} must hold 0 or 1 for some sample, but nothing is known of any of {n_samples}."
        )
    own = tuple(map(str, y.columns)) if hasattr(y, "columns") else None
    if names is not None and own is not None and own != names:
        raise ValueError(
            f"{name} must have the columns {shown(list(names))} in this order, as in the first "
            f"fit, got {shown(list(own))}."
        )
    return np.where(missing, np.nan, plain).astype(np.float32), own


def _check_classes(classes: Any, n_tags: int) -> None:
    """`classes` of `partial_fit` may number or name the tags."""
    n = len(unique_labels(labels_of(classes, "classes")))
    if n != n_tags:
        raise ValueError(
            f"classes must be one for each of the {n_tags} tags (columns of y), got {n}. For one "
            "label a sample, y must have one axis."
        )


def _class_weights(class_weight: Any, target: np.ndarray) -> np.ndarray | None:
    """What each tag weighs where it is not there, and where it is, shape (2, n_tags).

    Raises
    ------
    ValueError
        If they are not numbers from 0 for both answers.
    """
    if class_weight is None:
        return None
    n_tags = target.shape[1]
    if isinstance(class_weight, str):
        found = np.ones((2, n_tags))
        for tag in range(n_tags):
            known = target[~np.isnan(target[:, tag]), tag].astype(np.int64)
            present = np.unique(known)
            if len(present):
                found[present, tag] = compute_class_weight("balanced", classes=present, y=known)
        return found
    if isinstance(class_weight, dict):
        one = weights_by_label(class_weight, np.arange(2))
        return np.repeat(one[:, None], n_tags, axis=1)
    if len(class_weight) != n_tags:
        raise ValueError(
            "class_weight must be a dict of a number from 0 for each class, 0 (not there) and 1, "
            f"or a list of one such dict for each of {n_tags} tags, got {len(class_weight)} in "
            f"{shown(repr(class_weight))}."
        )
    each = [
        weights_by_label(one, np.arange(2), f"class_weight[{tag}]")
        for tag, one in enumerate(class_weight)
    ]
    return np.stack(each, axis=1)
