"""Engines by name, a few of them kept so that clones share one network in memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from ..backbones._frozen import FrozenNetwork
from ._base import Engine
from ._devices import resolve_device, resolve_precision
from ._torch import TorchEngine

__all__ = ["ENGINES", "make_engine"]

ENGINES = ("auto", "torch")
_KEPT = 4
_engines: OrderedDict[Hashable, Engine] = OrderedDict()
_lock = threading.Lock()


def make_engine(
    key: Hashable,
    network: Callable[[], FrozenNetwork],
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> Engine:
    """The engine for a frozen network; the one made before, where the key is the same.

    Parameters
    ----------
    key : hashable
        What makes the network what it is.
    network : callable
        Gives the frozen network; called only when the engine is not there yet.
    device, precision, engine : str

    Raises
    ------
    EngineError
        If this machine has no such device.
    """
    resolved = resolve_device(device)
    precision = resolve_precision(precision, resolved)
    full_key = (key, str(resolved), precision, engine, os.getpid())
    with _lock:
        if full_key not in _engines:
            _engines[full_key] = TorchEngine(network(), resolved, precision)
            while len(_engines) > _KEPT:
                _engines.popitem(last=False)
        _engines.move_to_end(full_key)
        return _engines[full_key]
