"""The engine for CPUs: OpenVINO, converted straight from the torch network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .._optional import import_openvino
from ..backbones._frozen import FrozenNetwork
from ..exceptions import EngineError
from . import _conversions
from ._base import Engine
from ._probe import check_agreement
from ._threads import available_cores
from ._torch import TorchEngine

__all__ = ["OpenVinoEngine", "make_openvino"]

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_BATCH = 8
_meeting = threading.Lock()


class OpenVinoEngine(Engine):
    """Run a frozen network with OpenVINO.

    Parameters
    ----------
    model : openvino.Model
        Bytes of pixels go in; normalisation is part of the graph.
    precision : {"float32", "bfloat16", "float16"}
    """

    name = "openvino-cpu"
    batch_size = _BATCH

    def __init__(self, model: Any, precision: str):
        self.precision = precision
        self._local = threading.local()
        self._compiled = _compile(model, precision)

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        # One request for each thread: requests run side by side, each on a core of its own.
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True)
        return tuple(np.array(results[i], np.float32) for i in range(len(results)))


def make_openvino(
    network: Callable[[], FrozenNetwork],
    image_size: tuple[int, int],
    precision: str,
    key: str | None,
) -> OpenVinoEngine:
    """The engine of a network that OpenVINO computes as torch does.

    Parameters
    ----------
    network : callable
        Gives the frozen network; called only where its conversion is not on disk.
    image_size : tuple of int
        Height and width in pixels.
    precision : {"float32", "bfloat16", "float16"}
    key : str or None
        Fingerprint under which the conversion, or why there is none, is kept on disk; None keeps
        nothing.

    Raises
    ------
    EngineError
        If OpenVINO cannot convert the network, or computes something else than torch.
    """
    conversion = _conversions.Conversion(key)
    model = conversion.load()
    if model is None:
        try:
            model = _converted(network(), image_size)
        except _conversions.InconvertibleError as error:
            conversion.refuse(str(error))
            raise
        conversion.save(model)
    return OpenVinoEngine(model, precision)


def _converted(network: FrozenNetwork, image_size: tuple[int, int]) -> Any:
    model = _conversions.convert(network, image_size)
    # In float32 always: lower precisions differ by more than a wrong conversion may.
    engine = OpenVinoEngine(model, "float32")
    reference = TorchEngine(network, torch.device("cpu"), "float32")
    try:
        check_agreement(engine, reference, (*image_size, network.n_channels))
    except EngineError as error:
        raise _conversions.InconvertibleError(str(error)) from error
    except RuntimeError as error:  # OpenVINO's own
        reason = _conversions.first_line(error)
        raise EngineError(f"OpenVINO cannot run the network: {reason}.") from error
    return model


def _compile(model: Any, precision: str) -> Any:
    openvino = import_openvino()
    _meet_numpy()
    cores = str(available_cores())
    return openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": "NO",
        },
    )


def _meet_numpy() -> None:
    """Have OpenVINO's bindings load numpy's interface while no other thread can.

    pybind11 does so at the first call that needs it, under a guard of C++ that is waited for with
    Python's lock held: two threads whose first calls coincide wait for each other for ever.
    """
    with _meeting:
        import_openvino().Type.f32.to_dtype()
