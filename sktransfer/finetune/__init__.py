"""Fine-tuning behind scikit-learn estimators."""

from __future__ import annotations

from ._estimators import FineTuneClassifier, FineTuneRegressor

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]
