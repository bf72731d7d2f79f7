"""Would more photographs help? The learning curve of the probe, and where it leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import curve_fit
from sklearn.base import clone

from ._probe import make_probe

__all__ = ["LearningCurve", "learning_curve_of"]

_SHARES = (0.2, 0.35, 0.6, 1.0)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Accuracy of the probe by the number of photographs it learns from.

    Parameters
    ----------
    sizes : ndarray of int
        Photographs that were learnt from.
    means, spreads : ndarray
        Mean and standard deviation over the folds.
    law : tuple of float or None
        (a, b, c) of error = a + b * size ** -c; None where no such curve fits.
    """

    sizes: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    law: tuple[float, float, float] | None

    def expected(self, size: float | np.ndarray) -> Any:
        """Accuracy that the curve leads to; NaN where none fits.

        Parameters
        ----------
        size : float or ndarray
            Photographs to learn from.

        Returns
        -------
        accuracy : float or ndarray
        """
        if self.law is None:
            return np.full(np.shape(size), np.nan)[()]
        a, b, c = self.law
        return 1 - np.clip(a + b * np.asarray(size, dtype=float) ** -c, 0, 1)


def learning_curve_of(codes: np.ndarray, numbers: np.ndarray, splits: Any) -> LearningCurve:
    """Learn from parts of each fold, nested in one another, and test on the fold."""
    found: dict[float, list[float]] = {share: [] for share in _SHARES}
    sizes: dict[float, list[int]] = {share: [] for share in _SHARES}
    for seed, (learn, test) in enumerate(splits):
        order = _by_turns(numbers[learn], seed)
        for share in _SHARES:
            part = learn[order[: max(2, round(share * len(learn)))]]
            if len(np.unique(numbers[part])) < 2:
                continue
            probe = clone(make_probe()).fit(codes[part], numbers[part])
            found[share].append(probe.score(codes[test], numbers[test]))
            sizes[share].append(len(part))
    shares = [share for share in _SHARES if found[share]]
    counts = np.array([round(np.mean(sizes[share])) for share in shares])
    means = np.array([np.mean(found[share]) for share in shares])
    spreads = np.array([np.std(found[share]) for share in shares])
    return LearningCurve(counts, means, spreads, _law(counts, means))


def _by_turns(numbers: np.ndarray, seed: int) -> np.ndarray:
    """An order in which every beginning has the classes in their shares."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(numbers))
    for label in np.unique(numbers):
        own = np.flatnonzero(numbers == label)
        place[rng.permutation(own)] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.argsort(place, kind="stable")


def _law(sizes: np.ndarray, means: np.ndarray) -> tuple[float, float, float] | None:
    """Fit the usual power law to the errors."""
    if len(sizes) < 3 or means[-1] <= means[0]:
        return None

    def error(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a + b * n**-c

    start = (0.5 * (1 - means[-1]), 1.0, 0.5)
    bounds = ([0, 0, 0.05], [1 - means[-1] + 1e-9, 100, 1.5])
    try:
        law, _ = curve_fit(error, sizes.astype(float), 1 - means, p0=start, bounds=bounds)
    except (RuntimeError, ValueError):
        return None
    return tuple(law)
