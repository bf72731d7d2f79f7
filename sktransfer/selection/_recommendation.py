"""What `advise` says."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._curve import LearningCurve
from ._ranking import BackboneRanking

__all__ = ["Recommendation"]


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """What to do with some photographs, and why.

    Parameters
    ----------
    scene : str
        "few and similar", "few and dissimilar", "many and similar" or "many and dissimilar":
        photographs, and their likeness to those of the network.
    strategy : {"probe", "fine-tune last", "fine-tune all"}
    backbone : str or torch.nn.Module
        The network.
    layer : str
        With which the network of `estimator` ends: for a probe the one that tells the classes
        best.
    resize : str
        How photographs are best framed.
    estimator : estimator
        Not fitted: a pipeline, or :class:`sktransfer.FineTuneClassifier`.
    param_grid : dict
        Worth searching with `estimator`.
    expected_accuracy, accuracy_spread : float
        Mean and standard deviation over the folds, of the probe on `layer`. A layer that was
        chosen on the same folds makes it a little high; of fine-tuning more may be hoped.
    minutes : float
        About how long a fit of `estimator` takes on this machine; NaN where all codes came from
        the cache of another process.
    reasons, warnings : tuple of str
        Sentences: what the advice rests on, and what is odd about the photographs and labels.
    layer_scores : tuple of (name, mean, spread)
        Probes by depth, from the input.
    framing_scores : dict of str to float
        Empty where photographs are square or `resize` was given.
    learning_curve : LearningCurve
        Of the probe on `layer`.
    suspects : ndarray of int
        Photographs whose label looks wrong, the most suspect first.
    suspected_of : ndarray
        The label that each of these seems to have.
    conflicts, copies : tuple of tuple of int
        The same photograph with different labels, and with the same.
    unreadable : ndarray of int
        Photographs that could not be read, where ``on_error="nan"`` let that pass.
    source_confidence, source_entropy : float
        Of the network's own classifier: its mean probability of the first guess, and its mean
        entropy, as a share of the largest possible; NaN where it has none that is linear.
    source_distance : float
        Root mean square over channels of the distance of mean codes from their mean over the
        photographs the network was trained on, in standard deviations; NaN where the codes do not
        come from a batch norm, which remembers these.
    ranking : BackboneRanking or None
        Where there were several networks.
    """

    scene: str
    strategy: str
    backbone: Any
    layer: str
    resize: str
    estimator: Any
    param_grid: dict[str, list[Any]]
    expected_accuracy: float
    accuracy_spread: float
    minutes: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    layer_scores: tuple[tuple[str, float, float], ...]
    framing_scores: dict[str, float]
    learning_curve: LearningCurve
    suspects: np.ndarray
    suspected_of: np.ndarray
    conflicts: tuple[tuple[int, ...], ...]
    copies: tuple[tuple[int, ...], ...]
    unreadable: np.ndarray
    source_confidence: float
    source_entropy: float
    source_distance: float
    ranking: BackboneRanking | None

    def plot(self, figure: Any = None) -> Any:
        """One page: accuracy over depth, and over the number of photographs.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, default=None
            Where to draw; None makes one.

        Returns
        -------
        figure : matplotlib.figure.Figure
        """
        from ._figure import draw

        return draw(self, figure)

    def plot_suspects(self, X: Any, y: Any, n: int = 8) -> Any:
        """Show the photographs whose label looks wrong.

        Parameters
        ----------
        X : array, list or table of images
            The photographs that were asked about.
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
        from ._figure import draw_suspects

        return draw_suspects(self, X, y, n)

    def _facts(self) -> list[tuple[str, str]]:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        part = f"layer {self.layer}" if self.strategy == "probe" else f"up to {self.layer}"
        shown = self.framing_scores or self.resize != "pad"
        framed = f", photographs framed by {self.resize}" if shown else ""
        more = "" if self.strategy == "probe" else "; of fine-tuning more may be hoped"
        cost = "not known" if np.isnan(self.minutes) else f"about {max(self.minutes, 0.1):.1f} min"
        return [
            ("Scene", self.scene),
            ("Strategy", self.strategy),
            ("Network", f"{name}, {part}{framed}"),
            (
                "Expected",
                f"{self.expected_accuracy:.1%} ± {self.accuracy_spread:.1%} by a probe{more}",
            ),
            ("Cost", f"{cost} for a fit on this machine"),
        ]

    def __repr__(self) -> str:
        lines = [f"{name + ':':10s}{text}" for name, text in self._facts()]
        lines += ["Because:", *(f"  - {reason}" for reason in self.reasons)]
        if self.warnings:
            lines += ["Beware:", *(f"  - {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._facts()
        ]
        parts = [f"<table>{''.join(rows)}</table>"]
        for title, lines in (("Because", self.reasons), ("Beware", self.warnings)):
            items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
            if items:
                parts.append(f"<p>{title}</p><ul>{items}</ul>")
        return "".join(parts)
