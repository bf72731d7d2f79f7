"""Scores by what the network's own classifier says of photographs it was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from ._inputs import as_classes, as_codes

__all__ = ["leep_score", "nce_score"]


def leep_score(probabilities: Any, y: Any) -> float:
    """LEEP: log likelihood of labels that are drawn by way of the source classes.

    A source class is drawn from the network's output and a label from what labels go with that
    class in these photographs; the mean log probability of the labels given, equation 2 of
    [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_source_classes)
        What the network says of each photograph; rows sum to 1.
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
    """Negative conditional entropy of labels given what the network takes photographs for.

    Equation 5 of [1]_, with natural logarithms: 0 where the source class tells the label.

    Parameters
    ----------
    source_labels : array-like of shape (n_samples,)
        Source class of each photograph, such as the most probable one.
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
