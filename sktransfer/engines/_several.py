"""Several devices of one kind: each batch goes to one that is free."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import numpy as np

from ._base import Engine

__all__ = ["SeveralDevices"]

# As many batches as a device works on at a time.
_EACH = 2


class SeveralDevices(Engine):
    """Engines with the same network on several devices.

    Parameters
    ----------
    engines : sequence of Engine
        At least one; all of one name and precision, so their codes are interchangeable.
    """

    def __init__(self, engines: Sequence[Engine]):
        first = engines[0]
        self.name, self.precision = first.name, first.precision
        self.batch_size = first.batch_size
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for _ in range(_EACH):
            for engine in engines:
                self._free.put(engine)

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        engine = self._free.get()
        try:
            return engine.run(pixels)
        finally:
            self._free.put(engine)
