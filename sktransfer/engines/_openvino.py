"""The engine for CPUs: OpenVINO, converted straight from the torch network."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import tracing
from ..exceptions import EngineError
from ._base import Engine
from ._fold import folded
from ._threads import available_cores

__all__ = ["OpenVinoEngine", "cache_folder"]

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_BATCH = 8


class OpenVinoEngine(Engine):
    """Run a frozen network with OpenVINO.

    Parameters
    ----------
    network : FrozenNetwork
        Pixels go in as bytes; normalisation is part of the graph.
    image_size : tuple of int
        Height and width in pixels.
    precision : {"float32", "bfloat16", "float16"}
    key : str
        Fingerprint under which the converted network is kept on disk.

    Raises
    ------
    EngineError
        If OpenVINO cannot convert the network.
    """

    name = "openvino-cpu"
    batch_size = _BATCH

    def __init__(
        self, network: FrozenNetwork, image_size: tuple[int, int], precision: str, key: str
    ):
        self.precision = precision
        self._local = threading.local()
        self._compiled = _compile(_converted(network, image_size, key), precision)

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        # One request for each thread: requests run side by side, each on a core of its own.
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True)
        return tuple(np.array(results[i], np.float32) for i in range(len(results)))


def cache_folder() -> Path:
    """Where converted networks are kept; ``SKTRANSFER_CACHE`` names another place."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sktransfer"
    return Path(os.environ.get("SKTRANSFER_CACHE", default)) / "openvino"


def _compile(model: Any, precision: str) -> Any:
    import openvino

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


def _converted(network: FrozenNetwork, image_size: tuple[int, int], key: str) -> Any:
    """The network as OpenVINO's graph; converting takes seconds, so it is kept on disk."""
    import openvino

    path = cache_folder() / f"{key}-{openvino.__version__.split('-')[0]}.xml"
    if path.exists():
        try:
            return openvino.Core().read_model(path)
        except RuntimeError:  # damaged: convert it again
            path.unlink(missing_ok=True)
    model = _convert(network, image_size)
    _save(model, path)
    return model


def _convert(network: FrozenNetwork, image_size: tuple[int, int]) -> Any:
    """Convert through the frontend itself: ``convert_model`` takes four times as long, and
    forks processes that report its use to a server."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    network = folded(network)
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    try:
        with tracing(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, about constants
            traced = torch.jit.trace(network, example, check_trace=False)
            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
            model = frontend.convert(frontend.load(decoder))
            model.reshape([-1, *image_size, 3])
            return model
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineError(f"OpenVINO cannot convert the network: {reason}.") from error


def _save(model: Any, path: Path) -> None:
    """Write under another name first: a process that dies leaves no half-written network."""
    import openvino

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.stem}.{os.getpid()}.draft.xml")
        openvino.save_model(model, draft, compress_to_fp16=False)
        os.replace(draft.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(draft, path)
    except (OSError, RuntimeError):
        return  # no room or no right to write: it is converted again next time
