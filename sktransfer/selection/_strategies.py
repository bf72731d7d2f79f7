"""The strategies, as estimators ready to fit, what they cost and what is worth searching."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from .._parameters import Cache, Compute, ImageInput, Network, values_of
from ..codes import CNNCodes
from ._kinds import LABELS, Kind

__all__ = [
    "EPOCHS",
    "LAST_STAGES",
    "SHARED",
    "fine_tuner",
    "grid_of",
    "minutes_of",
    "probe_pipeline",
    "tune_up_to",
]


EPOCHS = 10
# What "last" means: two have been better than one on every set that was measured.
LAST_STAGES = 2
# Forward passes that one epoch of learning costs: forward, and twice as much backward; torch
# instead of OpenVINO doubles it.
_STEP, _TORCH = 3.0, 2.0
# What the estimators that are advised and tried have in common.
SHARED = (Network, ImageInput, Compute, Cache)


def probe_pipeline(codes: CNNCodes, kind: Kind = LABELS, **params: Any) -> Pipeline:
    """Codes, scaling and a linear model."""
    return Pipeline(
        [
            ("codes", clone(codes).set_params(**params)),
            ("scale", StandardScaler()),
            kind.linear(),
        ]
    )


def fine_tuner(codes: CNNCodes, trainable: Any, kind: Kind = LABELS, **params: Any) -> Any:
    """A fine-tuned network that sees images as the transformer does."""
    options = {"max_epochs": EPOCHS, "random_state": 0, **params}
    return kind.tuner(**values_of(codes, *SHARED), **options, trainable=trainable)


def tune_up_to(
    codes: CNNCodes, layer: str, trainable: Any = LAST_STAGES, kind: Kind = LABELS, **params: Any
) -> Any:
    """A network that ends with a layer; of its stages the last learn, or all it has."""
    table = codes._cut(codes._load())
    if trainable != "all":
        trainable = min(trainable, len(table.up_to(layer).stages()))
    end = None if layer == table.layers[-1].name else layer
    return fine_tuner(codes, trainable, kind, layer=end, **params)


def grid_of(estimator: Any, layers: list[Any], kind: Kind = LABELS) -> dict[str, list[Any]]:
    """What is worth searching around an estimator."""
    if not isinstance(estimator, Pipeline):
        rates = {"lr": [1e-3, 2e-3, 5e-3]}
        if estimator.layer is None:
            return {**rates, "trainable": [1, 2, "all"]}
        return {**rates, "trainable": [LAST_STAGES, "all"], "layer": [estimator.layer, None]}
    return {"codes__layer": layers, **kind.grid}


def minutes_of(estimator: Any, n: int, images_per_second: float, probe_seconds: float) -> float:
    """About how long a fit takes here; NaN where the speed of the network is not known."""
    once = n / images_per_second
    if isinstance(estimator, Pipeline):
        return (once + probe_seconds) / 60
    share = 1.0 if estimator.trainable == "all" else 0.3
    epochs = estimator.max_epochs * share * _STEP * _TORCH
    return (once * (1 + epochs) + probe_seconds) / 60
