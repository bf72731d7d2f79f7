"""Displays: look at images and texts, what is in them and what was made of them."""

from ._boxes import BoxDisplay
from ._codes import EmbeddingMapDisplay, NeighboursDisplay
from ._curves import TrainingCurveDisplay
from ._facts import image_facts
from ._grid import ImageGridDisplay, WorstErrorsDisplay
from ._masks import MaskDisplay
from ._saliency import SaliencyDisplay

__all__ = [
    "BoxDisplay",
    "EmbeddingMapDisplay",
    "ImageGridDisplay",
    "MaskDisplay",
    "NeighboursDisplay",
    "SaliencyDisplay",
    "TrainingCurveDisplay",
    "WorstErrorsDisplay",
    "image_facts",
]
