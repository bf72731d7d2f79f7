"""Engines by name, a few of them kept so that clones share one network in memory."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from .._lru import LRU
from .._optional import import_openvino
from ..exceptions import EngineError, EngineWarning, SktransferError
from ._base import Device, Engine, resolve_devices, resolve_precision
from ._openvino import Conversion, InconvertibleError, OpenVinoEngine, first_line
from ._quantized import Quantized, check_int8, int8_engine

if TYPE_CHECKING:
    from ..networks import FrozenModule

__all__ = ["ENGINES", "engine_identity", "make_engine", "make_openvino"]


ENGINES = ("auto", "torch", "openvino")
_engines: LRU[Engine] = LRU(4, of_process=True)


def make_engine(
    key: Hashable,
    network: Callable[[], FrozenModule],
    *,
    probes: Callable[[], list[np.ndarray]],
    device: str | Sequence[str] = "auto",
    precision: str = "auto",
    engine: str = "auto",
    compile: bool = False,
    on_disk: bool = True,
    few: bool = False,
    quantized: Quantized | None = None,
) -> Engine:
    """The engine for a frozen network; the one made before, where the key is the same.

    Parameters
    ----------
    key : hashable
        What makes the network what it is; its repr must be the same in every process.
    network : callable
        Gives the frozen network; called only when the engine is not there yet.
    probes : callable
        Gives batches of made-up items: the first to follow the network by, all to compare engines.
    device : str or sequence of str
    precision, engine : str
    compile : bool
    on_disk : bool
        Whether other processes may find what this network was converted to.
    few : bool
        Whether the first batch will leave cores idle.
    quantized : Quantized or None
        The network in 8 bits, for ``precision="int8"``.

    Raises
    ------
    EngineError
        If this machine has no such device, or the engine is not installed.
    """
    devices = resolve_devices(device)
    precision = resolve_precision(precision, devices[0])
    if precision == "int8":
        int8_key = ("int8", quantized and quantized.key, os.getpid())
        return _engines.get(int8_key, lambda: int8_engine(quantized, devices, few=few))
    openvino = takes_openvino(engine, devices, compile=compile)
    full_key = (key, devices, precision, openvino, compile, os.getpid())

    def make() -> Engine:
        made = None
        if openvino:
            name = hashlib.sha256(repr(key).encode()).hexdigest()[:32] if on_disk else None
            made = _openvino(network, probes, precision, name, few)
        return made or _torch(network(), devices, precision, probes()[0] if compile else None)

    return _engines.get(full_key, make)


def engine_identity(
    device: str | Sequence[str] = "auto",
    *,
    precision: str = "auto",
    engine: str = "auto",
    compile: bool = False,
    quantized: Quantized | None = None,
) -> tuple[str, str]:
    """Name and precision of the engine that will be made, unless it cannot run the network.

    Raises
    ------
    EngineError
        If this machine has no such device, or the engine is not installed.
    """
    devices = resolve_devices(device)
    if precision == "int8":
        check_int8(quantized, devices, engine=engine, compile=compile)
        return OpenVinoEngine.name, quantized.precision if quantized else ""
    by_openvino = takes_openvino(engine, devices, compile=compile)
    name = OpenVinoEngine.name if by_openvino else f"torch-{devices[0].type}"
    return name, resolve_precision(precision, devices[0])


def takes_openvino(engine: str, devices: Sequence[Device], *, compile: bool) -> bool:
    """Whether OpenVINO is to run a network: asked for, or there and the fastest.

    Raises
    ------
    EngineError
        If it was asked for and cannot.
    """
    possible = devices[0].type == "cpu" and not compile
    if engine == "auto":
        return possible and _is_installed()
    if engine == "torch":
        return False
    if not _is_installed():
        raise EngineError(
            'engine="openvino" needs the package openvino: pip install "sktransfer[openvino]". '
            'engine="torch" needs nothing more.'
        )
    if not possible:
        what = "compile=True is torch's" if compile else f"device={str(devices[0])!r} is not one"
        raise EngineError(
            f'engine="openvino" computes on a CPU, but {what}. '
            'Take engine="torch", or device="cpu" and compile=False.'
        )
    return True


def _is_installed() -> bool:
    try:
        return find_spec("openvino") is not None
    except ValueError:  # imported, in a way that leaves no trace of whence
        return True


def _openvino(
    network: Callable[[], FrozenModule],
    probes: Callable[[], list[np.ndarray]],
    precision: str,
    name: str | None,
    few: bool,
) -> Engine | None:
    """OpenVINO, or None with a warning where it cannot run this network rightly."""
    if not _starts():
        return None
    try:
        return make_openvino(network, probes, precision, name, few=few)
    except EngineError as error:
        _warn(str(error))
    except SktransferError:  # of the network itself, whatever runs it
        raise
    except Exception as error:  # whatever goes wrong in it, torch computes the same
        _warn(f"OpenVINO failed on the network ({first_line(error)}).")
    return None


def make_openvino(
    network: Callable[[], FrozenModule],
    probes: Callable[[], list[np.ndarray]],
    precision: str,
    key: str | None,
    *,
    few: bool = False,
) -> OpenVinoEngine:
    """The engine of a network that OpenVINO computes as torch does.

    Parameters
    ----------
    network : callable
        Gives the frozen network; called only where its conversion is not on disk.
    probes : callable
        Gives batches of made-up items, of two shapes where shapes differ.
    precision : {"float32", "bfloat16", "float16"}
    key : str or None
        Fingerprint under which the conversion, or why there is none, is kept on disk; None keeps
        nothing.
    few : bool
        As in `OpenVinoEngine`.

    Raises
    ------
    EngineError
        If OpenVINO cannot convert the network, or computes something else than torch.
    """
    conversion = Conversion(key)
    model = conversion.load()
    if model is None:
        from ._convert import converted  # with torch

        try:
            model = converted(network(), probes())
        except InconvertibleError as error:
            conversion.refuse(str(error))
            raise
        conversion.save(model)
    return OpenVinoEngine(model, precision, few=few)


@cache
def _starts() -> bool:
    """Whether OpenVINO can be imported; if it cannot, that is said once for all networks."""
    try:
        import_openvino()
    except Exception as error:  # also those of the operating system, of a damaged package
        _warn(f"OpenVINO is installed, but cannot be imported ({first_line(error)}).")
        return False
    return True


def _warn(reason: str) -> None:
    warnings.warn(f"{reason} Continuing with torch.", EngineWarning, stacklevel=4)


def _torch(
    network: FrozenModule,
    devices: Sequence[Device],
    precision: str,
    compile_for: np.ndarray | None,
) -> Engine:
    import torch

    from ._torch import SeveralDevices, TorchEngine

    made = [
        TorchEngine(network, torch.device(str(one)), precision, compile_for=compile_for)
        for one in devices
    ]
    return made[0] if len(made) == 1 else SeveralDevices(made)
