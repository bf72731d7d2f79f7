"""What is left of a fit: its network, and how it reads photographs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codes._fitting import check_columns
from ..engines import usable_devices
from ..images import Framing, Images, as_images
from ..store import open_store
from ._model import Design, Model, build_model
from ._prefix import Prefix, Some

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["Fitted", "Part", "images_of", "model_of", "prefix_of"]


@dataclass(frozen=True)
class Fitted:
    """Parameters that decide what a fitted estimator computes, as they were in `fit`."""

    design: Design
    trainable: Any  # in `fit`; `unfreeze` changes that of the design
    framing: Framing
    image_shape: Any
    value_range: Any
    float_range: tuple[float, float] | None
    layout: str | None = None  # a stack of greyscale images, rows, or other images
    # Which kinds of images used their range; it decides nothing but what is warned of.
    bright: tuple[str, ...] = field(default=(), compare=False)
    # What the parameters were, which going on needs to be as they were.
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Part:
    """Photographs with targets and weights."""

    images: Any
    target: np.ndarray
    weight: np.ndarray | None

    def take(self, numbers: np.ndarray) -> Part:
        weight = None if self.weight is None else self.weight[numbers]
        return Part(Some(self.images, numbers), self.target[numbers], weight)


def images_of(est: FineTuneBase, X: Any) -> Images:
    """Photographs read as those of `fit` were."""
    fitted = est._fitted
    check_columns(est, X, reset=False)
    return as_images(
        X,
        image_shape=fitted.image_shape,
        value_range=fitted.value_range,
        float_range=fitted.float_range,
        layout=fitted.layout,
        bright=fitted.bright,
    )


def model_of(est: FineTuneBase) -> Model:
    """The network of a fitted estimator; built again after it was loaded."""
    if est._model is None:
        from ..codes._state import network_of

        model = build_model(network_of(est), est.image_size_, est._fitted.design)
        model.load(est._learnt)
        est._model = model
    return est._model


def prefix_of(est: FineTuneBase, model: Model) -> Prefix:
    """The frozen part, run as the parameters say."""
    return Prefix(
        backbone=model.backbone,
        table=model.table,
        start=model.start,
        framing=est._fitted.framing,
        store=open_store(est.cache),
        device=usable_devices(est.device),
        precision=est.precision,
        engine=est.engine,
        batch_size=None,
        n_jobs=est.n_jobs,
    )
