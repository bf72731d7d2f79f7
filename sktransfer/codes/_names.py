"""Names of the columns that come out."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .._sklearn import check_feature_names_in
from ..backbones._layers import Layer
from ..backbones._pooling import pooled_shape

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = ["column_names", "feature_names"]


def column_names(backbone: str, layer: Layer, pooling: str | None) -> tuple[str, int]:
    """What the columns of a layer are called before their number, and how many there are.

    The pooling is part of the name where there was something to pool.
    """
    stem = f"{re.sub('[^0-9A-Za-z_.]', '_', backbone)}_{layer.name}"
    if math.prod(layer.shape) > layer.n_channels:
        stem += f"_{pooling or 'map'}"
    return stem, math.prod(pooled_shape(layer, pooling))


def feature_names(codes: CNNCodes, input_features: Any) -> np.ndarray:
    """``network_layer_pooling_number`` for each column."""
    if input_features is not None and hasattr(codes, "n_features_in_"):
        check_feature_names_in(codes, input_features)
    columns = codes._fitted.columns
    names = [f"{stem}_{i}" for stem, width in columns for i in range(width)]
    return np.asarray(names, dtype=object)
