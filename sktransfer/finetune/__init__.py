"""Fine-tuning behind scikit-learn estimators."""

from __future__ import annotations

from ._callbacks import EMA, GradualUnfreeze, Mixup
from ._estimators import FineTuneClassifier, FineTuneRegressor

__all__ = ["EMA", "FineTuneClassifier", "FineTuneRegressor", "GradualUnfreeze", "Mixup"]
