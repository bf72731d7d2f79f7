"""Engines by name, a few of them kept so that clones share one network in memory."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from importlib.util import find_spec

import torch
import xxhash

from ..backbones._frozen import FrozenNetwork
from ..exceptions import EngineError, EngineWarning
from ._base import Engine
from ._devices import resolve_device, resolve_precision
from ._openvino import OpenVinoEngine
from ._probe import check_agreement
from ._torch import TorchEngine

__all__ = ["ENGINES", "make_engine"]

ENGINES = ("auto", "torch", "openvino")
_KEPT = 4
_engines: OrderedDict[Hashable, Engine] = OrderedDict()
_lock = threading.Lock()


def make_engine(
    key: Hashable,
    network: Callable[[], FrozenNetwork],
    *,
    image_size: tuple[int, int],
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> Engine:
    """The engine for a frozen network; the one made before, where the key is the same.

    Parameters
    ----------
    key : hashable
        What makes the network what it is; its repr must be the same in every process.
    network : callable
        Gives the frozen network; called only when the engine is not there yet.
    image_size : tuple of int
        Height and width in pixels.
    device, precision, engine : str

    Raises
    ------
    EngineError
        If this machine has no such device, or the engine is not installed.
    """
    resolved = resolve_device(device)
    precision = resolve_precision(precision, resolved)
    full_key = (key, str(resolved), precision, engine, os.getpid())
    with _lock:
        if full_key not in _engines:
            if engine == "openvino":
                name = xxhash.xxh3_128_hexdigest(repr(key).encode())
                made = _openvino(network(), image_size, resolved, precision, name)
            else:
                made = TorchEngine(network(), resolved, precision)
            _engines[full_key] = made
            while len(_engines) > _KEPT:
                _engines.popitem(last=False)
        _engines.move_to_end(full_key)
        return _engines[full_key]


def _openvino(
    network: FrozenNetwork,
    image_size: tuple[int, int],
    device: torch.device,
    precision: str,
    name: str,
) -> Engine:
    """OpenVINO, or torch with a warning where it cannot run this network rightly."""
    if find_spec("openvino") is None:
        raise EngineError(
            'engine="openvino" needs the package openvino: pip install "sktransfer[openvino]". '
            'engine="torch" needs nothing more.'
        )
    if device.type != "cpu":
        raise EngineError(
            f'engine="openvino" computes on the CPU, but device={str(device)!r}. '
            'Take device="cpu" or engine="torch".'
        )
    try:
        made = OpenVinoEngine(network, image_size, precision, name)
        if precision == "float32":
            check_agreement(made, TorchEngine(network, device, precision), image_size)
        return made
    except EngineError as error:
        warnings.warn(f"{error} Going on with torch.", EngineWarning, stacklevel=2)
        return TorchEngine(network, device, precision)
