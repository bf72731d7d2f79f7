"""The engine for CPUs: OpenVINO, and the networks that were converted to its graphs before."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import config
from .._files import atomic_write, draft_folder, open_regular
from .._lazy import torch_build
from .._optional import import_openvino
from ..exceptions import EngineError
from ._base import Device, Engine, batch_tokens
from ._threads import CPU, available_cores

__all__ = [
    "Conversion",
    "InconvertibleError",
    "OpenVinoEngine",
    "cache_folder",
    "first_line",
    "model_of",
]


_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_BATCH = 8
_meeting = threading.Lock()


class OpenVinoEngine(Engine):
    """Run a frozen network with OpenVINO.

    Parameters
    ----------
    model : openvino.Model
        Bytes of pixels go in, since normalisation is part of the graph; or tokens.
    precision : str
        ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"int8-<key>"`` of a graph in 8 bits.
    few : bool, default=False
        Whether the first batch will leave cores idle: what it needs is compiled now, what others
        need when they come.
    """

    name = "openvino-cpu"
    batch_size, batch_tokens = _BATCH, batch_tokens(Device("cpu"))

    def __init__(self, model: Any, precision: str, *, few: bool = False):
        self.precision, self._model = precision, model
        self._cores = available_cores()
        self._local, self._making = threading.local(), threading.Lock()
        self._compiled: dict[bool, Any] = {}
        # What computes on all cores, one batch at a time.
        self._wide: Any = None
        self._same_bits: bool | None = None
        self._compile(on_all_cores=few)  # or an error, now

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self._compile(on_all_cores=False)
        with CPU.one_core():
            return self._on_one_core(batch)

    def run_on_all_cores(
        self, batch: np.ndarray, *, exact: bool
    ) -> tuple[np.ndarray, ...] | None:
        if batch.ndim != 4 or self._cores == 1:  # texts have their bits from one core alone
            return None
        if exact:
            if self._same_bits is False:
                return None
            self._compile(on_all_cores=False)  # to compare with
        self._compile(on_all_cores=True)
        with CPU.all_cores() as free:
            if not free:
                return None
            if exact and self._same_bits is None:
                self._same_bits = self._has_same_bits(batch)
            return None if exact and not self._same_bits else _infer(self._wide, batch)

    def _has_same_bits(self, batch: np.ndarray) -> bool:
        """Whether the codes of all cores are those of one, to the last bit.

        OpenVINO shares out sums whole, as far as was seen; but nothing says that it does on every
        processor.
        """
        for n in {1, min(3, self._cores)}:
            some = np.resize(batch, (n, *batch.shape[1:]))
            pairs = zip(_infer(self._wide, some), self._on_one_core(some), strict=True)
            if not all(np.array_equal(*pair, equal_nan=True) for pair in pairs):
                return False
        return True

    def _on_one_core(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        # One request for each thread: requests run side by side, each on a core of its own.
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled[False].create_infer_request()
        return _infer(self._local.request, batch)

    def _compile(self, *, on_all_cores: bool) -> None:
        """Compile the network for one way of running it, unless it is."""
        if on_all_cores in self._compiled:
            return
        with self._making:
            if on_all_cores not in self._compiled:
                made = _compile(self._model, self.precision, self._cores, on_all_cores)
                if on_all_cores:
                    self._wide = made.create_infer_request()
                self._compiled[on_all_cores] = made
                if len(self._compiled) == 2:
                    self._model = None  # it may hold the weights once more


def _infer(request: Any, batch: np.ndarray) -> tuple[np.ndarray, ...]:
    results = request.infer({0: np.ascontiguousarray(batch)}, share_inputs=True)
    return tuple(np.array(results[i], np.float32) for i in range(len(results)))


def _compile(model: Any, precision: str, cores: int, on_all_cores: bool) -> Any:
    openvino = import_openvino()
    _meet_numpy()
    options = {
        # What a graph in 8 bits has in floats is computed in float32.
        "INFERENCE_PRECISION_HINT": _HINTS.get(precision, "f32"),
        "INFERENCE_NUM_THREADS": str(cores),
        "ENABLE_CPU_PINNING": "NO",
        # A stream a core; or one of them all, or of those of them that OpenVINO finds worthwhile.
        **({"PERFORMANCE_HINT": "LATENCY"} if on_all_cores else {"NUM_STREAMS": str(cores)}),
    }
    try:
        return openvino.Core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = first_line(error)
        raise EngineError(f"OpenVINO cannot compile the network: {reason}.") from error


def _meet_numpy() -> None:
    """Have OpenVINO's bindings load numpy's interface while no other thread can.

    pybind11 does so at the first call that needs it, under a guard of C++ that is waited for with
    Python's lock held: two threads whose first calls coincide wait for each other for ever.
    """
    with _meeting:
        import_openvino().Type.f32.to_dtype()


# Networks as OpenVINO's graphs, kept on disk once they were found right; or why there is none.


_LONGEST_NOTE = 10_000  # bytes


class InconvertibleError(EngineError):
    """OpenVINO cannot compute a network, now or at any other time."""


def cache_folder() -> Path | None:
    """Where converted networks are kept; None for a user without a home: nothing is kept then."""
    folder = config.cache_folder()
    return folder and folder / "openvino"


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
        self._versions = f"openvino {version}, torch {torch_build().__version__}"
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
            raise InconvertibleError(f"{reason} To try it again, delete {path}.")
        try:
            parts = self.parts()
            return None if parts is None else model_of(parts[0].tobytes(), parts[1])
        except (RuntimeError, MemoryError):  # not one of OpenVINO's: convert it again
            return None

    def parts(self) -> tuple[memoryview, memoryview] | None:
        """The content of the pair of files; None where they are missing or damaged."""
        try:
            graph, weights = self._content(".xml"), self._content(".bin")
            digests = self._content(".sha256").tobytes()
        except (OSError, MemoryError):
            return None
        return (graph, weights) if digests == self._digests(graph, weights) else None

    def save(self, model: Any) -> None:
        """Keep a graph, if there is room for it and the right to write.

        What is written appears whole: a process that dies, or writes beside another, leaves no
        pair of files that would be believed.
        """
        with suppress(OSError, RuntimeError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft_folder(self._folder) as folder:
                draft = folder / self._stem
                import_openvino().save_model(model, f"{draft}.xml", compress_to_fp16=False)
                parts = [Path(f"{draft}{one}").read_bytes() for one in (".xml", ".bin")]
                Path(f"{draft}.sha256").write_bytes(self._digests(*parts))
                for suffix in (".bin", ".xml", ".sha256"):
                    os.replace(f"{draft}{suffix}", self._folder / f"{self._stem}{suffix}")

    def refuse(self, reason: str) -> None:
        """Remember that there is none, so that no process with these versions tries in vain."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._folder / f"{self._stem}.txt") as draft:
                draft.write_text(f"{self._versions}\n{reason}", "utf-8")

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


def model_of(graph: bytes, weights: Any) -> Any:
    """The graph of the content of a pair of files."""
    openvino = import_openvino()
    # In memory that belongs to OpenVINO, whose graph keeps pointing there.
    tensor = openvino.Tensor(openvino.Type.u8, [len(weights)])
    tensor.data[:] = np.frombuffer(weights, np.uint8)
    return openvino.Core().read_model(graph, tensor)


# Lines of OpenVINO's errors that say where in its code, not what.
_PLACE = re.compile(
    r"Exception from \S+:\d+|Check '.*' failed at|While validating node|FrontEnd API failed"
)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    # OpenVINO names the operations further down.
    told = [line for line in lines if line.startswith("No conversion rule found")]
    told = told or [line for line in lines if not _PLACE.match(line)]
    reason = (told or lines or [""])[0].rstrip(".:")
    if type(error) is RuntimeError and reason:
        return reason
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
