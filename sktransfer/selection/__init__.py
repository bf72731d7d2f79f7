"""Which network, which layer, which strategy: answers from the images or texts."""

from __future__ import annotations

from ._advise import advise

# What inspection and the command line ask of items, targets and probes; not for users.
from ._advise import digests as digests
from ._advise import together as together
from ._auto import AutoTransferClassifier, AutoTransferTextClassifier
from ._kinds import LinearTags
from ._kinds import kind_named as kind_named
from ._kinds import kind_of as kind_of
from ._modality import check_params as check_params
from ._modality import modality_of as modality_of
from ._probe import LearningCurve, cv_score
from ._probe import probe_layer as probe_layer
from ._rank import BackboneRanking, RankedBackbone, rank_backbones
from ._recommendation import Recommendation
from ._strategies import probe_pipeline as probe_pipeline
from .scores import h_score, leep_score, logme_score, nce_score, transrate_score

__all__ = [
    "AutoTransferClassifier",
    "AutoTransferTextClassifier",
    "BackboneRanking",
    "LearningCurve",
    "LinearTags",
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
