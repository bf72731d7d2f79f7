"""Networks as OpenVINO's graphs, kept on disk once they were found right; or why there is none."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import tracing
from ..exceptions import EngineError
from ._fold import folded

__all__ = ["Conversion", "cache_folder", "convert"]


def cache_folder() -> Path:
    """Where converted networks are kept; ``SKTRANSFER_CACHE`` names another place."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sktransfer"
    return Path(os.environ.get("SKTRANSFER_CACHE", default)) / "openvino"


class Conversion:
    """What is known on disk of one network under this version of OpenVINO.

    Parameters
    ----------
    key : str
        Fingerprint of the network.
    """

    def __init__(self, key: str):
        import openvino

        self._path = cache_folder() / f"{key}-{openvino.__version__.split('-')[0]}.xml"
        self._reason = self._path.with_suffix(".txt")

    def load(self) -> Any | None:
        """The graph, or None where the network was not converted yet.

        Raises
        ------
        EngineError
            If it was tried before and is not to be had.
        """
        import openvino

        if self._reason.exists():
            raise EngineError(self._reason.read_text("utf-8"))
        if not self._path.exists():
            return None
        try:
            return openvino.Core().read_model(self._path)
        except RuntimeError:  # damaged: convert it again
            self._path.unlink(missing_ok=True)
            return None

    def save(self, model: Any) -> None:
        """Write under another name first: a process that dies leaves no half-written network."""
        import openvino

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_name(f"{self._path.stem}.{os.getpid()}.draft.xml")
            openvino.save_model(model, draft, compress_to_fp16=False)
            os.replace(draft.with_suffix(".bin"), self._path.with_suffix(".bin"))
            os.replace(draft, self._path)
        except (OSError, RuntimeError):
            return  # no room or no right to write: it is converted again next time

    def refuse(self, reason: str) -> None:
        """Remember that there is none, so that no process tries in vain again."""
        try:
            self._reason.parent.mkdir(parents=True, exist_ok=True)
            draft = self._reason.with_name(f"{self._reason.stem}.{os.getpid()}.draft.txt")
            draft.write_text(reason, "utf-8")
            os.replace(draft, self._reason)
        except OSError:
            return


def convert(network: FrozenNetwork, image_size: tuple[int, int]) -> Any:
    """Convert a network; by the frontend itself, since ``convert_model`` takes four times as
    long, and forks processes that report its use to a server.

    Raises
    ------
    EngineError
        If OpenVINO cannot.
    """
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
