"""Fine-tuning behind scikit-learn estimators."""

from __future__ import annotations

from ._classifier import FineTuneClassifier
from ._regressor import FineTuneRegressor

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]
