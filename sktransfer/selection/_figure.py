"""The page that goes with a recommendation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._optional import import_pyplot
from ..images import as_images

if TYPE_CHECKING:
    from ._recommendation import Recommendation

__all__ = ["draw", "draw_suspects"]


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
    ticks = [*curve.sizes, 2 * curve.sizes[-1], 4 * curve.sizes[-1]]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()


def draw_suspects(advice: Recommendation, X: Any, y: Any, n: int) -> Any:
    """Photographs in a row, each with the label given and the one that seems right."""
    pyplot = import_pyplot("Recommendation.plot_suspects")
    codes = advice.estimator[0] if hasattr(advice.estimator, "steps") else advice.estimator
    images = as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)
    chosen = advice.suspects[:n]
    if not len(chosen):
        raise ValueError("no label looks wrong: suspects is empty, and there is nothing to show.")
    figure = pyplot.figure(figsize=(2 * len(chosen), 2.6), layout="constrained")
    labels = np.asarray(y)
    for place, (index, likely) in enumerate(zip(chosen, advice.suspected_of, strict=False), 1):
        ax = figure.add_subplot(1, len(chosen), place)
        ax.imshow(images.open(int(index)).picture())
        ax.set_title(f"{index}: {labels[index]}\nor {likely}?", fontsize="small")
        ax.axis("off")
    figure.suptitle(f"{len(chosen)} of {len(advice.suspects)} whose label looks wrong")
    return figure
