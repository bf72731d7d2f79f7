"""LogME: how probable the labels are under a Bayesian linear model on the codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._inputs import as_codes, as_targets

__all__ = ["logme_score"]

# Where the search begins, in units of the mean squared singular value, and its last step.
_GRID = np.logspace(-8, 8, 49)
_STEPS, _TOLERANCE = 100, 1e-10


def logme_score(codes: Any, y: Any, *, regression: bool | str = "auto") -> float:
    """Logarithm of maximum evidence: how well codes explain labels, without overfitting.

    The evidence of a linear model on the codes with Gaussian prior and noise, maximised over
    the strength of both; for each class against the rest, per photograph, and the mean over
    classes. Section 4 of [1]_, with the fixed point of [2]_, section 3.3: the singular values of
    the codes are computed once, and a step costs as much as there are of them.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each photograph.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels, or values in regression.
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.

    Returns
    -------
    score : float
        Larger is better. Comparable between codes of the same photographs and targets only.

    Raises
    ------
    ValueError
        If codes are not finite, lengths differ, or there are fewer than two classes.

    References
    ----------
    .. [1] K. You, Y. Liu, J. Wang, M. Long (2021). LogME: Practical assessment of pre-trained
       models for transfer learning. ICML.
    .. [2] K. You, Y. Liu, Z. Zhang, J. Wang, M. I. Jordan, M. Long (2022). Ranking and tuning
       pre-trained models: a new paradigm for exploiting model hubs. JMLR 23.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection import logme_score
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 20)
    >>> bool(logme_score(rng.normal(size=(40, 3)) + 2 * y[:, None], y)
    ...      > logme_score(rng.normal(size=(40, 3)), y))
    True
    """
    rows = as_codes(codes, y)
    targets = as_targets(y, regression)
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    sigma = singular**2
    unit = sigma.mean()
    if unit == 0:  # codes that are all zero explain nothing
        sigma, unit = np.ones_like(sigma), 1.0
        left = np.zeros_like(left)
    evidences = [_evidence_of(left, sigma / unit, column) for column in targets.T]
    return float(np.mean(evidences))


def _evidence_of(left: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> float:
    """Largest log evidence of one column, per photograph."""
    z = (left.T @ y) ** 2
    outside = max(float(y @ y - z.sum()), 0.0)
    n = len(y)
    values = [_log_evidence(t, sigma, z, outside, n) for t in _GRID]
    t, best = _GRID[int(np.argmax(values))], max(values)
    for _ in range(_STEPS):
        t = _step(t, sigma, z, outside, n)
        value = _log_evidence(t, sigma, z, outside, n)
        if not value > best + _TOLERANCE:
            break
        best = value
    return best / n


def _step(t: float, sigma: np.ndarray, z: np.ndarray, outside: float, n: int) -> float:
    """One step of the fixed point for t = alpha / beta."""
    gamma = (sigma / (t + sigma)).sum()
    squared_weights = (sigma * z / (t + sigma) ** 2).sum()
    squared_error = (z * (t / (t + sigma)) ** 2).sum() + outside
    alpha = gamma / max(squared_weights, 1e-300)
    beta = (n - gamma) / max(squared_error, 1e-300)
    return float(np.clip(alpha / max(beta, 1e-300), _GRID[0], _GRID[-1]))


def _log_evidence(t: float, sigma: np.ndarray, z: np.ndarray, outside: float, n: int) -> float:
    """Log evidence at t, with the strength of the noise that is best for it.

    The targets are Gaussian with covariance (I + F F' / t) / beta, whose eigenvalues are known.
    """
    quadratic = (z / (1 + sigma / t)).sum() + outside
    log_beta = np.log(n / max(quadratic, 1e-300))
    return float(0.5 * (n * (log_beta - 1 - np.log(2 * np.pi)) - np.log1p(sigma / t).sum()))
