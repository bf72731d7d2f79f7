"""Linear classifiers, whatever affine steps are before them, as one matrix.

Scores of a linear classifier are sums over the columns of its rows. So they may be computed of each
map by itself, at its own size, and enlarged and added afterwards: enlarging is linear as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import interpolate

__all__ = ["LinearScores", "default_pixel_estimator", "linear_map_of", "slopes_of"]


# Rows on which an estimator and its matrix are compared.
_N_COMPARED = 1000
# Rows that are passed through a function at a time: all are as many as columns.
_N_UNITS = 512
# By which rows are moved away from their mean, to meet what is linear near it alone.
_FAR = 4
# How far scores may be apart, of their own size: float32 has seven digits.
_CLOSE = 1e-3


def slopes_of(
    call: Callable[[np.ndarray], np.ndarray], center: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How a function of rows changes by a step along each axis: of an affine one, its matrix.

    Whether it is affine has to be seen on other rows.

    Parameters
    ----------
    call : callable
        Rows (n, n_columns) to outputs (n, n_outputs).
    center : ndarray of shape (n_columns,)
        Where steps begin.

    Returns
    -------
    slopes : ndarray of shape (n_outputs, n_columns), float64
    value : ndarray of shape (n_outputs,), float64
        At the centre.
    """
    value, width = np.asarray(call(center[None]), np.float64)[0], len(center)
    slopes = np.empty((len(value), width))
    for start in range(0, width, _N_UNITS):
        stop = min(start + _N_UNITS, width)
        units = np.repeat(center[None], stop - start, axis=0)
        units[np.arange(stop - start), np.arange(start, stop)] += 1
        slopes[:, start:stop] = (call(units) - value).T
    return slopes, value


def default_pixel_estimator() -> Pipeline:
    """The classifier of codes of places where none is given: logistic regression, regularised.

    With `tol` of scikit-learn's default it takes three times as long and is not better.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, tol=1e-3, max_iter=1000))


@dataclass(frozen=True)
class LinearScores:
    """A fitted linear classifier and the affine steps before it, as one matrix.

    Attributes
    ----------
    coef : ndarray of shape (n_scores, n_columns), float32
        One score of two classes, as of scikit-learn's `decision_function`.
    intercept : ndarray of shape (n_scores,), float32
    last : classifier
        Makes probabilities of scores, as the estimator does.
    """

    coef: np.ndarray
    intercept: np.ndarray
    last: Any

    @classmethod
    def of(cls, estimator: Any, rows: np.ndarray) -> Self | None:
        """The matrix of an estimator, or None if it is not linear.

        What it is made of is found by passing zeros and unit vectors through the steps, and then
        believed only if it answers as the estimator does on rows and beyond them: steps that clip
        are linear between their limits.

        Parameters
        ----------
        estimator : classifier
            Fitted.
        rows : ndarray of shape (n_rows, n_columns), float32
            Such as it was fitted on.
        """
        some = rows[:: -(-len(rows) // _N_COMPARED)]
        mean = some.mean(axis=0)
        some = np.concatenate([some, mean + _FAR * (some - mean)])
        try:
            with np.errstate(all="ignore"):
                found = cls._folded(getattr(estimator, "best_estimator_", estimator), some.shape[1])
                ok = found is not None and found._answers_as(estimator, some)
            return found if ok else None
        except Exception:  # steps and estimators may be anything, and answer anything
            return None

    @classmethod
    def _folded(cls, estimator: Any, n_columns: int) -> Self | None:
        steps: Any = None
        if isinstance(estimator, Pipeline):
            steps, estimator = estimator[:-1], estimator[-1]
        if not hasattr(estimator, "coef_") or not hasattr(estimator, "decision_function"):
            return None
        coef = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
        intercept = np.broadcast_to(np.asarray(estimator.intercept_, np.float64), len(coef))
        if steps is not None and len(steps):
            weights, shift = slopes_of(
                lambda rows: np.asarray(steps.transform(rows), np.float64), np.zeros(n_columns)
            )
            coef, intercept = coef @ weights, intercept + coef @ shift
        return cls(
            coef.astype(np.float32), intercept.astype(np.float32), _on_scores(estimator, len(coef))
        )

    def _answers_as(self, estimator: Any, rows: np.ndarray) -> bool:
        expected = np.asarray(estimator.decision_function(rows)).reshape(len(rows), -1)
        found = rows @ self.coef.T + self.intercept
        if found.shape != expected.shape:
            return False
        if not np.allclose(found, expected, _CLOSE, _CLOSE * np.abs(expected).max()):
            return False
        single = expected.shape[1] == 1
        numbers = (expected[:, 0] > 0).astype(np.intp) if single else expected.argmax(axis=1)
        labels = estimator.classes_[numbers]
        if not np.array_equal(labels, estimator.predict(rows)):
            return False
        if not hasattr(estimator, "predict_proba"):
            return True
        return np.allclose(
            self.probabilities(expected), estimator.predict_proba(rows), atol=_CLOSE
        )

    def for_probabilities(self) -> Self:
        """The same: probabilities are made of scores."""
        return self

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (n_rows, n_classes) of the classes, from scores (n_rows, n_scores)."""
        return self.last.predict_proba(scores)

    def on_maps(self, maps: Sequence[np.ndarray], grid: tuple[int, int]) -> torch.Tensor:
        """Scores of all places of one image.

        Parameters
        ----------
        maps : sequence of ndarray of shape (channels, h, w), float32
        grid : tuple of int
            Height and width of what the network sees.

        Returns
        -------
        Tensor of shape (n_scores, *grid), float32
        """
        scores = torch.from_numpy(self.intercept)[:, None, None].expand(-1, *grid)
        stops = np.cumsum([len(one) for one in maps])[:-1]
        for one, coef in zip(maps, np.split(self.coef, stops, axis=1), strict=True):
            own = torch.from_numpy(coef @ one.reshape(len(one), -1)).view(1, -1, *one.shape[1:])
            if own.shape[2:] != grid:
                own = interpolate(own, grid, mode="bilinear", align_corners=False)
            scores = scores + own[0]
        return scores


def _on_scores(estimator: Any, n_scores: int) -> Any:
    """The same classifier where scores are what it is given."""
    twin = copy.copy(estimator)
    twin.coef_ = np.eye(n_scores, dtype=np.float32)
    twin.intercept_ = np.zeros(n_scores, np.float32)
    twin.n_features_in_ = n_scores
    vars(twin).pop("feature_names_in_", None)
    return twin


def linear_map_of(estimator: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients and intercepts of a fitted classifier, affine steps before it folded in.

    Parameters
    ----------
    estimator : classifier
        Fitted.
    rows : ndarray of shape (n_rows, n_columns), float32
        Such as it was fitted on, to see that the answer is right.

    Returns
    -------
    (coef, intercept) : ndarray of shape (n_scores, n_columns) and (n_scores,), float32, or None
        Scores are ``rows @ coef.T + intercept``, of two classes one; None if it is not linear.
    """
    found = LinearScores.of(estimator, rows)
    return None if found is None else (found.coef, found.intercept)
