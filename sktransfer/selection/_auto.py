"""The estimator that tries strategies as far as the time goes and keeps the best."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._optional import import_pyplot
from .._parameters import (
    STRATEGIES,
    Cache,
    Compute,
    General,
    ImageInput,
    Network,
    Trials,
    param,
    parameters,
    values_of,
)
from .._sklearn import check_columns, fit_context
from ..codes import CNNCodes
from ..exceptions import did_you_mean, shown
from ..finetune import Labels, Tags, is_indicator
from ..inputs import as_images, each_told_once
from ..networks import pack_state, unpack_state
from ._advise import digests
from ._kinds import Kind, kind_named
from ._probe import TALL_SHARE, tall_share
from ._strategies import SHARED
from ._trials import Trial, TrialRunner, best_of

__all__ = ["AutoTransferClassifier", "draw_trials", "results_of", "summary_of"]


@parameters
class AutoTransferClassifier(
    ClassifierMixin, General, Cache, Compute, ImageInput, Trials, Network, BaseEstimator
):
    """Try strategies of transfer learning for a while and keep the best.

    It goes from cheap to dear: a linear probe on the last layer, the same with images resized
    otherwise where they are not square, probes on other layers, on two layers side by side,
    fine-tuning of two stages, and of all. What is fine-tuned may end with an earlier layer, as
    :func:`advise` has it. Each strategy is judged on the same folds, with all copies of an image in
    one fold; the best is fitted to all images. A strategy is tried on as many folds as there is
    time for with the last fit, by an estimate of what they take, and compared with others on the
    folds they share. The first strategy is always tried.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; of several tags an image the numbers of the columns of `y`.
    best_estimator_ : estimator
        Fitted to all images.
    best_strategy_ : str
        Its name.
    best_score_ : float
        Its mean accuracy over the folds that it was tried on; of several tags an image the mean
        of their average precisions.
    cv_results_ : dict of str to ndarray
        "strategy", "mean_test_score", "std_test_score", "rank_test_score" (by the means),
        "n_folds", "seconds" and "reason", which says why a strategy was not tried,
        or not on all folds.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.

    See Also
    --------
    sktransfer.advise : Says what to do, and why, without fine-tuning anything.

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

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Try strategies and fit the best one.

        Parameters
        ----------
        X : array, list or table of images
            As in :class:`sktransfer.CNNCodes`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            Labels, of which each class has at least two. Or several tags an image: a matrix of 0
            and 1, dense, sparse or a data frame; NaN is a tag that is not known.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If labels do not fit, a class has one image, or there is no such strategy.
        ImageError
            If an image cannot be read.
        """
        with each_told_once():
            self._fit(X, y)
        return self

    def _fit(self, X: Any, y: Any) -> None:
        begin = time.perf_counter()
        if unknown := [one for one in self.strategies if one not in STRATEGIES]:
            wrong = unknown[0]
            raise ValueError(
                f"strategies must be of {', '.join(STRATEGIES)}, got {shown(repr(wrong))}. "
                f"{did_you_mean(str(wrong), STRATEGIES)}".rstrip()
            )
        images = as_images(X, image_shape=self.image_shape, value_range=self.value_range)
        task, target = (Tags if is_indicator(y) else Labels).of(y, len(images))
        kind = kind_named(task.kind)
        groups = digests(images, strict=True)[0]
        splits = kind.make_splits(target, self.cv, groups=groups)
        check_columns(self, X, reset=True)
        runner = TrialRunner(
            self._codes(),
            splits,
            begin + (float("inf") if self.time_budget is None else self.time_budget),
            epochs=self.max_epochs,
            random_state=int(check_random_state(self.random_state).randint(2**31 - 1)),
            kind=kind,
        )
        frame = self.resize == "auto" and tall_share(images) > TALL_SHARE
        labels = kind.read(y)
        strategies = self._printed(runner.run(X, labels, self.strategies, frame=frame), kind)
        best = best_of(strategies)
        fitted = clone(best.estimator).fit(X, labels)
        self._task, self.classes_ = task, task.classes
        self.cv_results_ = results_of(strategies)
        self.best_strategy_, self.best_score_ = best.name, best.mean
        self.best_estimator_ = fitted

    def _codes(self) -> CNNCodes:
        shared = values_of(self, *SHARED)
        return CNNCodes(**{**shared, "resize": "pad" if self.resize == "auto" else self.resize})

    def _printed(self, trials: Iterable[Trial], kind: Kind) -> list[Trial]:
        strategies = []
        for trial in trials:
            strategies.append(trial)
            if self.verbose:
                print(f"{trial.name}: {summary_of(trial, kind)}")
        return strategies

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each image.

        Parameters
        ----------
        X : array, list or table of images
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
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_tags)
        """
        with each_told_once():
            return self._fitted(X).predict_proba(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes before they are made probabilities.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        with each_told_once():
            return self._fitted(X).decision_function(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of images whose label is predicted right; of several tags, all known ones.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

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
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags


# Trials as a table and as a figure.


def results_of(strategies: Sequence[Trial]) -> dict[str, np.ndarray]:
    """Columns as in scikit-learn's searches; strategies that were not tried rank last."""
    means = np.array([trial.mean for trial in strategies])
    return {
        "strategy": np.array([trial.name for trial in strategies], dtype=object),
        "mean_test_score": means,
        "std_test_score": np.array(
            [np.nanstd(trial.scores) if len(trial.scores) else np.nan for trial in strategies]
        ),
        "rank_test_score": rankdata(-np.nan_to_num(means, nan=-1.0), method="min").astype(int),
        "n_folds": np.array([len(trial.scores) for trial in strategies]),
        "seconds": np.array([trial.seconds for trial in strategies]),
        "reason": np.array([trial.reason for trial in strategies], dtype=object),
    }


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
