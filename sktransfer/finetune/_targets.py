"""Labels, weights and splits, checked before the first epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupShuffleSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array

from .._sklearn import check_sample_weight

__all__ = ["as_labels", "as_values", "as_weights", "class_weights", "split"]


def as_labels(y: Any, n_images: int, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and the number of the class of each photograph.

    Raises
    ------
    ValueError
        If there are not as many labels as photographs, labels are missing or no classes, there
        is one class alone, or a label is none of the given classes.
    """
    labels = _one_each(y, n_images)
    check_classification_targets(labels)
    known = np.unique(labels if classes is None else classes)
    if len(known) < 2:
        raise ValueError(
            f"y must hold at least 2 classes, got 1 class: {known.tolist()[0]!r}. "
            "There is nothing to tell apart."
        )
    unknown = ~np.isin(labels, known)
    if unknown.any():
        raise ValueError(
            f"y must hold the classes {known.tolist()}, got "
            f"{labels[unknown].tolist()[0]!r} for image "
            f"{int(np.flatnonzero(unknown)[0])}."
        )
    return known, np.searchsorted(known, labels).astype(np.int64)


def as_values(y: Any, n_images: int) -> tuple[np.ndarray, bool]:
    """Targets of regression, shape (n_samples, n_outputs), float64; whether y had one axis.

    Raises
    ------
    ValueError
        If they are not finite numbers, one row for each photograph.
    """
    if y is None:
        raise ValueError(
            "fit requires y to be passed, but the target y is None: y must be numbers."
        )
    values = check_array(y, ensure_2d=False, dtype="numeric", input_name="y").astype(np.float64)
    _check_length(values, n_images)
    return values.reshape(len(values), -1), values.ndim == 1


def _one_each(y: Any, n_images: int) -> np.ndarray:
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None: y must be labels.")
    labels = column_or_1d(y, warn=True)
    _check_length(labels, n_images)
    missing = [i for i, one in enumerate(labels.tolist()) if one is None or one != one]
    if missing:
        raise ValueError(
            f"y must hold a label for each photograph, but is NaN for {len(missing)}, first for "
            f"image {missing[0]}. Leave these out."
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y must hold labels, but Input y contains infinity.")
    return labels


def _check_length(labels: np.ndarray, n_images: int) -> None:
    if len(labels) != n_images:
        raise ValueError(
            f"X and y have inconsistent numbers of samples: {n_images} images and {len(labels)} "
            "labels; there must be one for each."
        )


def as_weights(sample_weight: Any, images: Any) -> np.ndarray | None:
    """Weights of the photographs, or None where all weigh the same."""
    if sample_weight is None:
        return None
    weights = check_sample_weight(
        sample_weight, np.empty((len(images), 1)), ensure_non_negative=True
    )
    if not weights.any():
        raise ValueError("sample_weight must not be zero for every photograph.")
    return weights


def class_weights(class_weight: Any, classes: np.ndarray, numbers: np.ndarray) -> np.ndarray | None:
    """The weight of each class."""
    if class_weight is None:
        return None
    if class_weight == "balanced":
        weights = np.ones(len(classes))
        present = np.unique(numbers)
        weights[present] = compute_class_weight("balanced", classes=present, y=numbers)
        return weights
    weights = compute_class_weight(class_weight, classes=classes, y=classes[numbers])
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights[numbers].any()):
        raise ValueError(
            f"class_weight must be numbers from 0, not 0 for all, got {class_weight!r}."
        )
    return weights


def split(
    numbers: np.ndarray | None,
    n_images: int,
    groups: Any,
    fraction: float,
    seed: int,
    classes: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Photographs to learn from and to validate on: stratified, with groups kept together.

    Raises
    ------
    ValueError
        If a class has one photograph, or too few are left on one side.
    """
    every = np.arange(n_images)
    if groups is not None and numbers is None:
        splitter: Any = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        return next(splitter.split(every, groups=groups))
    if groups is not None:
        folds = max(2, round(1 / fraction))
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        return next(splitter.split(every, numbers, groups))
    if numbers is None:
        return next(ShuffleSplit(1, test_size=fraction, random_state=seed).split(every))
    counts = np.bincount(numbers)
    if counts[counts > 0].min() < 2:
        lonely = int(np.flatnonzero(counts == 1)[0])
        name = lonely if classes is None else classes.tolist()[lonely]
        raise ValueError(
            f"early_stopping=True splits every class in two, but the class {name!r} has one "
            f"photograph (image {int(np.flatnonzero(numbers == lonely)[0])}). "
            "Give it more, or name validation_data=."
        )
    size = max(len(np.unique(numbers)), int(np.ceil(fraction * n_images)))
    splitter = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
    return next(splitter.split(every, numbers))
