"""Networks for images that are fine-tuned to label every pixel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .._parameters import DenseTail, Tail, Training, changed, param, parameters
from .._sklearn import Interval, Real, StrOptions, fit_context
from ..codes import largest_scores
from ..compute import usable_devices
from ..exceptions import InputError, SktransferWarning, shown
from ..inputs import Images, Placement, as_masks, encode_masks, fitting_masks
from ..metrics import mean_iou_score
from ..networks import Backbone
from ._dense import FineTuneDense
from ._masks import LOSSES, MaskDesign, MaskTask
from ._targets import check_balanced

__all__ = ["FineTuneSegmenter"]


# Steps of training before which masks were worse than at the start: of 4 to 16 micrographs with
# whole masks, mean IoU 0.703 at the start, 0.636 after 2 steps, 0.658 after 5, 0.706 after 20.
_FEW_STEPS = 20


@parameters
class FineTuneSegmenter(FineTuneDense, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Fine-tune a pretrained network to label every pixel of an image.

    A new head takes the maps of several layers, from fine to coarse. By default it is linear and
    begins with what :class:`~sktransfer.PixelClassifier` fits; then it and the last stages train
    on, the pretrained ones gently [1]_. What is frozen is computed once for each image, whatever
    the number of epochs, folds and candidates. Masks come back at the size of each image.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.

    See Also
    --------
    sktransfer.PixelClassifier : Any classifier on the same maps, in seconds.
    sktransfer.metrics.mean_iou_score : What `score` gives.

    References
    ----------
    .. [1] A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
       out-of-distribution. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import FineTuneSegmenter
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> photos = load_cifar10_sample()

    Four in a square, and a mask that says what each pixel is of:

    >>> X = photos.data[:80].reshape(20, 2, 2, 32, 32, 3).swapaxes(2, 3).reshape(20, 64, 64, 3)
    >>> y = np.where(np.isin(photos.target[:80], [2, 3, 4, 5, 6, 7]), "animal", "vehicle")
    >>> y = y.reshape(20, 2, 2).repeat(32, axis=1).repeat(32, axis=2)
    >>> segmenter = FineTuneSegmenter(trainable=1, image_size=64, max_epochs=2, random_state=0)
    >>> segmenter.fit(X, y).predict(X).shape
    (20, 64, 64)
    >>> bool(segmenter.score(X, y) > 0.6)
    True
    """

    trainable: str | int | Sequence[str] = changed(Tail, "trainable", default=4)
    head: Any = param(
        default="linear", choices=("linear", "fpn"), valid=[callable], type="callable", doc="""
        What makes scores of the maps. "linear": a 1x1 convolution of each, whose scores are
        enlarged and added. "fpn": a feature pyramid and two convolutions. A callable takes the
        widths and strides of the maps and the number of classes, and gives a module that takes a
        list of maps (n, width, height, width), from fine to coarse, and gives scores (n, n_classes,
        height, width) of any size.""")
    head_init: str = changed(Tail, "head_init", default="linear_probe", doc="""
        "linear_probe" starts a linear head from a convex fit on the maps of the pretrained network,
        and trains other heads alone for some steps, so that a random head does not distort good
        weights.""")
    layers: Sequence[str | int] | str | int | None = changed(DenseTail, "layers", default=None)
    loss: str = param(default="cross_entropy", choices=LOSSES, doc="""
        What is made small: the mean over labelled pixels, to which "cross_entropy+dice" adds how
        little prediction and truth overlap, of each class in an image alike, for small things.""")
    class_weight: dict[Any, float] | Literal["balanced"] | None = param(
        default=None, valid=[dict, StrOptions({"balanced"}), None],
        type='dict, "balanced" or None', doc="""
        Weights of the classes in the loss, by label; "balanced" makes them inversely proportional
        to their pixels.""")
    label_smoothing: float = param(
        default=0.0, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        Share of the target that is spread over all classes, in [0, 1).""")
    unlabeled: Any = param(default=None, valid="no_validation", type="label or None", doc="""
        The label of pixels that nobody labelled, such as 0 beside scribbles, which count neither in
        `fit` nor in `score`. NaN always is. None is no label.""")
    max_epochs: int = changed(Training, "max_epochs", default=20)
    batch_size: int = changed(Training, "batch_size", default=4, doc="""
        Images in a step. With one alone some more is gained from five images in the end, but the
        first epochs lose much of what the start is worth; a GPU is faster with more.""")

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these images.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : array of shape (n_samples, height, width), list, Series or one-column table
            Masks, as in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        check_balanced(self.class_weight, vars(self).get("_fitted"))
        return self._fit(X, y, sample_weight, classes=classes, continues=True, epochs=1)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels of all pixels.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        masks : ndarray of shape (n_samples, height, width)
            Labels of `y`. Where images differ in size, an array (n_samples,) of objects, each an
            array (height, width).
        """
        found = self._answers(X, largest_scores)
        classes = self.classes_
        return _side_by_side(found, lambda numbers: classes[numbers], classes.dtype)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of the classes of all pixels.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, height, width, n_classes), float32
            In the order of `classes_`. Where images differ in size, an array (n_samples,) of
            objects, each an array (height, width, n_classes).
        """

        def shares_of(scores: torch.Tensor, placement: Placement) -> np.ndarray:
            return placement.scores(scores).softmax(0).permute(1, 2, 0).contiguous().numpy()

        return _side_by_side(self._answers(X, shares_of), lambda shares: shares, np.float32)

    def score(self, X: Any, y: Any) -> float:
        """Mean intersection over union of the predicted masks over the classes.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : array, list, Series or one-column table
            Masks, as in `fit`.

        Returns
        -------
        float
            :func:`~sktransfer.metrics.mean_iou_score` of all labelled pixels together.
        """
        check_is_fitted(self, "backbone_")
        masks = fitting_masks(y, self._items(X), self.classes_)
        return float(mean_iou_score(masks, self.predict(X), unlabeled=self.unlabeled))

    @property
    def classes_(self) -> np.ndarray:
        return self._task.classes

    def _answers(
        self, X: Any, answer: Callable[[torch.Tensor, Placement], np.ndarray]
    ) -> np.ndarray:
        """What an answer makes of the scores of each image, at the size of the image."""
        check_is_fitted(self, "backbone_")
        items, model, to = self._items(X), self._load_model(), self._fitted.preparation
        prefix = self._frozen_pass(self._fitted, usable_devices(self.device))

        def reduce(out: torch.Tensor, numbers: np.ndarray) -> list[np.ndarray]:
            placements = [to.placement(items.open(int(number)).size()) for number in numbers]
            return [answer(*pair) for pair in zip(out.cpu(), placements, strict=True)]

        return model.reduced(prefix, items, reduce)

    def _check_steps(self, n_images: int) -> None:
        """Warn of training that ends before it has gained what its first steps lose."""
        per_epoch = -(-n_images // self.batch_size)
        steps = self.max_epochs * per_epoch
        if self.head == "linear" and 0 < steps < _FEW_STEPS:
            warnings.warn(
                f"max_epochs={self.max_epochs} with {n_images} images are {steps} steps of "
                f"training: after fewer than {_FEW_STEPS} masks have been worse than those of "
                "PixelClassifier, from which they begin. Take "
                f"max_epochs={-(-_FEW_STEPS // per_epoch)} or more, or 0.",
                SktransferWarning,
                stacklevel=2,
            )

    def _encode(
        self, y: Any, items: Images, before: MaskTask | None, classes: Any, name: str
    ) -> tuple[MaskTask, np.ndarray]:
        if before is None:
            to = self._prepare(self._load(), items)
            known = None if classes is None else np.unique(np.asarray(classes))
            masks = as_masks(y, len(items), name)
            found, target = encode_masks(
                masks, items, to, classes=known, unlabeled=self.unlabeled
            )
            if len(found) < 2:
                more = " Name all classes in classes=." if name == "y of partial_fit" else ""
                but = "" if self.unlabeled is None else f" besides unlabeled={self.unlabeled!r}"
                raise InputError(
                    f"{name} must hold pixels of at least two labels{but}, got "
                    f"{shown(found.tolist())}.{more}"
                )
            if name == "y":
                self._check_steps(len(items))
            seed = self.random_state if isinstance(self.random_state, Integral) else None
            task = MaskTask(
                preparation=to, classes=found, unlabeled=self.unlabeled, loss=self.loss,
                label_smoothing=self.label_smoothing, seed=None if seed is None else int(seed),
            )  # fmt: skip
        else:
            if classes is not None:
                before.check_classes(classes)
            task, target = before, before.encode(y, items, name)
        if name == "y" or not isinstance(self.class_weight, str):  # a piece has not all labels
            task = task.weighted(self.class_weight, target)
        return task, target

    def _design(self, backbone: Backbone, task: MaskTask, seed: int) -> MaskDesign:
        size = task.preparation.image_size
        return MaskDesign.of(
            self, pooling=None, n_outputs=task.n_outputs, seed=seed, image_size=size
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _side_by_side(
    found: np.ndarray, make: Callable[[np.ndarray], np.ndarray], dtype: Any
) -> np.ndarray:
    """Answers of all images in one array where they have one size; `found` is used up."""
    shapes = {one.shape for one in found}
    out = np.empty((len(found), *shapes.pop()), dtype) if len(shapes) == 1 else found
    for number, one in enumerate(found):
        found[number] = None
        out[number] = make(one)
    return out
