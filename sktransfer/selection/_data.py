"""What can be seen of the photographs and labels before any network looks at them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..codes import CNNCodes
from ..exceptions import ImageError
from ..finetune._targets import labels_of
from ..images import Images, as_images
from ._framings import tall_share
from ._inputs import as_classes, is_regression

__all__ = ["DataLook", "digests", "look_at_data"]


@dataclass(frozen=True, eq=False)
class DataLook:
    """Photographs, labels, and what is odd about them.

    Attributes
    ----------
    y : ndarray
        Labels as given.
    usable : ndarray of bool
        Photographs that can be read, of classes that can be validated.
    groups : ndarray of int
        The same number for the same photograph.
    tall_share : float
        Share of photographs that are not about square.
    conflicts : list of list of int
        The same photograph with different labels.
    copies : list of list of int
        The same photograph several times with one label.
    warnings : list of str
    """

    y: np.ndarray
    usable: np.ndarray
    groups: np.ndarray
    tall_share: float
    conflicts: list[list[int]] = field(default_factory=list)
    copies: list[list[int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        return int(self.usable.sum())


def look_at_data(codes: CNNCodes, X: Any, y: Any) -> DataLook:
    """Check labels, find copies and classes too small; every file is read once.

    Raises
    ------
    ValueError
        If labels do not fit, or fewer than two classes can be validated.
    ImageError
        If a file cannot be read, unless ``on_error="nan"``.
    """
    images = as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)
    if is_regression(y, "auto"):
        raise ValueError(
            "y must hold classes, got values with fractions: for these, "
            'rank_backbones(..., metric="cv") compares networks.'
        )
    labels = labels_of(y)
    if len(labels) != len(images):
        raise ValueError(
            f"y must have one label for each of {len(images)} images, got {len(labels)}."
        )
    classes, numbers = as_classes(labels)
    groups, readable = digests(images, codes.on_error == "raise")
    by_group = _by_group(groups, readable)
    conflicts = [m for m in by_group if len(set(numbers[m].tolist())) > 1]
    copies = [m for m in by_group if len(set(numbers[m].tolist())) == 1]
    different = [len(np.unique(groups[(numbers == k) & readable])) for k in range(len(classes))]
    small = [k for k, size in enumerate(different) if size < 2]
    if len(classes) - len(small) < 2:
        raise ValueError(
            "at least 2 classes must have 2 different photographs each, got "
            f"{dict(zip(classes.tolist(), different, strict=True))}."
        )
    look = DataLook(
        y=labels,
        usable=readable & ~np.isin(numbers, small),
        groups=groups,
        tall_share=tall_share(images, readable),
        conflicts=conflicts,
        copies=copies,
    )
    look.warnings.extend(_warnings(look, [str(classes[k]) for k in small], different, classes))
    return look


def digests(images: Images, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same number for the same photograph; and which can be read, which `strict` demands."""
    seen: dict[bytes, int] = {}
    groups = np.empty(len(images), dtype=np.int64)
    readable = np.ones(len(images), dtype=bool)
    for index in range(len(images)):
        try:
            key = images.open(index).digest
        except ImageError:
            if strict:
                raise
            key, readable[index] = index.to_bytes(8, "big"), False
        groups[index] = seen.setdefault(key, len(seen))
    return groups, readable


def _by_group(groups: np.ndarray, readable: np.ndarray) -> list[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(readable):
        members[int(groups[index])].append(int(index))
    return [found for found in members.values() if len(found) > 1]


def _warnings(look: DataLook, small: list[str], different: list[int], classes: Any) -> list[str]:
    found = []
    if look.conflicts:
        found.append(
            f"{len(look.conflicts)} photograph(s) are there with different labels, such as "
            f"{look.conflicts[0]}: one label must be wrong, and a test on one of them is a leak."
        )
    if look.copies:
        n = sum(len(copy) - 1 for copy in look.copies)
        found.append(
            f"{n} photograph(s) are copies of others, such as {look.copies[0]}: a split that "
            "parts copies tests on what was learnt. Folds here keep them together."
        )
    if small:
        found.append(
            f"class(es) {', '.join(small)} have fewer than 2 different photographs and cannot "
            "be validated; they are left out of every figure here."
        )
    scarce = [str(c) for c, size in zip(classes, different, strict=True) if 2 <= size < 5]
    if scarce:
        found.append(
            f"class(es) {', '.join(scarce)} have fewer than 5 photographs: there are as many folds "
            "as the smallest has, and figures for it are rough."
        )
    if max(different) > 10 * max(1, min(d for d in different if d > 1)):
        found.append(
            "classes differ more than tenfold in size: look at balanced accuracy too, and try "
            'class_weight="balanced".'
        )
    return found
