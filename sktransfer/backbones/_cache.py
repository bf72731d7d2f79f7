"""The networks that were used last, one of each for the whole process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import nn

from ._spec import Preprocessing

__all__ = ["Loaded", "NetworkCache"]


@dataclass(frozen=True)
class Loaded:
    """A network before it is settled how its images are prepared.

    Attributes
    ----------
    module : torch.nn.Module
    weights : str or None
    facts : Preprocessing or None
        What the weights tell of it, if they do.
    fingerprint : str
    portable : bool
    """

    module: nn.Module
    weights: str | None
    facts: Preprocessing | None
    fingerprint: str
    portable: bool


class NetworkCache:
    """A few networks, the least recently used forgotten first.

    Parameters
    ----------
    max_networks : int
        How many are kept at most.
    max_bytes : int
        How much memory their weights take at most; the newest is kept however large it is.
    """

    def __init__(self, max_networks: int, max_bytes: int):
        self.max_networks, self.max_bytes = max_networks, max_bytes
        self._kept: OrderedDict[Hashable, Loaded] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, load: Callable[[], Loaded]) -> Loaded:
        """The network of a key; threads that ask at the same time wait for one `load`."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = load()
                while len(self._kept) > 1 and self._is_full():
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()

    def _is_full(self) -> bool:
        total = sum(_n_bytes(loaded) for loaded in self._kept.values())
        return len(self._kept) > self.max_networks or total > self.max_bytes


def _n_bytes(loaded: Loaded) -> int:
    return sum(tensor.nbytes for tensor in loaded.module.state_dict().values())
