"""The nearest of all items by their codes, block by block."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["nearest", "unit_rows"]

# Similarities in memory at a time: 16 MB, and as many numbers.
_BLOCK = 2**22


def unit_rows(codes: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; those of nothing but 0 stay so."""
    rows = np.asarray(codes, dtype=np.float32)
    rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))  # also of none
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` most similar other rows of each row, by the cosine.

    Parameters
    ----------
    rows : ndarray of shape (n, width)
        Of length 1.
    k : int
        At most n - 1 are found.

    Returns
    -------
    numbers : ndarray of shape (n, min(k, n - 1)), int
        The most similar first.
    similarities : ndarray of the same shape, float32
    """
    n = len(rows)
    k = max(0, min(k, n - 1))
    numbers, found = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    if not k:
        return numbers, found
    step = max(1, _BLOCK // n)
    for first in range(0, n, step):
        part = rows[first : first + step] @ rows.T
        own = np.arange(len(part))
        part[own, first + own] = -2.0
        top = np.argpartition(-part, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(part, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        numbers[first : first + step] = np.take_along_axis(top, order, axis=1)
        found[first : first + step] = np.take_along_axis(values, order, axis=1)
    return numbers, found
