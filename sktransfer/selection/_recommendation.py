"""What `advise` says."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._optional import import_optional, import_pyplot
from ._modality import BAG_OF_WORDS, modality_named
from ._probe import LearningCurve
from ._rank import BackboneRanking
from ._strategies import VOTE

__all__ = ["Recommendation", "draw", "draw_suspects"]


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """What to do with some images or texts, and why.

    Parameters
    ----------
    scenario : str
        "few and similar", "few and dissimilar", "many and similar" or "many and dissimilar":
        items, and their likeness to those of the network.
    strategy : {"bag of words", "probe", "fine-tune last", "fine-tune all", "vote"}
    backbone : str or torch.nn.Module
        The network.
    layer : str
        With which the network of `estimator` ends: for a probe, also one that votes, the one that
        tells the classes best. Empty for a bag of words, which has none.
    estimator : estimator
        Not fitted: a pipeline, an estimator such as :class:`sktransfer.FineTuneClassifier`, or a
        :class:`sklearn.ensemble.VotingClassifier` of these.
    param_grid : dict
        Worth searching with `estimator`.
    measure : str
        What probes are judged by: "accuracy", of several tags an item the mean of their "average
        precision", of values "R²".
    expected_accuracy, accuracy_std : float
        By this measure: mean and standard deviation over the folds, of the probe on `layer` or the
        bag of words, where for each fold the layer is chosen on the others. What is fine-tuned for
        labels is not tried: it is expected to make three quarters of the probe's errors (of texts
        0.85, of fewer than 200 items 0.9), as in the benchmarks; of tags and of values, as many.
    minutes : float
        About how long a fit of `estimator` takes on this machine; NaN where all codes came from
        the cache of another process.
    reasons, warnings : tuple of str
        Sentences: what the advice rests on, and what is odd about the items and labels.
    layer_scores : tuple of (name, mean, std)
        Probes by depth, from the input.
    learning_curve : LearningCurve
        Of the probe on `layer`, or of the bag of words.
    suspects : ndarray of int
        Items whose label looks wrong, the most suspect first.
    suspected_of : ndarray
        The label that each of these seems to have.
    conflicts, copies : tuple of tuple of int
        The same item with different labels, and with the same.
    unreadable : ndarray of int
        Items that could not be read, where ``on_error="nan"`` let that pass.
    ranking : BackboneRanking or None
        Where there were several networks.
    noun : {"image", "text"}
        What an item is.
    codes : CNNCodes or TextCodes
        Not fitted: the transformer by which items were judged, with the best way to read them.
    resize, long_texts : str or None
        How images are best resized, and long texts read; None for the others.
    resize_scores, long_texts_scores : dict of str to float
        Of the last layer by `resize` or `long_texts`. Empty where that was given, images are square
        or texts are short.
    baseline_score : (float, float) or None
        Mean and standard deviation of a bag of words, over the same folds; None for images.
    """

    scenario: str
    strategy: str
    backbone: Any
    layer: str
    estimator: Any
    param_grid: dict[str, list[Any]]
    measure: str
    expected_accuracy: float
    accuracy_std: float
    minutes: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    layer_scores: tuple[tuple[str, float, float], ...]
    learning_curve: LearningCurve
    suspects: np.ndarray
    suspected_of: np.ndarray
    conflicts: tuple[tuple[int, ...], ...]
    copies: tuple[tuple[int, ...], ...]
    unreadable: np.ndarray
    ranking: BackboneRanking | None
    noun: str = "image"
    codes: Any = None
    resize: str | None = None
    long_texts: str | None = None
    resize_scores: dict[str, float] = field(default_factory=dict)
    long_texts_scores: dict[str, float] = field(default_factory=dict)
    baseline_score: tuple[float, float] | None = None

    def plot(self, figure: Any = None) -> Any:
        """One page: accuracy over depth, and over the number of items.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, default=None
            Where to draw; None makes one.

        Returns
        -------
        figure : matplotlib.figure.Figure
        """
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
            If there are none, or they are texts: see `suspect_table`.
        """
        if self.noun != "image":
            raise ValueError("plot_suspects shows images: take suspect_table(X, y) for texts.")
        return draw_suspects(self, X, y, n)

    def suspect_table(self, X: Any, y: Any, n: int = 20) -> Any:
        """Items whose label looks wrong, with the label given and the one that seems right.

        Parameters
        ----------
        X : array, list or table of images or texts
            The items that were asked about.
        y : array-like of shape (n_samples,)
            Their labels.
        n : int, default=20
            At most that many, the most suspect first.

        Returns
        -------
        table : pandas.DataFrame
            With the columns "given", "seems" and "text", or for images "image": the path, where
            there is one. The index has the numbers of the items.
        """
        pandas = import_optional("pandas", "Recommendation.suspect_table", "plot")
        modality = modality_named(self.noun)
        items, chosen = modality.items(self.codes, X), self.suspects[:n]
        labels = np.asarray(y)
        return pandas.DataFrame(
            {
                "given": labels[chosen],
                "seems": self.suspected_of[:n],
                self.noun: [modality.shown(items, int(index)) for index in chosen],
            },
            index=chosen,
        )

    def _figure(self, score: float) -> str:
        if self.measure == "accuracy":
            return f"{score:.1%}"
        return f"{score:.3f}"

    def _facts(self) -> list[tuple[str, str]]:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        modality = modality_named(self.noun)
        part = f"layer {self.layer}" if self.strategy == "probe" else f"up to {self.layer}"
        if self.strategy == VOTE:
            part = f"in {len(self.estimator.estimators)} estimators that vote"
        reading = getattr(self, modality.reading)
        told = getattr(self, f"{modality.reading}_scores") or reading != modality.readings[0]
        read = f", {self.noun}s {modality.read_by} {reading}" if told else ""
        network = f"{name}, {part}{read}"
        by = "a probe"
        more = "; the fine-tuned network was not tried, and is expected to have a lower error"
        if self.strategy == BAG_OF_WORDS:
            by, network = "a bag of words", f"none is needed ({name} was tried)"
        if self.strategy in ("probe", BAG_OF_WORDS):
            more = ""
        cost = "not known" if np.isnan(self.minutes) else f"about {max(self.minutes, 0.1):.1f} min"
        return [
            ("Scenario", self.scenario),
            ("Strategy", self.strategy),
            ("Network", network),
            (
                "Expected",
                f"{self._figure(self.expected_accuracy)} ± {self._figure(self.accuracy_std)} "
                f"by {by}{more}",
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
    """Accuracy over depth on the left, over the number of items on the right."""
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
    if advice.layer:
        chosen = names.index(advice.layer)
        ax.plot(chosen, means[chosen], "o", ms=13, mfc="none", mec="C3", label="advised layer")
    if advice.baseline_score is not None:
        ax.axhline(advice.baseline_score[0], ls="--", color="C2", label=BAG_OF_WORDS)
    ax.set_xticks(places, names, rotation=45, ha="right")
    ax.set(xlabel="layer, from the input", ylabel=f"{advice.measure} of a linear probe")
    ax.legend()


def _more(ax: Any, advice: Recommendation) -> None:
    curve = advice.learning_curve
    ax.errorbar(curve.sizes, curve.means, curve.stds, marker="o", capsize=3, label="measured")
    ahead = np.geomspace(curve.sizes[0], 4 * curve.sizes[-1], 50)
    if curve.law is not None:
        ax.plot(ahead, curve.expected(ahead), "--", label="extrapolation (power law)")
    ax.set(xscale="log", xlabel=f"{advice.noun}s to learn from")
    model = BAG_OF_WORDS if advice.strategy == BAG_OF_WORDS else "linear probe"
    ax.set_ylabel(f"{advice.measure} of a {model}")
    ticks = [*curve.sizes, 2 * curve.sizes[-1], 4 * curve.sizes[-1]]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()


def draw_suspects(advice: Recommendation, X: Any, y: Any, n: int) -> Any:
    """Images in a row, each with the label given and the one that seems right."""
    pyplot = import_pyplot("Recommendation.plot_suspects")
    images = modality_named(advice.noun).items(advice.codes, X)
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
