"""What `advise` says."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._optional import import_pyplot
from ..inputs import as_images
from ._probe import LearningCurve
from ._rank import BackboneRanking

__all__ = ["Recommendation", "draw", "draw_suspects"]


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """What to do with some images, and why.

    Parameters
    ----------
    scenario : str
        "few and similar", "few and dissimilar", "many and similar" or "many and dissimilar":
        images, and their likeness to those of the network.
    strategy : {"probe", "fine-tune last", "fine-tune all"}
    backbone : str or torch.nn.Module
        The network.
    layer : str
        With which the network of `estimator` ends: for a probe the one that tells the classes
        best.
    resize : str
        How images are best resized.
    estimator : estimator
        Not fitted: a pipeline, or :class:`sktransfer.FineTuneClassifier`.
    param_grid : dict
        Worth searching with `estimator`.
    measure : str
        What probes are judged by: "accuracy", of several tags an image the mean of their "average
        precision", of values "R²".
    expected_accuracy, accuracy_std : float
        By this measure: mean and standard deviation over the folds, of the probe on `layer`. A
        layer that was chosen on the same folds makes it a little high; of fine-tuning more may be
        hoped.
    minutes : float
        About how long a fit of `estimator` takes on this machine; NaN where all codes came from
        the cache of another process.
    reasons, warnings : tuple of str
        Sentences: what the advice rests on, and what is odd about the images and labels.
    layer_scores : tuple of (name, mean, std)
        Probes by depth, from the input.
    resize_scores : dict of str to float
        Empty where images are square or `resize` was given.
    learning_curve : LearningCurve
        Of the probe on `layer`.
    suspects : ndarray of int
        Images whose label looks wrong, the most suspect first.
    suspected_of : ndarray
        The label that each of these seems to have.
    conflicts, copies : tuple of tuple of int
        The same image with different labels, and with the same.
    unreadable : ndarray of int
        Images that could not be read, where ``on_error="nan"`` let that pass.
    ranking : BackboneRanking or None
        Where there were several networks.
    """

    scenario: str
    strategy: str
    backbone: Any
    layer: str
    resize: str
    estimator: Any
    param_grid: dict[str, list[Any]]
    measure: str
    expected_accuracy: float
    accuracy_std: float
    minutes: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    layer_scores: tuple[tuple[str, float, float], ...]
    resize_scores: dict[str, float]
    learning_curve: LearningCurve
    suspects: np.ndarray
    suspected_of: np.ndarray
    conflicts: tuple[tuple[int, ...], ...]
    copies: tuple[tuple[int, ...], ...]
    unreadable: np.ndarray
    ranking: BackboneRanking | None

    def plot(self, figure: Any = None) -> Any:
        """One page: accuracy over depth, and over the number of images.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, default=None
            Where to draw; None makes one.

        Returns
        -------
        figure : matplotlib.figure.Figure
        """
        pass

        return draw(self, figure)

    def plot_suspects(self, X: Any, y: Any, n: int = 8) -> Any:
        """Show the images whose label looks wrong.

        Parameters
        ----------
        X : array, list or table of images
            The images that were asked about.
        y : array-like of shape (n_samples,)
            Their labels.
        n : int, default=8
            At most that many, the most suspect first.

        Returns
        -------
        figure : matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If there are none.
        """
        pass

        return draw_suspects(self, X, y, n)

    def _figure(self, score: float) -> str:
        if self.measure == "accuracy":
            return f"{score:.1%}"
        return f"{score:.3f}"

    def _facts(self) -> list[tuple[str, str]]:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        part = f"layer {self.layer}" if self.strategy == "probe" else f"up to {self.layer}"
        shown = self.resize_scores or self.resize != "pad"
        resized = f", images resized by {self.resize}" if shown else ""
        more = "" if self.strategy == "probe" else "; of fine-tuning more may be hoped"
        cost = "not known" if np.isnan(self.minutes) else f"about {max(self.minutes, 0.1):.1f} min"
        return [
            ("Scenario", self.scenario),
            ("Strategy", self.strategy),
            ("Network", f"{name}, {part}{resized}"),
            (
                "Expected",
                f"{self._figure(self.expected_accuracy)} ± {self._figure(self.accuracy_std)} "
                f"by a probe{more}",
            ),
            ("Cost", f"{cost} for a fit on this machine"),
        ]

    def __repr__(self) -> str:
        lines = [f"{name + ':':10s}{text}" for name, text in self._facts()]
        lines += ["Reasons:", *(f"  - {reason}" for reason in self.reasons)]
        if self.warnings:
            lines += ["Warnings:", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._facts()
        ]
        parts = [f"<table>{''.join(rows)}</table>"]
        for title, lines in (("Reasons", self.reasons), ("Warnings", self.warnings)):
            items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
            if items:
                parts.append(f"<p>{title}</p><ul>{items}</ul>")
        return "".join(parts)


# The page that goes with a recommendation.


def draw(advice: Recommendation, figure: Any = None) -> Any:
    """Accuracy over depth on the left, over the number of images on the right."""
    pyplot = import_pyplot("Recommendation.plot")
    if figure is None:
        figure = pyplot.figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _depth(left, advice)
    _more(right, advice)
    figure.suptitle(f"{advice.scenario}: {advice.strategy}")
    return figure


def _depth(ax: Any, advice: Recommendation) -> None:
    names, means, stds = zip(*advice.layer_scores, strict=True)
    places = np.arange(len(names))
    ax.errorbar(places, means, stds, marker="o", capsize=3)
    chosen = names.index(advice.layer)
    ax.plot(chosen, means[chosen], "o", ms=13, mfc="none", mec="C3", label="advised layer")
    ax.set_xticks(places, names, rotation=45, ha="right")
    ax.set(xlabel="layer, from the input", ylabel=f"{advice.measure} of a linear probe")
    ax.legend()


def _more(ax: Any, advice: Recommendation) -> None:
    curve = advice.learning_curve
    ax.errorbar(curve.sizes, curve.means, curve.stds, marker="o", capsize=3, label="measured")
    ahead = np.geomspace(curve.sizes[0], 4 * curve.sizes[-1], 50)
    if curve.law is not None:
        ax.plot(ahead, curve.expected(ahead), "--", label="where it leads")
    ax.set(xscale="log", xlabel="images to learn from")
    ax.set_ylabel(f"{advice.measure} of a linear probe")
    ticks = [*curve.sizes, 2 * curve.sizes[-1], 4 * curve.sizes[-1]]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()


def draw_suspects(advice: Recommendation, X: Any, y: Any, n: int) -> Any:
    """Images in a row, each with the label given and the one that seems right."""
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
