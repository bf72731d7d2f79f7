"""Which network: each makes one pass, and its codes are scored."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from .._optional import import_optional, import_pyplot
from ..exceptions import (
    BackboneError,
    InputError,
    ItemError,
    StoreError,
    UnknownBackboneError,
    WeightsUnavailableError,
    did_you_mean,
    shown,
)
from ..networks import weights_by_name
from ._features import Seen, pass_over
from ._kinds import Kind, kind_of
from ._modality import Modality, check_params, members_of, modality_of
from ._probe import cv_score
from .scores import h_score, leep_score, logme_score, nce_score, transrate_score

__all__ = [
    "METRICS",
    "BackboneRanking",
    "Metric",
    "RankedBackbone",
    "check_target",
    "metric_names",
    "rank_backbones",
    "score_of",
]


DEFAULT = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet50",
    "timm:vit_small_patch14_reg4_dinov2",
)


def rank_backbones(
    X: Any,
    y: Any,
    backbones: Iterable[Any] | Mapping[str, Any] = DEFAULT,
    *,
    metric: Metric | Sequence[Metric] = "logme",
    weights: Any = "default",
    image_size: Any = None,
    cache: Any = "memory",
    cv: Any = 5,
    regression: bool | str = "auto",
    depth: bool = True,
    accuracy: bool = True,
    **codes_params: Any,
) -> BackboneRanking:
    """Rank networks by how well their codes suit labelled images or texts.

    Beside the score stands what a linear probe reaches on the same codes, its cross-validated
    accuracy. Each network makes one pass over the items, whatever the metrics; the codes of its
    stages are kept in the cache, so that :func:`advise` and :class:`sktransfer.CNNCodes` have
    them for nothing. A network counts as much as the best of its layers: for items unlike
    those it was trained on that is not the last one. The ranking is a shortlist, not a verdict:
    how well it agrees with accuracies on items that were held back is in the benchmarks.

    Parameters
    ----------
    X : array, list or table of images or texts
        As in :class:`sktransfer.CNNCodes`, or :class:`sktransfer.TextCodes` where networks are for
        texts.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags)
        Labels, values in regression, or a matrix of tags: 0, 1, and NaN where it is not known.
        Scores of tags are means over those of which both answers are there.
    backbones : list of str, path, CNNCodes, TextCodes or torch.nn.Module, or dict, \
default=five networks
        Names of networks, or transformers with parameters of their own; of a dict the keys are
        the names in the table. Networks for text are "minilm_l6", folders and models of
        transformers, and those of a TextCodes; all must be for images or all for texts. By
        default "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet50" and
        "timm:vit_small_patch14_reg4_dinov2". The weights of
        the last two are downloaded; a network that could not be loaded has a row that says why.
    metric : str, callable or list of these, default="logme"
        "logme" (:func:`~sktransfer.selection.logme_score`), "h_score", "leep", "nce",
        "transrate", "cv" (:func:`~sktransfer.selection.cv_score`, the slow yardstick), or a
        function of codes and y. The first of several ranks. "leep" and "nce" need a network
        with a linear classifier of its own.
    weights : str, enum member, path, None or dict, default="default"
        Of networks given by name; a dict has those of some, by name.
    image_size : int or (int, int), default=None
        Pixels that networks for images given by name see; None is what each was trained with.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept.
    cv : int or splitter, default=5
        Of the metric "cv" and of the accuracy.
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.
    depth : bool, default=True
        Whether "logme" and "cv" are those of the best of up to seven layers, evenly over the depth.
        The other metrics grow with the width of the codes and cannot compare layers; for them,
        with False, and of a transformer with a layer of its own, it is the layer asked for.
    accuracy : bool, default=True
        Whether a linear probe on the layer that ranks is cross-validated as well, of at most 1,000
        items: the accuracy, of values R², of tags the average precision. It does not rank.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes` or :class:`sktransfer.TextCodes` for
        networks given by name, such as ``device`` or ``on_error="nan"``, which leaves out items
        that cannot be read.

    Returns
    -------
    ranking : BackboneRanking
        The best first; a network that cannot be loaded is at the end with the reason.

    Raises
    ------
    ValueError
        If labels do not fit the items or the metric, there is no such metric, or some networks are
        for images and some for texts.
    ItemError
        If an item cannot be read.
    BackboneError
        If no network at all can be loaded.

    Examples
    --------
    >>> from sktransfer import rank_backbones
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> networks = {"pretrained": "efficientnet_lite0", "random": "efficientnet_lite0"}
    >>> ranking = rank_backbones(
    ...     X[:80], y[:80], networks, weights={"random": None}, image_size=64)
    >>> ranking.best_
    'pretrained'
    """
    if isinstance(backbones, Iterable) and not isinstance(backbones, (str, Mapping)):
        backbones = list(backbones)
    modality = modality_of(backbones)
    given = {} if image_size is None else {"image_size": image_size}
    check_params(rank_backbones, {**given, **codes_params}, modality)
    common = {**given, "cache": cache, **codes_params}
    candidates = _candidates(backbones, weights, common, modality)
    metrics = metric_names(metric)
    kind = kind_of(y, regression, modality.noun)
    target = kind.read(y)
    _check_lengths(X, target, next(iter(candidates.values())), modality)
    check_target(target, metrics, cv, kind)
    ask = partial(score_of, cv=cv, kind=kind)
    probe = partial(accuracy_of, cv=cv, kind=kind) if accuracy and "cv" not in metrics else None
    rows = [
        _one(name, codes, X, target, metrics, ask, depth, probe)
        for name, codes in candidates.items()
    ]
    if all(row.width is None for row in rows):
        raise BackboneError(
            "none of the networks could be loaded:\n"
            + "\n".join(f"  {r.name}: {r.error}" for r in rows)
        )
    rows.sort(key=lambda row: -np.inf if np.isnan(row.score) else row.score, reverse=True)
    measure = "" if probe is None else kind.measure.replace(" ", "_")
    return BackboneRanking(rows=tuple(rows), metrics=tuple(metrics), measure=measure)


def _candidates(
    backbones: Any, weights: Any, common: dict[str, Any], modality: Modality
) -> dict[str, Any]:
    if isinstance(backbones, Mapping):
        named = list(backbones.items())
    else:
        named = [(_label(one, modality), one) for one in members_of(backbones)]
    if not named:
        raise ValueError("backbones must name at least one network, got none.")
    found: dict[str, Any] = {}
    for name, one in named:
        if name in found:
            raise ValueError(
                f"backbones has {name!r} twice: give a dict whose keys tell them apart."
            )
        own = weights.get(name, "default") if isinstance(weights, Mapping) else weights
        is_codes = isinstance(one, modality.codes)
        found[name] = clone(one) if is_codes else modality.codes(one, weights=own, **common)
    return found


def _label(one: Any, modality: Modality) -> str:
    if isinstance(one, (str, os.PathLike)):
        return os.fspath(one)
    if not isinstance(one, modality.codes):
        return type(one).__name__
    name = _label(one.backbone, modality)
    if one.weights == "default":
        return name
    if one.weights is None:
        return f"{name}, random"
    return f"{name}, {os.path.basename(weights_by_name(one.weights))}"


def _check_lengths(X: Any, y: np.ndarray, codes: Any, modality: Modality) -> None:
    n = len(modality.items(codes, X))
    if y.ndim == 0 or len(y) != n:
        raise ValueError(f"y must have one entry for each of {n} {modality.noun}s, got {y.shape}.")


def _one(
    name: str, codes: Any, X: Any, y: np.ndarray, metrics: dict[str, Metric], ask: Any,
    depth: bool, probe: Any,
) -> RankedBackbone:  # fmt: skip
    """One row; what is wrong with this network is told in it and stops no other."""
    nothing = dict.fromkeys(metrics, float("nan"))
    try:
        seen = pass_over(codes, X, outputs=any(one in _BY_OUTPUTS for one in metrics))
    except (InputError, ItemError, StoreError):
        raise  # what is wrong with the items is wrong for all
    except Exception as error:
        return RankedBackbone(name, nothing, codes, error=_reason(error), trouble=_trouble(error))
    scores, layers, errors = {}, {}, []
    for key, metric in metrics.items():
        try:
            scores[key], layers[key] = ask(
                metric, seen, y[seen.kept], depth=depth and codes.layer is None
            )
        except ValueError as error:
            scores[key], layers[key] = float("nan"), ""
            errors.append(str(error))
    layer = next(iter(layers.values()))
    earlier = layer not in ("", seen.asked)
    rows = seen.layers[layer] if earlier else seen.codes
    return RankedBackbone(
        name,
        scores,
        clone(codes).set_params(layer=layer) if earlier else codes,
        layer=layer,
        width=rows.shape[1],
        n_parameters=seen.n_parameters,
        images_per_second=seen.items_per_second,
        megabytes=seen.n_bytes / 1e6,
        error="; ".join(errors),
        trouble="no score" if errors else "",
        accuracy=float("nan") if probe is None else probe(rows, y[seen.kept]),
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def _trouble(error: Exception) -> str:
    """The same in a word or two, for a table."""
    if isinstance(error, UnknownBackboneError):
        return "unknown name"
    if isinstance(error, WeightsUnavailableError):
        return "needs download" if "download" in str(error) else "weights not found"
    return "could not be loaded"


# What `rank_backbones` found.


@dataclass(frozen=True, eq=False)
class RankedBackbone:
    """One network.

    Parameters
    ----------
    name : str
        As in the table.
    scores : dict of str to float
        By metric; NaN where there is none.
    estimator : CNNCodes or TextCodes
        Not fitted; gives the codes of `layer`.
    layer : str
        The layer whose codes have the score that ranks.
    width, n_parameters : int or None
        Numbers in a code of `layer`, and in the network with its classifier.
    images_per_second : float
        Images, or texts, as measured in the pass; NaN where the store had all codes.
    megabytes : float
        Of its weights, in millions of bytes.
    error, trouble : str
        What went wrong, in whole sentences and in two words; empty where nothing did.
    accuracy : float
        Of a cross-validated linear probe on the codes of `layer`: accuracy, of values R², of tags
        the average precision. NaN where it was not asked for, or a class has one item.
    """

    name: str
    scores: dict[str, float]
    estimator: Any
    layer: str = ""
    width: int | None = None
    n_parameters: int | None = None
    images_per_second: float = float("nan")
    megabytes: float = float("nan")
    error: str = ""
    trouble: str = ""
    accuracy: float = float("nan")

    @property
    def score(self) -> float:
        """By the metric that ranks."""
        return next(iter(self.scores.values()))


@dataclass(frozen=True, eq=False, repr=False)
class BackboneRanking:
    """Networks from the best to the worst, and those that cannot be loaded at the end.

    Parameters
    ----------
    rows : tuple of RankedBackbone
        The networks, the best first.
    metrics : tuple of str
        The first is the one that ranks.
    measure : str
        What the accuracy is: "accuracy", "R²" or "average_precision"; empty if it was not asked
        for.
    """

    rows: tuple[RankedBackbone, ...]
    metrics: tuple[str, ...]
    measure: str = ""

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

    @property
    def errors(self) -> dict[str, str]:
        """What went wrong, in whole sentences, by the name of the network."""
        return {row.name: row.error for row in self.rows if row.error}

    def codes(self, name: str | None = None) -> Any:
        """The transformer of a network with the layer that its score is of, not fitted.

        Parameters
        ----------
        name : str, default=None
            As in the table; None is the best.

        Returns
        -------
        codes : CNNCodes or TextCodes
        """
        wanted = self.best_ if name is None else name
        for row in self.rows:
            if row.name == wanted:
                return clone(row.estimator)
        raise ValueError(f"name must be one of {[row.name for row in self.rows]}, got {name!r}.")

    def plot(self, ax: Any = None) -> Any:
        """Accuracies of the networks, or their scores, against their speed.

        What is up and to the right is better and faster. A network without a measured speed, since
        the cache had its codes, is a dashed line; where none has one the networks are rows.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        pyplot = import_pyplot("BackboneRanking.plot")
        ax = pyplot.subplots(figsize=(7, 4.5), layout="constrained")[1] if ax is None else ax
        ax.set_title("Pretrained networks on these items")
        told = f"{self.metrics[0]} (larger is better)"
        values = {row.name: row.score for row in self.rows}
        if any(not np.isnan(row.accuracy) for row in self.rows):
            told = f"{self.measure.replace('_', ' ')} of a linear probe, cross-validated"
            values = {row.name: row.accuracy for row in self.rows}
        rows = [row for row in self.rows if not np.isnan(values[row.name])]
        if all(np.isnan(row.images_per_second) for row in rows):
            # Dots, not bars: zero means nothing for most scores, and many are negative.
            names = [row.name for row in rows[::-1]]
            ax.plot([values[name] for name in names], names, "o")
            ax.set(xlabel=told)
            ax.margins(x=0.25, y=0.1)
            ax.grid(axis="y", alpha=0.3)
            return ax
        for row in rows:
            speed, value = row.images_per_second, values[row.name]
            if np.isnan(speed):
                ax.axhline(value, linestyle="--", color="0.6", zorder=0)
                ax.annotate(
                    f"{row.name} (speed unknown)", (0, value), xytext=(4, 3),
                    xycoords=("axes fraction", "data"), textcoords="offset points",
                )  # fmt: skip
                continue
            ax.plot(speed, value, "o", color="tab:blue")
            ax.annotate(
                row.name, (speed, value), xytext=(0, 7), textcoords="offset points", ha="center"
            )
        noun = modality_of(self.rows[0].estimator).noun
        ax.set(xlabel=f"{noun}s a second, on this machine", ylabel=told, xscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("{x:g}")
        ax.margins(x=0.25, y=0.15)
        ax.grid(alpha=0.3)
        return ax

    def _record(self, row: RankedBackbone) -> dict[str, Any]:
        return {
            "name": row.name,
            "score": row.score,
            **({self.measure: row.accuracy} if self.measure else {}),
            **{name: row.scores[name] for name in self.metrics[1:]},
            "layer": row.layer,
            "width": row.width,
            "parameters": row.n_parameters,
            f"{modality_of(row.estimator).noun}s_per_second": row.images_per_second,
            "megabytes": row.megabytes,
            "error": f"{row.trouble} (see .errors)" if row.error else "",
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
        lines += [f"{name}: {error}" for name, error in self.errors.items()]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        rows = [f"<tr><th>{'</th><th>'.join(map(html.escape, head))}</th></tr>"]
        rows += [f"<tr><td>{'</td><td>'.join(map(html.escape, row))}</td></tr>" for row in body]
        told = "".join(
            f"<li>{html.escape(name)}: {html.escape(error)}</li>"
            for name, error in self.errors.items()
        )
        return f"<table>{''.join(rows)}</table>" + (f"<ul>{told}</ul>" if told else "")


def _shown(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 20 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# Scores by name, applied to what a network makes of the items.


METRICS = ("logme", "h_score", "leep", "nce", "transrate", "cv")
# Of what the network's own classifier says.
_BY_OUTPUTS = ("leep", "nce")
_OF_CODES: dict[Any, Callable[..., float]] = {"h_score": h_score, "transrate": transrate_score}
_FOR_VALUES = ("logme", "cv")
# The others grow with the width of the codes, so that they cannot compare layers.
_OF_ANY_WIDTH = ("logme", "cv")
Metric = str | Callable[[np.ndarray, np.ndarray], float]


def metric_names(metric: Metric | Sequence[Metric]) -> dict[str, Metric]:
    """The metrics asked for, by name, the one that ranks first.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    asked = [metric] if isinstance(metric, str) or callable(metric) else list(metric)
    if not asked:
        raise ValueError(f"metric must name one of {', '.join(METRICS)}, got an empty list.")
    for one in asked:
        if not callable(one) and one not in METRICS:
            raise ValueError(
                f"metric must be of {', '.join(METRICS)}, or a function, got {shown(repr(one))}. "
                f"{did_you_mean(str(one), METRICS)}".rstrip()
            )
    return {
        one if isinstance(one, str) else getattr(one, "__name__", repr(one)): one for one in asked
    }


def check_target(target: np.ndarray, metrics: dict[str, Metric], cv: Any, kind: Kind) -> None:
    """Refuse targets before the first pass rather than after."""
    kind.check(target)
    if "cv" in metrics:
        kind.make_splits(target, cv)
    if not kind.are_values:
        return
    for name, metric in metrics.items():
        if isinstance(metric, str) and metric not in _FOR_VALUES:
            raise ValueError(
                f"metric={name!r} is defined for classes only, and y holds values: take one of "
                f"{', '.join(_FOR_VALUES)}."
            )


def score_of(
    metric: Metric, seen: Seen, y: np.ndarray, cv: Any, kind: Kind, *, depth: bool
) -> tuple[float, str]:
    """The score of a network, and the layer whose codes have it.

    Parameters
    ----------
    depth : bool
        Whether the best of several layers counts, where widths do not make scores incomparable.

    Raises
    ------
    ValueError
        If the network has no outputs that the metric needs.
    """
    if metric in _BY_OUTPUTS:
        if seen.probabilities is None:
            raise ValueError(f"{metric}: {seen.no_probabilities}")
        if metric == "leep":
            return _mean(leep_score, seen.probabilities, y, kind), seen.asked
        return _mean(nce_score, seen.probabilities.argmax(axis=1), y, kind), seen.asked
    if not depth or metric not in _OF_ANY_WIDTH:
        return _of_codes(metric, seen.codes, y, cv, kind), seen.asked
    scores = {k: _of_codes(metric, one, y, cv, kind) for k, one in seen.layers.items()}
    best = max(reversed(scores), key=lambda name: scores[name])
    return scores[best], best


# Items from which on more do not change what an accuracy tells.
_ENOUGH = 1000


def accuracy_of(codes: np.ndarray, y: np.ndarray, cv: Any, kind: Kind) -> float:
    """What a linear probe reaches on codes, on folds of some of the items; NaN where none can be.

    `cv` that says which items are in which fold needs all of them.
    """
    try:
        if isinstance(cv, (int, np.integer)) and len(y) > _ENOUGH:
            some = kind.some(y, _ENOUGH, cv)
            codes, y = codes[some], y[some]
        kind.make_splits(y, cv)
    except ValueError:
        return float("nan")
    return _of_codes("cv", codes, y, cv, kind)


def _of_codes(metric: Metric, codes: np.ndarray, y: np.ndarray, cv: Any, kind: Kind) -> float:
    if metric == "logme":
        return logme_score(codes, y, regression=kind.are_values)
    if metric == "cv":
        return cv_score(codes, y, cv=cv, regression=kind.are_values)
    if callable(metric):
        return float(metric(codes, y))
    return _mean(_OF_CODES[metric], codes, y, kind)


def _mean(
    score: Callable[[np.ndarray, np.ndarray], float], codes: np.ndarray, y: np.ndarray, kind: Kind
) -> float:
    """Of the questions of a target: labels are one, and tags one each."""
    return float(np.mean([score(codes[rows], labels) for rows, labels in kind.each(y)]))
