"""The engine that needs nothing but torch."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import torch

from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import running
from ..exceptions import EngineWarning
from ._base import Engine
from ._fold import folded

__all__ = ["TorchEngine"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Small batches keep activations in the processor's cache; a GPU wants large ones.
_CPU_BATCH, _GPU_BATCH = 8, 128


class TorchEngine(Engine):
    """Run a frozen network with torch.

    Parameters
    ----------
    network : FrozenNetwork
        It is copied; the original stays as it is.
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}
    """

    def __init__(self, network: FrozenNetwork, device: torch.device, precision: str):
        self.name, self.precision, self.device = f"torch-{device.type}", precision, device
        self.batch_size = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        network = folded(network).to(device).in_precision(_DTYPES[precision])
        self._network = _channels_last(network)
        # Threads of one process take turns on an accelerator instead of filling its memory.
        self._turn = threading.Lock() if device.type != "cpu" else None
        self._largest = 2**31

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        if self._turn is None:
            return self._compute(pixels)
        with self._turn:
            return self._within_memory(pixels)

    def _within_memory(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Halve the batch as long as the accelerator's memory does not hold it."""
        size = min(len(pixels), self._largest)
        while True:
            try:
                parts = [self._compute(pixels[i : i + size]) for i in range(0, len(pixels), size)]
                return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                size = self._largest = size // 2
                torch.cuda.empty_cache()
                warnings.warn(
                    f"The memory of {self.device} does not hold the batch; going on with "
                    f"batch_size={size}.",
                    EngineWarning,
                    stacklevel=2,
                )

    def _compute(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        with running(), torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels))
            if self.device.type == "cuda":
                batch = batch.pin_memory().to(self.device, non_blocking=True)
            elif self.device.type != "cpu":
                batch = batch.to(self.device)
            return tuple(code.float().cpu().numpy() for code in self._network(batch))


def _channels_last(network: FrozenNetwork) -> FrozenNetwork:
    """Lay convolutions out as the pixels are; ``Module.to`` would choke on 5-d buffers."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network
