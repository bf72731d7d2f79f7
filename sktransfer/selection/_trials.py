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
    LIKELY,
    SURE,
    LayerScore,
    best_layer,
    best_reading,
    layer_to_tune,
    probe_layer,
    probe_reading,
    work_of,
)
from ._strategies import (
    ENOUGH_FOR_ALL,
    LAST,
    TELLING,
    VOTE,
    is_worth_tuning,
    member_name,
    probe_pipeline,
    score_when_tuned,
    tune_up_to,
)

__all__ = ["Candidate", "Clock", "Judge", "Trial", "TrialRunner", "best_of"]


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
        self.clock = Clock(deadline)
        # The score of what needs no network.
        self.without: float | None = None
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
        yield from self._tuned(strategies)

    def _without_network(self) -> Trial:
        start = time.perf_counter()
        model = self.modality.baseline(self.codes, self.kind)
        score = probe_layer(BAG_OF_WORDS, self.X, self.numbers, self.splits, self.kind, model)
        self.without = score.mean
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

    def _tuned(self, strategies: Any) -> Iterator[Trial]:
        """Networks of which some is trained: first time for all last fits, then folds in turns."""
        kept: list[Candidate] = []
        found: list[Candidate | Trial] = []
        known = self._is_known_to_help()
        for name, trainable, end in self._to_tune(strategies):
            estimator = tune_up_to(self.codes, end, trainable, self.kind, **self.tuning)
            told = name if end == self.last else f"{name}, up to {end}"
            # To tell what it takes costs about as much as two small epochs.
            if not self.clock.fits(1.2 * self._reserved(kept)):
                found.append(self.clock.no_time(told, estimator))
                continue
            one = Candidate(told, estimator, self.kind)
            one.trusted = known and (trainable == LAST or len(self.y) >= ENOUGH_FOR_ALL)
            one.estimate(self.X, self.y, self.splits, self.a_pass)
            folds = 0.0 if one.trusted else sum(each.fold for each in [*kept, one])
            seconds = folds + self._reserved([*kept, one])
            if self.clock.fits(seconds):
                kept.append(one)
                found.append(one)
                continue
            what = f"{'a fold and ' if folds else ''}the last fit"
            of = " of each that may vote" if self.voting and kept else ""
            needs = f"{what}{of} would take about {seconds:.1f} s"
            found.append(self.clock.no_time(told, estimator, needs, one.seconds))
        self._judge_in_turns(kept)
        n_folds = len(self.splits)
        for each in found:
            yield each if isinstance(each, Trial) else each.as_trial(n_folds, self.clock)

    def _judge_in_turns(self, kept: list[Candidate]) -> None:
        """Every network on a fold before any is on the next, as long as there is time."""
        for learn, test in self.splits:
            for one in kept:
                # What is tried must also be fitted to all items in the end. Estimates of fits that
                # may be made without a fold are not put at risk for one.
                slack = 1.3 if one.trusted else 1.0
                if not self.clock.fits(one.fold + slack * self._reserved(kept)):
                    return
                one.judge(self.X, self.y, learn, test)

    def _to_tune(self, strategies: Any) -> Iterator[tuple[str, Any, str]]:
        """Name, what is trained, and the layer with which the network ends: the likeliest first."""
        if "fine-tune last" in strategies:
            ends = self._ends(layer_to_tune)
            for end in ends if self.voting else ends[:1]:
                yield "fine-tune last", LAST, end
        if "fine-tune all" in strategies:
            yield "fine-tune all", "all", self._ends(best_layer)[0]

    def _is_known_to_help(self) -> bool:
        """Whether fine-tuning to so many items has been better than a probe on other sets."""
        best = self._best_probe
        if not self.voting or (self.without is not None and self.without >= best):
            return False
        sizes = self.kind.sizes(self.y)
        return is_worth_tuning(best, len(self.y), sizes, self.modality)

    def expected(self) -> float:
        """Score to expect of fine-tuning that was not tried."""
        return score_when_tuned(self._best_probe, len(self.y), self.modality)

    @property
    def work(self) -> float:
        """Multiplications of one product of a probe."""
        return work_of(self.layers[self.last], self.numbers)

    @property
    def _best_probe(self) -> float:
        return max(score.mean for score in self.scores.values())

    def _reserved(self, kept: Sequence[Candidate]) -> float:
        """Seconds that must be left for last fits: those that vote are all fitted in the end."""
        fits = [one.last_fit for one in kept]
        return float(sum(fits) if self.voting else max(fits, default=0.0))

    def _vote(self, tried: Sequence[Trial]) -> Iterator[Trial]:
        """The mean of what those say that cannot be told apart; nothing where there is one."""
        voters = Judge(self.kind, self.numbers, self.splits).voters(tried)
        while len(voters) > 1 and not self.clock.fits(sum(one.last_fit for one in voters)):
            # The first is the best, or the likeliest.
            voters.remove(max(voters[1:], key=lambda one: one.last_fit))
        if len(voters) < 2:
            return
        start = time.perf_counter()
        name = f"{VOTE} of {' and '.join(one.name for one in voters)}"
        estimator = self.kind.vote([(member_name(one.name), one.estimator) for one in voters])
        last_fit = sum(one.last_fit for one in voters)
        if n_folds := min(len(one.scores) for one in voters):
            answers = np.mean([one.answers for one in voters], axis=0)
            scores = [
                self.kind.score(answers[test], self.numbers[test])
                for _, test in self.splits[:n_folds]
            ]
            yield Trial(
                name, estimator, np.array(scores), time.perf_counter() - start,
                f"within a standard error of {voters[0].name} on these folds; "
                f"fits of {len(voters)}",
                last_fit=last_fit, answers=answers,
            )  # fmt: skip
        else:
            yield Trial(
                name, estimator, np.empty(0), 0.0, _UNTRIED, last_fit=last_fit, trusted=True
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
    trusted : bool
        Whether there was time for its last fit but for no fold, and it may be taken all the same,
        since fine-tuning to so many items has been better than a probe on other sets.
    """

    name: str
    estimator: Any
    scores: np.ndarray
    seconds: float
    reason: str = ""
    last_fit: float = 0.0
    answers: np.ndarray = field(default_factory=lambda: np.empty(0))
    trusted: bool = False

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

    def no_time(self, name: str, estimator: Any, needs: str = "", seconds: float = 0.0) -> Trial:
        """The strategy for which there is none: what it would take, and what was spent on it."""
        left = max(0.0, self.deadline - time.perf_counter())
        reason = f"no time: {left:.1f} s left{needs and ', '}{needs}"
        return Trial(name, estimator, np.empty(0), seconds, reason)


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

        A network that is trained is within two: on other sets they were good, whatever a few items
        of a fold say of one, and a vote of more of them is better.

        Reference: L. Breiman et al. (1984). Classification and regression trees. Section 3.4.3.
        """
        shared = min(len(one.scores), len(best.scores))
        held = np.concatenate([test for _, test in self.splits[:shared]])
        own, of_best = (
            self.kind.marks(each.answers[held], self.numbers[held]) for each in (one, best)
        )
        margin = SURE if one.tunes else LIKELY
        return bool(of_best.mean() - own.mean() <= margin * of_best.std() / np.sqrt(len(of_best)))

    def voters(self, tried: Sequence[Trial]) -> list[Trial]:
        """Those that cannot be told from the best of them, which is the first.

        Of probes, which are much alike, only the best may vote; and where items are many and
        networks are trained, none but the best of all. What is trusted cannot be told from them.
        """
        probes = [one for one in tried if not one.tunes and one.name != BAG_OF_WORDS]
        others = [one for one in tried if one.tunes or one.name == BAG_OF_WORDS]
        found = [one for one in (best_of(probes), *others) if len(one.scores)]
        trusted = [one for one in others if one.trusted]
        best = best_of(found)
        if len(self.numbers) >= TELLING and any(one.tunes for one in (*found, *trusted)):
            kept = best if best.tunes or not trusted else None
            found = [one for one in found if one.tunes or one is kept]
        close = [one for one in found if one is best or self.is_close(one, best)]
        return [*sorted(close, key=lambda one: one is not best), *trusted]

    def choose(self, trials: Sequence[Trial]) -> Trial:
        """The best; a vote in its place if it is within a standard error.

        The best of several looks better than it is, the mean of several does not.
        """
        *singles, last = trials
        if any(one.trusted for one in trials):
            return last if last.name.startswith(VOTE) else self.voters(trials)[0]
        if not last.name.startswith(VOTE):
            return best_of(trials)
        best = best_of(singles)
        return last if self.is_close(last, best) else best


# Networks that are fine-tuned: what they take is estimated, then they are judged fold by fold.


# Items of the estimate.
_SOME = 64
_UNTRIED = "no time for a fold; better than a probe on other sets of so many"


@dataclass(eq=False)
class Candidate:
    """A network that is fine-tuned, and what is known of it so far.

    Attributes
    ----------
    name : str
    estimator : estimator
        Not fitted.
    kind : Kind
        Of the targets.
    trusted : bool
        Whether it may be taken if there is no time for a fold.
    fold, last_fit : float
        Seconds that a fold takes, and a fit to all items: by an estimate, then as measured.
    seconds : float
        That were spent on it.
    scores : list of float
    answers : ndarray
        As of a :class:`Trial`.
    """

    name: str
    estimator: Any
    kind: Kind
    trusted: bool = False
    fold: float = 0.0
    last_fit: float = 0.0
    seconds: float = 0.0
    scores: list[float] = field(default_factory=list)
    answers: np.ndarray = field(default_factory=lambda: np.empty(0))

    def estimate(self, X: Any, y: np.ndarray, splits: Any, pass_seconds: float) -> None:
        """Find out what it takes; `pass_seconds` is what its frozen part does."""
        start = time.perf_counter()
        learn = splits[0][0]
        self._takes(pass_seconds + seconds_of_fit(self.estimator, X, y, learn, self.kind), y, learn)
        self.seconds += time.perf_counter() - start

    def judge(self, X: Any, y: np.ndarray, learn: np.ndarray, test: np.ndarray) -> None:
        """Fit it to a fold."""
        start = time.perf_counter()
        said = held_out(self.estimator, X, y, learn, test, self.kind)
        if not len(self.answers):
            self.answers = np.full((len(y), *said.shape[1:]), np.nan)
        self.answers[test] = said
        self.scores.append(self.kind.score(said, self.kind.numbers(y)[test]))
        took = time.perf_counter() - start
        self._takes(took, y, learn)
        self.seconds += took

    def _takes(self, fold: float, y: np.ndarray, learn: np.ndarray) -> None:
        self.fold, self.last_fit = fold, fold * len(y) / len(learn)

    def as_trial(self, n_folds: int, clock: Clock) -> Trial:
        """What was found."""
        n = len(self.scores)
        if not n and not self.trusted:
            needs = f"a fold and the last fit would take about {self.fold + self.last_fit:.1f} s"
            return clock.no_time(self.name, self.estimator, needs, self.seconds)
        reason = f"no time for {n_folds - n} of {n_folds} folds" if n else _UNTRIED
        return Trial(
            self.name, self.estimator, np.array(self.scores), self.seconds,
            reason if n < n_folds else "", self.last_fit, self.answers, trusted=not n,
        )  # fmt: skip


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
    part = learn[:: max(1, len(learn) // _SOME)][:_SOME]
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
