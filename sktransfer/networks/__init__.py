"""Networks: a name becomes a network, its preprocessing, a fingerprint and cut points.

Modules are imported with the first of their names: those that import torch, which are most, do
not slow down a process that makes codes by a network that was converted before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from ._blocks import TextTail, pool_tokens, text_cuts_of
    from ._cut import POOLINGS, Cuttable, Layer, Stage, as_kept, has_token, pooled_shape
    from ._fitted import (
        NETWORK,
        TEXT_NETWORK,
        KeepsNetwork,
        check_given,
        given_of,
        pack_state,
        unpack_state,
    )
    from ._frozen import FrozenModule
    from ._info import BackboneInfo
    from ._layers import cuts_of
    from ._load import load_backbone
    from ._noted import noted_cuts
    from ._pool import Pool, as_map
    from ._registry import list_backbones, register_backbone
    from ._spec import (
        Backbone,
        Preprocessing,
        dense_preparation,
        image_preparation,
        weights_by_name,
    )
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

_HOMES = {
    "_blocks": ["TextTail", "pool_tokens", "text_cuts_of"],
    "_cut": ["POOLINGS", "Cuttable", "Layer", "Stage", "as_kept", "has_token", "pooled_shape"],
    "_fitted": [
        *("NETWORK", "TEXT_NETWORK", "KeepsNetwork", "check_given", "given_of", "pack_state"),
        "unpack_state",
    ],
    "_frozen": ["FrozenModule"],
    "_info": ["BackboneInfo"],
    "_layers": ["cuts_of"],
    "_load": ["load_backbone"],
    "_noted": ["noted_cuts"],
    "_pool": ["Pool", "as_map"],
    "_registry": ["list_backbones", "register_backbone"],
    "_spec": [
        *("Backbone", "Preprocessing", "dense_preparation", "image_preparation"),
        "weights_by_name",
    ],
    "_split": ["with_others"],
    "_tracer": ["HOOKS", "running", "tracing"],
    "_transformers": [
        *("TEXT_POOLINGS", "TextBackboneInfo", "TextPreprocessing", "is_text_network"),
        *("load_text_backbone", "text_names", "text_preparation"),
    ],
}
__getattr__, __dir__ = lazily(__name__, _HOMES)

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
