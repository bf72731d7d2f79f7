"""What estimators have in common that say something of the places of an image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._parameters import DenseAugmentation, DenseInput, DenseTail, Network
from ..inputs import ImagePreparation, Images, as_whole_images
from ..networks import NETWORK, Backbone, dense_preparation
from ._estimators import ReadsImages
from ._tags import stratified_sides
from ._tasks import Sides, Task

__all__ = ["DenseTask", "FineTuneDense"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseTask(Task):
    """Targets that say where something is; encoded as the network sees the image.

    Attributes
    ----------
    preparation : ImagePreparation
        How images are made to fit the network.
    """

    mixes: ClassVar[bool] = False
    preparation: ImagePreparation

    @abstractmethod
    def present(self, target: np.ndarray) -> np.ndarray:
        """Whether each class is in each image, (n, n_classes)."""

    def _split(self, every: np.ndarray, target: np.ndarray, fraction: float, seed: int) -> Sides:
        return self._split_groups(every, target, every, fraction, seed)

    def _split_groups(
        self, every: np.ndarray, target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
    ) -> Sides:
        return stratified_sides(self.present(target).astype(np.float32), groups, fraction, seed)


class FineTuneDense(ReadsImages, DenseAugmentation, DenseTail, DenseInput, Network):
    """What goes in are images, and what comes out says something of places in them."""

    _given = tuple(name for name in NETWORK if name not in ("crop_pct", "image_shape"))

    def _first_items(self, X: Any) -> Images:
        return as_whole_images(X, value_range=self.value_range)

    def _prepare(self, backbone: Backbone, items: Images) -> ImagePreparation:
        return dense_preparation(
            backbone, items, image_size=self.image_size, resize=self.resize
        )
