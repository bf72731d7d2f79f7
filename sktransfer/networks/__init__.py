"""Networks: a name becomes a network, its preprocessing, a fingerprint and cut points."""

from __future__ import annotations

from ._blocks import TextTail, pool_tokens, text_cuts_of
from ._cut import (
    POOLINGS,
    Cuttable,
    FrozenModule,
    Layer,
    Pool,
    Stage,
    as_kept,
    as_map,
    has_token,
    pooled_shape,
)
from ._fitted import (
    NETWORK,
    TEXT_NETWORK,
    KeepsNetwork,
    check_given,
    given_of,
    pack_state,
    unpack_state,
)
from ._layers import cuts_of
from ._load import BackboneInfo, load_backbone, weights_by_name
from ._noted import noted_cuts
from ._registry import list_backbones, register_backbone
from ._spec import Backbone, Preprocessing, dense_preparation, image_preparation
from ._split import with_others
from ._tracer import HOOKS, running, tracing
from ._transformers import (
    TEXT_POOLINGS,
    TextBackboneInfo,
    TextPreprocessing,
    is_text_network,
    load_text_backbone,
    text_names,
    text_preparation,
)

__all__ = [
    "HOOKS",
    "NETWORK",
    "POOLINGS",
    "TEXT_NETWORK",
    "TEXT_POOLINGS",
    "Backbone",
    "BackboneInfo",
    "Cuttable",
    "FrozenModule",
    "KeepsNetwork",
    "Layer",
    "Pool",
    "Preprocessing",
    "Stage",
    "TextBackboneInfo",
    "TextPreprocessing",
    "TextTail",
    "as_kept",
    "as_map",
    "check_given",
    "cuts_of",
    "dense_preparation",
    "given_of",
    "has_token",
    "image_preparation",
    "is_text_network",
    "list_backbones",
    "load_backbone",
    "load_text_backbone",
    "noted_cuts",
    "pack_state",
    "pool_tokens",
    "pooled_shape",
    "register_backbone",
    "running",
    "text_cuts_of",
    "text_names",
    "text_preparation",
    "tracing",
    "unpack_state",
    "weights_by_name",
    "with_others",
]
