"""Labels that look wrong.

Reference: C. Northcutt, L. Jiang, I. Chuang (2021). Confident learning: Estimating uncertainty in
dataset labels. JAIR 70. Section 3.1: a class is believed where it is as probable as it is, on
average, of photographs that bear its name.
"""

from __future__ import annotations

import numpy as np

__all__ = ["suspect_labels"]

# Share of the probability of the likeliest class below which a label is tiny.
_TINY = 0.1


def suspect_labels(probabilities: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Photographs whose label is improbable while another is as probable as its own usually are.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_classes)
        Said of photographs that were held out.
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
