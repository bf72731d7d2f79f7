"""Images of what was learnt, made like scikit-learn's Displays."""

from ._boxes import BoxDisplay
from ._curves import TrainingCurveDisplay
from ._masks import MaskDisplay

__all__ = ["BoxDisplay", "MaskDisplay", "TrainingCurveDisplay"]
