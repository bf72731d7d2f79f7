"""Transfer learning behind scikit-learn estimators.

Names are imported when they are first used, so ``import sktransfer`` does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazily

__version__ = "0.1.0"

_HOMES = {
    "codes": [
        *("CNNCodes", "PixelClassifier", "TextCodes", "TokenCodes", "TokenLabeller", "entity_f1"),
    ],
    "compute": ["count_computed"],
    "config": ["config_context", "get_config", "set_config"],
    "datasets": [
        *("boxes_by_image", "boxes_to_frame", "load_boxes", "load_image_folder"),
        *("load_image_table", "load_mask_folder", "load_torch_dataset", "load_video_frames"),
    ],
    "deploy": ["export", "to_torch", "warm_up"],
    "finetune": [
        *("FineTuneClassifier", "FineTuneDetector", "FineTuneRegressor", "FineTuneSegmenter"),
        *("FineTuneTextClassifier", "FineTuneTextRegressor", "FineTuneTokenLabeller"),
    ],
    "inspection": ["find_issues"],
    "networks": ["Backbone", "Preprocessing", "list_backbones", "register_backbone"],
    "selection": [
        *("AutoTransferClassifier", "AutoTransferTextClassifier", "advise", "rank_backbones"),
    ],
}

__all__ = ["__version__", *(name for names in _HOMES.values() for name in names)]

_ROOMS = (
    *("codes", "compute", "config", "datasets", "deploy", "exceptions", "finetune", "inputs"),
    *("inspection", "metrics", "networks", "selection", "store", "testing"),
)

if TYPE_CHECKING:
    from .codes import (
        CNNCodes,
        PixelClassifier,
        TextCodes,
        TokenCodes,
        TokenLabeller,
        entity_f1,
    )
    from .compute import count_computed
    from .config import config_context, get_config, set_config
    from .datasets import (
        boxes_by_image,
        boxes_to_frame,
        load_boxes,
        load_image_folder,
        load_image_table,
        load_mask_folder,
        load_torch_dataset,
        load_video_frames,
    )
    from .deploy import export, to_torch, warm_up
    from .finetune import (
        FineTuneClassifier,
        FineTuneDetector,
        FineTuneRegressor,
        FineTuneSegmenter,
        FineTuneTextClassifier,
        FineTuneTextRegressor,
        FineTuneTokenLabeller,
    )
    from .inspection import find_issues
    from .networks import Backbone, Preprocessing, list_backbones, register_backbone
    from .selection import (
        AutoTransferClassifier,
        AutoTransferTextClassifier,
        advise,
        rank_backbones,
    )


__getattr__, __dir__ = lazily(__name__, _HOMES, _ROOMS)
