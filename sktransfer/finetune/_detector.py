"""A network for images that is fine-tuned to find objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .._parameters import Detection, parameters
from .._sklearn import fit_context
from ..compute import usable_devices
from ..inputs import Images, as_boxes, warn_of_other_labels
from ..metrics import average_precision_boxes
from ..networks import Backbone, Cuttable, Layer
from ._boxes import ObjectBoxes
from ._dense import FineTuneDense
from ._fcos import BoxHead, detections, strides_of
from ._maps import MapDesign

__all__ = ["FineTuneDetector"]


@dataclass(frozen=True, kw_only=True)
class BoxDesign(MapDesign):
    """The parameters that decide what a network is that finds boxes.

    Attributes
    ----------
    finest : int
        Pixels between the places of the finest level.
    """

    finest: int

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in super().given.items() if name != "finest"}

    def ends(self, cuts: Cuttable) -> tuple[Cuttable, tuple[Layer, ...]]:
        if self.layers is not None:
            return super().ends(cuts)
        taps = cuts.taps()
        strides = strides_of(self.image_size, [one.grid for one in taps if one.grid])
        used = [
            tap.name
            for tap, stride in zip(taps, strides, strict=True)
            if stride >= self.finest or tap is taps[-1]
        ]
        return MapDesign.ends(replace(self, layers=used), cuts)

    def new_head(self, table: Cuttable, taps: tuple[Layer, ...]) -> BoxHead:
        strides = strides_of(self.image_size, [one.grid for one in taps if one.grid])
        channels = [one.n_channels for one in taps]
        return BoxHead(channels, strides, self.n_outputs, self.finest, self.dropout)


@parameters
class FineTuneDetector(Detection, FineTuneDense):
    """Fine-tune a pretrained network to find objects: boxes, their labels and scores.

    Maps of the network, of several resolutions, go into torchvision's FCOS head [1]_ behind a
    feature pyramid [2]_; its losses and its non-maximum suppression are torchvision's too. What is
    frozen, by default the whole network, is computed once for each image, whatever the number of
    epochs, folds and candidates. There is no background class; images without boxes count as such.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; [0] where boxes have none.

    See Also
    --------
    sktransfer.metrics.average_precision_boxes : How good boxes are.
    sktransfer.datasets.load_boxes : Images and boxes from COCO, VOC, YOLO and tables.
    FineTuneClassifier : A label for the whole image.

    References
    ----------
    .. [1] Z. Tian, C. Shen, H. Chen, T. He (2019). FCOS: Fully convolutional one-stage object
       detection. ICCV. Section 3.
    .. [2] T.-Y. Lin, P. Dollár, R. Girshick, K. He, B. Hariharan, S. Belongie (2017). Feature
       pyramid networks for object detection. CVPR. Section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import FineTuneDetector
    >>> X = np.random.default_rng(0).integers(0, 90, (8, 64, 64, 3)).astype(np.uint8)
    >>> y = [{"boxes": [[8 + i, 16, 32 + i, 40]], "labels": ["square"]} for i in range(8)]
    >>> for i in range(8):
    ...     X[i, 16:40, 8 + i : 32 + i] = 255
    >>> detector = FineTuneDetector(image_size=64, max_epochs=20, random_state=0).fit(X, y)
    >>> found = detector.predict(X[:1])[0]
    >>> found["labels"][0].item(), bool(np.abs(found["boxes"][0] - [8, 16, 32, 40]).max() < 6)
    ('square', True)
    """

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these images.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : list, Series or object array of length n_images
            As in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them.
        sample_weight : array-like of shape (n_images,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        return self._fit(X, y, sample_weight, classes=classes, continues=True, epochs=1)

    def predict(self, X: Any) -> np.ndarray:
        """Find the objects in each image.

        Parameters
        ----------
        X : array, list or table
            As in `fit`; images of any size.

        Returns
        -------
        found : ndarray of shape (n_images,), object
            Of each image a dict of ``"boxes"`` (k, 4), float32, x1, y1, x2, y2 in pixels of the
            upright image, ``"labels"`` (k,), those of `y`, and ``"scores"`` (k,), float32, falling,
            of at least `score_threshold`.

        Raises
        ------
        ItemError
            If an image cannot be read.
        """
        check_is_fitted(self, "backbone_")
        items, model = self._items(X), self._load_model()
        prefix = self._frozen_pass(self._fitted, usable_devices(self.device))
        preparation, task = self._fitted.preparation, self._task

        def answers(out: torch.Tensor, numbers: np.ndarray) -> list[dict[str, np.ndarray]]:
            found = detections(
                out,
                preparation.image_size,
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
                max_detections=self.max_detections,
            )
            sizes = [items.open(int(number)).size() for number in numbers]
            return [
                task.answer(one, preparation.placement(size))
                for one, size in zip(found, sizes, strict=True)
            ]

        return model.reduced(prefix, items, answers)

    def score(self, X: Any, y: Any) -> float:
        """Average precision of the boxes that are found, at an intersection over union of 0.5.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : list, Series or object array of length n_images
            As in `fit`.

        Returns
        -------
        ap50 : float
            The mean over classes, see :func:`sktransfer.metrics.average_precision_boxes`.
        """
        check_is_fitted(self, "backbone_")
        items = self._items(X)
        truth = as_boxes(y, len(items), source=items.source)
        if len(truth.labels) and not np.isin(truth.labels, self.classes_).any():
            warn_of_other_labels(truth.labels[0], self.classes_)
        return float(average_precision_boxes(y, self.predict(X)))

    @property
    def classes_(self) -> np.ndarray:
        return self._task.classes

    def _encode(
        self, y: Any, items: Images, before: ObjectBoxes | None, classes: Any, name: str
    ) -> tuple[ObjectBoxes, np.ndarray]:
        if before is not None:
            if classes is not None:
                before.check_classes(classes)
            return before, before.encode(y, items, name)
        return ObjectBoxes.of(y, items, self._prepare(self._load(), items), classes, name)

    def _design(self, backbone: Backbone, task: ObjectBoxes, seed: int) -> BoxDesign:
        return BoxDesign.of(
            self, pooling=None, n_outputs=task.n_outputs, seed=seed, finest=task.finest,
            image_size=task.preparation.image_size,
        )  # fmt: skip
