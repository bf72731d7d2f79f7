"""What a network says of photographs: probes by depth and by framing, and what they lead to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone

from ..codes import CNNCodes
from ._curve import LearningCurve, learning_curve_of
from ._data import DataLook
from ._framings import TALL_SHARE, best_framing, other_framings, probe_framing
from ._layers import SURE, LayerScore, best_layer, is_better, layer_to_tune, probe_layer
from ._passes import Seen, pass_over
from ._probe import make_splits
from ._suspects import suspect_labels

__all__ = ["Study", "study_photographs", "take_photographs"]

# More photographs than these are not needed to tell layers and framings apart.
_ENOUGH = 2000


@dataclass(frozen=True, eq=False)
class Task:
    """The part of the photographs that questions are asked of.

    Attributes
    ----------
    chosen, at : ndarray of int
        Where they stand among all photographs, and among the codes.
    numbers : ndarray of int
        Their classes.
    splits : list of (ndarray, ndarray)
    """

    chosen: np.ndarray
    at: np.ndarray
    numbers: np.ndarray
    splits: Any


@dataclass(frozen=True, eq=False)
class Study:
    """The findings on which advice rests.

    Attributes
    ----------
    codes : CNNCodes
        With the framing that is best.
    look : DataLook
    seen : Seen
        The pass of `codes`.
    task : Task
        The photographs that were asked, and the folds.
    scores : list of LayerScore
        By depth, from the input.
    best : LayerScore
        The one to take.
    framings : dict of str to LayerScore
        On the last layer; empty where there was nothing to try.
    suspects, suspected_of : ndarray
        Photographs whose label looks wrong, and the labels they seem to have.
    seconds : float
        That one fit of a probe took.
    """

    codes: CNNCodes
    look: DataLook
    seen: Seen
    task: Task
    scores: list[LayerScore]
    best: LayerScore
    framings: dict[str, LayerScore]
    suspects: np.ndarray
    suspected_of: np.ndarray
    seconds: float

    @property
    def last(self) -> LayerScore:
        return self.scores[-1]

    @property
    def sizes(self) -> list[int]:
        """Photographs of each class that can be read and validated."""
        _, counts = np.unique(self.look.y[self.look.usable & self.seen.kept], return_counts=True)
        return counts.tolist()

    def learning_curve(self, layer: str) -> LearningCurve:
        """Of a probe on the codes of a layer."""
        task = self.task
        return learning_curve_of(self.seen.layers[layer][task.at], task.numbers, task.splits)

    @property
    def to_tune(self) -> LayerScore:
        """Where a network of which some stages are fine-tuned ends."""
        return layer_to_tune(self.scores)

    @property
    def similar(self) -> bool:
        """Whether no earlier layer is surely better than the last."""
        return not is_better(self.best, self.last, SURE)

    @cached_property
    def sureness(self) -> tuple[float, float]:
        """Confidence of the network's own classifier, and its entropy, a share of the largest."""
        probabilities = self.seen.probabilities
        if probabilities is None:
            return float("nan"), float("nan")
        logs = np.log(np.maximum(probabilities, 1e-12))
        entropy = -(probabilities * logs).sum(axis=1).mean() / np.log(probabilities.shape[1])
        return float(probabilities.max(axis=1).mean()), float(entropy)


def _task(look: DataLook, kept: np.ndarray, cv: Any) -> Task:
    usable = np.flatnonzero(look.usable & kept)
    _, numbers = np.unique(look.y[usable], return_inverse=True)
    if len(usable) > _ENOUGH:
        part = _some_of_each(numbers, cv)
        usable, numbers = usable[part], numbers[part]
    at = (np.cumsum(kept) - 1)[usable]
    return Task(usable, at, numbers, make_splits(numbers, cv, groups=look.groups[usable]))


def _some_of_each(numbers: np.ndarray, cv: int) -> np.ndarray:
    """Enough photographs, classes in their shares, and of each as many as there are folds."""
    rng = np.random.default_rng(0)
    place = np.empty(len(numbers))
    for label in np.unique(numbers):
        own = rng.permutation(np.flatnonzero(numbers == label))
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
        place[own[:cv]] -= 1.0
    return np.sort(np.argsort(place, kind="stable")[:_ENOUGH])


def study_photographs(X: Any, codes: CNNCodes, look: DataLook, cv: Any, *, frame: bool) -> Study:
    """Ask the photographs; `frame` says whether other framings are tried where they may matter."""
    seen = pass_over(codes, X)
    task = _task(look, seen.kept, cv)
    start = time.perf_counter()
    scores = _by_depth(seen, task)
    seconds = (time.perf_counter() - start) / (len(scores) * len(task.splits))
    framings: dict[str, LayerScore] = {}
    if frame and look.tall_share > TALL_SHARE:
        part = take_photographs(X, task.chosen, len(seen.kept))
        framings = _framings(part, codes, scores[-1], task)
    if framings and (better := best_framing(framings)) != codes.resize:
        codes = clone(codes).set_params(resize=better)
        seen = pass_over(codes, X)
        scores = _by_depth(seen, task)
    best = best_layer(scores)
    # The last layer's wide codes are surer of the label, as long as they are of any use.
    judge = best if is_better(best, scores[-1], SURE) else scores[-1]
    wrong = suspect_labels(judge.probabilities, task.numbers)
    said = np.unique(look.y[task.chosen])[judge.probabilities[wrong].argmax(axis=1)]
    suspects = task.chosen[wrong]
    return Study(codes, look, seen, task, scores, best, framings, suspects, said, seconds)


def _by_depth(seen: Seen, task: Task) -> list[LayerScore]:
    return [probe_layer(k, v[task.at], task.numbers, task.splits) for k, v in seen.layers.items()]


def _framings(X: Any, codes: CNNCodes, current: LayerScore, task: Task) -> dict[str, LayerScore]:
    """Probes on the last layer for each way of framing, on the same folds."""
    found = {codes.resize: current}
    for resize in other_framings(codes):
        other = clone(codes).set_params(resize=resize)
        found[resize] = probe_framing(X, other, task.numbers, task.splits)
    return found


def take_photographs(X: Any, numbers: np.ndarray, n: int) -> Any:
    if len(numbers) == n:
        return X
    if hasattr(X, "iloc"):
        return X.iloc[numbers]
    return X[numbers] if hasattr(X, "shape") else [X[int(i)] for i in numbers]
