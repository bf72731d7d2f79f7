"""The ladder: from the cheapest strategy upwards, as far as the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from ..codes import CNNCodes
from ._layers import probe_layer
from ._passes import Seen, pass_over
from ._strategies import LAST_STAGES, fine_tuner, probe_pipeline
from ._study import take_photographs

__all__ = ["RUNGS", "Ladder", "Rung"]

RUNGS = ("probe", "layers", "stacked", "fine-tune last", "fine-tune all")
# Photographs of the trial that tells what fine-tuning costs.
_TRIAL = 64


@dataclass(frozen=True, eq=False)
class Rung:
    """A strategy that was tried, or for which there was no time.

    Attributes
    ----------
    name : str
    estimator : estimator
        Not fitted.
    scores : ndarray
        Accuracies of the folds; empty where it was not tried.
    seconds : float
        That it took.
    reason : str
        Why it was not tried, or not to the end.
    """

    name: str
    estimator: Any
    scores: np.ndarray
    seconds: float
    reason: str = ""

    @property
    def mean(self) -> float:
        return float(self.scores.mean()) if len(self.scores) else float("nan")


class Ladder:
    """Climbs, keeping an eye on the clock.

    Parameters
    ----------
    codes : CNNCodes
        Says how photographs are seen.
    splits : list of (ndarray, ndarray)
    deadline : float
        Of `time.perf_counter`.
    epochs : int
    random_state : int
    """

    def __init__(
        self, codes: CNNCodes, splits: Any, deadline: float, *, epochs: int, random_state: int
    ):
        self.codes, self.splits, self.deadline = codes, splits, deadline
        self.tuning = {"max_epochs": epochs, "random_state": random_state}

    def climb(self, X: Any, y: np.ndarray, rungs: Any) -> Iterator[Rung]:
        """Try one rung after the other; the probe of the last layer always."""
        numbers = np.unique(y, return_inverse=True)[1]
        start = time.perf_counter()
        seen = pass_over(self.codes, X)
        last = list(seen.layers)[-1]
        first = self._probe("probe", last, seen.layers[last], numbers, start)
        yield first
        probes = {last: first}
        if "layers" in rungs:
            for name in list(seen.layers)[-2::-1]:
                rung = self._timed_probe(f"layer {name}", name, seen, numbers, first.seconds)
                probes[name] = rung
                yield rung
        if "stacked" in rungs:
            yield from self._stacked(probes, seen, numbers, first.seconds)
        for name, trainable in (("fine-tune last", LAST_STAGES), ("fine-tune all", "all")):
            if name in rungs:
                yield self._fine_tune(name, trainable, X, y)

    def _probe(
        self, name: str, layer: Any, codes: np.ndarray, numbers: np.ndarray, start: float
    ) -> Rung:
        score = probe_layer(name, codes, numbers, self.splits)
        folds = np.array([score.correct[test].mean() for _, test in self.splits])
        estimator = probe_pipeline(self.codes, layer=layer)
        return Rung(name, estimator, folds, time.perf_counter() - start)

    def _timed_probe(
        self, name: str, layer: Any, seen: Seen, numbers: np.ndarray, expected: float
    ) -> Rung:
        if not self._fits(2 * expected):
            return self._left_out(name, probe_pipeline(self.codes, layer=layer), expected)
        names = layer if isinstance(layer, list) else [layer]
        codes = np.hstack([seen.layers[one] for one in names])
        return self._probe(name, layer, codes, numbers, time.perf_counter())

    def _stacked(
        self, probes: dict[str, Rung], seen: Seen, numbers: np.ndarray, expected: float
    ) -> Iterator[Rung]:
        """The two best layers side by side."""
        tried = [name for name, rung in probes.items() if len(rung.scores)]
        best = sorted(tried, key=lambda name: probes[name].mean, reverse=True)[:2]
        layers = [name for name in seen.layers if name in best]
        if len(layers) == 2:
            yield self._timed_probe(
                f"stacked {' + '.join(layers)}", layers, seen, numbers, 2 * expected
            )

    def _fine_tune(self, name: str, trainable: Any, X: Any, y: np.ndarray) -> Rung:
        estimator = fine_tuner(self.codes, trainable, **self.tuning)
        begin = time.perf_counter()
        # The trial itself takes about as long as two small epochs.
        if not self._fits(0.0):
            return self._left_out(name, estimator, None)
        fold = self._trial(estimator, X, y)
        scores: list[float] = []
        for split in self.splits:
            # What is tried must also be fitted to all photographs in the end.
            if not self._fits((1 + (len(self.splits) - len(scores))) * fold):
                scores = []
                break
            start = time.perf_counter()
            scores += cross_val_score(
                clone(estimator), X, y, cv=[split], error_score="raise"
            ).tolist()
            fold = time.perf_counter() - start
        seconds = time.perf_counter() - begin
        if not scores:
            return self._left_out(name, estimator, fold, seconds)
        return Rung(name, estimator, np.array(scores), seconds)

    def _trial(self, estimator: Any, X: Any, y: np.ndarray) -> float:
        """Seconds that a fold will take, by one epoch of a few photographs."""
        learn = self.splits[0][0]
        part = learn[:: max(1, len(learn) // _TRIAL)][:_TRIAL]
        if len(np.unique(y[part])) < 2:
            part = learn
        short = clone(estimator).set_params(max_epochs=1)
        photographs = take_photographs(X, part, len(y))
        start = time.perf_counter()
        short.fit(photographs, y[part])
        once = time.perf_counter() - start
        return once * estimator.max_epochs * len(y) / len(part)

    def _fits(self, seconds: float) -> bool:
        return time.perf_counter() + seconds < self.deadline

    def _left_out(
        self, name: str, estimator: Any, expected: float | None, seconds: float = 0.0
    ) -> Rung:
        left = max(0.0, self.deadline - time.perf_counter())
        cost = ""
        if expected is not None:
            fits = len(self.splits) + 1
            cost = f", {fits} fits (the last to all photographs) take about {fits * expected:.1f} s"
        return Rung(name, estimator, np.empty(0), seconds, f"no time: {left:.1f} s left{cost}")
