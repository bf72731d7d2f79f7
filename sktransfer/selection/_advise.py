"""Which layer, which resize mode, which strategy: by what the images say."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from ..codes import CNNCodes
from ..exceptions import ImageError
from ..inputs import RESIZES, Images, as_images
from ._features import Seen, check_params, pass_over
from ._kinds import Kind, kind_of
from ._probe import (
    SURE,
    TALL_SHARE,
    LayerScore,
    LearningCurve,
    best_layer,
    best_resize,
    is_better,
    layer_to_tune,
    learning_curve_of,
    other_resize_modes,
    probe_layer,
    probe_resize,
    tall_share,
)
from ._rank import BackboneRanking, rank_backbones
from ._recommendation import Recommendation
from ._strategies import LAST_STAGES, grid_of, minutes_of, probe_pipeline, tune_up_to

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
    "study_images",
    "take_images",
]


def advise(
    X: Any,
    y: Any,
    backbone: Any = "efficientnet_lite0",
    *,
    weights: Any = "default",
    image_size: Any = None,
    resize: str = "auto",
    cache: Any = "memory",
    cv: Any = 5,
    fine_tune: bool | str = "auto",
    **codes_params: Any,
) -> Recommendation:
    """Say what to do with labelled images, and why.

    Codes of several depths, from one pass of the network, are judged by cross-validated linear
    probes. Where the last layer wins, the images are like those the network was trained
    on; where an earlier one does, they are not. With the number of images that makes the
    four scenarios of the tutorials, and each has its strategy.

    Parameters
    ----------
    X : array, list or table of images
        As in :class:`sktransfer.CNNCodes`.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags)
        Labels; or values, which are floats with fractions; or several tags an image, a matrix of
        0, 1, and NaN where it is not known.
    backbone : str, CNNCodes, torch.nn.Module, list of these or BackboneRanking, \
default="efficientnet_lite0"
        The network. Of several the best by :func:`rank_backbones`; after a ranking of the same
        images no pass is needed.
    weights : str, enum member, path, None or dict, default="default"
        As in :func:`rank_backbones`.
    image_size : int or (int, int), default=None
        Pixels that the network sees.
    resize : {"auto", "pad", "squash", "crop"}, default="auto"
        How images are resized. "auto" tries all three where more than a tenth of the
        images are not about square, which costs two more passes, of at most 2,000
        images.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept; with None every question costs a pass.
    cv : int or splitter, default=5
        Folds. The same image is in one fold only, however often it is there; a splitter of
        scikit-learn's is told so by its `groups`.
    fine_tune : {"auto", True, False}, default="auto"
        Whether fine-tuning is advised: "auto" from 100 images and a median class size of 5 on,
        where the probe errs in more than 1%.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes`, for networks given by name.

    Returns
    -------
    recommendation : Recommendation
        With a ready estimator, what to expect of it, and reasons.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes have two images.
    ImageError
        If an image cannot be read, unless ``on_error="nan"``.
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
    if resize not in ("auto", *RESIZES):
        raise ValueError(f"resize must be auto or one of {', '.join(RESIZES)}, got {resize!r}.")
    if not (isinstance(fine_tune, bool) or fine_tune == "auto"):
        raise ValueError(f'fine_tune must be True, False or "auto", got {fine_tune!r}.')
    check_params(advise, codes_params)
    common = {"image_size": image_size, "cache": cache, **codes_params}
    if resize != "auto":
        common["resize"] = resize
    codes, ranking = _settle(X, y, backbone, weights, common)
    look = look_at_data(codes, X, y)
    study = study_images(X, codes, look, cv, frame=resize == "auto")
    return _recommend(study, ranking, fine_tune)


def _settle(
    X: Any, y: Any, backbone: Any, weights: Any, common: dict[str, Any]
) -> tuple[CNNCodes, BackboneRanking | None]:
    # Which layer is what is asked.
    if isinstance(backbone, BackboneRanking):
        return backbone.codes().set_params(layer=None), backbone
    if isinstance(backbone, CNNCodes):
        return clone(backbone).set_params(layer=None), None
    if isinstance(backbone, (list, tuple, dict)):
        ranking = rank_backbones(X, y, backbone, weights=weights, **common)
        return ranking.codes().set_params(layer=None), ranking
    return CNNCodes(backbone, weights=weights, **common), None


def _recommend(study: Study, ranking: Any, fine_tune: Any) -> Recommendation:
    codes, look, seen = study.codes, study.look, study.seen
    scenario = scenario_of(study)
    strategy, end, estimator = choose_strategy(scenario, study, fine_tune)
    curve = study.learning_curve(end.name)
    unreadable = np.flatnonzero(~seen.kept)
    return Recommendation(
        scenario=scenario,
        strategy=strategy,
        backbone=seen.estimator.backbone,
        layer=end.name,
        resize=codes.resize,
        estimator=estimator,
        param_grid=grid_of(estimator, _layers_to_search(study), study.kind),
        measure=study.kind.measure,
        expected_accuracy=end.mean,
        accuracy_std=end.std,
        minutes=minutes_of(estimator, look.n, seen.images_per_second, study.seconds),
        reasons=tuple(reasons_for(scenario, strategy, study, curve, fine_tune)),
        warnings=(
            *look.warnings,
            *_about_unreadable(unreadable),
            *_about_suspects(study.suspects, study.best.mean),
        ),
        layer_scores=tuple((score.name, score.mean, score.std) for score in study.scores),
        resize_scores={name: score.mean for name, score in study.resize_modes.items()},
        learning_curve=curve,
        suspects=study.suspects,
        suspected_of=study.suspected_of,
        conflicts=tuple(map(tuple, look.conflicts)),
        copies=tuple(map(tuple, look.copies)),
        unreadable=unreadable,
        ranking=ranking,
    )


def _layers_to_search(study: Study) -> list[Any]:
    names = [score.name for score in study.scores]
    earlier = [study.best.name] if study.best.name in names[:-4] else []
    return [*earlier, *names[-4:-1], None]


def _about_unreadable(unreadable: np.ndarray) -> list[str]:
    if not len(unreadable):
        return []
    return [
        f"{len(unreadable)} image(s) cannot be read: {_some(unreadable)}. They are left out "
        "of every figure here; leave them out before the estimator is fitted, too."
    ]


def _about_suspects(suspects: np.ndarray, accuracy: float) -> list[str]:
    if not len(suspects):
        return []
    return [
        f"{len(suspects)} label(s) look wrong to a probe that errs in {1 - accuracy:.0%}: "
        f"images {_some(suspects)}. Look at them: plot_suspects(X, y)."
    ]


def _some(numbers: np.ndarray) -> str:
    return f"{numbers[:10].tolist()}{' …' if len(numbers) > 10 else ''}"


# What a network says of images: probes by depth and by resize mode, and what they lead to.


# More images than these are not needed to tell layers and resize modes apart.
_ENOUGH = 2000


@dataclass(frozen=True, eq=False)
class Asked:
    """The part of the images that questions are asked of.

    Attributes
    ----------
    chosen, at : ndarray of int
        Where they stand among all images, and among the codes.
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
    codes : CNNCodes
        With the resize mode that is best.
    look : DataLook
    seen : Seen
        The pass of `codes`.
    asked : Asked
        The images that were asked, and the folds.
    scores : list of LayerScore
        By depth, from the input.
    best : LayerScore
        The one to take.
    resize modes : dict of str to LayerScore
        On the last layer; empty where there was nothing to try.
    suspects, suspected_of : ndarray
        Images whose label looks wrong, and the labels they seem to have.
    seconds : float
        That one fit of a probe took.
    """

    codes: CNNCodes
    look: DataLook
    seen: Seen
    asked: Asked
    scores: list[LayerScore]
    best: LayerScore
    resize_modes: dict[str, LayerScore]
    suspects: np.ndarray
    suspected_of: np.ndarray
    seconds: float

    @property
    def last(self) -> LayerScore:
        return self.scores[-1]

    @property
    def sizes(self) -> list[int]:
        """Images of each class, or of the rarer answer of each tag, that are validated."""
        return self.kind.sizes(self.look.y[self.look.usable & self.seen.kept])

    @property
    def n(self) -> int:
        """Images that can be read and validated."""
        return int((self.look.usable & self.seen.kept).sum())

    @property
    def kind(self) -> Kind:
        """That of the targets."""
        return self.look.kind

    def learning_curve(self, layer: str) -> LearningCurve:
        """Of a probe on the codes of a layer."""
        asked = self.asked
        codes = self.seen.layers[layer][asked.at]
        return learning_curve_of(codes, asked.target, asked.splits, self.kind)

    @property
    def to_tune(self) -> LayerScore:
        """Where a network of which some stages are fine-tuned ends."""
        return layer_to_tune(self.scores)

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


def study_images(X: Any, codes: CNNCodes, look: DataLook, cv: Any, *, frame: bool) -> Study:
    """Ask the images; `frame` says whether other resize modes are tried where they may matter."""
    seen = pass_over(codes, X)
    asked, kind = _ask(look, seen.kept, cv), look.kind
    start = time.perf_counter()
    scores = _by_depth(seen, asked, kind)
    seconds = (time.perf_counter() - start) / (len(scores) * len(asked.splits))
    resize_modes: dict[str, LayerScore] = {}
    if frame and look.tall_share > TALL_SHARE:
        part = take_images(X, asked.chosen, len(seen.kept))
        resize_modes = _resize_modes(part, codes, scores[-1], asked, kind)
    if resize_modes and (better := best_resize(resize_modes)) != codes.resize:
        codes = clone(codes).set_params(resize=better)
        seen = pass_over(codes, X)
        scores = _by_depth(seen, asked, kind)
    best = best_layer(scores)
    # The last layer's wide codes are surer of the label, as long as they are of any use.
    judge = best if is_better(best, scores[-1], SURE) else scores[-1]
    wrong, said = kind.suspects(judge.answers, look.y[asked.chosen])
    suspects = asked.chosen[wrong]
    return Study(codes, look, seen, asked, scores, best, resize_modes, suspects, said, seconds)


def _by_depth(seen: Seen, asked: Asked, kind: Kind) -> list[LayerScore]:
    return [
        probe_layer(name, codes[asked.at], asked.target, asked.splits, kind)
        for name, codes in seen.layers.items()
    ]


def _resize_modes(
    X: Any, codes: CNNCodes, current: LayerScore, asked: Asked, kind: Kind
) -> dict[str, LayerScore]:
    """Probes on the last layer for each way of resize mode, on the same folds."""
    found = {codes.resize: current}
    for resize in other_resize_modes(codes):
        other = clone(codes).set_params(resize=resize)
        found[resize] = probe_resize(X, other, asked.target, asked.splits, kind)
    return found


def take_images(X: Any, numbers: np.ndarray, n: int) -> Any:
    if len(numbers) == n:
        return X
    if hasattr(X, "iloc"):
        return X.iloc[numbers]
    return X[numbers] if hasattr(X, "shape") else [X[int(i)] for i in numbers]


# The four scenarios of the tutorials, told by evidence, and what each calls for.


# Images, and median class size, from which on the whole network, or its last
# stages, are fine-tuned: rules of thumb, which AutoTransferClassifier puts to the test.
MANY = (500, 50)
SOME = (100, 5)
# Where the probe errs less often than this there is little left to win.
_SOLVED = 0.01


def scenario_of(study: Study) -> str:
    """One of "few" or "many", "and", "similar" or "dissimilar"."""
    many = "many" if _at_least(study, MANY) else "few"
    return f"{many} and {'similar' if study.similar else 'dissimilar'}"


def _at_least(study: Study, bound: tuple[int, int]) -> bool:
    sizes = study.sizes
    return bool(study.n >= bound[0] and np.median(sizes) >= bound[1])


def choose_strategy(
    scenario: str, study: Study, fine_tune: bool | str
) -> tuple[str, LayerScore, Any]:
    """A name, the layer that the network ends with, and an estimator that is not fitted."""
    solved = study.best.mean >= 1 - _SOLVED
    enough = _at_least(study, SOME) or scenario.startswith("many")
    if fine_tune is False or (fine_tune == "auto" and (solved or not enough)):
        layer = None if study.best is study.last else study.best.name
        return "probe", study.best, probe_pipeline(study.codes, study.kind, layer=layer)
    if scenario.startswith("many"):
        estimator = tune_up_to(study.codes, study.best.name, "all", study.kind)
        return "fine-tune all", study.best, estimator
    estimator = tune_up_to(study.codes, study.to_tune.name, kind=study.kind)
    return "fine-tune last", study.to_tune, estimator


def reasons_for(
    scenario: str, strategy: str, study: Study, curve: LearningCurve, fine_tune: bool | str
) -> Iterator[str]:
    """Plain sentences, each with its figures."""
    yield (
        f"{study.kind.told(study.n, study.sizes)}: that is {scenario.split()[0]} (many begins at "
        f"{MANY[0]:,} and a median class size of {MANY[1]})."
    )
    yield _about_layers(study)
    if study.resize_modes:
        yield _about_resize(study)
    yield from _about_strategy(strategy, study, fine_tune)
    yield _about_more(curve, study.kind)


def _about_resize(study: Study) -> str:
    scores = {name: score.mean for name, score in study.resize_modes.items()}
    told = ", ".join(f"{name} {study.kind.write(mean)}" for name, mean in scores.items())
    best, resize = max(scores, key=lambda name: scores[name]), study.codes.resize
    taken = "the best of several is a little higher than what is to be expected"
    if scores[best] > scores[resize]:
        taken = f"{best} is within a standard error of {resize}, which stays, but may be tried"
    tall = f"{study.look.tall_share:.0%} of the images are not square"
    return f"{tall}; resized by {told} ({taken})."


def _about_layers(study: Study) -> str:
    scores, best, last, write = study.scores, study.best, study.last, study.kind.write
    if best is last:
        others = max((s for s in scores[:-1]), key=lambda s: s.mean, default=None)
        rest = ""
        if others is not None:
            rest = f"; the best earlier one, {others.name}, {write(others.mean)}"
        return (
            f"A linear probe on the last layer reaches {write(last.mean)}{rest}: none is better by "
            "a standard error, so the images are like those the network was trained on."
        )
    told = (
        f"A linear probe on {best.name} reaches {write(best.mean)}, on the last layer "
        f"{write(last.mean)}"
    )
    if is_better(best, last, SURE):
        return (
            f"{told}, a difference of more than two standard errors: the images are unlike those "
            "the network was trained on."
        )
    return (
        f"{told}: better by one standard error but not by two, so that the images count as like "
        "those the network was trained on."
    )


def _about_strategy(strategy: str, study: Study, fine_tune: bool | str) -> Iterator[str]:
    best, last = study.best, study.last
    if strategy == "fine-tune all":
        yield (
            "Fine-tuning of all layers from the pretrained weights is worth its time with so many "
            "images; it begins from a linear probe, with small learning rates for pretrained "
            "layers."
        )
        if best is not last:
            yield f"It ends with {best.name}, which is better than what is behind it."
    elif strategy == "fine-tune last":
        yield _about_last_stages(study)
        if (end := study.to_tune) is not last:
            yield (
                f"What is fine-tuned ends with {end.name} ({study.kind.write(end.mean)} by a "
                f"probe, the last layer {study.kind.write(last.mean)}): what is trained makes an "
                "earlier layer as specific."
            )
    elif best.mean >= 1 - _SOLVED:
        yield f"A linear probe {study.kind.errs(best.mean)}: fine-tuning has little to win."
    elif fine_tune is False:
        yield "A linear model on the codes, since fine_tune=False."
    else:
        where = "the codes" if best is last else "the earlier layer"
        yield f"A linear model on {where}: so few images do not suffice to fine-tune."


def _about_last_stages(study: Study) -> str:
    enough = f"{SOME[0]} images and a median class size of {SOME[1]}"
    if not _at_least(study, SOME):
        return (
            f"{LAST_STAGES} stages are trained, from a linear probe, since fine_tune=True; of so "
            f"few images ({enough} would be enough) the probe alone may be as good."
        )
    return (
        f"Too few to fine-tune all layers, but enough ({enough}) to train {LAST_STAGES} stages "
        "from a linear probe, which has been better than the probe alone on such numbers. "
        "For a model in seconds, fine_tune=False gives the probe."
    )


def _about_more(curve: LearningCurve, kind: Kind) -> str:
    now, size = curve.means[-1], curve.sizes[-1]
    twice = curve.expected(2 * size)
    if np.isnan(twice) or twice < now:
        return "The learning curve is too rough or flat to say what more images would bring."
    verdict = "more images would help" if twice - now > 0.01 else "more would help little"
    return (
        f"Learning from {size:,} images the probe tells {kind.write(now)}; the curve leads to "
        f"about {kind.write(twice)} with twice as many: {verdict}."
    )


# What can be seen of the images and labels before any network looks at them.


@dataclass(frozen=True, eq=False)
class DataLook:
    """Images, labels, and what is odd about them.

    Attributes
    ----------
    kind : Kind
        Of the targets.
    y : ndarray
        Targets as given.
    usable : ndarray of bool
        Images that can be read, of classes that can be validated.
    groups : ndarray of int
        The same number for the same image.
    tall_share : float
        Share of images that are not about square.
    conflicts : list of list of int
        The same image with different labels.
    copies : list of list of int
        The same image several times with one label.
    warnings : list of str
    """

    kind: Kind
    y: np.ndarray
    usable: np.ndarray
    groups: np.ndarray
    tall_share: float
    conflicts: list[list[int]] = field(default_factory=list)
    copies: list[list[int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return int(self.usable.sum())


def look_at_data(codes: CNNCodes, X: Any, y: Any) -> DataLook:
    """Check labels, find copies and classes too small; every file is read once.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes can be validated.
    ImageError
        If a file cannot be read, unless ``on_error="nan"``.
    """
    images = as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)
    kind = kind_of(y)
    target = kind.read(y)
    if len(target) != len(images):
        raise ValueError(
            f"y must have one label for each of {len(images)} images, got {len(target)}."
        )
    kind.check(target)
    groups, readable = digests(images, codes.on_error == "raise")
    usable, warnings = kind.usable(target, groups, readable)
    numbers = kind.numbers(target)
    conflicts: list[list[int]] = []
    copies: list[list[int]] = []
    for members in _by_group(groups, readable):
        same = len({numbers[index].tobytes() for index in members}) == 1
        (copies if same else conflicts).append(members)
    return DataLook(
        kind=kind,
        y=target,
        usable=readable & usable,
        groups=groups,
        tall_share=tall_share(images, readable),
        conflicts=conflicts,
        copies=copies,
        warnings=[*_about_copies(conflicts, copies, kind), *warnings],
    )


def digests(images: Images, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same number for the same image; and which can be read, which `strict` demands."""
    seen: dict[bytes, int] = {}
    groups = np.empty(len(images), dtype=np.int64)
    readable = np.ones(len(images), dtype=bool)
    for index in range(len(images)):
        try:
            key = images.open(index).digest
        except ImageError:
            if strict:
                raise
            key, readable[index] = index.to_bytes(8, "big"), False
        groups[index] = seen.setdefault(key, len(seen))
    return groups, readable


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
            f"{len(conflicts)} image(s) are there with different {kind.noun}, such as "
            f"{conflicts[0]}: some of these must be wrong, and a test on one of them is a leak."
        )
    if copies:
        n = sum(len(copy) - 1 for copy in copies)
        yield (
            f"{n} image(s) are copies of others, such as {copies[0]}: a split that "
            "parts copies tests on what was learnt. Folds here keep them together."
        )
