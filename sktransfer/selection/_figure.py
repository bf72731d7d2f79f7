"""The page that goes with a recommendation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._optional import import_pyplot

if TYPE_CHECKING:
    from ._recommendation import Recommendation

__all__ = ["draw"]


def draw(advice: Recommendation, figure: Any = None) -> Any:
    """Accuracy over depth on the left, over the number of photographs on the right."""
    pyplot = import_pyplot("Recommendation.plot")
    if figure is None:
        figure = pyplot.figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _depth(left, advice)
    _more(right, advice)
    figure.suptitle(f"{advice.scene}: {advice.strategy}")
    return figure


def _depth(ax: Any, advice: Recommendation) -> None:
    names, means, spreads = zip(*advice.layer_scores, strict=True)
    places = np.arange(len(names))
    ax.errorbar(places, means, spreads, marker="o", capsize=3)
    chosen = names.index(advice.layer)
    ax.plot(chosen, means[chosen], "o", ms=13, mfc="none", mec="C3", label="advised layer")
    ax.set_xticks(places, names, rotation=45, ha="right")
    ax.set(xlabel="layer, from the input", ylabel="accuracy of a linear probe")
    ax.legend()


def _more(ax: Any, advice: Recommendation) -> None:
    curve = advice.learning_curve
    ax.errorbar(curve.sizes, curve.means, curve.spreads, marker="o", capsize=3, label="measured")
    ahead = np.geomspace(curve.sizes[0], 4 * curve.sizes[-1], 50)
    if curve.law is not None:
        ax.plot(ahead, curve.expected(ahead), "--", label="where it leads")
    ax.set(xscale="log", xlabel="photographs to learn from", ylabel="accuracy of a linear probe")
    ax.legend()
