"""TransRate: how many bits the labels save when codes are written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._inputs import as_classes, as_codes

__all__ = ["transrate_score"]


def transrate_score(codes: Any, y: Any, *, eps: float = 1e-4, scale: bool = True) -> float:
    """TransRate: mutual information of codes and labels, by coding rates.

    The rate ``logdet(I + Z'Z / (n eps)) / 2`` of all codes less the mean of those of the classes,
    section 3 and appendix of [1]_.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_features)
        One row for each photograph.
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
        Larger is better. Where codes are wider than photographs are many, noise scores high too:
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
