"""The estimators that try strategies as far as the time goes and keep the best."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from scipy.stats import rankdata
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from .._optional import import_optional, import_pyplot
from .._parameters import (
    STRATEGIES,
    TEXT_STRATEGIES,
    Cache,
    Compute,
    General,
    ImageInput,
    Network,
    TextInput,
    TextNetwork,
    TextPairs,
    TextPooling,
    TextTrials,
    Trials,
    param,
    parameters,
    values_of,
)
from .._sklearn import check_columns, fit_context
from ..compute import blas_on_one_core
from ..exceptions import did_you_mean, shown
from ..finetune import Labels, Tags, is_indicator
from ..inputs import each_told_once
from ..networks import pack_state, unpack_state
from ._advise import digests, together
from ._kinds import Kind, kind_named
from ._modality import IMAGES, MANY_ODD, TEXTS, Modality
from ._trials import Judge, Trial, TrialRunner

__all__ = [
    "AutoTransferClassifier",
    "AutoTransferTextClassifier",
    "draw_trials",
    "results_of",
    "summary_of",
]


class AutoTransferBase(ClassifierMixin):
    """Tries strategies, keeps the best and predicts with it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; of several tags an item the numbers of the columns of `y`.
    best_estimator_ : estimator
        Fitted to all items.
    best_strategy_ : str
        Its name.
    best_score_ : float
        Its mean accuracy over the folds that it was tried on; of several tags an item the mean
        of their average precisions. Where there was time for the fit alone and for no fold, what
        is expected of fine-tuning by the score of the best probe, as by :func:`sktransfer.advise`.
    cv_results_ : dict of str to ndarray
        "strategy", "layer" (with which its network ends), "mean_test_score", "std_test_score",
        "rank_test_score" (by the means), "n_folds", "seconds" and "reason", which says why a
        strategy was not tried, or not on all folds.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.
    """

    # What is tried, and its names.
    _modality: ClassVar[Modality]
    _names: ClassVar[Sequence[str]]
    # Parameters of the groups that every such estimator has.
    time_budget: float | None
    strategies: Sequence[str]
    cv: Any
    max_epochs: int
    random_state: Any
    verbose: int

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Try strategies and fit the best one.

        Parameters
        ----------
        X : array, list or table of items
            As in :class:`sktransfer.CNNCodes` for images, :class:`sktransfer.TextCodes` for texts.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            Labels, of which each class has at least two. Or several tags an item: a matrix of 0
            and 1, dense, sparse or a data frame; NaN is a tag that is not known.
        groups : array-like of shape (n_samples,), default=None
            What belongs together, such as patients or slides, and is kept in one fold.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If labels, groups or folds do not fit, a class has one item (or group), or there is no
            such strategy.
        ItemError
            If an item cannot be read.
        """
        with each_told_once():
            self._fit(X, y, groups)
        return self

    def _fit(self, X: Any, y: Any, groups: Any) -> None:
        begin = time.perf_counter()
        if unknown := [one for one in self.strategies if one not in self._names]:
            wrong = unknown[0]
            raise ValueError(
                f"strategies must be of {', '.join(self._names)}, got {shown(repr(wrong))}. "
                f"{did_you_mean(str(wrong), self._names)}".rstrip()
            )
        modality, codes = self._modality, self._codes()
        items = modality.items(codes, X)
        task = (Tags if is_indicator(y) else Labels).of(y, len(items))[0]
        kind = kind_named(task.kind, modality.noun)
        copies = digests(items, strict=True)[0]
        labels = kind.read(y)
        splits = kind.make_splits(labels, self.cv, groups=together(copies, groups))
        check_columns(self, X, reset=True)
        runner = TrialRunner(
            codes,
            splits,
            begin + (float("inf") if self.time_budget is None else self.time_budget),
            epochs=self.max_epochs,
            random_state=int(check_random_state(self.random_state).randint(2**31 - 1)),
            kind=kind,
        )
        reread = self._reading() == "auto" and modality.odd_share(codes, items) > MANY_ODD
        rows = modality.take(codes, X, np.arange(len(items)), len(items))
        trials = self._printed(runner.run(rows, labels, self.strategies, reread=reread), kind)
        best = Judge(kind, kind.numbers(labels), splits).choose(trials)
        # torch may compute with the same BLAS, and networks are trained on all cores.
        is_probe = isinstance(best.estimator, Pipeline)
        with blas_on_one_core(runner.work if is_probe else np.inf):
            fitted = clone(best.estimator).fit(X, labels)
        self._task, self.classes_ = task, task.classes
        self.cv_results_ = results_of(trials)
        self.best_strategy_ = best.name
        self.best_score_ = best.mean if len(best.scores) else runner.expected()
        self.best_estimator_ = fitted

    def _reading(self) -> str:
        """How items are read that do not fit the network, or "auto"."""
        return getattr(self, self._modality.reading)

    def _codes(self) -> Any:
        modality, asked = self._modality, self._reading()
        own = modality.readings[0] if asked == "auto" else asked
        return modality.codes(**{**values_of(self, *modality.shared), modality.reading: own})

    def _printed(self, trials: Iterable[Trial], kind: Kind) -> list[Trial]:
        strategies = []
        for trial in trials:
            strategies.append(trial)
            if self.verbose:
                print(f"{trial.name}: {summary_of(trial, kind)}")
        return strategies

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each item.

        Parameters
        ----------
        X : array, list or table of items
            As in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_tags)
        """
        with each_told_once():
            return self._fitted(X).predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array, list or table of items
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_tags)
        """
        with each_told_once():
            return self._fitted(X).predict_proba(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes before they are made probabilities; of a vote their logarithms.

        Parameters
        ----------
        X : array, list or table of items
            As in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        with each_told_once():
            fitted = self._fitted(X)
            if not isinstance(fitted, VotingClassifier):
                return fitted.decision_function(X)
            likely: np.ndarray = np.log(fitted.predict_proba(X).clip(min=np.finfo(float).tiny))
            return likely if likely.shape[1] > 2 else likely[:, 1] - likely[:, 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Fraction of items whose label is predicted right; with several tags, all known ones.

        Parameters
        ----------
        X : array, list or table of items
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each item counts.

        Returns
        -------
        accuracy : float
        """
        predicted = self.predict(X)
        return self._task.score(y, predicted, sample_weight)

    def plot_trials(self, ax: Any = None) -> Any:
        """Score of each strategy in the order of trials, with the seconds that it took.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib.axes.Axes
        """
        check_is_fitted(self, "best_estimator_")
        measure = kind_named(self._task.kind).measure
        return draw_trials(self.cv_results_, self.best_strategy_, measure, ax)

    def leaderboard(self) -> Any:
        """The strategies as a table, the one that was taken first.

        Returns
        -------
        table : pandas.DataFrame
            Columns "strategy", "layer" (with which its network ends; empty for all of it, or
            none), "mean_score" and "std" over the folds that were tried ("folds"), "seconds" that
            it took, "chosen", and "note": why it was not tried, or not on all folds. Means over
            different numbers of folds are not compared as they stand here, but on shared folds.

        Raises
        ------
        ImportError
            If pandas is not installed: ``pip install "sktransfer[plot]"``.
        """
        check_is_fitted(self, "best_estimator_")
        pandas = import_optional("pandas", f"{type(self).__name__}.leaderboard", "plot")
        return pandas.DataFrame(leaderboard_of(self.cv_results_, self.best_strategy_))

    def _repr_html_inner(self) -> str:
        return self._html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        found = {"text/plain": repr(self)}
        if get_config()["display"] == "diagram":
            found["text/html"] = self._html()
        return found

    def _html(self) -> str:
        """The diagram of scikit-learn, and once it is fitted the strategies."""
        diagram = estimator_html_repr(self)
        if not hasattr(self, "best_estimator_"):
            return diagram
        measure = kind_named(self._task.kind).measure
        return diagram + html_of(leaderboard_of(self.cv_results_, self.best_strategy_), measure)

    def _fitted(self, X: Any) -> Any:
        check_is_fitted(self, "best_estimator_")
        check_columns(self, X, reset=False)
        return self.best_estimator_

    def __getstate__(self) -> dict[str, Any]:
        return pack_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack_state(state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags



@parameters
class AutoTransferClassifier(
    AutoTransferBase, General, Cache, Compute, ImageInput, Trials, Network, BaseEstimator
):
    """Try strategies of transfer learning for a while and keep the best.

    It goes from cheap to dear: a linear probe on the last layer, the same with images resized
    otherwise where they are not square, probes on other layers, on two layers side by side,
    fine-tuning of two stages, of two stages before an earlier layer, and of all. Last comes a soft
    vote: the mean probabilities of the strategies whose score is within a standard error of the
    best (of fine-tuned networks two), of probes only the best one, and from 200 images on none that
    is not the best of all. The vote is taken if its own score is within a standard error of the
    best; a fit and predictions cost those of all members. Each strategy is judged on the same
    folds, with all copies of an image in one fold; the best is fitted to all images. A strategy is
    tried on as many folds as there is time for with the last fits, by an estimate of what they
    take, and compared with others on the folds they share. The first strategy is always tried.
    Where there is time to fine-tune on all images but for no fold, this is done without a trial
    from 100 images and a median class size of 5 on, since on other sets it was better than a probe:
    with two stages, and from 250 images on with all layers.

    See Also
    --------
    sktransfer.advise : Says what to do, and why, without fine-tuning anything.
    AutoTransferTextClassifier : The same of texts.

    Examples
    --------
    >>> from sktransfer import AutoTransferClassifier
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> auto = AutoTransferClassifier(strategies=["probe", "layers"], image_size=64)
    >>> bool(auto.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.9)
    True
    """

    resize: str = param(default="auto", choices=("auto", "pad", "squash", "crop"), doc="""
        How an image that is not square is made so. "auto" pads, and where more than a tenth
        of the images are not about square the strategy "resize" tries the other ways; what
        follows takes another one if it is likely to be better.""")

    _modality, _names = IMAGES, STRATEGIES

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


@parameters
class AutoTransferTextClassifier(
    AutoTransferBase,
    General,
    Cache,
    Compute,
    TextPairs,
    TextInput,
    TextTrials,
    TextPooling,
    TextNetwork,
    BaseEstimator,
):
    """Try strategies of transfer learning on texts for a while and keep the best.

    It goes from cheap to dear: a bag of words (TF-IDF of words and pairs of words with a linear
    model), which needs no network; a linear probe on the last layer, the same with long texts read
    otherwise where there are many, probes on other layers, on two layers side by side, fine-tuning
    of two thirds of the blocks, and of all. Last comes a soft vote of the strategies whose score is
    within a standard error of the best, as in :class:`AutoTransferClassifier`. Each strategy is
    judged on the same folds, with all copies of a text in one fold; the best is fitted to all
    texts. A strategy is tried on as many folds as there is time for with the last fit, by an
    estimate of what they take, and compared with others on the folds they share. The bag of words
    and the first probe are always tried.

    See Also
    --------
    sktransfer.advise : Says what to do, and why, without fine-tuning anything.
    AutoTransferClassifier : The same of images.

    Examples
    --------
    >>> from sktransfer import AutoTransferTextClassifier
    >>> from sktransfer.datasets import load_film_sentences_sample
    >>> X, y = load_film_sentences_sample(return_X_y=True)
    >>> auto = AutoTransferTextClassifier(strategies=["bag of words", "probe", "layers"])
    >>> auto.fit(X[:120], y[:120]).best_strategy_ == "bag of words"
    False
    """

    long_texts: str = param(
        default="auto", choices=("auto", "windows", "head", "head_tail", "error"), doc="""
        What becomes of a text of more tokens than the network reads. "auto" reads it in windows,
        and where more than a tenth of the texts are so long the strategy "long_texts" tries their
        beginnings, and beginnings with ends; what follows takes another way if it is likely to be
        better.""")

    _modality, _names = TEXTS, TEXT_STRATEGIES


# Trials as a table and as a figure.


def results_of(strategies: Sequence[Trial]) -> dict[str, np.ndarray]:
    """Columns as in scikit-learn's searches; strategies that were not tried rank last."""
    means = np.array([trial.mean for trial in strategies])
    return {
        "strategy": np.array([trial.name for trial in strategies], dtype=object),
        "layer": np.array([_layer_of(trial.estimator) for trial in strategies], dtype=object),
        "mean_test_score": means,
        "std_test_score": np.array(
            [np.nanstd(trial.scores) if len(trial.scores) else np.nan for trial in strategies]
        ),
        "rank_test_score": rankdata(-np.nan_to_num(means, nan=-1.0), method="min").astype(int),
        "n_folds": np.array([len(trial.scores) for trial in strategies]),
        "seconds": np.array([trial.seconds for trial in strategies]),
        "reason": np.array([trial.reason for trial in strategies], dtype=object),
    }


def _layer_of(estimator: Any) -> str:
    """The layer that the network of an estimator ends with; empty for all of it, or none."""
    if isinstance(estimator, Pipeline):
        estimator = estimator.named_steps.get("codes")
    layer = getattr(estimator, "layer", None)
    return " + ".join(map(str, layer)) if isinstance(layer, (list, tuple)) else str(layer or "")


def leaderboard_of(results: dict[str, np.ndarray], best: str) -> list[dict[str, Any]]:
    """A row for each strategy, the one that was taken first, those that were not tried last."""
    order = np.lexsort((results["rank_test_score"], results["strategy"] != best))
    return [
        {
            "strategy": str(results["strategy"][i]),
            "layer": str(results["layer"][i]),
            "mean_score": float(results["mean_test_score"][i]),
            "std": float(results["std_test_score"][i]),
            "folds": int(results["n_folds"][i]),
            "seconds": round(float(results["seconds"][i]), 1),
            "chosen": bool(results["strategy"][i] == best),
            "note": str(results["reason"][i]),
        }
        for i in order
    ]


def html_of(rows: list[dict[str, Any]], measure: str) -> str:
    """The same as a table for notebooks."""
    heads = {**dict.fromkeys(rows[0]), "mean_score": f"mean {measure}"}
    lines = ["".join(f"<th>{html.escape(name if v is None else v)}</th>"
                     for name, v in heads.items())]  # fmt: skip
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        bold = "<b>{}</b>" if row["chosen"] else "{}"
        lines.append("".join(f"<td>{bold.format(html.escape(cell))}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "✓" if value else ""
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def summary_of(trial: Trial, kind: Kind) -> str:
    """A line: its score, and what there was no time for."""
    if not len(trial.scores):
        return trial.reason
    reason = f", {trial.reason}" if trial.reason else ""
    return f"{kind.write(trial.mean)} in {trial.seconds:.1f} s{reason}"


def draw_trials(
    results: dict[str, np.ndarray], best: str, measure: str, ax: Any = None
) -> Any:
    """Bars in the order in which they were tried, with what each strategy took."""
    pyplot = import_pyplot("AutoTransferClassifier.plot_trials")
    ax = pyplot.subplots(layout="constrained")[1] if ax is None else ax
    names = [str(name) for name in results["strategy"]]
    means = np.nan_to_num(results["mean_test_score"])
    colours = ["C3" if name == best else "C0" for name in names]
    stds = np.nan_to_num(results["std_test_score"])
    bars = ax.barh(names, means, xerr=stds, color=colours)
    told = [
        f" {seconds:.1f} s" if n_folds else " no time"
        for n_folds, seconds in zip(results["n_folds"], results["seconds"], strict=True)
    ]
    ax.bar_label(bars, told)
    ax.set(xlabel=f"cross-validated {measure}", xlim=(0, 1.15))
    return ax
