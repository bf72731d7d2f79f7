"""Which layer, which way of reading, which strategy: by what the items say."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.utils import check_consistent_length, column_or_1d

from ..exceptions import ItemError
from ._features import Seen, pass_over
from ._kinds import Kind, kind_of
from ._modality import BAG_OF_WORDS, MANY_ODD, Modality, check_params, modality_of
from ._probe import (
    LIKELY,
    SURE,
    LayerScore,
    LearningCurve,
    best_layer,
    best_reading,
    folds_of_best,
    is_better,
    layer_to_tune,
    learning_curve_of,
    probe_layer,
    probe_reading,
)
from ._rank import BackboneRanking, rank_backbones
from ._recommendation import Recommendation
from ._strategies import (
    ENOUGH_FOR_ALL,
    LAST,
    SOLVED,
    TELLING,
    VOTE,
    grid_of,
    is_worth_tuning,
    minutes_of,
    probe_pipeline,
    score_when_tuned,
    tune_up_to,
)

__all__ = [
    "MANY",
    "DataLook",
    "Study",
    "advise",
    "choose_strategy",
    "digests",
    "look_at_data",
    "reasons_for",
    "scenario_of",
    "study_items",
    "together",
]


def advise(
    X: Any,
    y: Any,
    backbone: Any = "efficientnet_lite0",
    *,
    weights: Any = "default",
    image_size: Any = None,
    resize: str = "auto",
    long_texts: str = "auto",
    cache: Any = "memory",
    cv: Any = 5,
    groups: Any = None,
    fine_tune: bool | str = "auto",
    vote: bool = True,
    **codes_params: Any,
) -> Recommendation:
    """Say what to do with labelled images or texts, and why.

    Codes of several depths, from one pass of the network, are judged by cross-validated linear
    probes. If an earlier layer is better than the last by two standard errors, the items are unlike
    those the network was trained on, else like them. Together with the number of items that makes
    four scenarios, each with its strategy. For texts, a bag of words is judged on the same folds,
    and advised if no layer is better.

    Parameters
    ----------
    X : array, list or table of images or texts
        As in :class:`sktransfer.CNNCodes`, or :class:`sktransfer.TextCodes` where `backbone` is
        for texts.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags)
        Labels; or values, which are floats with fractions; or several tags an item, a matrix of
        0, 1, and NaN where it is not known.
    backbone : str, path, CNNCodes, TextCodes, torch.nn.Module, list of these or BackboneRanking, \
default="efficientnet_lite0"
        The network, which says whether `X` holds images or texts; those for text are "minilm_l6",
        folders and models of transformers, and that of a TextCodes. Of several the best by
        :func:`rank_backbones`; after a ranking of the same items no pass is needed.
    weights : str, enum member, path, None or dict, default="default"
        As in :func:`rank_backbones`.
    image_size : int or (int, int), default=None
        Input size of a network for images, in pixels.
    resize : {"auto", "pad", "squash", "crop"}, default="auto"
        How images are resized. "auto" tries all three where more than a tenth of the
        images are not about square, which costs two more passes, of at most 2,000
        images.
    long_texts : {"auto", "windows", "head", "head_tail", "error"}, default="auto"
        How texts that are longer than the network's maximum are read. "auto" tries the first three
        if more than a tenth of the texts are too long, which costs two more passes, of at most
        2,000 texts.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept; with None every question costs a pass.
    cv : int or splitter, default=5
        Folds. Duplicates are kept in one fold; a splitter of scikit-learn gets them, and `groups`,
        as its groups. Or pairs of train and test numbers.
    groups : array-like of shape (n_samples,), default=None
        What belongs together, such as patients or slides, and is kept in one fold.
    fine_tune : {"auto", True, False}, default="auto"
        Whether fine-tuning is advised: "auto" from 100 images and a median class size of 5 on,
        or 200 texts and 20, if the probe has more than 1% error.
    vote : bool, default=True
        Whether, where fine-tuning is advised for labels, the estimator is a soft vote, a
        :class:`sklearn.ensemble.VotingClassifier`, of strategies whose difference cannot be
        measured with so few items: the whole network and one that ends earlier, each with two
        trained stages; below 200 items also the probe; from 250 on also a network with all layers
        trained. A fit and predictions cost as much as those of all members. False gives a single
        network.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes` or :class:`sktransfer.TextCodes`, for
        networks given by name.

    Returns
    -------
    recommendation : Recommendation
        With a ready estimator, what to expect of it, and reasons.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes have two items.
    ItemError
        If an item cannot be read, unless ``on_error="nan"``.
    BackboneError
        If no network can be loaded.

    Examples
    --------
    >>> from sktransfer import advise
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> advice = advise(X[:80], y[:80], image_size=64)
    >>> advice.scenario, advice.strategy
    ('few and similar', 'probe')
    >>> pipe = advice.estimator.fit(X[:80], y[:80])
    """
    ranked = isinstance(backbone, BackboneRanking)
    modality = modality_of([row.estimator for row in backbone.rows] if ranked else backbone)
    asked = {"resize": resize, "long_texts": long_texts}
    reading = asked[modality.reading]
    modality.check_reading(reading)
    if not (isinstance(fine_tune, bool) or fine_tune == "auto"):
        raise ValueError(f'fine_tune must be True, False or "auto", got {fine_tune!r}.')
    given = {name: value for name, value in asked.items() if value != "auto"}
    if image_size is not None:
        given["image_size"] = image_size
    check_params(advise, {**given, **codes_params}, modality)
    common = {**given, "cache": cache, **codes_params}
    codes, ranking = _settle(X, y, backbone, weights, common, modality)
    look = look_at_data(codes, X, y, groups)
    study = study_items(X, codes, look, cv, reread=reading == "auto")
    return _recommend(study, ranking, fine_tune, vote)


def _settle(
    X: Any, y: Any, backbone: Any, weights: Any, common: dict[str, Any], modality: Modality
) -> tuple[Any, BackboneRanking | None]:
    # Which layer is what is asked.
    if isinstance(backbone, BackboneRanking):
        return backbone.codes().set_params(layer=None), backbone
    if isinstance(backbone, modality.codes):
        return clone(backbone).set_params(layer=None), None
    if isinstance(backbone, (list, tuple, dict)):
        ranking = rank_backbones(X, y, backbone, weights=weights, **common)
        return ranking.codes().set_params(layer=None), ranking
    return modality.codes(backbone, weights=weights, **common), None


def _recommend(study: Study, ranking: Any, fine_tune: Any, vote: bool) -> Recommendation:
    look, seen, modality = study.look, study.seen, study.modality
    scenario = scenario_of(study)
    strategy, end, estimator = choose_strategy(scenario, study, fine_tune, vote)
    curve = study.learning_curve(end)
    unreadable = np.flatnonzero(~seen.kept)
    read: dict[str, Any] = {
        modality.reading: modality.reading_of(study.codes),
        f"{modality.reading}_scores": {k: score.mean for k, score in study.readings.items()},
    }
    baseline = study.baseline
    seconds = study.seconds if end is not baseline else study.baseline_seconds
    return Recommendation(
        scenario=scenario,
        strategy=strategy,
        backbone=seen.estimator.backbone,
        layer="" if end is baseline else end.name,
        estimator=estimator,
        param_grid=grid_of(estimator, _layers_to_search(study), seen.n_stages, study.kind),
        measure=study.kind.measure,
        expected_accuracy=study.expected(strategy, end),
        accuracy_std=study.spread(end),
        minutes=minutes_of(
            estimator, look.n, seen.items_per_second, seconds, modality.last_share
        ),
        reasons=tuple(reasons_for(scenario, strategy, study, curve, fine_tune)),
        warnings=(
            *look.warnings,
            *_about_unreadable(unreadable, modality.noun),
            *_about_suspects(study.suspects, study.best.mean, modality),
        ),
        layer_scores=tuple((score.name, score.mean, score.std) for score in study.scores),
        learning_curve=curve,
        suspects=study.suspects,
        suspected_of=study.suspected_of,
        conflicts=tuple(map(tuple, look.conflicts)),
        copies=tuple(map(tuple, look.copies)),
        unreadable=unreadable,
        ranking=ranking,
        noun=modality.noun,
        codes=clone(study.codes),
        baseline_score=None if baseline is None else (baseline.mean, baseline.std),
        **read,
    )


def _layers_to_search(study: Study) -> list[Any]:
    names = [score.name for score in study.scores]
    earlier = [study.best.name] if study.best.name in names[:-4] else []
    return [*earlier, *names[-4:-1], None]


def _about_unreadable(unreadable: np.ndarray, noun: str) -> list[str]:
    if not len(unreadable):
        return []
    return [
        f"{len(unreadable)} {noun}(s) cannot be read: {_some(unreadable)}. They are ignored in "
        "every figure here; remove them before the estimator is fitted, too."
    ]


def _about_suspects(suspects: np.ndarray, accuracy: float, modality: Modality) -> list[str]:
    if not len(suspects):
        return []
    return [
        f"{len(suspects)} label(s) look wrong to a probe with {1 - accuracy:.0%} error: "
        f"{modality.noun}s {_some(suspects)}. Look at them: {modality.shows_suspects}(X, y)."
    ]


def _some(numbers: np.ndarray) -> str:
    return f"{numbers[:10].tolist()}{' …' if len(numbers) > 10 else ''}"


# What a network says of items: probes by depth and by ways of reading, and what they lead to.


# More items than these are not needed to tell layers and ways of reading apart.
_ENOUGH = 2000


@dataclass(frozen=True, eq=False)
class Asked:
    """The part of the items that questions are asked of.

    Attributes
    ----------
    chosen, at : ndarray of int
        Where they stand among all items, and among the codes.
    target : ndarray
        Their targets, as numbers.
    splits : list of (ndarray, ndarray)
    """

    chosen: np.ndarray
    at: np.ndarray
    target: np.ndarray
    splits: Any


@dataclass(frozen=True, eq=False)
class Study:
    """The findings on which advice rests.

    Attributes
    ----------
    codes : CNNCodes or TextCodes
        With the way of reading that is best.
    look : DataLook
    seen : Seen
        The pass of `codes`.
    asked : Asked
        The items that were asked, and the folds.
    scores : list of LayerScore
        By depth, from the input.
    best : LayerScore
        The one to take.
    readings : dict of str to LayerScore
        By ways of reading, on the last layer; empty where there was nothing to try.
    suspects, suspected_of : ndarray
        Items whose label looks wrong, and the labels they seem to have.
    seconds : float
        That one fit of a probe took.
    baseline : LayerScore or None
        Of what needs no network.
    baseline_rows : ndarray or None
        The items that it was asked, as it takes them.
    baseline_seconds : float
        That one fit of it takes to all items.
    """

    codes: Any
    look: DataLook
    seen: Seen
    asked: Asked
    scores: list[LayerScore]
    best: LayerScore
    readings: dict[str, LayerScore]
    suspects: np.ndarray
    suspected_of: np.ndarray
    seconds: float
    baseline: LayerScore | None = None
    baseline_rows: Any = None
    baseline_seconds: float = 0.0

    @property
    def last(self) -> LayerScore:
        return self.scores[-1]

    @property
    def sizes(self) -> list[int]:
        """Items of each class, or of the rarer answer of each tag, that are validated."""
        return self.kind.sizes(self.look.y[self.look.usable & self.seen.kept])

    @property
    def n(self) -> int:
        """Items that can be read and validated."""
        return int((self.look.usable & self.seen.kept).sum())

    @property
    def kind(self) -> Kind:
        """That of the targets."""
        return self.look.kind

    @property
    def modality(self) -> Modality:
        """That of the items."""
        return self.look.modality

    def learning_curve(self, of: LayerScore) -> LearningCurve:
        """Of a probe on the codes of a layer, or of what needs no network."""
        asked = self.asked
        if of is self.baseline:
            rows, model = self.baseline_rows, self.modality.baseline(self.codes, self.kind)
        else:
            rows, model = self.seen.layers[of.name][asked.at], self.kind.probe()
        return learning_curve_of(rows, asked.target, asked.splits, self.kind, model)

    def expected(self, strategy: str, end: LayerScore) -> float:
        """Score to expect of a strategy whose network ends with a layer."""
        score = float(np.nanmean(self._folds(end)))
        if self.kind.noun != "labels" or strategy in ("probe", BAG_OF_WORDS):
            return score
        return score_when_tuned(score, self.n, self.modality)

    def spread(self, end: LayerScore) -> float:
        """Standard deviation over the folds of the score of a probe that `expected` begins with."""
        return float(np.nanstd(self._folds(end)))

    def _folds(self, end: LayerScore) -> np.ndarray:
        if end is self.best:
            return folds_of_best(self.scores, self.asked.splits)
        return np.asarray(end.folds)

    @property
    def earlier(self) -> list[LayerScore]:
        """The best of the earlier layers, where a network may end with one."""
        if not self.modality.ends_early or len(self.scores) == 1:
            return []
        return [max(self.scores[:-1], key=lambda score: score.mean)]

    @property
    def to_tune(self) -> LayerScore:
        """Where a network of which some stages are fine-tuned ends."""
        return layer_to_tune(self.scores) if self.modality.ends_early else self.last

    @property
    def to_tune_whole(self) -> LayerScore:
        """Where a network ends of which all is fine-tuned."""
        return self.best if self.modality.ends_early else self.last

    @property
    def baseline_wins(self) -> bool:
        """Whether what needs no network is at least as good as any layer.

        The best of several layers looks a little better than it is, what needs no network is cheap.
        """
        one, best = self.baseline, self.best
        return one is not None and one.mean >= best.mean and not is_better(best, one, LIKELY)

    @property
    def similar(self) -> bool:
        """Whether no earlier layer is surely better than the last."""
        return not is_better(self.best, self.last, SURE)


def _ask(look: DataLook, kept: np.ndarray, cv: Any) -> Asked:
    usable = np.flatnonzero(look.usable & kept)
    target = look.kind.numbers(look.y[usable])
    if len(usable) > _ENOUGH:
        part = look.kind.some(target, _ENOUGH, cv)
        usable, target = usable[part], target[part]
    at = (np.cumsum(kept) - 1)[usable]
    splits = look.kind.make_splits(target, cv, groups=look.groups[usable])
    return Asked(usable, at, target, splits)


def study_items(X: Any, codes: Any, look: DataLook, cv: Any, *, reread: bool) -> Study:
    """Ask the items; `reread` says whether other ways to read them are tried where they matter."""
    modality = look.modality
    seen = pass_over(codes, X)
    asked, kind = _ask(look, seen.kept, cv), look.kind
    start = time.perf_counter()
    scores = _by_depth(seen, asked, kind)
    seconds = (time.perf_counter() - start) / (len(scores) * len(asked.splits))
    readings: dict[str, LayerScore] = {}
    if reread and look.odd_share > MANY_ODD:
        readings = _by_reading(X, codes, scores[-1], asked, look)
    if readings and (better := best_reading(readings)) != modality.reading_of(codes):
        codes = modality.read_as(codes, better)
        seen = pass_over(codes, X)
        scores = _by_depth(seen, asked, kind)
    best = best_layer(scores)
    # The last layer's wide codes are surer of the label, as long as they are of any use.
    judge = best if is_better(best, scores[-1], SURE) else scores[-1]
    wrong, said = kind.suspects(judge.answers, look.y[asked.chosen])
    study = Study(
        codes, look, seen, asked, scores, best, readings, asked.chosen[wrong], said, seconds
    )
    return _with_baseline(study, X)


def _by_depth(seen: Seen, asked: Asked, kind: Kind) -> list[LayerScore]:
    return [
        probe_layer(name, codes[asked.at], asked.target, asked.splits, kind)
        for name, codes in seen.layers.items()
    ]


def _by_reading(
    X: Any, codes: Any, current: LayerScore, asked: Asked, look: DataLook
) -> dict[str, LayerScore]:
    """Probes on the last layer for each way of reading, on the same folds."""
    modality = look.modality
    part = modality.take(codes, X, asked.chosen, len(look.y))
    found = {modality.reading_of(codes): current}
    for reading in modality.other_readings(codes):
        other = modality.read_as(codes, reading)
        found[reading] = probe_reading(
            part, other, reading, asked.target, asked.splits, look.kind
        )
    return found


def _with_baseline(study: Study, X: Any) -> Study:
    """The same, with what needs no network judged on the same folds."""
    asked, kind = study.asked, study.kind
    model = study.modality.baseline(study.codes, kind)
    if model is None:
        return study
    rows = study.modality.take(study.codes, X, asked.chosen, len(study.look.y))
    start = time.perf_counter()
    score = probe_layer(BAG_OF_WORDS, rows, asked.target, asked.splits, kind, model)
    seconds = (time.perf_counter() - start) / len(asked.splits)
    return replace(
        study,
        baseline=score,
        baseline_rows=rows,
        baseline_seconds=seconds * study.look.n / len(rows),
    )


# The four scenarios of the tutorials, told by evidence, and what each calls for.


# Items, and median class size, from which on the whole network is fine-tuned: a rule of thumb, as
# is `Modality.some` of its last stages; AutoTransferClassifier puts both to the test.
MANY = (500, 50)


def scenario_of(study: Study) -> str:
    """One of "few" or "many", "and", "similar" or "dissimilar"."""
    many = "many" if _at_least(study, MANY) else "few"
    return f"{many} and {'similar' if study.similar else 'dissimilar'}"


def _at_least(study: Study, bound: tuple[int, int]) -> bool:
    sizes = study.sizes
    return bool(study.n >= bound[0] and np.median(sizes) >= bound[1])


def choose_strategy(
    scenario: str, study: Study, fine_tune: bool | str, vote: bool = True
) -> tuple[str, LayerScore, Any]:
    """A name, the layer that the network ends with, and an estimator that is not fitted."""
    codes, kind = study.codes, study.kind
    if study.baseline is not None and study.baseline_wins and fine_tune is not True:
        return BAG_OF_WORDS, study.baseline, study.modality.baseline(codes, kind)
    worth = is_worth_tuning(study.best.mean, study.n, study.sizes, study.modality)
    if fine_tune is False or (fine_tune == "auto" and not worth):
        return "probe", study.best, _probe_of(study)
    many = scenario.startswith("many")
    members = _members(study) if vote else []
    if len(members) > 1 and (together := kind.vote(members)) is not None:
        return VOTE, study.best, together
    if many:
        end, trainable, name = study.to_tune_whole, "all", "fine-tune all"
    else:
        end, trainable, name = study.to_tune, LAST, "fine-tune last"
    return name, end, tune_up_to(codes, end.name, trainable, kind)


def _probe_of(study: Study) -> Any:
    layer = None if study.best is study.last else study.best.name
    return probe_pipeline(study.codes, study.kind, layer=layer)


def _members(study: Study) -> list[tuple[str, Any]]:
    """The strategies that vote: networks that are fine-tuned and end differently, and a probe.

    The probe has a voice as long as fine-tuning is not known to be better.
    """
    codes, kind, n = study.codes, study.kind, study.n
    found = [] if n >= TELLING else [("probe", _probe_of(study))]
    ends = [study.last, *study.earlier]
    for end, name in zip(ends, ("fine_tune_last", "fine_tune_earlier"), strict=False):
        found.append((name, tune_up_to(codes, end.name, LAST, kind)))
    if n >= ENOUGH_FOR_ALL:
        end = study.to_tune_whole
        found.append(("fine_tune_all", tune_up_to(codes, end.name, "all", kind)))
    return found


def reasons_for(
    scenario: str, strategy: str, study: Study, curve: LearningCurve, fine_tune: bool | str
) -> Iterator[str]:
    """Plain sentences, each with its figures."""
    yield (
        f"{study.kind.told(study.n, study.sizes)}: {scenario.split()[0]} (many starts at "
        f"{MANY[0]:,} and a median class size of {MANY[1]})."
    )
    yield _about_layers(study)
    if study.readings:
        yield _about_reading(study)
    if study.baseline is not None:
        yield _about_baseline(study, study.baseline, strategy)
    yield from _about_strategy(strategy, study, fine_tune)
    yield _about_more(curve, study.kind, "bag of words" if strategy == BAG_OF_WORDS else "probe")


def _about_reading(study: Study) -> str:
    modality = study.modality
    scores = {name: score.mean for name, score in study.readings.items()}
    told = ", ".join(f"{name} {study.kind.write(mean)}" for name, mean in scores.items())
    best, used = max(scores, key=lambda name: scores[name]), modality.reading_of(study.codes)
    taken = "the best of several is a little higher than what is to be expected"
    if scores[best] > scores[used]:
        taken = f"{best} is within a standard error of {used}, which stays, but may be tried"
    odd = modality.told_odd(study.look.odd_share)
    return f"{odd}; {modality.read_by} {told} ({taken})."


def _about_layers(study: Study) -> str:
    scores, best, last, write = study.scores, study.best, study.last, study.kind.write
    subject = study.modality.subject(study.kind)
    if best is last:
        others = max((s for s in scores[:-1]), key=lambda s: s.mean, default=None)
        rest = ""
        if others is not None:
            rest = f"; the best earlier one, {others.name}, {write(others.mean)}"
        return (
            f"A linear probe on the last layer reaches {write(last.mean)}{rest}: none is better by "
            f"a standard error, so {subject} count as like those the network was trained on."
        )
    told = (
        f"A linear probe on {best.name} reaches {write(best.mean)}, on the last layer "
        f"{write(last.mean)}"
    )
    if is_better(best, last, SURE):
        return (
            f"{told}, a difference of more than two standard errors: {subject} are unlike those "
            "the network was trained on."
        )
    return (
        f"{told}: better by one standard error but not by two, so that {subject} count as like "
        "those the network was trained on."
    )


def _about_baseline(study: Study, baseline: LayerScore, strategy: str) -> str:
    write, best = study.kind.write, study.best
    told = f"A bag of words, which needs no network, reaches {write(baseline.mean)}"
    probe = f"the probe on {best.name} {write(best.mean)}"
    if study.baseline_wins:
        verdict = "take it" if strategy == BAG_OF_WORDS else "fine-tuning has to beat it"
        sure = is_better(baseline, best, LIKELY)
        how = "better by more than a standard error" if sure else "as good, and cheap"
        return f"{told}, {probe}: {how}, so {verdict}."
    if is_better(best, baseline, LIKELY):
        return f"{told}, {probe}: the network is better by more than a standard error."
    return (
        f"{told}, {probe}: better by less than a standard error, so the bag of words is the "
        "cheaper choice."
    )


def _about_strategy(strategy: str, study: Study, fine_tune: bool | str) -> Iterator[str]:
    best, last, noun = study.best, study.last, study.modality.noun
    if strategy == "fine-tune all":
        yield (
            "Fine-tuning of all layers from the pretrained weights pays with so many "
            f"{noun}s; it starts from a linear probe, with small learning rates for pretrained "
            "layers."
        )
        if (end := study.to_tune_whole) is not last:
            yield f"The network ends with {end.name}, which is better than the layers behind it."
        yield from _about_end(study)
    elif strategy == "fine-tune last":
        yield _about_last_stages(study)
        if (end := study.to_tune) is not last:
            yield (
                f"The fine-tuned network ends with {end.name} ({study.kind.write(end.mean)} by a "
                f"probe, the last layer {study.kind.write(last.mean)}): training adapts an "
                "earlier layer to the classes."
            )
        yield from _about_end(study)
    elif strategy == VOTE:
        yield from _about_vote(study)
    elif strategy == BAG_OF_WORDS:
        yield (
            "A fine-tuned network was not tried; AutoTransferTextClassifier tries it on the same "
            "folds."
            if not study.kind.are_values
            else "A fine-tuned network was not tried; fine_tune=True gives one to compare."
        )
    elif best.mean >= 1 - SOLVED:
        expected = study.expected("probe", best)
        yield f"A linear probe {study.kind.errs(expected)}: fine-tuning has little to gain."
    elif fine_tune is False:
        yield "A linear model on the codes, since fine_tune=False."
    else:
        where = "the codes" if best is last else "the earlier layer"
        yield f"A linear model on {where}: there are too few {noun}s to fine-tune."


def _about_vote(study: Study) -> Iterator[str]:
    members = [name for name, _ in _members(study)]
    last, noun = study.modality.last, study.modality.noun
    told = {
        "probe": f"a linear model on {study.best.name}",
        "fine_tune_last": f"{last} trained of the network up to {study.last.name}",
        "fine_tune_all": f"all layers trained, up to {study.to_tune_whole.name}",
    }
    for end in study.earlier:
        told["fine_tune_earlier"] = f"{last} trained of the network up to {end.name}"
    yield (
        f"{len(members)} vote, by the mean of their probabilities: "
        f"{'; '.join(told[name] for name in members)}. This number of {noun}s cannot show which "
        "of these is best, and the mean has been about as good as the best of them. Its fit and "
        "its predictions cost as much as those of all together; vote=False gives a single network."
    )
    if not _at_least(study, study.modality.some):
        n, size = study.modality.some
        yield (
            f"They are fine-tuned because fine_tune=True; with so few {noun}s ({n} and a median "
            f"class size of {size} would be enough) the probe alone may be as good."
        )


def _about_end(study: Study) -> Iterator[str]:
    """Why a network that is fine-tuned ends with the last layer where a probe prefers another."""
    if not study.modality.ends_early and study.best is not study.last:
        yield (
            f"The network still ends with {study.last.name}: after training, that has been as "
            f"good as ending with {study.best.name}."
        )


def _about_last_stages(study: Study) -> str:
    noun, last = study.modality.noun, study.modality.last
    n, size = study.modality.some
    enough = f"{n} {noun}s and a median class size of {size}"
    if not _at_least(study, study.modality.some):
        return (
            f"{last[0].upper()}{last[1:]} are trained, starting from a linear probe, because "
            f"fine_tune=True; with so few {noun}s ({enough} would be enough) the probe alone may "
            "be as good."
        )
    return (
        f"Too few to fine-tune all layers, but enough ({enough}) to train {last}, starting from a "
        "linear probe, which has been better than the probe alone with such numbers. "
        "fine_tune=False gives the probe, a model in seconds."
    )


def _about_more(curve: LearningCurve, kind: Kind, model: str) -> str:
    now, size, noun = curve.means[-1], curve.sizes[-1], f"{kind.item}s"
    twice = curve.expected(2 * size)
    if np.isnan(twice) or twice < now:
        return f"The learning curve is too noisy or flat to predict the gain from more {noun}."
    verdict = f"more {noun} would help" if twice - now > 0.01 else "more would help little"
    return (
        f"With {size:,} training {noun} the {model} reaches {kind.write(now)}; extrapolated to "
        f"twice as many, about {kind.write(twice)}: {verdict}."
    )


# What can be seen of the items and labels before any network looks at them.


@dataclass(frozen=True, eq=False)
class DataLook:
    """Items, labels, and what is odd about them.

    Attributes
    ----------
    modality : Modality
        Of the items.
    kind : Kind
        Of the targets.
    y : ndarray
        Targets as given.
    usable : ndarray of bool
        Items that can be read, of classes that can be validated.
    groups : ndarray of int
        The same number for what must not be apart: copies of an item, and groups of the user's.
    odd_share : float
        Share of items that do not fit the network: images that are not about square, long texts.
    conflicts : list of list of int
        The same item with different labels.
    copies : list of list of int
        The same item several times with one label.
    warnings : list of str
    """

    modality: Modality
    kind: Kind
    y: np.ndarray
    usable: np.ndarray
    groups: np.ndarray
    odd_share: float
    conflicts: list[list[int]] = field(default_factory=list)
    copies: list[list[int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return int(self.usable.sum())


def look_at_data(codes: Any, X: Any, y: Any, groups: Any = None) -> DataLook:
    """Check labels, find copies and classes too small; every file is read once.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes can be validated.
    ItemError
        If an item cannot be read, unless ``on_error="nan"``.
    """
    modality = modality_of(codes)
    items = modality.items(codes, X)
    kind = kind_of(y, item=modality.noun)
    target = kind.read(y)
    if len(target) != len(items):
        raise ValueError(
            f"y must have one label for each of {len(items)} {modality.noun}s, got {len(target)}."
        )
    kind.check(target)
    same_items, readable = digests(items, codes.on_error == "raise")
    owners = together(same_items, groups)
    usable, warnings = kind.usable(target, owners, readable)
    numbers = kind.numbers(target)
    conflicts: list[list[int]] = []
    copies: list[list[int]] = []
    for members in _by_group(same_items, readable):
        same = len({numbers[index].tobytes() for index in members}) == 1
        (copies if same else conflicts).append(members)
    return DataLook(
        modality=modality,
        kind=kind,
        y=target,
        usable=readable & usable,
        groups=owners,
        odd_share=modality.odd_share(codes, items, readable),
        conflicts=conflicts,
        copies=copies,
        warnings=[*_about_copies(conflicts, copies, kind), *warnings],
    )


def digests(items: Any, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same number for the same item; and which can be read, which `strict` demands."""
    seen: dict[bytes, int] = {}
    groups = np.empty(len(items), dtype=np.int64)
    readable = np.ones(len(items), dtype=bool)
    for index in range(len(items)):
        try:
            key = items.open(index).digest
        except ItemError:
            if strict:
                raise
            key, readable[index] = index.to_bytes(8, "big"), False
        groups[index] = seen.setdefault(key, len(seen))
    return groups, readable


def together(copies: np.ndarray, groups: Any) -> np.ndarray:
    """What must not be apart: copies of an item, items of a group, and all that these join.

    Parameters
    ----------
    copies : ndarray of int
        The same number for the same item.
    groups : array-like or None
        The same label for items of a group.

    Raises
    ------
    ValueError
        If there is not one group for each item.
    """
    if groups is None:
        return copies
    groups = column_or_1d(groups)
    check_consistent_length(copies, groups)
    numbers, n = np.unique(groups, return_inverse=True)[1], len(copies)
    pairs = (np.ones(n), (copies, copies.max() + 1 + numbers))
    size = int(copies.max() + 2 + numbers.max())
    owners: np.ndarray = connected_components(coo_matrix(pairs, (size, size)), directed=False)[1]
    return owners[copies]


def _by_group(groups: np.ndarray, readable: np.ndarray) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(readable):
        members[int(groups[index])].append(int(index))
    return [found for found in members.values() if len(found) > 1]


def _about_copies(
    conflicts: list[list[int]], copies: list[list[int]], kind: Kind
) -> Iterator[str]:
    if conflicts:
        yield (
            f"{len(conflicts)} {kind.item}(s) occur with different {kind.noun}, such as "
            f"{conflicts[0]}: some of these must be wrong, and duplicates on both sides of a "
            "split are a leak."
        )
    if copies:
        n = sum(len(copy) - 1 for copy in copies)
        yield (
            f"{n} {kind.item}(s) are duplicates of others, such as {copies[0]}: a split that puts "
            "duplicates on both sides tests on training data. Here they are kept in the same fold."
        )
