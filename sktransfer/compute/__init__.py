"""How a frozen network meets many items: the frozen pass, its plan and runner, and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily
from ._base import (
    PRECISIONS,
    Engine,
    batch_tokens,
    copies_of_few,
    resolve_devices,
    resolve_precision,
    usable_devices,
)
from ._count import ComputedCounter, count_computed
from ._engine import ENGINES, engine_identity, make_engine
from ._frozen_pass import FrozenPass, normalize_rows, normalized
from ._plan import ComputeSettings
from ._quantized import Quantized, check_int8, quantize
from ._seen_from import SeenFrom
from ._threads import available_cores, blas_on_one_core, worker_pool

if TYPE_CHECKING:
    from ._convert import openvino_graph
    from ._torch import within_memory

# They import torch.
__getattr__, __dir__ = lazily(
    __name__, {"_convert": ["openvino_graph"], "_torch": ["within_memory"]}
)

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "ComputeSettings",
    "ComputedCounter",
    "Engine",
    "FrozenPass",
    "Quantized",
    "SeenFrom",
    "available_cores",
    "batch_tokens",
    "blas_on_one_core",
    "check_int8",
    "copies_of_few",
    "count_computed",
    "engine_identity",
    "make_engine",
    "normalize_rows",
    "normalized",
    "openvino_graph",
    "quantize",
    "resolve_devices",
    "resolve_precision",
    "usable_devices",
    "within_memory",
    "worker_pool",
]
