"""LogME: how probable the labels are under a Bayesian linear model on the codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from ._kinds import as_classes
from ._probe import as_codes, as_targets

__all__ = ["h_score", "leep_score", "logme_score", "nce_score", "transrate_score"]


# Where the search begins, in units of the mean squared singular value, and its last step.
_GRID = np.logspace(-8, 8, 49)
_STEPS, _TOLERANCE = 100, 1e-10


def logme_score(codes: Any, y: Any, *, regression: bool | str = "auto") -> float:
    """Logarithm of maximum evidence: how well codes explain labels, without overfitting.

    The evidence of a linear model on the codes with Gaussian prior and noise, maximised over
    the strength of both; for each class against the rest, per image, and the mean over
    classes. Section 4 of [1]_, with the fixed point of [2]_, section 3.3: the singular values of
    the codes are computed once, and a step costs as much as there are of them.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each image.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags)
        Labels, values in regression, or a matrix of tags: 0, 1, and NaN where it is not known.
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.

    Returns
    -------
    score : float
        Larger is better. Comparable between codes of the same images and targets only.

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
    missing = np.isnan(targets)
    if missing.any():  # tags that are not known
        known = [(~gaps, one[~gaps]) for gaps, one in zip(missing.T, targets.T, strict=True)]
        each = [logme_score(rows[own], one, regression=True) for own, one in known if own.any()]
        return float(np.mean(each))
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    sigma = singular**2
    unit = sigma.mean()
    if unit == 0:  # codes that are all zero explain nothing
        sigma, unit = np.ones_like(sigma), 1.0
        left = np.zeros_like(left)
    evidences = [_evidence_of(left, sigma / unit, column) for column in targets.T]
    return float(np.mean(evidences))


def _evidence_of(left: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> float:
    """Largest log evidence of one column, per image."""
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


# H-score: how far apart classes lie in the codes, in units of how far codes spread.


def h_score(codes: Any, y: Any, *, shrinkage: float | str = "auto") -> float:
    """H-score: variance between classes, seen through the inverse covariance of the codes.

    ``tr(cov(f)^-1 cov(E[f|y]))``, Definition 2 of [1]_. Without shrinkage it is as large for
    noise as for anything where codes are as wide as there are images; so the covariance
    is shrunk towards a multiple of the identity by the amount of Ledoit and Wolf, and the
    covariance of the class means by the same, section 3 of [2]_.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each image.
    y : array-like of shape (n_samples,)
        Labels.
    shrinkage : {"auto"} or float, default="auto"
        Share of the identity in [0, 1]; 0 is the score of [1]_ and needs more images than
        numbers in a code.

    Returns
    -------
    score : float
        Between 0 and the number of classes less one; larger is better. With few images
        codes that vary in few directions, such as those of random weights, are shrunk less
        and may score above good ones.

    Raises
    ------
    ValueError
        If codes are not finite, lengths differ, there are fewer than two classes, or the
        covariance cannot be inverted.

    References
    ----------
    .. [1] Y. Bao, Y. Li, S.-L. Huang, L. Zhang, L. Zheng, A. Zamir, L. Guibas (2019). An
       information-theoretic approach to transferability in task transfer learning. ICIP.
    .. [2] S. Ibrahim, N. Ponomareva, R. Mazumder (2022). Newer is not always better: Rethinking
       transferability metrics, their peculiarities, stability and performance. ECML PKDD.
    """
    rows = as_codes(codes, y)
    classes, numbers = as_classes(y)
    rows = rows - rows.mean(axis=0)
    std = float((rows**2).sum() / rows.size)
    if std == 0:
        return 0.0
    rows /= np.sqrt(std)  # the score does not depend on scale, but solvers do
    share = _share(rows, shrinkage)
    covariance = (1 - share) * (rows.T @ rows) / len(rows)
    covariance.flat[:: len(covariance) + 1] += share
    counts = np.bincount(numbers)
    sums = np.zeros((len(classes), rows.shape[1]))
    np.add.at(sums, numbers, rows)
    # cov(E[f|y]) = B' B, so its trace with the inverse is a sum over classes.
    roots = sums / np.sqrt(counts * len(rows))[:, None]
    return float((1 - share) * (roots.T * _solve(covariance, roots.T)).sum())


def _share(rows: np.ndarray, shrinkage: float | str) -> float:
    if isinstance(shrinkage, str):
        if shrinkage != "auto":
            raise ValueError(f'shrinkage must be "auto" or in [0, 1], got {shrinkage!r}.')
        return float(ledoit_wolf_shrinkage(rows, assume_centered=True))
    if not 0 <= shrinkage <= 1:
        raise ValueError(f'shrinkage must be "auto" or in [0, 1], got {shrinkage!r}.')
    return float(shrinkage)


def _solve(covariance: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        factor = cho_factor(covariance)
        smallest = np.abs(np.diagonal(factor[0])).min()
    except np.linalg.LinAlgError:
        smallest = 0.0
    if smallest < 1e-7:
        raise ValueError(
            "the covariance of the codes must be invertible, and is not: take "
            'shrinkage="auto", or more images than there are numbers in a code.'
        )
    return cho_solve(factor, right)


# TransRate: how many bits the labels save when codes are written down.


def transrate_score(codes: Any, y: Any, *, eps: float = 1e-4, scale: bool = True) -> float:
    """TransRate: mutual information of codes and labels, by coding rates.

    The rate ``logdet(I + Z'Z / (n eps)) / 2`` of all codes less the mean of those of the classes,
    section 3 and appendix of [1]_.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each image.
    y : array-like of shape (n_samples,)
        Labels.
    eps : float, default=1e-4
        Distortion that is allowed.
    scale : bool, default=True
        Whether codes are scaled to mean squared length 1 first, as the comparison of networks
        needs: rates depend on the scale.

    Returns
    -------
    score : float
        Larger is better. Where codes are wider than images are many, noise scores high too:
        compare codes of like width only.

    Raises
    ------
    ValueError
        If codes are not finite, lengths differ, or there are fewer than two classes.

    References
    ----------
    .. [1] L.-K. Huang, J. Huang, Y. Rong, Q. Yang, Y. Wei (2022). Frustratingly easy
       transferability estimation. ICML.
    """
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps!r}.")
    rows = as_codes(codes, y)
    classes, numbers = as_classes(y)
    rows = rows - rows.mean(axis=0)
    length = np.sqrt((rows**2).sum() / len(rows))
    if scale and length > 0:
        rows /= length
    parts = [_rate(rows[numbers == number], eps) for number in range(len(classes))]
    return float(_rate(rows, eps) - np.mean(parts))


def _rate(rows: np.ndarray, eps: float) -> float:
    """Nats it takes to write rows down; by the smaller of the two products."""
    n, width = rows.shape
    product = rows @ rows.T if n < width else rows.T @ rows
    product = product / (n * eps)
    product.flat[:: len(product) + 1] += 1
    return float(0.5 * np.linalg.slogdet(product)[1])


# Scores by what the network's own classifier says of images it was not trained on.


def leep_score(probabilities: Any, y: Any) -> float:
    """LEEP: log likelihood of labels that are drawn by way of the source classes.

    A source class is drawn from the network's output and a label from what labels go with that
    class in these images; the mean log probability of the labels given, equation 2 of
    [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_source_classes)
        What the network says of each image; rows sum to 1.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0; larger is better.

    Raises
    ------
    ValueError
        If rows are no probabilities, lengths differ, or there are fewer than two classes.

    References
    ----------
    .. [1] C. Nguyen, T. Hassner, M. Seeger, C. Archambeau (2020). LEEP: A new measure to evaluate
       transferability of learned representations. ICML.
    """
    theta = as_codes(probabilities, y, "probabilities")
    sums = theta.sum(axis=1)
    wrong = (theta < 0).any(axis=1) | (np.abs(sums - 1) > 1e-3)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"probabilities must be at least 0 and sum to 1 in each row, but row {row} sums to "
            f"{sums[row]:.4g} and its smallest is {theta[row].min():.4g}. Of outputs before "
            "softmax take scipy.special.softmax(outputs, axis=1)."
        )
    classes, numbers = as_classes(y)
    joint = np.eye(len(classes))[numbers].T @ theta / len(theta)
    source = joint.sum(axis=0)
    given = np.divide(joint, source, out=np.zeros_like(joint), where=source > 0)
    return float(np.log((given[numbers] * theta).sum(axis=1)).mean())


def nce_score(source_labels: Any, y: Any) -> float:
    """Negative conditional entropy of labels given what the network takes images for.

    Equation 5 of [1]_, with natural logarithms: 0 where the source class tells the label.

    Parameters
    ----------
    source_labels : array-like of shape (n_samples,)
        Source class of each image, such as the most probable one.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0; larger is better.

    Raises
    ------
    ValueError
        If lengths differ or there are fewer than two classes.

    References
    ----------
    .. [1] A. Tran, C. Nguyen, T. Hassner (2019). Transferability and hardness of supervised
       classification tasks. ICCV.
    """
    source = column_or_1d(source_labels)
    check_consistent_length(source, y)
    _, numbers = as_classes(y)
    joint = contingency_matrix(numbers, source).astype(np.float64) / len(source)
    given = joint / joint.sum(axis=0)
    there = joint > 0
    return float((joint[there] * np.log(given[there])).sum())
