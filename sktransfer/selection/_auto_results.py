"""The ladder as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .._optional import import_pyplot
from ._rungs import Rung

__all__ = ["draw_ladder", "results_of", "told_of"]


def results_of(rungs: Sequence[Rung]) -> dict[str, np.ndarray]:
    """Columns as in scikit-learn's searches; rungs that were not tried rank last."""
    means = np.array([rung.mean for rung in rungs])
    return {
        "rung": np.array([rung.name for rung in rungs], dtype=object),
        "mean_test_score": means,
        "std_test_score": np.array(
            [rung.scores.std() if len(rung.scores) else np.nan for rung in rungs]
        ),
        "rank_test_score": rankdata(-np.nan_to_num(means, nan=-1.0), method="min").astype(int),
        "n_folds": np.array([len(rung.scores) for rung in rungs]),
        "seconds": np.array([rung.seconds for rung in rungs]),
        "reason": np.array([rung.reason for rung in rungs], dtype=object),
    }


def told_of(rung: Rung) -> str:
    """A line: its accuracy, and what there was no time for."""
    if not len(rung.scores):
        return rung.reason
    return f"{rung.mean:.1%} in {rung.seconds:.1f} s{', ' * bool(rung.reason)}{rung.reason}"


def draw_ladder(results: dict[str, np.ndarray], best: str, ax: Any = None) -> Any:
    """Bars in the order of climbing, with what each rung took."""
    pyplot = import_pyplot("AutoTransferClassifier.plot_ladder")
    ax = pyplot.subplots(layout="constrained")[1] if ax is None else ax
    names = [str(name) for name in results["rung"]]
    means = np.nan_to_num(results["mean_test_score"])
    colours = ["C3" if name == best else "C0" for name in names]
    spreads = np.nan_to_num(results["std_test_score"])
    bars = ax.barh(names, means, xerr=spreads, color=colours)
    told = [
        f" {seconds:.1f} s" if n_folds else " no time"
        for n_folds, seconds in zip(results["n_folds"], results["seconds"], strict=True)
    ]
    ax.bar_label(bars, told)
    ax.set(xlabel="cross-validated accuracy", xlim=(0, 1.15))
    return ax
