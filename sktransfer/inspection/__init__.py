"""Displays: look at images and texts, what is in them and what was made of them."""

from ._boxes import BoxDisplay
from ._curves import TrainingCurveDisplay
from ._facts import image_facts
from ._masks import MaskDisplay

__all__ = ["BoxDisplay", "MaskDisplay", "TrainingCurveDisplay", "image_facts"]
