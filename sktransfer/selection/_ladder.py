"""The ladder: from the cheapest strategy upwards, as far as the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from ..codes import CNNCodes
from ..exceptions import ImageError
from ..finetune._prefix import leave_it_out
from ._framings import best_framing, other_framings, probe_framing
from ._layers import LayerScore, best_layer, layer_to_tune, probe_layer
from ._passes import Seen, pass_over
from ._rungs import Clock, Rung
from ._strategies import LAST_STAGES, probe_pipeline, tune_up_to
from ._tuning_rung import fine_tune_rung

__all__ = ["Ladder"]


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
        self.codes, self.splits = codes, splits
        self.clock, self.last_fit = Clock(deadline), 0.0
        self.tuning = {"max_epochs": epochs, "random_state": random_state}

    def climb(self, X: Any, y: np.ndarray, rungs: Any, *, frame: bool) -> Iterator[Rung]:
        """Try one rung after the other; the probe of the last layer always.

        `frame` says whether other framings are worth trying.
        """
        self.X, self.y = X, y
        self.numbers = np.unique(y, return_inverse=True)[1]
        yield self._first()
        if "framing" in rungs and frame:
            yield from self._framings()
        if "layers" in rungs:
            for name in list(self.layers)[-2::-1]:
                yield self._timed_probe(f"layer {name}", [name])
        if "stacked" in rungs:
            yield from self._stacked()
        for name, trainable in (("fine-tune last", LAST_STAGES), ("fine-tune all", "all")):
            if name in rungs:
                yield self._fine_tune(name, trainable)

    def _first(self) -> Rung:
        start = time.perf_counter()
        seen = self._pass()
        self.layers, self.last = seen.layers, list(seen.layers)[-1]
        probing = time.perf_counter()
        score = probe_layer(self.last, self.layers[self.last], self.numbers, self.splits)
        self.scores: dict[str, LayerScore] = {self.last: score}
        self.a_probe = time.perf_counter() - probing
        computed = len(self.y) / seen.images_per_second
        self.a_pass = probing - start if np.isnan(computed) else computed
        return self._rung("probe", score, self.codes, start)

    def _pass(self) -> Seen:
        try:
            return pass_over(self.codes, self.X)
        except ImageError as error:
            # A transformer may be told to go on without the image, a classifier may not.
            first = error.__cause__ if isinstance(error.__cause__, ImageError) else error
            cause = f"{first.cause}. {leave_it_out(error)}"
            raise ImageError(cause, error.index, error.source) from first

    def _framings(self) -> Iterator[Rung]:
        """The last layer with photographs framed otherwise; what follows takes the best."""
        found = {self.codes.resize: self.scores[self.last]}
        for resize in other_framings(self.codes):
            name, codes = f"probe, framed by {resize}", clone(self.codes).set_params(resize=resize)
            if not self.clock.fits(self.a_pass + 2 * self.a_probe):
                yield self.clock.no_time(name, probe_pipeline(codes, layer=self.last))
                continue
            start = time.perf_counter()
            found[resize] = probe_framing(self.X, codes, self.numbers, self.splits)
            yield self._rung(name, found[resize], codes, start)
        better = best_framing(found)
        if better != self.codes.resize:
            self.codes = clone(self.codes).set_params(resize=better)
            self.layers = self._pass().layers
            self.scores = {self.last: found[better]}

    def _timed_probe(self, name: str, layers: list[str]) -> Rung:
        layer: Any = layers if len(layers) > 1 else layers[0]
        cost = len(layers) * self.a_probe
        if not self.clock.fits(2 * cost):
            return self.clock.no_time(name, probe_pipeline(self.codes, layer=layer))
        start = time.perf_counter()
        codes = np.hstack([self.layers[one] for one in layers])
        score = probe_layer(name, codes, self.numbers, self.splits)
        if len(layers) == 1:
            self.scores[layers[0]] = score
        return self._rung(name, score, self.codes, start, layer)

    def _stacked(self) -> Iterator[Rung]:
        """The two best layers side by side, or the last two where others were not tried."""
        best = sorted(self.scores, key=lambda name: self.scores[name].mean, reverse=True)[:2]
        if len(best) < 2:
            best = list(self.layers)[-2:]
        layers = [name for name in self.layers if name in best]
        if len(layers) == 2:
            yield self._timed_probe(f"stacked {' + '.join(layers)}", layers)

    def _rung(
        self, name: str, score: LayerScore, codes: CNNCodes, start: float, layer: Any = None
    ) -> Rung:
        folds = np.array([score.correct[test].mean() for _, test in self.splits])
        estimator = probe_pipeline(codes, layer=self.last if layer is None else layer)
        return Rung(name, estimator, folds, time.perf_counter() - start)

    def _fine_tune(self, name: str, trainable: Any) -> Rung:
        """A network that ends with the layer that promises most."""
        layers = [name for name in self.layers if name in self.scores]
        choose = best_layer if trainable == "all" else layer_to_tune
        end = choose([self.scores[name] for name in layers])
        layer = next(name for name in layers if self.scores[name] is end)
        estimator = tune_up_to(self.codes, layer, trainable, **self.tuning)
        told = name if layer == self.last else f"{name}, up to {layer}"
        rung = fine_tune_rung(
            told, estimator, self.X, self.y, self.splits, self.clock,
            pass_seconds=self.a_pass, reserve=self.last_fit,
        )  # fmt: skip
        self.last_fit = max(self.last_fit, rung.last_fit)
        return rung
