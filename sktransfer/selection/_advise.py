"""Which layer, which framing, which strategy: by what the photographs say."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codes import CNNCodes
from ._curve import LearningCurve, learning_curve_of
from ._data import DataLook, look_at_data
from ._layers import LIKELY, SURE, LayerScore, best_layer, is_better, probe_layer
from ._passes import Seen, pass_over, with_params
from ._probe import make_splits
from ._rank import rank_backbones
from ._ranking import BackboneRanking
from ._recommendation import Recommendation
from ._scenes import choose_strategy, reasons_for, scene_of, sureness
from ._strategies import grid_of, minutes_of
from ._suspects import suspect_labels

__all__ = ["advise", "take_photographs"]

# More photographs than these are not needed to tell layers and framings apart.
_ENOUGH = 2000
_OTHER_FRAMINGS = ("squash", "crop")


def advise(
    X: Any,
    y: Any,
    backbone: Any = "efficientnet_lite0",
    *,
    weights: Any = "default",
    image_size: Any = None,
    resize: str = "auto",
    cache: Any = "memory",
    cv: int = 5,
    fine_tune: bool | str = "auto",
    **codes_params: Any,
) -> Recommendation:
    """Say what to do with labelled photographs, and why.

    Codes of several depths, from one pass of the network, are judged by cross-validated linear
    probes. Where the last layer wins, the photographs are like those the network was trained
    on; where an earlier one does, they are not. With the number of photographs that makes the
    four scenes of the tutorials, and each has its strategy.

    Parameters
    ----------
    X : array, list or table of images
        As in :class:`sktransfer.CNNCodes`.
    y : array-like of shape (n_samples,)
        Labels.
    backbone : str, CNNCodes, torch.nn.Module, list of these or BackboneRanking, \
default="efficientnet_lite0"
        The network. Of several the best by :func:`rank_backbones`; after a ranking of the same
        photographs no pass is needed.
    weights : str, path, None or dict, default="default"
        As in :func:`rank_backbones`.
    image_size : int or (int, int), default=None
        Pixels that the network sees.
    resize : {"auto", "pad", "squash", "crop"}, default="auto"
        How photographs are framed. "auto" tries all three where more than a tenth of the
        photographs are not about square, which costs two more passes, of at most 2,000
        photographs.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept; with None every question costs a pass.
    cv : int, default=5
        Folds. The same photograph is in one fold only, however often it is there.
    fine_tune : {"auto", True, False}, default="auto"
        Whether fine-tuning may be advised: "auto" by the number of photographs.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes`, for networks given by name.

    Returns
    -------
    recommendation : Recommendation
        With a ready estimator, what to expect of it, and reasons.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes have two photographs.
    ImageError
        If an image cannot be read, unless ``on_error="nan"``.
    BackboneError
        If no network can be had.

    Examples
    --------
    >>> from sktransfer import advise
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> advice = advise(X[:100], y[:100], image_size=64)
    >>> advice.scene, advice.strategy
    ('few and similar', 'probe')
    >>> pipe = advice.estimator.fit(X[:100], y[:100])
    """
    if not (isinstance(fine_tune, bool) or fine_tune == "auto"):
        raise ValueError(f'fine_tune must be True, False or "auto", got {fine_tune!r}.')
    common = {"image_size": image_size, "cache": cache, **codes_params}
    if resize != "auto":
        common["resize"] = resize
    codes, ranking = _settle(X, y, backbone, weights, common)
    look = look_at_data(codes, X, y)
    return _advise(X, codes, ranking, look, cv, resize == "auto", fine_tune)


def _settle(
    X: Any, y: Any, backbone: Any, weights: Any, common: dict[str, Any]
) -> tuple[CNNCodes, BackboneRanking | None]:
    # Which layer is what is asked.
    if isinstance(backbone, BackboneRanking):
        return with_params(backbone.codes(), layer=None), backbone
    if isinstance(backbone, CNNCodes):
        return with_params(backbone, layer=None), None
    if isinstance(backbone, (list, tuple, dict)):
        ranking = rank_backbones(X, y, backbone, weights=weights, **common)
        return with_params(ranking.codes(), layer=None), ranking
    return CNNCodes(backbone, weights=weights, **common), None


@dataclass(frozen=True, eq=False)
class _Task:
    """The part of the photographs that questions are asked of."""

    chosen: np.ndarray
    numbers: np.ndarray
    splits: Any


def _task(look: DataLook, kept: np.ndarray, cv: int) -> _Task:
    usable = np.flatnonzero(look.usable & kept)
    _, numbers = np.unique(look.y[usable], return_inverse=True)
    if len(usable) > _ENOUGH:
        part = _some_of_each(numbers, cv)
        usable, numbers = usable[part], numbers[part]
    copied = len(np.unique(look.groups[usable])) < len(usable)
    groups = look.groups[usable] if copied else None
    return _Task(usable, numbers, make_splits(numbers, cv, groups=groups))


def _some_of_each(numbers: np.ndarray, cv: int) -> np.ndarray:
    """Enough photographs, classes in their shares, and of each as many as there are folds."""
    rng = np.random.default_rng(0)
    place = np.empty(len(numbers))
    for label in np.unique(numbers):
        own = rng.permutation(np.flatnonzero(numbers == label))
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
        place[own[:cv]] -= 1.0
    return np.sort(np.argsort(place, kind="stable")[:_ENOUGH])


def _advise(
    X: Any, codes: CNNCodes, ranking: Any, look: DataLook, cv: int, frame: bool, fine_tune: Any
) -> Recommendation:
    seen = pass_over(codes, X)
    task = _task(look, seen.kept, cv)
    rows = np.cumsum(seen.kept) - 1  # where in the codes a photograph stands
    at = rows[task.chosen]
    start = time.perf_counter()
    scores = [probe_layer(k, v[at], task.numbers, task.splits) for k, v in seen.layers.items()]
    seconds = (time.perf_counter() - start) / (len(scores) * len(task.splits))
    framings = _framings(X, codes, scores[-1], task) if frame and look.tall_share > 0.1 else {}
    if framings and (better := _best_framing(framings)) != codes.resize:
        codes = with_params(codes, resize=better)
        seen = pass_over(codes, X)
        scores = [probe_layer(k, v[at], task.numbers, task.splits) for k, v in seen.layers.items()]
    best = best_layer(scores)
    layer_codes = seen.layers[best.name][at]
    curve = learning_curve_of(layer_codes, task.numbers, task.splits)
    # The last layer's wide codes are surer of the label, as long as they are of any use.
    judge = best if is_better(best, scores[-1], SURE) else scores[-1]
    suspects = task.chosen[suspect_labels(judge.probabilities, task.numbers)]
    said = judge.probabilities[np.searchsorted(task.chosen, suspects)].argmax(axis=1)
    suspected_of = np.unique(look.y[task.chosen])[said]
    return _recommend(
        codes,
        ranking,
        look,
        seen,
        task,
        scores,
        best,
        framings,
        curve,
        suspects,
        suspected_of,
        seconds,
        fine_tune,
    )


def _framings(X: Any, codes: CNNCodes, current: LayerScore, task: _Task) -> dict[str, LayerScore]:
    """Probes on the last layer for each way of framing, on the same folds."""
    from ..images import as_images

    found = {codes.resize: current}
    images = as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)
    part = take_photographs(X, task.chosen, len(images))
    for resize in ("pad", *_OTHER_FRAMINGS):
        if resize not in found:
            seen = pass_over(with_params(codes, resize=resize), part)
            last = list(seen.layers.values())[-1]
            found[resize] = probe_layer(resize, last, task.numbers, task.splits)
    return found


def take_photographs(X: Any, numbers: np.ndarray, n: int) -> Any:
    if len(numbers) == n:
        return X
    if hasattr(X, "iloc"):
        return X.iloc[numbers]
    return X[numbers] if hasattr(X, "shape") else [X[int(i)] for i in numbers]


def _best_framing(framings: dict[str, LayerScore]) -> str:
    """The one in use, unless another is likely to be better."""
    current = next(iter(framings))
    best = max(framings, key=lambda name: framings[name].mean)
    return best if is_better(framings[best], framings[current], LIKELY) else current


def _recommend(
    codes: CNNCodes, ranking: Any, look: DataLook, seen: Seen, task: _Task,
    scores: list[LayerScore], best: LayerScore, framings: dict[str, LayerScore],
    curve: LearningCurve, suspects: np.ndarray, suspected_of: np.ndarray,
    seconds: float, fine_tune: Any,
) -> Recommendation:  # fmt: skip
    last = scores[-1]
    scene = scene_of(look, similar=not is_better(best, last, SURE))
    layer = codes.layer if best is last and codes.layer is None else best.name
    strategy, estimator = choose_strategy(scene, codes, layer, best.mean, fine_tune)
    names = [score.name for score in scores]
    layers: list[Any] = [*names[-4:-1], None]
    if best.name in names[:-4]:
        layers.insert(0, best.name)
    confidence, entropy = sureness(seen.probabilities)
    warnings = list(look.warnings)
    if len(suspects):
        warnings.append(
            f"{len(suspects)} label(s) look wrong: photographs {suspects[:10].tolist()}"
            f"{' …' if len(suspects) > 10 else ''}; see suspects."
        )
    return Recommendation(
        scene=scene,
        strategy=strategy,
        backbone=seen.estimator.backbone,
        layer=best.name,
        resize=codes.resize,
        estimator=estimator,
        param_grid=grid_of(estimator, layers),
        expected_accuracy=best.mean,
        accuracy_spread=best.spread,
        minutes=minutes_of(estimator, look.n, seen.images_per_second, seconds),
        reasons=tuple(reasons_for(scene, strategy, look, seen, scores, best, framings, curve)),
        warnings=tuple(warnings),
        layer_scores=tuple((score.name, score.mean, score.spread) for score in scores),
        framing_scores={name: score.mean for name, score in framings.items()},
        learning_curve=curve,
        suspects=suspects,
        suspected_of=suspected_of,
        conflicts=tuple(map(tuple, look.conflicts)),
        copies=tuple(map(tuple, look.copies)),
        source_confidence=confidence,
        source_entropy=entropy,
        source_distance=float("nan") if seen.distance is None else seen.distance,
        ranking=ranking,
    )
