"""The strategies, as estimators ready to fit, what they cost and what is worth searching."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from .._parameters import values_of
from ._kinds import LABELS, Kind
from ._modality import IMAGES, Modality, modality_named, modality_of

__all__ = [
    "ENOUGH_FOR_ALL",
    "LAST",
    "SOLVED",
    "TELLING",
    "VOTE",
    "fine_tuner",
    "grid_of",
    "is_worth_tuning",
    "member_name",
    "minutes_of",
    "probe_pipeline",
    "score_when_tuned",
    "tune_up_to",
]


# As many stages as a modality trains in "fine-tune last".
LAST = "last"
# The mean of the probabilities of several.
VOTE = "vote"
# Items from which on fine-tuning is known to err less often than a probe, which votes no more.
TELLING = 200
# Items from which on a network of which all is trained has a voice in a vote.
ENOUGH_FOR_ALL = 250
# Where the probe errs less often than this there is little left to win.
SOLVED = 0.01
# Forward passes that one epoch of learning costs: forward, and twice as much backward; torch
# instead of OpenVINO doubles it.
_STEP, _TORCH = 3.0, 2.0


def probe_pipeline(codes: Any, kind: Kind = LABELS, **params: Any) -> Pipeline:
    """Codes, scaling and a linear model."""
    return Pipeline(
        [
            ("codes", clone(codes).set_params(**params)),
            ("scale", StandardScaler()),
            kind.linear(),
        ]
    )


def fine_tuner(codes: Any, trainable: Any, kind: Kind = LABELS, **params: Any) -> Any:
    """A fine-tuned network that sees items as the transformer does."""
    modality = modality_of(codes)
    options = {**modality.tuning, "random_state": 0, **params}
    shared = values_of(codes, *modality.shared)
    return modality.tuner(kind)(**shared, **options, trainable=trainable)


def tune_up_to(
    codes: Any, layer: str, trainable: Any = LAST, kind: Kind = LABELS, **params: Any
) -> Any:
    """A network that ends with a layer; of its stages the last learn, or all it has."""
    table = codes._cut(codes._load())
    if trainable == LAST:
        trainable = modality_of(codes).n_last(len(table.up_to(layer).stages()))
    end = None if layer == table.layers[-1].name else layer
    return fine_tuner(codes, trainable, kind, layer=end, **params)


def is_worth_tuning(score: float, n: int, sizes: Sequence[int], modality: Modality) -> bool:
    """Whether fine-tuning to `n` items has something to learn from, and something to win.

    `score` is that of the best probe, `sizes` are the items of each class.
    """
    at_least, of_a_class = modality.some
    return bool(score < 1 - SOLVED and n >= at_least and np.median(sizes) >= of_a_class)


def score_when_tuned(score: float, n: int, modality: Modality) -> float:
    """What to expect of fine-tuning to `n` items for labels, by the score of the best probe."""
    few, more = modality.errors_left
    return 1 - (few if n < TELLING else more) * (1 - score)


def member_name(strategy: str) -> str:
    """What a strategy is called in a vote: the name of a parameter."""
    return re.sub(r"[\W_]+", "_", strategy).strip("_")


def grid_of(
    estimator: Any, layers: list[Any], n_stages: int, kind: Kind = LABELS
) -> dict[str, list[Any]]:
    """What is worth searching around an estimator whose network has so many stages."""
    modality = modality_named(kind.item)
    if isinstance(estimator, VotingClassifier):
        tuned = [name for name, one in estimator.estimators if not isinstance(one, Pipeline)]
        return {f"{name}__lr": modality.rates for name in tuned}
    if isinstance(estimator, Pipeline):
        if "codes" not in estimator.named_steps:
            return modality.baseline_grid(kind)
        return {"codes__layer": layers, **kind.grid}
    rates, depths = {"lr": modality.rates}, modality.depths(n_stages)
    if estimator.layer is None:
        return {**rates, "trainable": depths}
    return {**rates, "trainable": depths[-2:], "layer": [estimator.layer, None]}


def minutes_of(
    estimator: Any,
    n: int,
    items_per_second: float,
    probe_seconds: float,
    last_share: float = IMAGES.last_share,
) -> float:
    """About how long a fit takes here; NaN where the speed of the network is not known.

    `probe_seconds` is what the last step of a pipeline takes, or all that needs no network,
    `last_share` the share of the work that "fine-tune last" does. Those that vote are fitted one
    after the other.
    """
    if isinstance(estimator, VotingClassifier):
        return sum(
            minutes_of(one, n, items_per_second, probe_seconds, last_share)
            for _, one in estimator.estimators
        )
    if isinstance(estimator, Pipeline) and "codes" not in estimator.named_steps:
        return probe_seconds / 60
    once = n / items_per_second
    if isinstance(estimator, Pipeline):
        return (once + probe_seconds) / 60
    share = 1.0 if estimator.trainable == "all" else last_share
    epochs = estimator.max_epochs * share * _STEP * _TORCH
    return (once * (1 + epochs) + probe_seconds) / 60
