"""What estimators say of items, as numbers that rise with what is asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from ..exceptions import shown

__all__ = ["Answers", "answers_of", "columns_of", "decisions_of"]


@dataclass(frozen=True)
class Answers:
    """A score for each of several targets.

    Attributes
    ----------
    scores : ndarray of shape (n_items, n_targets), float64
    targets : list
        What the columns are of: labels, or numbers of tags or outputs.
    unit : {"probability", "score", "value"}
    """

    scores: np.ndarray
    targets: list[Any]
    unit: str

    def columns(self, target: Any, names: Sequence[str] = ()) -> np.ndarray:
        """The column that is asked about, for each item; None is the largest of each.

        `names` are what the targets are called besides.
        """
        return columns_of(self.scores, self.targets, target, self.unit, names)


def answers_of(estimator: Any) -> Callable[[Any], Answers]:
    """What an estimator says by its finest method.

    `predict_proba`, else `decision_function`, else `predict`: of a regressor its values, of a
    classifier 1 for its label and 0 for others.

    Raises
    ------
    TypeError
        If it has none of them.
    """
    if is_regressor(estimator):
        return lambda X: _values(estimator.predict(X))
    if hasattr(estimator, "predict_proba"):
        return lambda X: _probabilities(estimator.predict_proba(X), estimator)
    if hasattr(estimator, "decision_function"):
        return lambda X: decisions_of(estimator.decision_function(X), estimator)
    if not hasattr(estimator, "predict"):
        raise TypeError(
            f"estimator must have predict, got {type(estimator).__name__}. To look at codes pass a "
            "pipeline that ends with a classifier or a regressor."
        )
    return lambda X: _labels(np.asarray(estimator.predict(X)), estimator)


def _values(found: Any) -> Answers:
    values = np.asarray(found, np.float64)
    values = values.reshape(len(values), -1)
    return Answers(values, list(range(values.shape[1])), "value")


def _probabilities(found: Any, estimator: Any) -> Answers:
    if isinstance(found, list):
        every = zip(found, estimator.classes_, strict=True)
        tags = np.stack([_of_tag(np.asarray(one), list(known)) for one, known in every], axis=1)
        return Answers(tags, list(range(tags.shape[1])), "probability")
    return Answers(np.asarray(found, np.float64), _targets(estimator, found), "probability")


def _of_tag(found: np.ndarray, classes: list[Any]) -> np.ndarray:
    """The probability that a tag is there, of scikit-learn's columns for what was in the fit."""
    if not set(classes) <= {0, 1}:
        raise ValueError(
            "an estimator of several outputs must give tags of 0 and 1, got the classes "
            f"{shown(classes)}. Explain one output at a time."
        )
    if 1 not in classes:
        return np.zeros(len(found))
    return found[:, classes.index(1)].astype(np.float64)


def decisions_of(found: Any, estimator: Any) -> Answers:
    """Scores of `decision_function`, or of a regressor its values; of two classes both."""
    if is_regressor(estimator):
        return _values(found)
    scores = np.asarray(found, np.float64)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    return Answers(scores, _targets(estimator, scores), "score")


def _labels(found: np.ndarray, estimator: Any) -> Answers:
    if found.ndim == 2:
        return Answers(found.astype(np.float64), list(range(found.shape[1])), "score")
    classes = list(getattr(estimator, "classes_", np.unique(found)))
    return Answers((found[:, None] == np.array(classes)).astype(np.float64), classes, "score")


def _targets(estimator: Any, scores: np.ndarray) -> list[Any]:
    classes = getattr(estimator, "classes_", None)
    if classes is None or len(classes) != scores.shape[1] or isinstance(classes, list):
        return list(range(scores.shape[1]))
    return np.asarray(classes).tolist()


def columns_of(
    scores: np.ndarray,
    targets: Sequence[Any],
    target: Any,
    unit: str,
    names: Sequence[str] = (),
) -> np.ndarray:
    """The column that is asked about, for each row.

    Parameters
    ----------
    scores : ndarray of shape (n_items, n_targets)
    targets : sequence
        What the columns are of.
    target : object
        One of them for all items, or a list or array with one for each; None is that of the
        largest score of each item, and the only one of a regressor.
    unit : str
        "value" has no largest of several.
    names : sequence of str
        What the targets are called besides, in their order; each is known by both.

    Raises
    ------
    ValueError
        If there is no such target, or not one for each item.
    """
    n = len(scores)
    if target is None:
        if unit == "value" and len(targets) > 1:
            raise ValueError(
                f"target= must say which of {len(targets)} outputs, a number from 0 on."
            )
        return scores.argmax(axis=1)
    if not isinstance(target, str) and np.ndim(target) == 1:
        each = np.asarray(target).tolist()
        if len(each) != n:
            raise ValueError(f"target= must be one, or one for each of {n}, got {len(each)}.")
    else:
        each = [target] * n
    called = {one: number for number, one in enumerate(names)}
    known = {**called, **{one: number for number, one in enumerate(targets)}}
    for one in each:
        if one not in known:
            what = f"{shown(list(targets))}{f' or {shown(list(names))}' if called else ''}"
            raise ValueError(f"target= must be of {what}, got {shown(repr(one))}.")
    return np.array([known[one] for one in each], np.intp)
