"""What the classifier and the regressor have in common."""

from __future__ import annotations

import enum
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._constraints import CONSTRAINTS
from ._fitted import images_of, model_of, prefix_of
from ._learning import net_of
from ._learning_on import LearningOn
from ._state import load_state, save_state

__all__ = ["FineTuneBase"]


class FineTuneBase(LearningOn, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Parameters, and all that does not depend on what the target is."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    def __init__(
        self,
        backbone: Any = "efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] | enum.Enum | None = "default",
        layer: str | int | None = None,
        trainable: str | int | Sequence[str] = 2,
        method: str = "full",
        head: str | Callable[[int, int], nn.Module] = "linear",
        head_init: str = "linear_probe",
        dropout: float = 0.0,
        lr: float = 2e-3,
        backbone_lr_factor: float = 0.1,
        layer_decay: float = 1.0,
        optimizer: Any = "adamw",
        weight_decay: float = 1e-2,
        l2_sp: float = 0.0,
        schedule: Any = "cosine",
        warmup: float = 0.3,
        unfreeze_every: int | None = None,
        mixup: float = 0.0,
        ema: float | None = None,
        clip_grad: float | None = None,
        batchnorm: str = "frozen",
        max_epochs: int = 10,
        batch_size: int = 32,
        augment: Any = None,
        augment_views: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        image_size: int | tuple[int, int] | None = None,
        resize: str = "pad",
        crop_pct: float | None = None,
        image_shape: tuple[int, ...] | Literal["row"] | None = None,
        value_range: Literal["auto"] | tuple[float, float] = "auto",
        preprocessing: Any = None,
        device: str | Sequence[str] = "auto",
        precision: str = "auto",
        engine: str = "auto",
        n_jobs: int | None = None,
        cache: Any = "memory",
        cache_activations: Literal["auto", "memory", "disk", False] = "auto",
        activation_dtype: str = "float32",
        checkpoint_dir: str | os.PathLike[str] | None = None,
        keep_checkpoints: int = 1,
        warm_start: bool = False,
        distributed: bool = False,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        bundle_weights: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.trainable = trainable
        self.method = method
        self.head = head
        self.head_init = head_init
        self.dropout = dropout
        self.lr = lr
        self.backbone_lr_factor = backbone_lr_factor
        self.layer_decay = layer_decay
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.l2_sp = l2_sp
        self.schedule = schedule
        self.warmup = warmup
        self.unfreeze_every = unfreeze_every
        self.mixup = mixup
        self.ema = ema
        self.clip_grad = clip_grad
        self.batchnorm = batchnorm
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.augment = augment
        self.augment_views = augment_views
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.image_size = image_size
        self.resize = resize
        self.crop_pct = crop_pct
        self.image_shape = image_shape
        self.value_range = value_range
        self.preprocessing = preprocessing
        self.device = device
        self.precision = precision
        self.engine = engine
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_activations = cache_activations
        self.activation_dtype = activation_dtype
        self.checkpoint_dir = checkpoint_dir
        self.keep_checkpoints = keep_checkpoints
        self.warm_start = warm_start
        self.distributed = distributed
        self.callbacks = callbacks
        self.net_params = net_params
        self.bundle_weights = bundle_weights
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _encode(
        self, y: Any, n_images: int, *, classes: Any, known: bool, name: str
    ) -> np.ndarray:
        """The targets as the net takes them."""

    @abstractmethod
    def _n_outputs(self, target: np.ndarray) -> int:
        """Numbers that the head gives."""

    def _class_weights(self, target: np.ndarray) -> np.ndarray | None:
        return None

    def _outputs(self, X: Any) -> np.ndarray:
        """What the head gives for each image."""
        check_is_fitted(self, "backbone_")
        images = images_of(self, X)
        model = model_of(self)
        return model.outputs(prefix_of(self, model), images)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the fine-tuned codes: what goes into the head.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_codes), float32

        Raises
        ------
        ImageError
            If an image cannot be read.
        """
        check_is_fitted(self, "backbone_")
        images = images_of(self, X)
        model = model_of(self)
        return model.outputs(prefix_of(self, model), images, codes=True)

    def __getattr__(self, name: str) -> Any:
        # Not a property: notebooks show the values of all that `dir` names.
        if name == "net_" and "_fitted" in vars(self):
            self.net_ = net_of(self)
            return self.net_
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        return save_state(self, super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(load_state(state))
