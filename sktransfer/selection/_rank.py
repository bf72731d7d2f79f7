"""Which network: each makes one pass, and its codes are scored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from ..backbones._load import weights_by_name
from ..codes import CNNCodes
from ..exceptions import BackboneError, ImageError, InputError, StoreError
from ..finetune._targets import labels_of, values_of
from ..images import as_images
from ._inputs import is_regression
from ._metrics import Metric, check_target, metric_names, score_of
from ._passes import check_params, pass_over
from ._ranking import BackboneRanking, RankedBackbone

__all__ = ["rank_backbones"]

DEFAULT = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet50",
    "timm:vit_small_patch14_reg4_dinov2",
)


def rank_backbones(
    X: Any,
    y: Any,
    backbones: Iterable[Any] | Mapping[str, Any] = DEFAULT,
    *,
    metric: Metric | Sequence[Metric] = "logme",
    weights: Any = "default",
    image_size: Any = None,
    cache: Any = "memory",
    cv: Any = 5,
    regression: bool | str = "auto",
    depth: bool = True,
    **codes_params: Any,
) -> BackboneRanking:
    """Rank networks by how well their codes suit labelled photographs.

    Each network makes one pass over the photographs, whatever the metrics; the codes of its
    stages are kept in the cache, so that :func:`advise` and :class:`sktransfer.CNNCodes` have
    them for nothing. A network counts as much as the best of its layers: for photographs unlike
    those it was trained on that is not the last one. The ranking is a shortlist, not a verdict:
    how well it agrees with accuracies on photographs that were held back is in the benchmarks.

    Parameters
    ----------
    X : array, list or table of images
        As in :class:`sktransfer.CNNCodes`.
    y : array-like of shape (n_samples,)
        Labels, or values in regression.
    backbones : list of str, CNNCodes or torch.nn.Module, or dict, default=five networks
        Names of networks, or transformers with parameters of their own; of a dict the keys are
        the names in the table.
    metric : str, callable or list of these, default="logme"
        "logme" (:func:`~sktransfer.selection.logme_score`), "h_score", "leep", "nce",
        "transrate", "cv" (:func:`~sktransfer.selection.cv_score`, the slow yardstick), or a
        function of codes and y. The first of several ranks. "leep" and "nce" need a network
        with a linear classifier of its own.
    weights : str, enum member, path, None or dict, default="default"
        Of networks given by name; a dict has those of some, by name.
    image_size : int or (int, int), default=None
        Pixels that networks given by name see; None is what each was trained with.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept.
    cv : int or splitter, default=5
        Of the metric "cv".
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.
    depth : bool, default=True
        Whether "logme" and "cv" are those of the best of up to seven layers, evenly over the depth.
        The other metrics grow with the width of the codes and cannot compare layers; for them,
        with False, and of a CNNCodes with a layer of its own, it is the layer asked for.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes` for networks given by name, such as
        ``device`` or ``on_error="nan"``, which leaves out photographs that cannot be read.

    Returns
    -------
    ranking : BackboneRanking
        The best first; a network that cannot be had is at the end with the reason.

    Raises
    ------
    ValueError
        If labels do not fit the photographs or the metric, or there is no such metric.
    ImageError
        If an image cannot be read.
    BackboneError
        If no network at all can be had.

    Examples
    --------
    >>> from sktransfer import rank_backbones
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> networks = {"pretrained": "efficientnet_lite0", "random": "efficientnet_lite0"}
    >>> ranking = rank_backbones(
    ...     X[:80], y[:80], networks, weights={"random": None}, image_size=64)
    >>> ranking.best_
    'pretrained'
    """
    check_params("rank_backbones", codes_params)
    common = {"image_size": image_size, "cache": cache, **codes_params}
    candidates = _candidates(backbones, weights, common)
    metrics = metric_names(metric)
    target = values_of(y) if is_regression(y, regression) else labels_of(y)
    _check_lengths(X, target, next(iter(candidates.values())))
    values = check_target(target, metrics, cv, regression)
    ask = partial(score_of, cv=cv, regression=values)
    rows = [_one(name, codes, X, target, metrics, ask, depth) for name, codes in candidates.items()]
    if all(row.width is None for row in rows):
        raise BackboneError(
            "none of the networks can be had:\n" + "\n".join(f"  {r.name}: {r.error}" for r in rows)
        )
    rows.sort(key=lambda row: -np.inf if np.isnan(row.score) else row.score, reverse=True)
    return BackboneRanking(rows=tuple(rows), metrics=tuple(metrics))


def _candidates(backbones: Any, weights: Any, common: dict[str, Any]) -> dict[str, CNNCodes]:
    if isinstance(backbones, (str, CNNCodes)):
        backbones = [backbones]
    if isinstance(backbones, Mapping):
        named = list(backbones.items())
    else:
        named = [(_label(one), one) for one in backbones]
    if not named:
        raise ValueError("backbones must name at least one network, got none.")
    found: dict[str, CNNCodes] = {}
    for name, one in named:
        if name in found:
            raise ValueError(
                f"backbones has {name!r} twice: give a dict whose keys tell them apart."
            )
        own = weights.get(name, "default") if isinstance(weights, Mapping) else weights
        found[name] = (
            clone(one) if isinstance(one, CNNCodes) else CNNCodes(one, weights=own, **common)
        )
    return found


def _label(one: Any) -> str:
    if isinstance(one, str):
        return one
    if not isinstance(one, CNNCodes):
        return type(one).__name__
    name = one.backbone if isinstance(one.backbone, str) else type(one.backbone).__name__
    if one.weights == "default":
        return name
    if one.weights is None:
        return f"{name}, random"
    return f"{name}, {os.path.basename(weights_by_name(one.weights))}"


def _check_lengths(X: Any, y: np.ndarray, codes: CNNCodes) -> None:
    n = len(as_images(X, image_shape=codes.image_shape, value_range=codes.value_range))
    if y.ndim == 0 or len(y) != n:
        raise ValueError(f"y must have one entry for each of {n} images, got {y.shape}.")


def _one(
    name: str, codes: CNNCodes, X: Any, y: np.ndarray, metrics: dict[str, Metric], ask: Any,
    depth: bool,
) -> RankedBackbone:  # fmt: skip
    """One row; what is wrong with this network is told in it and stops no other."""
    nothing = dict.fromkeys(metrics, float("nan"))
    try:
        seen = pass_over(codes, X)
    except (InputError, ImageError, StoreError):
        raise  # what is wrong with the photographs is wrong for all
    except Exception as error:
        return RankedBackbone(name, nothing, codes, error=_reason(error))
    scores, layers, errors = {}, {}, []
    for key, metric in metrics.items():
        try:
            scores[key], layers[key] = ask(
                metric, seen, y[seen.kept], depth=depth and codes.layer is None
            )
        except ValueError as error:
            scores[key], layers[key] = float("nan"), ""
            errors.append(str(error))
    layer = next(iter(layers.values()))
    earlier = layer not in ("", seen.asked)
    return RankedBackbone(
        name,
        scores,
        clone(codes).set_params(layer=layer) if earlier else codes,
        layer=layer,
        width=(seen.layers[layer] if earlier else seen.codes).shape[1],
        n_parameters=seen.n_parameters,
        images_per_second=seen.images_per_second,
        megabytes=seen.n_bytes / 1e6,
        error="; ".join(errors),
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
