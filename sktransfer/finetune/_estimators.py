"""Networks for images that are fine-tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch

from .._parameters import Augmentation, Ending, ImageInput, ImageTail, Network, parameters
from ..compute import SeenFrom, usable_devices
from ..inputs import ImagePreparation, Images, Reading, as_images
from ..networks import (
    NETWORK,
    Backbone,
    BackboneInfo,
    Cuttable,
    Layer,
    cuts_of,
    image_preparation,
    load_backbone,
)
from ._answers import FineTunedClassifier, FineTunedRegressor
from ._augment import check_augment
from ._base import FineTuneBase, Fitted
from ._model import ImageDesign
from ._tasks import Task, Values
from ._training import Part, Trained

__all__ = ["FineTuneClassifier", "FineTuneRegressor", "ReadsImages"]


class ReadsImages(FineTuneBase, Augmentation, ImageTail, Network):
    """What goes in are images.

    Attributes
    ----------
    augment_views_ : int
        Views of each image that epochs draw from.
    image_size_ : tuple of int
        Height and width that the network sees.
    """

    _given: ClassVar[tuple[str, ...]] = NETWORK

    def _check_part(self, part: Part) -> None:
        check_augment(self.augment, part.items, part.moving)

    def _load(self) -> Backbone:
        return load_backbone(
            self.backbone,
            weights=self.weights,
            preprocessing=self.preprocessing,
            verbose=self.verbose,
        )

    def _preparation(self, fitted: Fitted, backbone: Backbone) -> ImagePreparation:
        prepared: ImagePreparation = fitted.preparation
        return prepared

    def _cut(self, backbone: Backbone, preparation: ImagePreparation | None = None) -> Cuttable:
        prepared = self._fitted.preparation if preparation is None else preparation
        return cuts_of(backbone, prepared.image_size)

    def _info(self, backbone: Backbone) -> BackboneInfo:
        return BackboneInfo.of(backbone, self.weights)

    def _facts(self, fitted: Fitted) -> dict[str, Any]:
        return {"the size of images": fitted.preparation.image_size}

    def _reading_of(self, items: Images, fitted: Fitted) -> Reading:
        # Now that files were decoded it is known which kinds of them used their range.
        return replace(fitted.reading, bright=items.bright)

    @property
    def _augmentation(self) -> Augmentation:
        return self

    def _keep(self, fitted: Fitted, trained: Trained, *others: Any) -> None:
        super()._keep(fitted, trained, *others)
        self.image_size_ = fitted.preparation.image_size
        self.augment_views_ = trained.n_views

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class FineTuneImages(ReadsImages, Augmentation, ImageTail, Ending, ImageInput, Network):
    """Something is said of each image as a whole."""

    def _first_items(self, X: Any) -> Images:
        return as_images(X, image_shape=self.image_shape, value_range=self.value_range)

    def _prepare(self, backbone: Backbone, items: Images) -> ImagePreparation:
        return image_preparation(
            backbone.preprocessing,
            image_size=self.image_size,
            resize=self.resize,
            crop_pct=self.crop_pct,
        )

    def _cuts(self) -> tuple[Cuttable, Layer]:
        """The network up to its head, and its last layer."""
        table = self._load_model().table
        return table, table.layers[-1]

    def _seen_from(self, layer: Layer) -> SeenFrom:
        """Outputs of the head, as they are derived from what a layer gives.

        Those of a regressor are in units of its targets, but for a number that is added.
        """
        model, task = self._load_model(), self._fitted.task
        start, before, behind = model.parted_at(layer)
        frozen = self._frozen_pass(self._fitted, usable_devices(self.device))
        layers = () if start is None else (start,)
        device = next(model.module.parameters()).device
        if isinstance(task, Values):
            scale = torch.as_tensor(task.scale, dtype=torch.float32, device=device)
            return SeenFrom(
                layer, frozen.at(layers, None), before, lambda x: behind(x) * scale, device
            )
        return SeenFrom(layer, frozen.at(layers, None), before, behind, device)

    def _design(self, backbone: Backbone, task: Task, seed: int) -> ImageDesign:
        return ImageDesign.of(self, pooling="avg", n_outputs=task.n_outputs, seed=seed)


@parameters
class FineTuneClassifier(FineTunedClassifier, FineTuneImages):
    """Fine-tune a pretrained network to classify images.

    The network gets a new output layer, which starts from a linear classifier on the codes;
    then it and the last stages train on, the pretrained ones gently [1]_. What is frozen is
    computed once for each image, whatever the number of epochs, folds and candidates.

    See Also
    --------
    sktransfer.CNNCodes : Codes of a frozen network, for any classifier.
    FineTuneRegressor : The same for numbers.

    References
    ----------
    .. [1] A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
       out-of-distribution. ICLR.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> clf = FineTuneClassifier(trainable=1, image_size=64, max_epochs=2, random_state=0)
    >>> bool(clf.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.9)
    True
    """


@parameters
class FineTuneRegressor(FineTunedRegressor, FineTuneImages):
    """Fine-tune a pretrained network for regression on images.

    As :class:`FineTuneClassifier`, with squared errors in the place of cross-entropy. Targets
    are standardised for learning; the head starts from ridge regression on the codes.

    See Also
    --------
    FineTuneClassifier : The same for labels.

    Examples
    --------
    >>> from sktransfer import FineTuneRegressor
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, _ = load_cifar10_sample(return_X_y=True)
    >>> brightness = X.mean(axis=(1, 2, 3))
    >>> reg = FineTuneRegressor(trainable=1, image_size=64, max_epochs=2, random_state=0)
    >>> bool(reg.fit(X[:60], brightness[:60]).score(X[:60], brightness[:60]) > 0.8)
    True
    """
