"""The engine that needs nothing but torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch

from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import running
from ..exceptions import EngineError, EngineWarning
from ._base import Engine
from ._compiled import compiled
from ._fold import folded
from ._turns import Lanes, Turn

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
    compile_for : (int, int) or None, default=None
        Height and width to compile the network for first, which takes some ten seconds.

    Raises
    ------
    EngineError
        If the network cannot be compiled.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        device: torch.device,
        precision: str,
        *,
        compile_for: tuple[int, int] | None = None,
    ):
        self.name, self.precision, self.device = f"torch-{device.type}", precision, device
        self.batch_size = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        network = folded(network).to(device).in_precision(_DTYPES[precision])
        self._network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = _channels_last(network)
        if compile_for is not None:
            example = torch.zeros(
                (self.batch_size, *compile_for, network.n_channels),
                dtype=torch.uint8,
                device=device,
            )
            self._network = compiled(network, example)
        if device.type != "cpu":
            self._turn, self._lanes = Turn(str(device)), Lanes(device)
        self._largest = 2**31

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        if self.device.type == "cpu":
            return self._compute(pixels)
        with ExitStack() as stack:
            stack.enter_context(self._turn)
            stack.enter_context(self._lanes.take())
            return self._within_memory(pixels)

    def _within_memory(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Halve the batch as long as the accelerator's memory does not hold it."""
        size = min(len(pixels), self._largest)
        while True:
            try:
                parts = [self._compute(pixels[i : i + size]) for i in range(0, len(pixels), size)]
                return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise EngineError(
                        f"The memory of {self.device} does not hold the network and one image. "
                        'End what else is using the device, or take device="cpu".'
                    ) from error
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
