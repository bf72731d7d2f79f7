"""What each parameter of the estimators may be."""

from __future__ import annotations

import enum
import os
from typing import Any

from .._sklearn import HasMethods, Integral, Interval, Real, StrOptions
from ..engines import ENGINES, PRECISIONS
from ..images import RESIZES
from ._augment import AUGMENTS
from ._schedule import SCHEDULES
from ._training import OPTIMIZERS

__all__ = ["CONSTRAINTS"]

_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")

CONSTRAINTS: dict[str, list[Any]] = {
    "backbone": [str, HasMethods(["forward", "state_dict"])],
    "weights": [str, os.PathLike, enum.Enum, None],
    "layer": [str, Integral, None],
    "trainable": [str, Integral, list, tuple],
    "method": [StrOptions({"full", "bitfit", "lora"})],
    "head": [StrOptions({"linear", "mlp"}), callable],
    "head_init": [StrOptions({"linear_probe", "random"})],
    "dropout": [_SHARE],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "backbone_lr_factor": [_NOT_NEGATIVE],
    "layer_decay": [Interval(Real, 0, 1, closed="right")],
    "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
    "weight_decay": [_NOT_NEGATIVE],
    "l2_sp": [_NOT_NEGATIVE],
    "schedule": [StrOptions(set(SCHEDULES)), HasMethods(["on_batch_end", "initialize"])],
    "warmup": [_SHARE],
    "unfreeze_every": [_COUNT, None],
    "mixup": [_NOT_NEGATIVE],
    "ema": [_SHARE, None],
    "clip_grad": [Interval(Real, 0, None, closed="neither"), None],
    "batchnorm": [StrOptions({"frozen", "train"})],
    "max_epochs": [Interval(Integral, 0, None, closed="left")],
    "batch_size": [_COUNT],
    "augment": [StrOptions(set(AUGMENTS)), callable, None],
    "augment_views": [_COUNT, None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "patience": [_COUNT],
    "image_size": [_COUNT, tuple, list, None],
    "resize": [StrOptions(set(RESIZES))],
    "crop_pct": [Interval(Real, 0, 1, closed="right"), None],
    "image_shape": [tuple, list, StrOptions({"row"}), None],
    "value_range": [StrOptions({"auto"}), tuple, list],
    "preprocessing": [HasMethods(["resize_size"]), dict, StrOptions({"default"}), None],
    "device": [str, HasMethods(["type", "index"]), list, tuple],
    "precision": [StrOptions({"auto", *PRECISIONS})],
    "engine": [StrOptions(set(ENGINES))],
    "n_jobs": [Integral, None],
    "cache": [str, os.PathLike, HasMethods(["get_many", "put_many"]), None],
    "cache_activations": [StrOptions({"auto", "memory", "disk"}), "boolean"],
    "activation_dtype": [StrOptions({"float32", "float16"})],
    "checkpoint_dir": [str, os.PathLike, None],
    "keep_checkpoints": [_COUNT],
    "warm_start": ["boolean"],
    "distributed": ["boolean"],
    "callbacks": [list, tuple, None],
    "net_params": [dict, None],
    "bundle_weights": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
