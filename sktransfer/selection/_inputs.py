"""Codes and targets, checked before a score is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_consistent_length

from ..exceptions import shown
from ..finetune._targets import array_of, labels_of, unique_labels, values_of

__all__ = ["as_classes", "as_codes", "as_targets", "is_regression"]


def as_codes(codes: Any, y: Any, name: str = "codes") -> np.ndarray:
    """Rows of finite numbers, as many as there are targets.

    Raises
    ------
    ValueError
        If they are not two-dimensional or not finite, or not as many as targets.
    """
    rows = check_array(codes, dtype=np.float64, input_name=name)
    check_consistent_length(rows, y)
    return rows


def as_classes(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and the number of the class of each photograph.

    Raises
    ------
    ValueError
        If labels are missing, there are fewer than two classes, or no class has two
        photographs: nothing can be said about a class from one.
    """
    labels = labels_of(y)
    unique_labels(labels)
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes, got only {classes.tolist()}: there is nothing to "
            "tell apart."
        )
    if counts.max() < 2:
        raise ValueError(
            f"y must hold at least 2 photographs of some class, got {len(classes)} classes of one "
            "photograph each. For numbers to be predicted there are "
            "rank_backbones(..., regression=True) and FineTuneRegressor."
        )
    return classes, numbers


def is_regression(y: Any, asked: bool | str) -> bool:
    """Whether targets are numbers to be predicted; "auto" is so for floats with fractions."""
    if isinstance(asked, (bool, np.bool_)):
        return bool(asked)
    if asked != "auto":
        raise ValueError(f'regression must be True, False or "auto", got {asked!r}.')
    targets = array_of(y)
    if targets.dtype.kind != "f":
        return False
    bad = ~np.isfinite(targets.reshape(len(targets), -1) if targets.ndim else targets)
    if bad.any():
        index = int(np.argwhere(bad)[0][0]) if targets.ndim else 0
        raise ValueError(
            "y must hold a label or a finite number for each image, but is "
            f"{shown(targets[index])} for {int(bad.sum())}, first for image {index}."
        )
    return type_of_target(targets).startswith("continuous")


def as_targets(y: Any, regression: bool | str) -> np.ndarray:
    """Columns to be predicted from codes: one for each class or value, float64."""
    if is_regression(y, regression):
        values = values_of(y)
        return values.reshape(len(values), -1)
    classes, numbers = as_classes(y)
    return np.eye(len(classes))[numbers]
