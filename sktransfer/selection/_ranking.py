"""What `rank_backbones` found."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from .._optional import import_optional, import_pyplot
from ..codes import CNNCodes
from ..exceptions import BackboneError

__all__ = ["BackboneRanking", "RankedBackbone"]


@dataclass(frozen=True, eq=False)
class RankedBackbone:
    """One network.

    Parameters
    ----------
    name : str
        As in the table.
    scores : dict of str to float
        By metric; NaN where there is none.
    estimator : CNNCodes
        Not fitted; gives the codes of `layer`.
    layer : str
        The layer whose codes have the score that ranks.
    width, n_parameters : int or None
        Numbers in a code of `layer`, and in the network with its classifier.
    images_per_second : float
        As measured in the pass; NaN where the store had all codes.
    megabytes : float
        Of its weights, in millions of bytes.
    error : str
        What went wrong; empty where nothing did.
    """

    name: str
    scores: dict[str, float]
    estimator: CNNCodes
    layer: str = ""
    width: int | None = None
    n_parameters: int | None = None
    images_per_second: float = float("nan")
    megabytes: float = float("nan")
    error: str = ""

    @property
    def score(self) -> float:
        """By the metric that ranks."""
        return next(iter(self.scores.values()))


@dataclass(frozen=True, eq=False, repr=False)
class BackboneRanking:
    """Networks from the best to the worst, and those that cannot be had at the end.

    Parameters
    ----------
    rows : tuple of RankedBackbone
        The networks, the best first.
    metrics : tuple of str
        The first is the one that ranks.
    """

    rows: tuple[RankedBackbone, ...]
    metrics: tuple[str, ...]

    @property
    def best_(self) -> str:
        """Name of the network with the best score."""
        if np.isnan(self.rows[0].score):
            raise BackboneError(f"no network has a score: {self.rows[0].error}")
        return self.rows[0].name

    @property
    def table(self) -> Any:
        """A data frame, one row for each network."""
        pandas = import_optional("pandas", "BackboneRanking.table", "plot")
        return pandas.DataFrame([self._record(row) for row in self.rows])

    def codes(self, name: str | None = None) -> CNNCodes:
        """The transformer of a network with the layer that its score is of, not fitted.

        Parameters
        ----------
        name : str, default=None
            As in the table; None is the best.

        Returns
        -------
        codes : CNNCodes
        """
        wanted = self.best_ if name is None else name
        for row in self.rows:
            if row.name == wanted:
                return clone(row.estimator)
        raise ValueError(f"name must be one of {[row.name for row in self.rows]}, got {name!r}.")

    def plot(self, ax: Any = None) -> Any:
        """Scores of the networks, with the photographs a second of those that were run.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        pyplot = import_pyplot("BackboneRanking.plot")
        ax = pyplot.subplots(layout="constrained")[1] if ax is None else ax
        rows = [row for row in self.rows if not np.isnan(row.score)][::-1]
        # Dots, not bars: zero means nothing for most scores, and many are negative.
        ax.plot([row.score for row in rows], [row.name for row in rows], "o")
        for row in rows:
            if not np.isnan(row.images_per_second):
                told, place = f"{row.images_per_second:,.0f}/s", (row.score, row.name)
                ax.annotate(told, place, xytext=(8, 0), textcoords="offset points", va="center")
        ax.set(xlabel=f"{self.metrics[0]} (larger is better)")
        ax.margins(x=0.25, y=0.1)
        ax.grid(axis="y", alpha=0.3)
        return ax

    def _record(self, row: RankedBackbone) -> dict[str, Any]:
        return {
            "name": row.name,
            "score": row.score,
            **{name: row.scores[name] for name in self.metrics[1:]},
            "layer": row.layer,
            "width": row.width,
            "parameters": row.n_parameters,
            "images_per_second": row.images_per_second,
            "megabytes": row.megabytes,
            "error": row.error,
        }

    def _cells(self) -> list[list[str]]:
        cells = [list(self._record(self.rows[0]))]
        cells[0][1] = f"score ({self.metrics[0]})"
        return cells + [[_shown(v) for v in self._record(row).values()] for row in self.rows]

    def __repr__(self) -> str:
        # Errors are long: they stand beneath, so that no line of the table wraps.
        cells = [row[:-1] for row in self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        lines += [f"{row.name}: {row.error}" for row in self.rows if row.error]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        rows = [f"<tr><th>{'</th><th>'.join(map(html.escape, head))}</th></tr>"]
        rows += [f"<tr><td>{'</td><td>'.join(map(html.escape, row))}</td></tr>" for row in body]
        return f"<table>{''.join(rows)}</table>"


def _shown(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 20 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
