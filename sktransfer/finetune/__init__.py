"""Fine-tuning behind scikit-learn estimators."""

from __future__ import annotations

from ._callbacks import EMA, GradualUnfreeze, Mixup
from ._detector import FineTuneDetector
from ._estimators import FineTuneClassifier, FineTuneRegressor
from ._lr_find import LearningRateRange
from ._parameter_groups import LayerState
from ._segmenter import FineTuneSegmenter

# What other rooms ask of targets; not for users.
from ._tags import Tags as Tags
from ._tags import as_tags as as_tags
from ._tags import fit_each_tag as fit_each_tag
from ._tags import is_indicator as is_indicator
from ._targets import array_of as array_of
from ._targets import labels_of as labels_of
from ._targets import unique_labels as unique_labels
from ._targets import values_of as values_of
from ._tasks import Labels as Labels
from ._text import FineTuneTextClassifier, FineTuneTextRegressor
from ._token_labeller import FineTuneTokenLabeller

__all__ = [
    "EMA",
    "FineTuneClassifier",
    "FineTuneDetector",
    "FineTuneRegressor",
    "FineTuneSegmenter",
    "FineTuneTextClassifier",
    "FineTuneTextRegressor",
    "FineTuneTokenLabeller",
    "GradualUnfreeze",
    "LayerState",
    "LearningRateRange",
    "Mixup",
]
