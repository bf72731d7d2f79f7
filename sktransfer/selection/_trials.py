"""Trials: from the cheapest strategy upwards, as far as the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from ._features import Seen, pass_over
from ._kinds import LABELS, Kind
from ._modality import BAG_OF_WORDS, modality_of, rows_at
from ._probe import (
    LayerScore,
    best_layer,
    best_reading,
    layer_to_tune,
    probe_layer,
    probe_reading,
)
from ._strategies import LAST, TELLING, VOTE, member_name, probe_pipeline, tune_up_to

__all__ = ["Clock", "Judge", "Trial", "TrialRunner", "best_of", "fine_tune_trial"]


class TrialRunner:
    """Climbs, keeping an eye on the clock.

    Parameters
    ----------
    codes : CNNCodes or TextCodes
        Says how items are seen.
    splits : list of (ndarray, ndarray)
    deadline : float
        Of `time.perf_counter`.
    epochs : int
    random_state : int
    kind : Kind
        Of the targets.
    """

    def __init__(
        self,
        codes: Any,
        splits: Any,
        deadline: float,
        *,
        epochs: int,
        random_state: int,
        kind: Kind = LABELS,
    ):
        self.codes, self.splits, self.kind = codes, splits, kind
        self.modality = modality_of(codes)
        self.clock, self.last_fit = Clock(deadline), 0.0
        self.tuning = {"max_epochs": epochs, "random_state": random_state}

    def run(self, X: Any, y: np.ndarray, strategies: Any, *, reread: bool) -> Iterator[Trial]:
        """Try one strategy after the other; the probe of the last layer always.

        Items are to be had by their numbers (`rows_at`). `reread` says whether other ways to read
        them are worth trying.
        """
        self.X, self.y, self.numbers = X, y, self.kind.numbers(y)
        self.voting = VOTE in strategies and self.kind.vote([]) is not None
        tried = []
        for trial in self._each(strategies, reread):
            tried.append(trial)
            yield trial
        if self.voting:
            yield from self._vote(tried)

    def _each(self, strategies: Any, reread: bool) -> Iterator[Trial]:
        if BAG_OF_WORDS in strategies:
            yield self._without_network()
        yield self._first()
        if self.modality.reading in strategies and reread:
            yield from self._readings()
        if "layers" in strategies:
            for name in list(self.layers)[-2::-1]:
                yield self._timed_probe(f"layer {name}", [name])
        if "stacked" in strategies:
            yield from self._stacked()
        if "fine-tune last" in strategies:
            ends = self._ends(layer_to_tune)
            for end in ends if self.voting else ends[:1]:
                yield self._fine_tune("fine-tune last", LAST, end)
        if "fine-tune all" in strategies:
            yield self._fine_tune("fine-tune all", "all", self._ends(best_layer)[0])

    def _without_network(self) -> Trial:
        start = time.perf_counter()
        model = self.modality.baseline(self.codes, self.kind)
        score = probe_layer(BAG_OF_WORDS, self.X, self.numbers, self.splits, self.kind, model)
        return Trial(
            BAG_OF_WORDS, model, score.folds, time.perf_counter() - start, answers=score.answers
        )

    def _first(self) -> Trial:
        start = time.perf_counter()
        seen = self._pass()
        self.layers, self.last = seen.layers, list(seen.layers)[-1]
        probing = time.perf_counter()
        score = probe_layer(self.last, self.layers[self.last], self.numbers, self.splits, self.kind)
        self.scores: dict[str, LayerScore] = {self.last: score}
        self.a_probe = time.perf_counter() - probing
        computed = len(self.y) / seen.items_per_second
        self.a_pass = probing - start if np.isnan(computed) else computed
        return self._rung("probe", score, self.codes, start)

    def _pass(self) -> Seen:
        # A transformer may be told to continue without the item, a classifier may not.
        return pass_over(self.codes, self.X, remedy=None)

    def _readings(self) -> Iterator[Trial]:
        """The last layer with items read otherwise; what follows takes the best."""
        modality = self.modality
        found = {modality.reading_of(self.codes): self.scores[self.last]}
        for reading in modality.other_readings(self.codes):
            name = f"probe, {modality.read_by} {reading}"
            codes = modality.read_as(self.codes, reading)
            if not self.clock.fits(self.a_pass + 2 * self.a_probe):
                yield self.clock.no_time(name, probe_pipeline(codes, self.kind, layer=self.last))
                continue
            start = time.perf_counter()
            found[reading] = probe_reading(
                self.X, codes, reading, self.numbers, self.splits, self.kind
            )
            yield self._rung(name, found[reading], codes, start)
        better = best_reading(found)
        if better != modality.reading_of(self.codes):
            self.codes = modality.read_as(self.codes, better)
            self.layers = self._pass().layers
            self.scores = {self.last: found[better]}

    def _timed_probe(self, name: str, layers: list[str]) -> Trial:
        layer: Any = layers if len(layers) > 1 else layers[0]
        cost = len(layers) * self.a_probe
        if not self.clock.fits(2 * cost):
            return self.clock.no_time(name, probe_pipeline(self.codes, self.kind, layer=layer))
        start = time.perf_counter()
        codes = np.hstack([self.layers[one] for one in layers])
        score = probe_layer(name, codes, self.numbers, self.splits, self.kind)
        if len(layers) == 1:
            self.scores[layers[0]] = score
        return self._rung(name, score, self.codes, start, layer)

    def _stacked(self) -> Iterator[Trial]:
        """The two best layers side by side, or the last two where others were not tried."""
        best = sorted(self.scores, key=lambda name: self.scores[name].mean, reverse=True)[:2]
        if len(best) < 2:
            best = list(self.layers)[-2:]
        layers = [name for name in self.layers if name in best]
        if len(layers) == 2:
            yield self._timed_probe(f"stacked {' + '.join(layers)}", layers)

    def _rung(
        self, name: str, score: LayerScore, codes: Any, start: float, layer: Any = None
    ) -> Trial:
        estimator = probe_pipeline(codes, self.kind, layer=self.last if layer is None else layer)
        seconds = time.perf_counter() - start
        return Trial(name, estimator, score.folds, seconds, answers=score.answers)

    def _ends(self, choose: Any) -> list[str]:
        """Layers with which a network that is fine-tuned may end: the chosen one, the other one."""
        layers = [name for name in self.layers if name in self.scores]
        if not self.modality.ends_early or len(layers) == 1:
            return [self.last]
        end = choose([self.scores[name] for name in layers])
        chosen = next(name for name in layers if self.scores[name] is end)
        earlier = max(layers[:-1], key=lambda name: self.scores[name].mean)
        return [chosen, self.last if chosen != self.last else earlier]

    def _fine_tune(self, name: str, trainable: Any, layer: str) -> Trial:
        estimator = tune_up_to(self.codes, layer, trainable, self.kind, **self.tuning)
        told = name if layer == self.last else f"{name}, up to {layer}"
        trial = fine_tune_trial(
            told, estimator, self.X, self.y, self.splits, self.clock,
            pass_seconds=self.a_pass, reserve=self.last_fit, together=self.voting, kind=self.kind,
        )  # fmt: skip
        # Those that vote are all fitted in the end.
        both = (self.last_fit, trial.last_fit)
        self.last_fit = sum(both) if self.voting else max(both)
        return trial

    def _vote(self, tried: Sequence[Trial]) -> Iterator[Trial]:
        """The mean of what those say that cannot be told apart; nothing where there is one."""
        voters = Judge(self.kind, self.numbers, self.splits).voters(tried)
        while len(voters) > 1 and not self.clock.fits(sum(one.last_fit for one in voters)):
            # The first is the best.
            voters.remove(max(voters[1:], key=lambda one: one.last_fit))
        if len(voters) < 2:
            return
        start = time.perf_counter()
        estimator = self.kind.vote([(member_name(one.name), one.estimator) for one in voters])
        folds = self.splits[: min(len(one.scores) for one in voters)]
        answers = np.mean([one.answers for one in voters], axis=0)
        scores = [self.kind.score(answers[test], self.numbers[test]) for _, test in folds]
        yield Trial(
            f"{VOTE} of {' and '.join(one.name for one in voters)}",
            estimator,
            np.array(scores),
            time.perf_counter() - start,
            f"within a standard error of {voters[0].name}; fits of {len(voters)}",
            last_fit=sum(one.last_fit for one in voters),
            answers=answers,
        )


# A trial, and the clock that says whether there is time for it.


@dataclass(frozen=True, eq=False)
class Trial:
    """A strategy that was tried, or for which there was no time.

    Attributes
    ----------
    name : str
    estimator : estimator
        Not fitted.
    scores : ndarray
        Scores of the folds, or of the first ones; empty where it was not tried.
    seconds : float
        That it took.
    reason : str
        Why it was not tried, or not to the end.
    last_fit : float
        Seconds that the fit to all items is expected to take, where that is long.
    answers : ndarray of shape (n_samples, ...)
        What it said of each item that was held out, such as probabilities; NaN of those of folds
        that were not tried.
    """

    name: str
    estimator: Any
    scores: np.ndarray
    seconds: float
    reason: str = ""
    last_fit: float = 0.0
    answers: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def tunes(self) -> bool:
        """Whether a network is trained."""
        return hasattr(self.estimator, "trainable")

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.scores)) if len(self.scores) else float("nan")


@dataclass(frozen=True)
class Clock:
    """Tells what there is time for.

    Attributes
    ----------
    deadline : float
        Of `time.perf_counter`.
    """

    deadline: float

    def fits(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.perf_counter() + seconds < self.deadline

    def no_time(
        self,
        name: str,
        estimator: Any,
        needs: float | None = None,
        seconds: float = 0.0,
        *,
        together: bool = False,
    ) -> Trial:
        """The strategy for which there is none: what it would take, and what was spent on it."""
        left = max(0.0, self.deadline - time.perf_counter())
        last = "the last fits of all that may vote" if together else "the last fit"
        cost = "" if needs is None else f", a fold and {last} take about {needs:.1f} s"
        return Trial(name, estimator, np.empty(0), seconds, f"no time: {left:.1f} s left{cost}")


def best_of(strategies: Sequence[Trial]) -> Trial:
    """The best by the folds that two have in common; of equals the first, which is the cheapest."""
    tried = [trial for trial in strategies if len(trial.scores)]
    best = tried[0]
    for trial in tried[1:]:
        shared = min(len(best.scores), len(trial.scores))
        if np.nanmean(trial.scores[:shared]) > np.nanmean(best.scores[:shared]):
            best = trial
    return best


@dataclass(frozen=True, eq=False)
class Judge:
    """Tells whether trials can be told apart, and which may vote.

    Attributes
    ----------
    kind : Kind
        Of the targets.
    numbers : ndarray
        Targets, as probes are fitted to them.
    splits : list of (ndarray, ndarray)
    """

    kind: Kind
    numbers: np.ndarray
    splits: Any

    def is_close(self, one: Trial, best: Trial) -> bool:
        """Whether it is within a standard error of the best, on the folds that both were tried on.

        Reference: L. Breiman et al. (1984). Classification and regression trees. Section 3.4.3.
        """
        shared = min(len(one.scores), len(best.scores))
        held = np.concatenate([test for _, test in self.splits[:shared]])
        own, of_best = (
            self.kind.marks(each.answers[held], self.numbers[held]) for each in (one, best)
        )
        return bool(of_best.mean() - own.mean() <= of_best.std() / np.sqrt(len(of_best)))

    def voters(self, tried: Sequence[Trial]) -> list[Trial]:
        """Those that are within a standard error of the best of them, which is the first.

        Of probes, which are much alike, only the best may vote; and where items are many and
        networks were trained, none but the best of all.
        """
        probes = [one for one in tried if not one.tunes and one.name != BAG_OF_WORDS]
        others = [one for one in tried if one.tunes or one.name == BAG_OF_WORDS]
        found = [one for one in (best_of(probes), *others) if len(one.scores)]
        best = best_of(found)
        if len(self.numbers) >= TELLING and any(one.tunes for one in found):
            found = [one for one in found if one.tunes or one is best]
        return [best, *(one for one in found if one is not best and self.is_close(one, best))]

    def choose(self, trials: Sequence[Trial]) -> Trial:
        """The best; a vote in its place if it is within a standard error.

        The best of several looks better than it is, the mean of several does not.
        """
        *singles, last = trials
        if not last.name.startswith(VOTE):
            return best_of(trials)
        best = best_of(singles)
        return last if self.is_close(last, best) else best


# A strategy that fine-tunes: a trial tells what it costs, folds are fitted as far as the time goes.


# Items of the trial.
_TRIAL = 64


def fine_tune_trial(
    name: str,
    estimator: Any,
    X: Any,
    y: np.ndarray,
    splits: Any,
    clock: Clock,
    *,
    pass_seconds: float = 0.0,
    reserve: float = 0.0,
    together: bool = False,
    kind: Kind = LABELS,
) -> Trial:
    """Judge a fine-tuned network on the folds, as many as there is time for with the last fit.

    `pass_seconds` is what the frozen part takes, `reserve` what the last fit of earlier strategies
    takes, which must be left if this one is not the best, or beside its own if they vote
    `together`.
    """
    begin = time.perf_counter()
    # The trial itself takes about as long as two small epochs.
    if not clock.fits(1.2 * reserve):
        return clock.no_time(name, estimator)
    fold = pass_seconds + seconds_of_fit(estimator, X, y, splits[0][0], kind)
    more = len(y) / len(splits[0][0])  # items of the last fit to those of a fold
    scores: list[float] = []
    numbers, answers = kind.numbers(y), np.empty(0)
    for learn, test in splits:
        # What is tried must also be fitted to all items in the end.
        last = more * fold
        if not clock.fits(fold + (reserve + last if together else max(reserve, last))):
            break
        start = time.perf_counter()
        said = held_out(estimator, X, y, learn, test, kind)
        if not len(answers):
            answers = np.full((len(y), *said.shape[1:]), np.nan)
        answers[test] = said
        scores.append(kind.score(said, numbers[test]))
        fold = time.perf_counter() - start
    seconds = time.perf_counter() - begin
    if not scores:
        needs = (1 + more) * fold + (reserve if together else 0.0)
        return clock.no_time(name, estimator, needs, seconds, together=reserve > 0 and together)
    left_out = len(splits) - len(scores)
    reason = f"no time for {left_out} of {len(splits)} folds" if left_out else ""
    return Trial(name, estimator, np.array(scores), seconds, reason, more * fold, answers)


def held_out(
    estimator: Any, X: Any, y: np.ndarray, learn: np.ndarray, test: np.ndarray, kind: Kind
) -> np.ndarray:
    """What an estimator that is fitted to some items says of others."""
    fitted = clone(estimator).fit(rows_at(X, learn, len(y)), y[learn])
    return kind.said(fitted, rows_at(X, test, len(y)), y)


def seconds_of_fit(
    estimator: Any, X: Any, y: np.ndarray, learn: np.ndarray, kind: Kind = LABELS
) -> float:
    """What a fit will take once the frozen part has been computed.

    Two epochs of a few of the items: what is done once is told from what each epoch costs,
    and the first epoch, in which libraries warm up, does not count.
    """
    part = learn[:: max(1, len(learn) // _TRIAL)][:_TRIAL]
    if not kind.can_learn(y[part]):
        part = learn
    short = clone(estimator).set_params(max_epochs=2)
    some = rows_at(X, part, len(y))
    start = time.perf_counter()
    short.fit(some, y[part])
    whole = time.perf_counter() - start
    epochs = short.history_[:, "dur"]
    once = max(0.0, whole - sum(epochs))
    return once + epochs[-1] * estimator.max_epochs * len(learn) / len(part)
