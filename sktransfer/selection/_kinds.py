"""Kinds of targets, as linear probes know them: labels, values, and several tags an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import average_precision_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_is_fitted

from .._sklearn import GroupedFolds
from ..exceptions import shown
from ..finetune import (
    Tags,
    array_of,
    as_tags,
    fit_each_tag,
    is_indicator,
    labels_of,
    unique_labels,
    values_of,
)

__all__ = [
    "LABELS",
    "PROBE_C",
    "TAGS",
    "VALUES",
    "Doubt",
    "Kind",
    "LinearTags",
    "as_classes",
    "is_regression",
    "kind_named",
    "kind_of",
    "suspect_labels",
]


# Strength of the penalty on standardised codes of some hundred to some thousand numbers.
PROBE_C = 1e-2


@dataclass(frozen=True)
class Doubt:
    """A target that looks wrong.

    Attributes
    ----------
    index : int
        Of the item.
    score : float
        From 0 to 1: by how much another target is more probable.
    given, seems : object
        What it is, and what it seems to be.
    """

    index: int
    score: float
    given: Any
    seems: Any


class Kind(ABC):
    """What a kind of target means to a linear probe and its judgement.

    Parameters
    ----------
    item : str
        What has a target is called in messages: "image", "text".
    names : sequence of str
        Of tags, where they have some.

    Attributes
    ----------
    noun, measure : str
        What targets are called, as tasks of fine-tuning call them (`Task.kind`), and the score that
        probes are judged by.
    are_values : bool
        Whether targets are numbers to be predicted.
    grid : dict
        What is worth searching of the last step of a pipeline.
    """

    noun: ClassVar[str]
    measure: ClassVar[str]
    are_values: ClassVar[bool] = False
    grid: ClassVar[dict[str, list[Any]]]

    def __init__(self, item: str = "image", names: Sequence[str] = ()):
        self.item, self.names = item, names

    @abstractmethod
    def read(self, y: Any) -> np.ndarray:
        """Targets as an array with a row for each item, checked."""

    @abstractmethod
    def check(self, target: np.ndarray) -> None:
        """Refuse targets of which nothing can be said."""

    @abstractmethod
    def linear(self) -> tuple[str, BaseEstimator]:
        """The last step of a probe: its name and an estimator."""

    @abstractmethod
    def splits(self, target: np.ndarray, cv: int, owners: np.ndarray) -> list[Any]:
        """Folds in which items of one owner stay together."""

    @abstractmethod
    def answers(self, model: Any, rows: Any, target: np.ndarray, splits: Any) -> np.ndarray:
        """What a model that is fitted to the others says of each item when it is held out."""

    def said(self, fitted: Any, X: Any, target: np.ndarray) -> np.ndarray:
        """What a fitted estimator says of items, in the form of `answers`.

        `target` has all targets that there are: an estimator that was fitted to a fold may know
        some of the labels only.
        """
        said: np.ndarray = fitted.predict_proba(X)
        return said

    def vote(self, members: list[tuple[str, Any]]) -> Any:
        """An unfitted estimator of the mean of what several say; None where none was tried."""
        return None

    @abstractmethod
    def marks(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        """How good the answer is for each item; larger is better."""

    @abstractmethod
    def score(self, answers: np.ndarray, target: np.ndarray) -> float:
        """How good answers are together."""

    @abstractmethod
    def sizes(self, target: np.ndarray) -> list[int]:
        """How many items there are of each thing that is to be learnt."""

    @abstractmethod
    def told(self, n: int, sizes: Sequence[int]) -> str:
        """What there is, in words."""

    def numbers(self, target: np.ndarray) -> np.ndarray:
        """Targets as numbers that probes are fitted to."""
        return target

    def columns(self, target: np.ndarray) -> np.ndarray:
        """Targets as columns to be predicted, float64; NaN is a tag that is not known."""
        return target.reshape(len(target), -1).astype(np.float64)

    def probe(self) -> Pipeline:
        """An unfitted probe."""
        return make_pipeline(StandardScaler(), self.linear()[1])

    def test(self, estimator: Any, X: Any, target: np.ndarray) -> float:
        """The score of a fitted estimator."""
        return float(estimator.score(X, target))

    def each(self, target: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """Questions one after the other: which items, and their labels."""
        yield slice(None), target

    def can_learn(self, target: np.ndarray) -> bool:
        """Whether a probe can be fitted to so few."""
        return len(target) > 1

    def order(self, target: np.ndarray, seed: int) -> np.ndarray:
        """An order in which every beginning is like the whole."""
        return np.random.default_rng(seed).permutation(len(target))

    def some(self, target: np.ndarray, n: int, cv: Any) -> np.ndarray:
        """Enough items to ask."""
        return np.sort(self.order(target, 0)[:n])

    def suspects(self, answers: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items whose target looks wrong, and what it seems to be."""
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=target.dtype)

    def doubts(self, answers: np.ndarray, target: np.ndarray) -> list[Doubt]:
        """Each target that looks wrong by itself, the most doubtful first."""
        return []

    def of_given(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        """How probable the target is that each item has, of several the least probable one."""
        raise NotImplementedError(f"{self.noun} have no probabilities.")

    def usable(
        self, target: np.ndarray, groups: np.ndarray, readable: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """Items that can be validated on, and what is odd about targets."""
        self.check(target[readable])
        return np.ones(len(target), dtype=bool), []

    def errs(self, score: float) -> str:
        """How little there is left to win."""
        return f"reaches {self.write(score)}"

    def write(self, score: float) -> str:
        """A score in a sentence."""
        return f"{score:.3f} ({self.measure})"

    def make_splits(self, target: np.ndarray, cv: Any, groups: Any = None) -> Any:
        """Folds as (train, test) numbers.

        Raises
        ------
        ValueError
            If a class has but one item (or group), so that no fold can both learn and test it.
        """
        n = len(target)
        if groups is not None and len(np.unique(groups)) == n:
            groups = None  # nothing is there twice
        if hasattr(cv, "split") and not isinstance(cv, str):
            return list(cv.split(np.zeros((n, 1)), target, groups))
        if not isinstance(cv, (int, np.integer)):
            if isinstance(cv, str) or not hasattr(cv, "__iter__"):
                raise ValueError(
                    "cv must be a number of folds, a splitter of scikit-learn, or pairs of train "
                    f"and test numbers, got {shown(repr(cv))}."
                )
            return list(cv)
        if cv < 2:
            raise ValueError(f"cv must be at least 2, got {cv}.")
        return self.splits(target, int(cv), np.arange(n) if groups is None else np.asarray(groups))


class _Labels(Kind):
    noun, measure = "labels", "accuracy"
    grid: ClassVar[dict[str, list[Any]]] = {"classify__C": [1e-3, 1e-2, 1e-1]}

    def read(self, y: Any) -> np.ndarray:
        return labels_of(y)

    def check(self, target: np.ndarray) -> None:
        as_classes(target, self.item)

    def numbers(self, target: np.ndarray) -> np.ndarray:
        return np.unique(target, return_inverse=True)[1]

    def columns(self, target: np.ndarray) -> np.ndarray:
        classes, numbers = as_classes(target, self.item)
        return np.eye(len(classes))[numbers]

    def linear(self) -> tuple[str, BaseEstimator]:
        return "classify", LogisticRegression(C=PROBE_C, max_iter=1000)

    def splits(self, target: np.ndarray, cv: int, owners: np.ndarray) -> list[Any]:
        classes, numbers = as_classes(target, self.item)
        sizes = [len(np.unique(owners[numbers == number])) for number in range(len(classes))]
        small = [classes[i] for i, size in enumerate(sizes) if size < 2]
        if small:
            raise ValueError(
                f"every class must have at least 2 different {self.item}s for cross-validation, "
                f"but these have one: {[str(one) for one in small]}. Leave them out, or add "
                f"{self.item}s."
            )
        folds = min(cv, *sizes)
        if len(np.unique(owners)) == len(owners):
            kind: Any = StratifiedKFold(folds, shuffle=True, random_state=0)
            return list(kind.split(numbers, numbers))
        kind = GroupedFolds(folds, shuffle=True, random_state=0)
        return list(kind.split(numbers, numbers, owners))

    def answers(self, model: Any, rows: Any, target: np.ndarray, splits: Any) -> np.ndarray:
        return cross_val_predict(model, rows, target, cv=splits, method="predict_proba")

    def said(self, fitted: Any, X: Any, target: np.ndarray) -> np.ndarray:
        classes = np.unique(target)
        said = fitted.predict_proba(X)
        shares = np.zeros((len(said), len(classes)))
        shares[:, np.searchsorted(classes, fitted.classes_)] = said
        return shares

    def vote(self, members: list[tuple[str, Any]]) -> Any:
        return VotingClassifier(members, voting="soft")

    def marks(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        # Not the classes that are in `target`: a fold may lack some.
        return answers.argmax(axis=1) == target

    def score(self, answers: np.ndarray, target: np.ndarray) -> float:
        return float(self.marks(answers, target).mean())

    def sizes(self, target: np.ndarray) -> list[int]:
        return np.unique(target, return_counts=True)[1].tolist()

    def told(self, n: int, sizes: Sequence[int]) -> str:
        return (
            f"{n:,} {self.item}s of {len(sizes)} classes, {min(sizes):,} to {max(sizes):,} of each"
        )

    def can_learn(self, target: np.ndarray) -> bool:
        return len(np.unique(target)) > 1

    def order(self, target: np.ndarray, seed: int) -> np.ndarray:
        """Every beginning has the classes in their shares."""
        rng = np.random.default_rng(seed)
        place = np.empty(len(target))
        for label in np.unique(target):
            own = np.flatnonzero(target == label)
            place[rng.permutation(own)] = (np.arange(len(own)) + rng.random()) / len(own)
        return np.argsort(place, kind="stable")

    def some(self, target: np.ndarray, n: int, cv: Any) -> np.ndarray:
        """Classes in their shares, and of each as many as there are folds."""
        rng = np.random.default_rng(0)
        place = np.empty(len(target))
        for label in np.unique(target):
            own = rng.permutation(np.flatnonzero(target == label))
            place[own] = (np.arange(len(own)) + 0.5) / len(own)
            place[own[:cv]] -= 1.0
        return np.sort(np.argsort(place, kind="stable")[:n])

    def suspects(self, answers: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes, numbers = np.unique(target, return_inverse=True)
        wrong = suspect_labels(answers, numbers)
        return wrong, classes[answers[wrong].argmax(axis=1)]

    def of_given(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        numbers = np.unique(target, return_inverse=True)[1]
        return answers[np.arange(len(numbers)), numbers].astype(np.float64)

    def doubts(self, answers: np.ndarray, target: np.ndarray) -> list[Doubt]:
        wrong, seems = self.suspects(answers, target)
        own = self.of_given(answers, target)[wrong]
        scores = 1 - own / answers[wrong].max(axis=1)
        given = target[wrong].tolist()
        return list(map(Doubt, wrong.tolist(), scores.tolist(), given, seems.tolist()))

    def usable(
        self, target: np.ndarray, groups: np.ndarray, readable: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """Items of classes that have two; raises where fewer than two classes have."""
        classes, numbers = as_classes(target, self.item)
        different = [len(np.unique(groups[(numbers == k) & readable])) for k in range(len(classes))]
        small = [k for k, size in enumerate(different) if size < 2]
        if len(classes) - len(small) < 2:
            raise ValueError(
                f"at least 2 classes must have 2 different {self.item}s each, got "
                f"{dict(zip(classes.tolist(), different, strict=True))}."
            )
        warnings = []
        if small:
            warnings.append(
                f"class(es) {', '.join(str(classes[k]) for k in small)} have fewer than 2 "
                f"different {self.item}s and cannot be validated; they are ignored in every "
                "figure here."
            )
        scarce = [str(c) for c, size in zip(classes, different, strict=True) if 2 <= size < 5]
        if scarce:
            warnings.append(
                f"class(es) {', '.join(scarce)} have fewer than 5 {self.item}s: there are as many "
                "folds as the smallest has, and figures for it are rough."
            )
        if max(different) > 10 * max(1, min(d for d in different if d > 1)):
            warnings.append(
                "classes differ more than tenfold in size: look at balanced accuracy too, and try "
                'class_weight="balanced".'
            )
        return ~np.isin(numbers, small), warnings

    def errs(self, score: float) -> str:
        return f"errs in {1 - score:.1%} only"

    def write(self, score: float) -> str:
        return f"{score:.1%}"


class _Values(Kind):
    noun, measure, are_values = "values", "R²", True
    grid: ClassVar[dict[str, list[Any]]] = {}

    def read(self, y: Any) -> np.ndarray:
        return values_of(y)

    def check(self, target: np.ndarray) -> None:
        if len(target) < 2:
            raise ValueError(f"y must hold at least 2 values, got {len(target)}.")

    def linear(self) -> tuple[str, BaseEstimator]:
        return "regress", RidgeCV(np.logspace(0, 6, 13))

    def said(self, fitted: Any, X: Any, target: np.ndarray) -> np.ndarray:
        said: np.ndarray = fitted.predict(X)
        return said

    def splits(self, target: np.ndarray, cv: int, owners: np.ndarray) -> list[Any]:
        names, group_of = np.unique(owners, return_inverse=True)
        every = np.arange(len(target))
        folds = KFold(min(cv, len(names)), shuffle=True, random_state=0).split(names)
        return [(every[np.isin(group_of, learn)], every[np.isin(group_of, test)])
                for learn, test in folds]  # fmt: skip

    def answers(self, model: Any, rows: Any, target: np.ndarray, splits: Any) -> np.ndarray:
        return cross_val_predict(model, rows, target, cv=splits)

    def marks(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Squared errors in units of the variance: their mean is R² less 1."""
        errors = ((answers - target) ** 2).reshape(len(target), -1)
        variance = target.reshape(len(target), -1).var(axis=0)
        return -(errors / np.where(variance > 0, variance, 1)).mean(axis=1)

    def score(self, answers: np.ndarray, target: np.ndarray) -> float:
        return float(r2_score(target, answers)) if len(target) > 1 else float("nan")

    def sizes(self, target: np.ndarray) -> list[int]:
        return [len(target)]

    def told(self, n: int, sizes: Sequence[int]) -> str:
        return f"{n:,} {self.item}s with values"


class _Tags(Kind):
    noun, measure = "tags", "average precision"
    grid: ClassVar[dict[str, list[Any]]] = {"classify__C": [1e-3, 1e-2, 1e-1]}

    def read(self, y: Any) -> np.ndarray:
        return as_tags(y, len(array_of(y)))[0]

    def check(self, target: np.ndarray) -> None:
        if not any(True for _ in self.each(target)):
            raise ValueError(
                f"at least one tag must be present for at least 2 {self.item}s and known to be "
                "absent for 2 others, but none is."
            )

    def linear(self) -> tuple[str, BaseEstimator]:
        return "classify", LinearTags()

    def splits(self, target: np.ndarray, cv: int, owners: np.ndarray) -> list[Any]:
        return Tags.folds(target, cv, owners, 0)

    def answers(self, model: Any, rows: Any, target: np.ndarray, splits: Any) -> np.ndarray:
        # Not `cross_val_predict`, which takes what is not known for a third class.
        found = np.full(target.shape, np.nan)
        for learn, test in splits:
            fitted = clone(model).fit(rows[learn], target[learn])
            found[test] = fitted.predict_proba(rows[test])
        if np.isnan(found).any():
            raise ValueError(f"cv must hold out each {self.item} in one fold.")
        return found

    def marks(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Mean log likelihood of the tags that are known."""
        known = ~np.isnan(target)
        likely = np.where(target == 1, answers, 1 - answers).clip(min=1e-12)
        return (np.log(likely) * known).sum(axis=1) / known.sum(axis=1).clip(min=1)

    def score(self, answers: np.ndarray, target: np.ndarray) -> float:
        """Mean over the tags of which both answers are there."""
        found = []
        for tag in range(target.shape[1]):
            known = ~np.isnan(target[:, tag])
            there = target[known, tag]
            if len(np.unique(there)) == 2:
                found.append(average_precision_score(there, answers[known, tag]))
        return float(np.mean(found)) if found else float("nan")

    def test(self, estimator: Any, X: Any, target: np.ndarray) -> float:
        return self.score(estimator.predict_proba(X), target)

    def of_given(self, answers: np.ndarray, target: np.ndarray) -> np.ndarray:
        each = np.where(target == 1, answers, 1 - answers).astype(np.float64)
        return np.where(np.isnan(target), 1.0, each).min(axis=1)

    def doubts(self, answers: np.ndarray, target: np.ndarray) -> list[Doubt]:
        """Of each tag with both answers, as of two classes."""
        found = []
        for tag in range(target.shape[1]):
            known = np.flatnonzero(~np.isnan(target[:, tag]))
            there = target[known, tag].astype(np.int64)
            if len(np.unique(there)) < 2:
                continue
            likely = np.stack([1 - answers[known, tag], answers[known, tag]], axis=1)
            name = self.names[tag] if self.names else tag
            words = (f"no tag {name}", f"tag {name}")
            for at in suspect_labels(likely, there):
                own, other = likely[at, there[at]], likely[at, 1 - there[at]]
                given, seems = words[there[at]], words[1 - there[at]]
                found.append(Doubt(int(known[at]), float(1 - own / other), given, seems))
        return sorted(found, key=lambda doubt: -doubt.score)

    def each(self, target: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """Tags with at least two items of either answer."""
        for tag in range(target.shape[1]):
            known = np.flatnonzero(~np.isnan(target[:, tag]))
            there = target[known, tag].astype(np.int64)
            if 2 <= there.sum() <= len(there) - 2:
                yield known, there

    def usable(
        self, target: np.ndarray, groups: np.ndarray, readable: np.ndarray
    ) -> tuple[np.ndarray, list[str]]:
        """Items of which a tag is known."""
        known = ~np.isnan(target).all(axis=1)
        self.check(target[known & readable])
        rare = [k for k, n in enumerate(self.sizes(target[known & readable])) if n < 5]
        if not rare:
            return known, []
        told = (
            f"tag(s) {', '.join(map(str, rare))} have fewer than 5 {self.item}s of one answer: "
            "figures for them are rough, and folds without both answers do not count."
        )
        return known, [told]

    def sizes(self, target: np.ndarray) -> list[int]:
        """Items of the rarer answer."""
        return np.minimum((target == 1).sum(axis=0), (target == 0).sum(axis=0)).tolist()

    def told(self, n: int, sizes: Sequence[int]) -> str:
        return (
            f"{n:,} {self.item}s with {len(sizes)} tags, {min(sizes):,} to {max(sizes):,} of the "
            "rarer answer of each"
        )


_KINDS: dict[tuple[str, str], Kind] = {
    (kind.noun, item): kind(item)
    for kind in (_Labels, _Values, _Tags)
    for item in ("image", "text")
}
LABELS, VALUES, TAGS = (_KINDS[noun, "image"] for noun in ("labels", "values", "tags"))


def kind_named(name: str, item: str = "image") -> Kind:
    """The kind of the targets of a task, by what the task calls them."""
    return _KINDS[name, item]


def kind_of(
    y: Any, regression: bool | str = "auto", item: str = "image", names: Sequence[str] = ()
) -> Kind:
    """The kind of some targets; `regression` as in :func:`rank_backbones`, `names` of tags."""
    if regression is not True and is_indicator(y):
        is_regression(0, regression)  # only "auto", True and False
        return _Tags(item, names) if names else kind_named("tags", item)
    return kind_named("values" if is_regression(y, regression, item) else "labels", item)


def is_regression(y: Any, asked: bool | str, item: str = "image") -> bool:
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
            f"y must hold a label or a finite number for each {item}, but is "
            f"{shown(targets[index])} for {int(bad.sum())}, first for {item} {index}."
        )
    return type_of_target(targets).startswith("continuous")


def as_classes(y: Any, item: str = "image") -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and the number of the class of each item.

    Raises
    ------
    ValueError
        If labels are missing, there are fewer than two classes, or no class has two
        items: nothing can be said about a class from one.
    """
    labels = labels_of(y)
    unique_labels(labels)
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes, got only {classes.tolist()}."
        )
    if counts.max() < 2:
        raise ValueError(
            f"y must hold at least 2 {item}s of some class, got {len(classes)} classes of one "
            f"{item} each. For numbers to be predicted there are "
            "rank_backbones(..., regression=True) and estimators for regression."
        )
    return classes, numbers


class LinearTags(ClassifierMixin, BaseEstimator):
    """Logistic regressions on codes, one for each of several tags an item.

    As scikit-learn's OneVsRestClassifier(LogisticRegression()), for tags of which some are not
    known, and some are always the same: these are as likely as if there were one item more of
    each answer.

    Parameters
    ----------
    C : float, default=0.01
        Inverse strength of the penalty, as suits codes that are standardised and wide.

    Attributes
    ----------
    classes_ : ndarray of shape (n_tags,)
        The numbers of the columns of `y`.
    coef_ : ndarray of shape (n_tags, n_features)
        Weights.
    intercept_ : ndarray of shape (n_tags,)
        Intercepts.
    n_features_in_ : int
        Number of columns of `X`.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection import LinearTags
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> LinearTags(C=1.0).fit(X, [[0, 1], [0, np.nan], [1, 1], [1, 1]]).predict(X).tolist()
    [[0, 1], [0, 1], [1, 1], [1, 1]]
    """

    def __init__(self, C: float = PROBE_C):
        self.C = C

    def fit(self, X: Any, y: Any) -> Self:
        """Fit each tag to the items of which it is known.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Codes.
        y : array-like of shape (n_samples, n_tags)
            0, 1, and NaN where it is not known.

        Returns
        -------
        self : object
        """
        rows = check_array(X, accept_sparse="csr")
        task, target = Tags.of(y, rows.shape[0])

        def fit(tag: int, used: np.ndarray, codes: np.ndarray, there: np.ndarray) -> Any:
            fitted = LogisticRegression(C=self.C, max_iter=1000).fit(codes, there)
            return fitted.coef_, fitted.intercept_

        coef, intercept = fit_each_tag(rows, target, ~np.isnan(target), fit)
        self._task, self.classes_ = task, task.classes
        self.coef_, self.intercept_, self.n_features_in_ = coef, intercept, rows.shape[1]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logarithms of the odds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Codes.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_tags)
        """
        check_is_fitted(self)
        return check_array(X, accept_sparse="csr") @ self.coef_.T + self.intercept_

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the tags.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Codes.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_tags)
        """
        outputs = self.decision_function(X)
        return self._task.predict_proba(outputs)

    def predict(self, X: Any) -> np.ndarray:
        """Tags with a probability above 0.5.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Codes.

        Returns
        -------
        tags : ndarray of shape (n_samples, n_tags)
        """
        outputs = self.decision_function(X)
        return self._task.predict(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Fraction of items with all known tags predicted right.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Codes.
        y : array-like of shape (n_samples, n_tags)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each item counts.

        Returns
        -------
        accuracy : float
        """
        predicted = self.predict(X)
        return self._task.score(y, predicted, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


# Labels that look wrong.
#
# Reference: C. Northcutt, L. Jiang, I. Chuang (2021). Confident learning: Estimating uncertainty in
# dataset labels. JAIR 70. Section 3.1: a class is believed where it is as probable as it is, on
# average, of images that bear its name.


# Share of the probability of the likeliest class below which a label is tiny.
_TINY = 0.1


def suspect_labels(probabilities: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Items whose label is improbable while another is as probable as its own usually are.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Said of items that were held out.
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
