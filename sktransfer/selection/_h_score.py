"""H-score: how far apart classes lie in the codes, in units of how far codes spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf_shrinkage

from ._inputs import as_classes, as_codes

__all__ = ["h_score"]


def h_score(codes: Any, y: Any, *, shrinkage: float | str = "auto") -> float:
    """H-score: variance between classes, seen through the inverse covariance of the codes.

    ``tr(cov(f)^-1 cov(E[f|y]))``, Definition 2 of [1]_. Without shrinkage it is as large for
    noise as for anything where codes are as wide as there are photographs; so the covariance
    is shrunk towards a multiple of the identity by the amount of Ledoit and Wolf, and the
    covariance of the class means by the same, section 3 of [2]_.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each photograph.
    y : array-like of shape (n_samples,)
        Labels.
    shrinkage : {"auto"} or float, default="auto"
        Share of the identity in [0, 1]; 0 is the score of [1]_ and needs more photographs than
        numbers in a code.

    Returns
    -------
    score : float
        Between 0 and the number of classes less one; larger is better. With few photographs
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
    spread = float((rows**2).sum() / rows.size)
    if spread == 0:
        return 0.0
    rows /= np.sqrt(spread)  # the score does not depend on scale, but solvers do
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
            'shrinkage="auto", or more photographs than there are numbers in a code.'
        )
    return cho_solve(factor, right)
