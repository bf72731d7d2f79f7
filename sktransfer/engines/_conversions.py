"""Networks as OpenVINO's graphs, kept on disk once they were found right; or why there is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._optional import import_openvino
from ..backbones._checkpoint import open_regular
from ..backbones._frozen import FrozenNetwork
from ..backbones._gate import tracing
from ..exceptions import EngineError
from ._fold import folded

__all__ = ["Conversion", "InconvertibleError", "cache_folder", "convert", "first_line"]

_LONGEST_NOTE = 10_000  # bytes
_DRAFT = "draft-"
_A_DAY = 86_400.0


class InconvertibleError(EngineError):
    """OpenVINO cannot compute a network, now or at any other time."""


def cache_folder() -> Path | None:
    """Where converted networks are kept; ``SKTRANSFER_CACHE`` names another place.

    None for a user without a home, as in some containers: nothing is kept then.
    """
    if own := os.environ.get("SKTRANSFER_CACHE"):
        folder = os.path.expanduser(own)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = os.path.join(os.path.expanduser(base), "sktransfer")
        if not os.path.isabs(folder):
            return None
    return None if folder.startswith("~") else Path(folder) / "openvino"


class Conversion:
    """What is known on disk of one network under this version of OpenVINO.

    The graph is a pair of files, which are believed only if a third has their digests: of a
    damaged file, or of two that do not belong together, nobody would see it in the codes.

    Parameters
    ----------
    key : str or None
        Fingerprint of the network; None if nothing of it may be kept.
    """

    def __init__(self, key: str | None):
        version = import_openvino().__version__
        self._versions = f"openvino {version}, torch {torch.__version__}"
        # A folder that nothing can be in, where nothing is kept; so for a user without a home.
        folder = None if key is None else cache_folder()
        self._folder = folder or Path(os.devnull) / "openvino"
        self._stem = f"{key}-{version.split('-')[0]}"

    def load(self) -> Any | None:
        """The graph, or None where the network was not converted yet.

        Raises
        ------
        InconvertibleError
            If these versions tried it before, and cannot.
        """
        if reason := self._reason(path := self._folder / f"{self._stem}.txt"):
            raise InconvertibleError(f"{reason} To have it tried again, delete {path}.")
        openvino = import_openvino()
        try:
            graph, weights = self._content(".xml"), self._content(".bin")
            digests = self._content(".sha256").tobytes()
            if digests != self._digests(graph, weights):
                return None
            return openvino.Core().read_model(graph.tobytes(), _as_tensor(weights))
        except (OSError, RuntimeError, MemoryError):  # not there, or damaged: convert it again
            return None

    def save(self, model: Any) -> None:
        """Keep a graph, if there is room for it and the right to write.

        What is written appears whole: a process that dies, or writes beside another, leaves no
        pair of files that would be believed.
        """
        with suppress(OSError, RuntimeError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            # A folder of its own: nobody can have put links in the place of what is written.
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._folder)) / self._stem
            try:
                import_openvino().save_model(model, f"{draft}.xml", compress_to_fp16=False)
                parts = [Path(f"{draft}{one}").read_bytes() for one in (".xml", ".bin")]
                Path(f"{draft}.sha256").write_bytes(self._digests(*parts))
                for suffix in (".bin", ".xml", ".sha256"):
                    os.replace(f"{draft}{suffix}", self._folder / f"{self._stem}{suffix}")
            finally:
                shutil.rmtree(draft.parent, ignore_errors=True)

    def refuse(self, reason: str) -> None:
        """Remember that there is none, so that no process with these versions tries in vain."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._folder)) / "reason"
            try:
                draft.write_text(f"{self._versions}\n{reason}", "utf-8")
                os.replace(draft, self._folder / f"{self._stem}.txt")
            finally:
                shutil.rmtree(draft.parent, ignore_errors=True)

    def _reason(self, path: Path) -> str | None:
        try:
            with open_regular(path, follow=False) as file:
                versions, _, reason = file.read(_LONGEST_NOTE).decode("utf-8").partition("\n")
        except (OSError, ValueError):
            return None
        return reason.strip() if versions == self._versions else None

    def _content(self, suffix: str) -> memoryview:
        with open_regular(self._folder / f"{self._stem}{suffix}", follow=False) as file:
            content = bytearray(os.fstat(file.fileno()).st_size)
            return memoryview(content)[: file.readinto(content)]

    def _digests(self, graph: Any, weights: Any) -> bytes:
        """As ``sha256sum`` writes them; with the names, since a file may be renamed."""
        return "".join(
            f"{hashlib.sha256(content).hexdigest()}  {self._stem}{suffix}\n"
            for content, suffix in ((graph, ".xml"), (weights, ".bin"))
        ).encode()

    def _sweep(self) -> None:
        """Remove what processes have left that were killed while they wrote."""
        for draft in self._folder.glob(f"{_DRAFT}*"):
            with suppress(OSError):
                if time.time() - draft.lstat().st_mtime > _A_DAY:
                    shutil.rmtree(draft)


def _as_tensor(content: memoryview) -> Any:
    """Bytes in memory that belongs to OpenVINO, whose graph goes on pointing there."""
    openvino = import_openvino()
    tensor = openvino.Tensor(openvino.Type.u8, [len(content)])
    tensor.data[:] = np.frombuffer(content, np.uint8)
    return tensor


def convert(network: FrozenNetwork, image_size: tuple[int, int]) -> Any:
    """Convert a network; by the frontend itself, since ``convert_model`` takes four times as
    long, and forks processes that report its use to a server.

    Raises
    ------
    InconvertibleError
        If OpenVINO says that it cannot.
    EngineError
        If anything else went wrong.
    """
    import_openvino()
    from openvino import frontend as kinds
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    network = folded(network)
    example = torch.zeros(2, *image_size, network.n_channels, dtype=torch.uint8)
    try:
        with tracing(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, about constants
            traced = torch.jit.trace(network, example, check_trace=False)
            frontend = kinds.FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
            model = frontend.convert(frontend.load(decoder))
            model.reshape([-1, *example.shape[1:]])
            return model
    except (
        kinds.NotImplementedFailure,
        kinds.OpConversionFailure,
        kinds.OpValidationFailure,
    ) as error:
        raise InconvertibleError(
            f"OpenVINO cannot convert the network: {first_line(error)}."
        ) from error
    except Exception as error:  # what is not said to be for ever may pass: no memory, for one
        raise EngineError(f"OpenVINO cannot convert the network: {first_line(error)}.") from error


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    # OpenVINO's own begin with where its code is, and name the operations further down.
    told = [line for line in lines if line.startswith("No conversion rule found")]
    reason = (told or lines or [""])[0].rstrip(".")
    if type(error) is RuntimeError and reason:
        return reason
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
