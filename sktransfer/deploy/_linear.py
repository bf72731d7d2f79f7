"""What follows codes in a pipeline, as few modules: affine steps and a linear model are a matrix.

No list says which of scikit-learn's estimators are linear. What an estimator answers at a centre
and a step away from it along every axis gives a matrix, and the matrix is believed if it answers as
the estimator does on codes and far from them. In the same way the link from scores to probabilities
is the one that gives the probabilities of the estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.preprocessing import Normalizer
from torch import nn

from ..codes import slopes_of
from ..exceptions import ExportError
from ..selection import LinearTags
from ._network import LINKS, UnitRows, affine, probabilities_of

__all__ = ["Head", "head_of_steps", "link_of", "two_columns"]

# Rows are moved towards their mean, and away from it, to meet what is linear there alone.
_MOVES = (0.05, 1.0, 4.0)
# How far answers of matrix and estimator may be apart, of their size: some compute in float32.
_CLOSE = 1e-4
# Of probabilities, which hang on scores of that accuracy.
_CLOSE_SHARES = 1e-3

Rows = np.ndarray
Function = Callable[[Rows], np.ndarray]
# (n_outputs, n_codes), and (n_outputs,).
Matrix = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Head:
    """From codes to outputs.

    Attributes
    ----------
    module : torch.nn.Module
    kind, link : str
        As of `ImageNetwork`.
    classes : list
    """

    module: nn.Module
    kind: str
    link: str
    classes: list[Any]


def head_of_steps(steps: Sequence[Any], rows: Rows) -> Head:
    """What the steps behind codes compute, the last of which may be a model.

    Parameters
    ----------
    steps : sequence of estimator
        Fitted.
    rows : ndarray of shape (n_rows, n_codes), float32
        Codes of some images, on which matrices are compared with estimators.

    Raises
    ------
    ExportError
        If a step is no affine one, or the model is not linear.
    """
    modules: list[nn.Module] = []
    waiting: list[Any] = []  # affine steps that are to become one matrix
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        if is_last and (hasattr(step, "predict") or not hasattr(step, "transform")):
            matrix, head = _model(waiting, step, rows)
            return Head(nn.Sequential(*modules, nn.Flatten(), affine(*matrix)), *head)
        if isinstance(step, Normalizer):
            if waiting:
                matrix, rows = _affine_steps(waiting, rows)
                modules, waiting = [*modules, nn.Flatten(), affine(*matrix)], []
            modules.append(UnitRows(step.norm))
            rows = step.transform(rows)
        else:
            waiting.append(step)
    if waiting:
        modules += [nn.Flatten(), affine(*_affine_steps(waiting, rows)[0])]
    return Head(nn.Sequential(*modules), "codes", "none", [])


def _through(steps: Sequence[Any]) -> Function:
    def call(rows: Rows) -> np.ndarray:
        for step in steps:
            rows = step.transform(rows)
        return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)

    return call


def _affine_steps(steps: Sequence[Any], rows: Rows) -> tuple[Matrix, Rows]:
    call = _through(steps)
    matrix = matrix_of(call, rows, _center(steps, rows))
    if matrix is None:
        raise ExportError(
            f"Steps behind codes must be affine, such as StandardScaler and PCA, or a Normalizer, "
            f"but {_names(steps)} is not. Leave it out, or export what is before it."
        )
    return matrix, call(rows)


def matrix_of(call: Function, rows: Rows, center: np.ndarray) -> Matrix | None:
    """The matrix and the shift that a function is, or None if it is neither.

    Parameters
    ----------
    call : callable
        Rows (n, n_codes) to outputs (n, n_outputs).
    rows : ndarray of shape (n, n_codes)
        To compare them on.
    center : ndarray of shape (n_codes,)
        Where the matrix is found.
    """
    weight, bias = slopes_of(call, center)
    mean = rows.mean(axis=0)
    moved = np.concatenate([mean + by * (rows - mean) for by in _MOVES])
    expected, found = call(moved), (moved - center) @ weight.T + bias
    if not np.allclose(found, expected, _CLOSE, _CLOSE * np.abs(expected).max()):
        return None
    return weight, bias - weight @ center


def _center(steps: Sequence[Any], rows: Rows) -> np.ndarray:
    """Where codes lie, as far as a step knows the mean of those it was fitted on."""
    for name in ("mean_", "center_"):
        known: Any = getattr(steps[0], name, None) if steps else None
        if np.shape(known) == rows.shape[1:]:
            return np.asarray(known, np.float64)
    return np.zeros(rows.shape[1])


def _names(steps: Sequence[Any]) -> str:
    return " and ".join(type(step).__name__ for step in steps)


# The model at the end.


def _model(
    steps: Sequence[Any], model: Any, rows: Rows
) -> tuple[Matrix, tuple[str, str, list[Any]]]:
    """The matrix of a model and the steps before it; what outputs are, their link and labels."""
    before = _through(steps)
    scores_of, kind, classes = _scores(model)
    center = _center([*steps, model], rows)

    def call(given: Rows) -> np.ndarray:
        return scores_of(before(given))

    matrix = None
    try:
        with np.errstate(all="ignore"):
            matrix = matrix_of(call, rows, center)
    except (AttributeError, ValueError, TypeError):  # estimators may refuse rows of units
        pass
    if matrix is None:
        raise _not_linear(steps, model)
    if kind == "values":
        return matrix, (kind, "none", [])
    near = before(_rows_of_scores(*matrix))
    scores = scores_of(near)
    if not _same_answers(model, near, scores, kind, classes):
        raise _not_linear(steps, model)
    link = link_of(model, near, scores, tags=kind == "tags")
    if link is None and len(classes) == 2:
        # Of some the difference of two scores is half of what it is of others.
        link = link_of(model, near, 2 * scores)
        matrix = 2 * matrix[0], 2 * matrix[1]
    if link is None:
        raise ExportError(
            f"The probabilities of {type(model).__name__} are no function of its scores that is "
            f"known here ({', '.join(LINKS)}). Take a LogisticRegression, or a model without "
            "predict_proba."
        )
    return matrix, (kind, link, classes)


def _rows_of_scores(weight: np.ndarray, bias: np.ndarray) -> Rows:
    """Rows that have scores near 0, where one link differs from another."""
    wanted = np.random.default_rng(0).normal(size=(50, len(bias)))
    rows: Rows = (wanted - bias) @ np.linalg.pinv(weight).T
    return rows


def _not_linear(steps: Sequence[Any], model: Any) -> ExportError:
    name = type(model).__name__
    return ExportError(
        "A pipeline must end in a linear model behind affine steps, such as LogisticRegression, "
        f"LinearSVC, LinearDiscriminantAnalysis or Ridge, but what {_names([*steps, model])} "
        f"computes is no matrix times the codes. Fit one of these in the place of {name}, or "
        "export the codes alone: pipeline[:-1]."
    )


def _scores(model: Any) -> tuple[Function, str, list[Any]]:
    """Scores with a column for each class or tag, what they are, and the labels of columns."""
    if is_regressor(model):
        return lambda rows: _columns(model.predict(rows)), "values", []
    each = getattr(model, "estimators_", None)
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) and each and all(hasattr(e, "decision_function") for e in each):
        # MultiOutputClassifier, of which each must tell 0 from 1.
        if all(list(one) == [0, 1] for one in classes):

            def of_tags(rows: Rows) -> np.ndarray:
                return np.column_stack([one.decision_function(rows) for one in each])

            return of_tags, "tags", list(range(len(each)))
    if classes is None or not hasattr(model, "decision_function"):
        raise _not_linear([], model)
    labels = np.asarray(classes).tolist()
    if getattr(model, "multilabel_", False) or isinstance(model, LinearTags):
        return lambda rows: _columns(model.decision_function(rows)), "tags", labels

    def of_classes(rows: Rows) -> np.ndarray:
        return two_columns(_columns(model.decision_function(rows)))

    return of_classes, "classes", labels


def two_columns(scores: np.ndarray) -> np.ndarray:
    """Where one score tells two classes apart, half of it for each: softmax is its sigmoid then."""
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores


def _columns(values: Any) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[:, None] if values.ndim == 1 else values


def _same_answers(
    model: Any, rows: Rows, scores: np.ndarray, kind: str, classes: list[Any]
) -> bool:
    """Whether the largest score, or those above 0, are what the model answers."""
    answers = np.asarray(model.predict(rows))
    if kind == "tags":
        return bool((answers == (scores > 0)).all())
    if scores.shape[1] != len(classes):
        return False
    return bool((answers == np.asarray(classes)[scores.argmax(axis=1)]).all())


def link_of(model: Any, rows: Rows, scores: np.ndarray, *, tags: bool = False) -> str | None:
    """What makes the probabilities of a model of its scores: "none" where it gives none.

    None where it is nothing known.

    Parameters
    ----------
    model : classifier
        Fitted.
    rows : ndarray of shape (n_rows, n_columns)
        That it takes.
    scores : ndarray of shape (n_rows, n_classes)
        That it gives of them.
    tags : bool
        Whether classes do not exclude each other.
    """
    try:
        shares = model.predict_proba(rows)
    except AttributeError:  # scikit-learn's models have it by their parameters
        return "none"
    if isinstance(shares, list):
        shares = np.column_stack([one[:, 1] for one in shares])
    for link in ("sigmoid",) if tags else LINKS:
        found = probabilities_of(torch.from_numpy(scores), link).numpy()
        if np.allclose(found, shares, atol=_CLOSE_SHARES):
            return link
    return None
