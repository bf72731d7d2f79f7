"""Look at images and texts: what is in them, what was made of them, and what is wrong with them."""

from ._boxes import BoxDisplay
from ._codes import EmbeddingMapDisplay, NeighboursDisplay
from ._curves import TrainingCurveDisplay
from ._facts import image_facts
from ._find_issues import find_issues
from ._grid import ImageGridDisplay, WorstErrorsDisplay
from ._issues import Issue, Issues
from ._masks import MaskDisplay
from ._saliency import SaliencyDisplay

__all__ = [
    "BoxDisplay",
    "EmbeddingMapDisplay",
    "ImageGridDisplay",
    "Issue",
    "Issues",
    "MaskDisplay",
    "NeighboursDisplay",
    "SaliencyDisplay",
    "TrainingCurveDisplay",
    "WorstErrorsDisplay",
    "find_issues",
    "image_facts",
]
