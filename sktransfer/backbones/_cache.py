"""The networks that were used last, one of each for the whole process, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from torch import nn

from ._spec import Preprocessing

__all__ = ["Loaded", "NetworkCache"]

T = TypeVar("T")


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


class NetworkCache(Generic[T]):
    """A few networks, or what was made of them, the least recently used forgotten first.

    Parameters
    ----------
    max_networks : int
        How many are kept at most.
    max_bytes : int
        How much memory their weights take at most; the newest is kept however large it is.
    module_of : callable
        From what is kept to the module whose weights it keeps in memory.
    """

    def __init__(
        self,
        max_networks: int,
        max_bytes: int,
        module_of: Callable[[Any], nn.Module] = attrgetter("module"),
    ):
        self.max_networks, self.max_bytes = max_networks, max_bytes
        self._module_of = module_of
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
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
        tensors = {
            id(tensor): tensor.nbytes
            for kept in self._kept.values()
            for tensor in self._module_of(kept).state_dict(keep_vars=True).values()
        }  # each once: tables of one network at several sizes share its weights
        return len(self._kept) > self.max_networks or sum(tensors.values()) > self.max_bytes
