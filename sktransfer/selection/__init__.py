"""Which network, which layer, which strategy: answers from the photographs."""

from __future__ import annotations

from ._advise import advise
from ._auto import AutoTransferClassifier
from ._curve import LearningCurve
from ._h_score import h_score
from ._logme import logme_score
from ._probe import cv_score
from ._rank import rank_backbones
from ._ranking import BackboneRanking, RankedBackbone
from ._recommendation import Recommendation
from ._source_scores import leep_score, nce_score
from ._transrate import transrate_score

__all__ = [
    "AutoTransferClassifier",
    "BackboneRanking",
    "LearningCurve",
    "RankedBackbone",
    "Recommendation",
    "advise",
    "cv_score",
    "h_score",
    "leep_score",
    "logme_score",
    "nce_score",
    "rank_backbones",
    "transrate_score",
]
