"""A label for every pixel, as something that is trained: targets, losses, and heads of maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, interpolate

from ..codes import codes_at, default_pixel_estimator, linear_map_of, sample_places
from ..compute import blas_on_one_core
from ..exceptions import InputError, shown
from ..inputs import NO_LABEL, Masks, Placement, as_masks, digest_of, encode_masks
from ..networks import Cuttable, Layer
from ._augment import Geometry, Target
from ._dense import DenseTask
from ._gradients import Dropout
from ._maps import MapDesign
from ._model import own_copy
from ._targets import weights_by_class, weights_by_label

__all__ = ["LOSSES", "MaskDesign", "MaskTask"]


LOSSES = ("cross_entropy", "cross_entropy+dice")
# Labelled pixels of each image that a head is fitted to first.
_PIXELS = 2000
# Channels of the feature pyramid.
_WIDTH = 48


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskTask(DenseTask):
    """A label for every pixel; encoded as the numbers of classes on what the network sees.

    The loss of an image is the mean over its labelled pixels, weighted by their classes, and the
    image weighs what these weigh together.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, in order.
    unlabeled : object
        The label of pixels nobody labelled.
    loss : str
        One of `LOSSES`.
    class_weight : ndarray of shape (n_classes,) or None
    label_smoothing : float
        Share of the target that is spread over all classes.
    seed : int or None
        Draws the pixels that a head is fitted to first, as `PixelClassifier` does with the same
        `random_state`; None takes the seed of the fit.
    """

    kind: ClassVar[str] = "masks"
    classes: np.ndarray
    unlabeled: Any
    loss: str
    class_weight: np.ndarray | None = None
    label_smoothing: float = 0.0
    seed: int | None = None

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    @property
    def net_params(self) -> dict[str, Any]:
        return {"criterion": nn.CrossEntropyLoss}

    def weighted(self, class_weight: Any, target: np.ndarray) -> Self:
        """The same with the weights that a parameter `class_weight` means for these masks."""
        if class_weight is None:
            return replace(self, class_weight=None)
        if isinstance(class_weight, dict):
            return replace(self, class_weight=weights_by_label(class_weight, self.classes))
        counts = self._counts(target).sum(axis=0)
        there = counts > 0
        weights = np.ones(len(counts))
        weights[there] = counts.sum() / (there.sum() * counts[there])
        return replace(self, class_weight=weights)

    def check_classes(self, classes: Any) -> None:
        """Refuse other classes than those of the first call."""
        named = np.unique(np.asarray(classes)).tolist()
        if named != self.classes.tolist():
            raise InputError(
                f"classes must be those of the first call, {shown(self.classes.tolist())}, got "
                f"{shown(named)}."
            )

    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        masks: Any = as_masks(y, len(items), name)
        return encode_masks(
            masks, items, self.preparation, classes=self.classes, unlabeled=self.unlabeled
        )[1]

    def movable(self, y: Any, items: Any) -> Any:
        return _MovingMasks(as_masks(y, len(items)), self.classes, self.unlabeled)

    def present(self, target: np.ndarray) -> np.ndarray:
        return self._counts(target) > 0

    def _counts(self, target: np.ndarray) -> np.ndarray:
        """Pixels of each class in each image, (n, n_classes)."""
        n = len(self.classes)
        return np.array([np.bincount(one.ravel() + 1, minlength=n + 1)[1:] for one in target])

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        target = target.long()
        each = cross_entropy(
            out, target, reduction="none", ignore_index=NO_LABEL,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        there = target != NO_LABEL
        weight = there.to(each.dtype)
        if self.class_weight is not None:
            by_class = torch.as_tensor(self.class_weight, dtype=each.dtype, device=each.device)
            weight = weight * by_class[target.clamp(min=0)]
        found = (each * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-12)
        if self.loss == "cross_entropy":
            return found
        return found + _dice(out, target, there)

    def unsmoothed(self) -> Self:
        return replace(self, label_smoothing=0.0)

    def guess(self, target: torch.Tensor | None = None) -> float:
        return math.log(len(self.classes)) + (self.loss != "cross_entropy")

    def hits(self, out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        there = target != NO_LABEL
        return ((out.argmax(1) == target) & there).sum((1, 2)), there.sum((1, 2))

    def sample_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        found = self._weigh(target)
        if not found.any():
            raise InputError("y must hold labelled pixels, of a class_weight above 0.")
        name = "the share of labelled pixels"
        return weights_by_class(found / found.mean(), weight, name)

    def _weigh(self, target: np.ndarray) -> np.ndarray:
        """What the labelled pixels of each image weigh together."""
        counts = self._counts(target).astype(np.float64)
        return counts.sum(axis=1) if self.class_weight is None else counts @ self.class_weight

    def fit_on_maps(
        self,
        head: nn.Module,
        maps_of: Callable[[np.ndarray], list[torch.Tensor]],
        target: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> bool:
        if not isinstance(head, _OnStandardized):
            return False
        draws = check_random_state(seed if self.seed is None else self.seed)
        places = sample_places(target, _PIXELS, draws)
        codes, numbers = [], []
        for image, some in enumerate(places):
            if len(some):
                maps = [one[0].numpy() for one in maps_of(np.array([image]))]
                codes.append(codes_at(maps, some, target.shape[1:]))
                numbers.append(target[image].ravel()[some].astype(np.int64))
        rows, labels = np.concatenate(codes), np.concatenate(numbers)
        head.standardize(rows)
        if not isinstance(head, LinearHead):
            return False
        weights = self._weights_of_pixels(places, labels, target, weight)
        coef, intercept = _fit_linear(rows, labels, weights, len(self.classes))
        head.take(coef, intercept)
        return True

    def _weights_of_pixels(
        self,
        places: Sequence[np.ndarray],
        labels: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
    ) -> np.ndarray | None:
        """Weights of the pixels that were drawn; None where all weigh the same."""
        weights = np.ones(len(labels))
        if weight is not None:  # without what the pixels of each image weigh together
            own = weight / np.maximum(self._weigh(target), 1e-12)
            weights *= np.repeat(own / own.max(), [len(some) for some in places])
        if self.class_weight is not None:
            weights *= self.class_weight[labels]
        return None if np.allclose(weights, weights[0], rtol=1e-6) else weights / weights.mean()

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return self.classes[outputs.argmax(axis=1)]

    def fit_linear(self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Any:
        return _fit_linear(codes, target, weight, len(self.classes))


def _dice(out: torch.Tensor, target: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """1 - the mean soft Dice coefficient of the classes that are in each image.

    References
    ----------
    F. Milletari, N. Navab, S.-A. Ahmadi (2016). V-Net. 3DV. Section 3; without squares.
    """
    shares = out.softmax(1) * there[:, None]
    truth = nn.functional.one_hot(target.clamp(min=0), out.shape[1]).permute(0, 3, 1, 2)
    truth = truth.to(out.dtype) * there[:, None]
    sizes = truth.sum((2, 3))
    overlap = 2 * (shares * truth).sum((2, 3)) / (shares.sum((2, 3)) + sizes).clamp(min=1e-12)
    known = (sizes > 0).to(out.dtype)
    return ((1 - overlap) * known).sum(1) / known.sum(1).clamp(min=1)


def _fit_linear(
    rows: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `PixelClassifier` fits by default; classes without a pixel are unlikely."""
    coef = np.zeros((n_classes, rows.shape[1]))
    intercept = np.full(n_classes, -np.log(len(labels) + 1.0))
    present = np.unique(labels)
    if len(present) == 1:
        intercept[present] = 0.0
        return coef, intercept
    estimator = default_pixel_estimator()
    given = {} if weight is None else {f"{estimator.steps[-1][0]}__sample_weight": weight}
    with blas_on_one_core(rows.size * len(present)):
        estimator.fit(rows, labels, **given)
    found = linear_map_of(estimator, rows)
    if found is None:
        raise AssertionError("logistic regression is linear")  # pragma: no cover
    if len(present) == 2:
        # One row tells two classes apart; softmax wants half of it for each.
        halves = np.array([[-0.5], [0.5]])
        found = halves * found[0], halves[:, 0] * found[1]
    coef[present], intercept[present] = found
    return coef, intercept


# Masks that move with their images.


class _MovingMasks:
    """Masks of some images in numbers of classes, each as large as its image."""

    noun, in_memory = "mask", False

    def __init__(self, masks: Masks, classes: np.ndarray, unlabeled: Any):
        self._masks, self._classes, self._unlabeled = masks, classes, unlabeled

    def __len__(self) -> int:
        return len(self._masks)

    def open(self, index: int) -> MaskTarget:
        labels = self._masks.open(index)
        known, inverse = np.unique(labels, return_inverse=True)
        numbers = np.searchsorted(self._classes, known).clip(max=len(self._classes) - 1)
        keep = self._classes[numbers] == known  # NaN equals nothing
        if self._unlabeled is not None:
            keep = keep & (known != self._unlabeled)
        to_number = np.where(keep, numbers, NO_LABEL).astype(np.int16)
        return MaskTarget(to_number[inverse].reshape(labels.shape), len(self._classes))

    def tell(self) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False)
class MaskTarget(Target):
    """Numbers of the classes of the pixels of an image.

    Attributes
    ----------
    numbers : ndarray of shape (height, width), int16
    n_classes : int
    """

    noun: ClassVar[str] = "mask"
    numbers: np.ndarray
    n_classes: int

    @cached_property
    def digest(self) -> bytes:  # type: ignore[override]
        content = np.ascontiguousarray(self.numbers).data.cast("B")
        return digest_of(f"mask {self.numbers.shape}", content)

    def moved(self, geometry: Geometry) -> MaskTarget:
        numbers = self.numbers[:, ::-1] if geometry.mirrored else self.numbers
        found = np.full((geometry.height, geometry.width), NO_LABEL, np.int16)
        top, left = max(0, geometry.top), max(0, geometry.left)
        part = numbers[top : geometry.top + geometry.height, left : geometry.left + geometry.width]
        down, across = top - geometry.top, left - geometry.left
        found[down : down + part.shape[0], across : across + part.shape[1]] = part
        return replace(self, numbers=found)

    def for_transform(self, height: int, width: int) -> Any:
        """Numbers from 1; 0, which transforms fill in where nothing is known, is no label."""
        from torchvision.tv_tensors import Mask

        dtype = np.uint8 if self.n_classes < 255 else np.int32
        return Mask(torch.from_numpy((self.numbers + 1).astype(dtype)))

    def from_transform(self, given: Any, height: int, width: int) -> MaskTarget:
        values = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
        values = values[0] if values.ndim == 3 and len(values) == 1 else values
        if values.shape != (height, width):
            raise ValueError(
                f"augment= must give a mask as large as the image, {height}×{width} (height × "
                f"width), gave one of shape {values.shape}."
            )
        whole = values.dtype.kind in "biu" or bool((values == np.rint(values)).all())
        if not whole or values.min() < 0 or values.max() > self.n_classes:
            raise ValueError(
                "augment= must give a mask of the numbers that it got: 0 where nothing is known, "
                f"and 1 to {self.n_classes} for the classes in order; gave values from "
                f"{values.min()} to {values.max()}."
            )
        return replace(self, numbers=values.astype(np.int16) - 1)

    def placed(self, placement: Placement) -> np.ndarray:
        return placement.mask(self.numbers, NO_LABEL)


# Heads: from maps of several layers to scores of every place that the network sees.


@dataclass(frozen=True, kw_only=True)
class MaskDesign(MapDesign):
    """The parameters that decide what a network is that labels pixels."""

    def new_head(self, table: Cuttable, taps: tuple[Layer, ...]) -> nn.Module:
        widths = [one.n_channels for one in taps]
        if self.head == "linear":
            return LinearHead(widths, self.n_outputs, self.image_size, self.dropout)
        if self.head == "fpn":
            return _PyramidHead(widths, self.n_outputs, self.image_size, self.dropout)
        grids: Any = [one.grid for one in taps]
        strides = [max(1, round(self.image_size[0] / rows)) for rows, _ in grids]
        own = _own_head(self.head, widths, strides, grids, self.n_outputs)
        return _OwnHead(own, self.image_size)


def _enlarged(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if scores.shape[2:] == size:
        return scores
    return interpolate(scores, size, mode="bilinear", align_corners=False)


class _OnStandardized(nn.Module):
    """A head that takes each channel of its maps with mean 0 and standard deviation 1.

    Adam moves all weights alike, whose inputs should be alike, too.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.widths = tuple(widths)
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("scale", torch.ones(sum(widths)))

    def standardize(self, rows: np.ndarray) -> None:
        """Take mean and standard deviation of the channels of all maps, side by side."""
        std = rows.std(axis=0, dtype=np.float64)
        self.mean.copy_(torch.from_numpy(rows.mean(axis=0, dtype=np.float64)))
        self.scale.copy_(torch.from_numpy(1 / np.where(std > 1e-6, std, 1.0)))


class LinearHead(_OnStandardized):
    """A 1x1 convolution of each map, whose scores are enlarged and added.

    Parameters
    ----------
    widths : sequence of int
        Channels of the maps.
    n_classes : int
    size : tuple of int
        Height and width of the scores.
    dropout : float
        Share of the inputs that are left out in training.
    """

    def __init__(
        self, widths: Sequence[int], n_classes: int, size: tuple[int, int], dropout: float
    ):
        super().__init__(widths)
        self.size = size
        self.dropout = Dropout(dropout)
        self.weight = nn.Parameter(torch.zeros(n_classes, sum(widths)))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        self.by = sum(widths) ** -0.5  # see `Scale`
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def take(self, coef: np.ndarray, intercept: np.ndarray) -> None:
        """Begin with a linear classifier of the channels of all maps, side by side."""
        weight, bias = torch.from_numpy(coef).double(), torch.from_numpy(intercept).double()
        with torch.no_grad():
            self.weight.copy_(weight / self.scale.double() / self.by)
            self.bias.copy_(bias + weight @ self.mean.double())

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        coef = self.weight * (self.scale * self.by)
        constant = self.bias - coef @ self.mean
        scores: Any = constant[:, None, None]
        for one, own in zip(maps, coef.split(self.widths, 1), strict=True):
            scores = scores + _enlarged(conv2d(self.dropout(one), own[:, :, None, None]), self.size)
        found: torch.Tensor = scores
        return found


class _PyramidHead(_OnStandardized):
    """A feature pyramid whose levels are added, and two convolutions.

    References
    ----------
    A. Kirillov, R. Girshick, K. He, P. Dollár (2019). Panoptic feature pyramid networks. CVPR.
    Section 3.1; levels are enlarged at once.
    """

    def __init__(
        self, widths: Sequence[int], n_classes: int, size: tuple[int, int], dropout: float
    ):
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__(widths)
        self.size = size
        self.pyramid = FeaturePyramidNetwork(list(widths), _WIDTH)
        self.convs = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(), Dropout(dropout),
            nn.Conv2d(_WIDTH, n_classes, 1),
        )  # fmt: skip

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        parts = zip(self.mean.split(self.widths), self.scale.split(self.widths), strict=True)
        standardized = {
            str(number): (one - mean[:, None, None]) * scale[:, None, None]
            for number, (one, (mean, scale)) in enumerate(zip(maps, parts, strict=True))
        }
        levels = list(self.pyramid(standardized).values())
        finest = levels[0].shape[2:]
        total = sum(_enlarged(one, finest) for one in levels)
        return _enlarged(self.convs(total), self.size)


class _OwnHead(nn.Module):
    """A module of the user's own, whose scores are enlarged."""

    def __init__(self, module: nn.Module, size: tuple[int, int]):
        super().__init__()
        self.module, self.size = module, size

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return _enlarged(self.module(list(maps)).float(), self.size)


def _own_head(
    head: Any,
    widths: list[int],
    strides: list[int],
    grids: list[tuple[int, int]],
    n_classes: int,
) -> nn.Module:
    """What a function gave, if it makes scores of maps; its own copy."""
    call = "head=lambda widths, strides, n_classes: module"
    given = f"widths={widths}, strides={strides} and n_classes={n_classes}"
    if isinstance(head, nn.Module):
        raise ValueError(
            "head= must be 'linear', 'fpn' or a function that gives a module, got a module. Pass "
            f"a function: {call}."
        )
    try:
        made: Any = head(list(widths), list(strides), n_classes)
    except Exception as error:
        raise ValueError(
            f"head= failed with {given}: {type(error).__name__}: {shown(error)}. It must take "
            f"these three: {call}."
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"head= must give a torch.nn.Module, gave {shown(repr(made))}.")
    made = own_copy(made, lambda: head(list(widths), list(strides), n_classes))
    maps = [torch.zeros(2, width, *grid) for width, grid in zip(widths, grids, strict=True)]
    try:
        with torch.no_grad():
            out = made.eval()(maps)
    except Exception as error:
        raise ValueError(
            "head= must give a module that takes a list of maps of shapes "
            f"{[tuple(one.shape) for one in maps]}, but it failed: {type(error).__name__}: "
            f"{shown(error)}."
        ) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 4 or out.shape[:2] != (2, n_classes):
        gave = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(
            f"head= must give a module that gives scores (n, {n_classes}, height, width), but its "
            f"module gave {gave} for 2 images."
        )
    return made
