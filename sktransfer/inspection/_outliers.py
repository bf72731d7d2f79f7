"""Items that are like no others, by their codes."""

from __future__ import annotations

import numpy as np

__all__ = ["FEWEST", "outliers"]

# Items below which nothing is said, and neighbours that are asked.
FEWEST, _K = 20, 20
# Deviations from the median, as standard deviations of a normal distribution, that are odd.
_ODD = 2.5


def outliers(
    numbers: np.ndarray, similarities: np.ndarray, owners: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose nearest others are far off, compared with those of most rows.

    The mean distance to the twenty nearest, as in [1]_; what is usual is told by the median and the
    median absolute deviation of its logarithm, which outliers do not move.

    Parameters
    ----------
    numbers, similarities : ndarray of shape (n, k)
        The nearest others of each row, and the cosines.
    owners : ndarray of shape (n,), int
        The same number for rows that are one item; copies are no neighbours.

    Returns
    -------
    found : ndarray of int
        The farthest first.
    scores : ndarray of float
        1 less the usual distance over theirs.

    References
    ----------
    .. [1] F. Angiulli, C. Pizzuti (2002). Fast outlier detection in high dimensional spaces. PKDD.
    """
    if len(numbers) < FEWEST:
        return np.empty(0, dtype=np.int64), np.empty(0)
    distance = np.where(owners[numbers] == owners[:, None], np.nan, 1 - similarities)
    others = np.argsort(np.isnan(distance), axis=1, kind="stable")[:, :_K]
    nearest = np.take_along_axis(distance, others, axis=1)
    known = ~np.isnan(nearest).all(axis=1)
    mean = np.full(len(nearest), np.nan)
    mean[known] = np.nanmean(nearest[known], axis=1)
    logs = np.log(np.maximum(mean, 1e-9))
    usual = np.nanmedian(logs)
    spread = 1.4826 * np.nanmedian(np.abs(logs - usual))
    found = np.flatnonzero(logs - usual > _ODD * max(spread, 0.05))
    found = found[np.argsort(-logs[found], kind="stable")]
    return found, 1 - np.exp(usual - logs[found])
