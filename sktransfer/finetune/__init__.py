"""Fine-tuning behind scikit-learn estimators."""

from __future__ import annotations

from ._callbacks import EMA, GradualUnfreeze, Mixup
from ._estimators import FineTuneClassifier, FineTuneRegressor
from ._lr_find import LearningRateRange
from ._parameter_groups import LayerState

__all__ = [
    "EMA",
    "FineTuneClassifier",
    "FineTuneRegressor",
    "GradualUnfreeze",
    "LayerState",
    "LearningRateRange",
    "Mixup",
]
