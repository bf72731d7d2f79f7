"""Transfer learning behind scikit-learn estimators.

Names are imported when they are first used, so ``import sktransfer`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AutoTransferClassifier": "selection",
    "AutoTransferTextClassifier": "selection",
    "Backbone": "networks",
    "CNNCodes": "codes",
    "FineTuneClassifier": "finetune",
    "FineTuneDetector": "finetune",
    "FineTuneRegressor": "finetune",
    "FineTuneSegmenter": "finetune",
    "FineTuneTextClassifier": "finetune",
    "FineTuneTextRegressor": "finetune",
    "FineTuneTokenLabeller": "finetune",
    "PixelClassifier": "codes",
    "Preprocessing": "networks",
    "TextCodes": "codes",
    "TokenCodes": "codes",
    "TokenLabeller": "codes",
    "advise": "selection",
    "count_computed": "compute",
    "boxes_by_image": "datasets",
    "boxes_to_frame": "datasets",
    "config_context": "config",
    "entity_f1": "codes",
    "export": "deploy",
    "find_issues": "inspection",
    "get_config": "config",
    "list_backbones": "networks",
    "load_boxes": "datasets",
    "load_image_folder": "datasets",
    "load_image_table": "datasets",
    "load_mask_folder": "datasets",
    "load_torch_dataset": "datasets",
    "load_video_frames": "datasets",
    "rank_backbones": "selection",
    "register_backbone": "networks",
    "set_config": "config",
    "to_torch": "deploy",
    "warm_up": "deploy",
}

__all__ = ["__version__", *_HOMES]

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
