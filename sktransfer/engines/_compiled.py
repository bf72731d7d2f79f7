"""torch.compile, at one batch size: each new shape would take another ten seconds or more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import tracing
from ..exceptions import EngineError
from ._threads import worker_pool

__all__ = ["compiled"]

Codes = tuple[torch.Tensor, ...]


def compiled(network: FrozenNetwork, example: torch.Tensor) -> Callable[[torch.Tensor], Codes]:
    """A network compiled for batches like an example; others are cut and filled up to its size.

    Raises
    ------
    EngineError
        If the compiler is missing or fails.
    """
    options: Any = {"freezing": True} if example.device.type == "cpu" else None
    call = torch.compile(network, dynamic=False, options=options)

    def first() -> None:
        with tracing(), torch.inference_mode():
            call(example)

    try:
        # In a thread that computes on one core, as those do that will call it.
        worker_pool().submit(first).result()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(
            f"torch.compile failed: {reason} It needs a C++ compiler on a CPU, and Triton on "
            "CUDA; compile=False needs nothing."
        ) from error
    return lambda pixels: _in_batches(call, pixels, len(example))


def _in_batches(call: Callable[[torch.Tensor], Codes], pixels: torch.Tensor, size: int) -> Codes:
    parts = []
    for part in pixels.split(size):
        missing = size - len(part)
        filled = torch.cat([part, part[:1].expand(missing, -1, -1, -1)]) if missing else part
        parts.append(tuple(codes[: len(part)] for codes in call(filled)))
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
