"""Which layer, which framing, which strategy: by what the photographs say."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from ..codes import CNNCodes
from ..images import RESIZES
from ._data import look_at_data
from ._passes import check_params
from ._rank import rank_backbones
from ._ranking import BackboneRanking
from ._recommendation import Recommendation
from ._scenes import choose_strategy, reasons_for, scene_of
from ._strategies import grid_of, minutes_of
from ._study import Study, study_photographs

__all__ = ["advise"]


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
    weights : str, enum member, path, None or dict, default="default"
        As in :func:`rank_backbones`.
    image_size : int or (int, int), default=None
        Pixels that the network sees.
    resize : {"auto", "pad", "squash", "crop"}, default="auto"
        How photographs are framed. "auto" tries all three where more than a tenth of the
        photographs are not about square, which costs two more passes, of at most 2,000
        photographs.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept; with None every question costs a pass.
    cv : int or splitter, default=5
        Folds. The same photograph is in one fold only, however often it is there; a splitter of
        scikit-learn's is told so by its `groups`.
    fine_tune : {"auto", True, False}, default="auto"
        Whether fine-tuning is advised: "auto" from 100 photographs and 5 of the middle class on,
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
    >>> advice = advise(X[:80], y[:80], image_size=64)
    >>> advice.scene, advice.strategy
    ('few and similar', 'probe')
    >>> pipe = advice.estimator.fit(X[:80], y[:80])
    """
    if resize not in ("auto", *RESIZES):
        raise ValueError(f"resize must be auto or one of {', '.join(RESIZES)}, got {resize!r}.")
    if not (isinstance(fine_tune, bool) or fine_tune == "auto"):
        raise ValueError(f'fine_tune must be True, False or "auto", got {fine_tune!r}.')
    check_params("advise", codes_params)
    common = {"image_size": image_size, "cache": cache, **codes_params}
    if resize != "auto":
        common["resize"] = resize
    codes, ranking = _settle(X, y, backbone, weights, common)
    look = look_at_data(codes, X, y)
    study = study_photographs(X, codes, look, cv, frame=resize == "auto")
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
    scene = scene_of(study)
    strategy, end, estimator = choose_strategy(scene, study, fine_tune)
    curve = study.learning_curve(end.name)
    confidence, entropy = study.sureness
    unreadable = np.flatnonzero(~seen.kept)
    return Recommendation(
        scene=scene,
        strategy=strategy,
        backbone=seen.estimator.backbone,
        layer=end.name,
        resize=codes.resize,
        estimator=estimator,
        param_grid=grid_of(estimator, _layers_to_search(study)),
        expected_accuracy=end.mean,
        accuracy_spread=end.spread,
        minutes=minutes_of(estimator, look.n, seen.images_per_second, study.seconds),
        reasons=tuple(reasons_for(scene, strategy, study, curve, fine_tune)),
        warnings=(
            *look.warnings,
            *_about_unreadable(unreadable),
            *_about_suspects(study.suspects, study.best.mean),
        ),
        layer_scores=tuple((score.name, score.mean, score.spread) for score in study.scores),
        framing_scores={name: score.mean for name, score in study.framings.items()},
        learning_curve=curve,
        suspects=study.suspects,
        suspected_of=study.suspected_of,
        conflicts=tuple(map(tuple, look.conflicts)),
        copies=tuple(map(tuple, look.copies)),
        unreadable=unreadable,
        source_confidence=confidence,
        source_entropy=entropy,
        source_distance=float("nan") if seen.distance is None else seen.distance,
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
        f"{len(unreadable)} photograph(s) cannot be read: {_some(unreadable)}. They are left out "
        "of every figure here; leave them out before the estimator is fitted, too."
    ]


def _about_suspects(suspects: np.ndarray, accuracy: float) -> list[str]:
    if not len(suspects):
        return []
    return [
        f"{len(suspects)} label(s) look wrong to a probe that errs in {1 - accuracy:.0%}: "
        f"photographs {_some(suspects)}. Look at them: plot_suspects(X, y)."
    ]


def _some(numbers: np.ndarray) -> str:
    return f"{numbers[:10].tolist()}{' …' if len(numbers) > 10 else ''}"
