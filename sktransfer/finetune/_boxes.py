"""Boxes around objects as something that is learnt."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn
from torchvision.tv_tensors import BoundingBoxes

from ..exceptions import InputError, SktransferWarning, shown
from ..inputs import (
    NO_BOX,
    Boxes,
    ImagePreparation,
    Images,
    Placement,
    as_boxes,
    check_boxes,
    encode_boxes,
)
from ._augment import Geometry, Target
from ._dense import DenseTask
from ._fcos import Detections, box_losses
from ._targets import check_classes
from ._tasks import LinearFit

__all__ = ["ObjectBoxes"]


# Places that have to find a box: a square of three by three around its middle.
_PLACES = 9
# What each of these loses before anything has been learnt.
_GUESS = 2.5
# Below so many pixels of what the network sees, half of the boxes have but a place or two with a
# stride of 8.
_SMALL = 16.0
# And below this nothing finds them.
_SMALLEST = 8.0
# A box of which less than that is left in the image is not one any more.
_LEAST_LEFT = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectBoxes(DenseTask):
    """Boxes and labels of each image; encoded as (n, most boxes, 5), see `encode_boxes`.

    The loss of an image is the sum over the places that have to find a box in it, divided by how
    many such places an image has on average. torchvision divides by those of the batch, so that
    the same image would lose more beside empty ones.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, in order.
    n_boxes : float
        Boxes of an image on average, in the first call of `fit`.
    finest : int
        Pixels between the places of the finest level that finds them.
    """

    kind: ClassVar[str] = "boxes"
    starts_below_guessing: ClassVar[bool] = False
    classes: np.ndarray
    n_boxes: float
    finest: int

    @classmethod
    def of(
        cls, y: Any, images: Images, preparation: ImagePreparation, classes: Any, name: str
    ) -> tuple[Self, np.ndarray]:
        """The task of the first targets, and these encoded."""
        boxes = as_boxes(y, len(images), name, images.source)
        if classes is not None:
            classes = np.unique(np.asarray(classes))
        elif not len(boxes.labels):
            raise InputError(
                f"{name} must hold at least one box, got {len(boxes)} images without any. Add "
                "images that show something; those without boxes may be among them."
            )
        classes, target = encode_boxes(boxes, images, preparation, classes=classes)
        seen = target[target[..., 4] != NO_BOX]
        sides = np.sqrt(np.prod(seen[:, 2:4] - seen[:, :2], axis=1))
        middle = float(np.median(sides)) if len(sides) else np.inf
        small = middle < _SMALL
        if middle < _SMALLEST:
            warnings.warn(
                f"Half of the boxes are smaller than {middle:.0f} pixels where images are seen "
                f"with {preparation.image_size[0]}×{preparation.image_size[1]} pixels (height × "
                f"width); a detector needs {_SMALL:.0f}. Name a larger image_size, or cut images "
                "into tiles.",
                SktransferWarning,
                stacklevel=2,
            )
        # Images without boxes alone, in a first call of `partial_fit`, count as if they had one.
        n_boxes = len(seen) / len(target) or 1.0
        task = cls(
            preparation=preparation, classes=classes, n_boxes=n_boxes, finest=4 if small else 8
        )
        return task, target

    def check_classes(self, classes: Any) -> None:
        """Refuse other classes than those of the first call."""
        check_classes(classes, self.classes)

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    @property
    def net_params(self) -> dict[str, Any]:
        return {"criterion": nn.BCEWithLogitsLoss}

    def encode(self, y: Any, items: Any, name: str = "y") -> np.ndarray:
        boxes = as_boxes(y, len(items), name, items.source)
        return encode_boxes(boxes, items, self.preparation, classes=self.classes)[1]

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return box_losses(out, target) / (_PLACES * self.n_boxes)

    def guess(self, target: torch.Tensor | None = None) -> float:
        if target is None or not len(target):
            return _GUESS
        return _GUESS * max(1.0, float((target[..., 4] >= 0).sum()) / len(target) / self.n_boxes)

    def fit_linear(
        self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> LinearFit:
        """There is no convex fit for boxes."""
        raise NotImplementedError("boxes are not found by a linear head")

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Answers need the size of each image, see `answer`."""
        raise NotImplementedError("boxes are answered one image at a time")

    def answer(self, found: Detections, placement: Placement) -> dict[str, np.ndarray]:
        """What was found in an image, in its own pixels and with the labels of `y`."""
        corners = placement.boxes_back(found.boxes.astype(np.float64)).astype(np.float32)
        real = (corners[:, 2:] > corners[:, :2]).all(1)  # and not in bars alone
        return {
            "boxes": corners[real],
            "labels": self.classes[found.labels[real]],
            "scores": found.scores[real],
        }

    def movable(self, y: Any, items: Any) -> Sequence[Any]:
        boxes = as_boxes(y, len(items), source=items.source)
        corners = check_boxes(boxes, items)
        numbers = np.searchsorted(self.classes, boxes.labels) if len(corners) else np.empty(0, int)
        return _Movable(boxes, corners, numbers)  # type: ignore[return-value]

    def present(self, target: np.ndarray) -> np.ndarray:
        return (target[:, :, 4, None] == np.arange(len(self.classes))).any(1)


class _Movable:
    """The boxes of some images, opened one at a time."""

    def __init__(self, boxes: Boxes, corners: np.ndarray, numbers: np.ndarray):
        self._boxes, self._corners, self._numbers = boxes, corners, numbers
        self._most = int(np.diff(boxes.starts).max(initial=0))

    def __len__(self) -> int:
        return len(self._boxes)

    def open(self, index: int) -> BoxTarget:
        own = self._boxes.of(index)
        return BoxTarget(self._corners[own], self._numbers[own], self._most)


@dataclass(frozen=True, eq=False)
class BoxTarget(Target):
    """The boxes of one image, in its own pixels.

    Attributes
    ----------
    corners : ndarray of shape (k, 4), float64
    numbers : ndarray of shape (k,)
        Of their classes.
    most : int
        How many an image may have.
    """

    noun: ClassVar[str] = "boxes"
    corners: np.ndarray
    numbers: np.ndarray
    most: int

    @property
    def digest(self) -> bytes:  # type: ignore[override]
        values = np.column_stack([self.corners, self.numbers]).astype(np.float64)
        return hashlib.sha256(values.tobytes()).digest()

    def moved(self, geometry: Geometry) -> BoxTarget:
        corners = self.corners
        if geometry.mirrored:
            x1, y1, x2, y2 = corners.T
            width = geometry.image_width
            corners = np.column_stack([width - x2, y1, width - x1, y2])
        corners = corners - np.array([geometry.left, geometry.top] * 2)
        return self._within(corners, self.numbers, geometry.height, geometry.width)

    def _within(
        self, corners: np.ndarray, numbers: np.ndarray, height: int, width: int
    ) -> BoxTarget:
        """What is left of boxes in an image of this size."""
        inside = np.clip(corners, 0, np.array([width, height] * 2))
        left = _areas(inside) > _LEAST_LEFT * _areas(corners)
        return BoxTarget(inside[left], numbers[left], self.most)

    def for_transform(self, height: int, width: int) -> dict[str, Any]:
        boxes: Any = BoundingBoxes(
            torch.from_numpy(self.corners), format="XYXY", canvas_size=(height, width)
        )
        return {"boxes": boxes, "labels": torch.from_numpy(self.numbers.astype(np.int64))}

    def from_transform(self, given: Any, height: int, width: int) -> BoxTarget:
        if not isinstance(given, dict) or not {"boxes", "labels"} <= set(given):
            raise ValueError(
                'augment= must give the boxes as it gets them, a dict of "boxes" (k, 4) and '
                f'"labels" (k,), gave {shown(repr(given), 80)}.'
            )
        try:
            boxes = as_boxes([given], name="what it gave")
        except InputError as error:
            raise ValueError(f"augment= must give boxes: {error}") from error
        if len(boxes.corners) > self.most:
            raise ValueError(
                f"augment= must give no more boxes than the fullest image has, {self.most}, gave "
                f"{len(boxes.corners)}."
            )
        return self._within(boxes.corners, boxes.labels.astype(np.int64), height, width)

    def placed(self, placement: Placement) -> np.ndarray:
        rows = np.full((self.most, 5), NO_BOX, np.float32)
        rows[: len(self.corners), :4] = placement.boxes(self.corners)
        rows[: len(self.corners), 4] = self.numbers
        return rows


def _areas(corners: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(corners[:, 2:] - corners[:, :2], 0, None), axis=1)
