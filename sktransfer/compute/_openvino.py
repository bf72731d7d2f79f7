"""The engine for CPUs: OpenVINO, converted straight from the torch network."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from .. import config
from .._files import atomic_write, draft_folder, open_regular
from .._optional import import_openvino
from ..exceptions import EngineError
from ..networks import FrozenModule, tracing
from ._base import Engine, batch_tokens
from ._threads import CPU, available_cores
from ._torch import TorchEngine

__all__ = [
    "Conversion",
    "InconvertibleError",
    "OpenVinoEngine",
    "cache_folder",
    "check_agreement",
    "convert",
    "first_line",
    "make_openvino",
    "model_of",
    "openvino_graph",
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
    batch_size, batch_tokens = _BATCH, batch_tokens(torch.device("cpu"))

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
        try:
            model = _converted(network(), probes())
        except InconvertibleError as error:
            conversion.refuse(str(error))
            raise
        conversion.save(model)
    return OpenVinoEngine(model, precision, few=few)


def _converted(network: FrozenModule, probes: list[np.ndarray]) -> Any:
    model = convert(network, probes)
    # In float32 always: lower precisions differ by more than a wrong conversion may.
    engine = OpenVinoEngine(model, "float32")
    reference = TorchEngine(network, torch.device("cpu"), "float32")
    try:
        check_agreement(engine, reference, probes)
    except EngineError as error:
        raise InconvertibleError(str(error)) from error
    except RuntimeError as error:  # OpenVINO's own
        reason = first_line(error)
        raise EngineError(f"OpenVINO cannot run the network: {reason}.") from error
    return model


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


def convert(network: FrozenModule, probes: list[np.ndarray]) -> Any:
    """Convert a frozen network.

    Raises
    ------
    InconvertibleError
        If OpenVINO says that it cannot.
    EngineError
        If anything else went wrong.
    """
    example = torch.from_numpy(probes[0])
    return openvino_graph(network.folded(), example, _common_shape(probes))


def openvino_graph(network: nn.Module, example: torch.Tensor, shape: list[int]) -> Any:
    """The graph of a module; by the frontend itself, since ``convert_model`` takes four times as
    long, and forks processes that report its use to a server.

    Parameters
    ----------
    network : torch.nn.Module
        Takes one tensor.
    example : Tensor
        Such a one.
    shape : list of int
        Of all that are to be taken; -1 is any length.

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

    try:
        with tracing(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, about constants
            with patch.object(torch, "diff", _diff):
                traced = torch.jit.trace(network, example, check_trace=False)
            frontend = kinds.FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
            model = frontend.convert(frontend.load(decoder))
            model.reshape(shape)
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


def _diff(
    x: torch.Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: torch.Tensor | None = None,
    append: torch.Tensor | None = None,
) -> torch.Tensor:
    """`torch.diff` by operations that OpenVINO has rules for.

    All decoders of transformers call it, to look for several texts in one row.
    """
    if n == 0:
        return x
    x = torch.cat([one for one in (prepend, x, append) if one is not None], dim)
    for _ in range(n):
        length = x.shape[dim] - 1
        later, earlier = x.narrow(dim, 1, length), x.narrow(dim, 0, length)
        x = later != earlier if x.dtype == torch.bool else later - earlier
    return x


# Lines of OpenVINO's errors that say where in its code, not what.
_PLACE = re.compile(
    r"Exception from \S+:\d+|Check '.*' failed at|While validating node|FrontEnd API failed"
)


def _common_shape(probes: list[np.ndarray]) -> list[int]:
    """Lengths that all have; -1 for the number of items, and for lengths that differ."""
    lengths = zip(*(one.shape[1:] for one in probes), strict=True)
    return [-1, *(several[0] if len(set(several)) == 1 else -1 for several in lengths)]


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


# Whether two engines compute the same.


_TOLERANCE = 1e-3


def check_agreement(engine: Engine, reference: Engine, probes: list[np.ndarray]) -> None:
    """Compare codes of made-up items.

    Parameters
    ----------
    engine, reference : Engine
    probes : list of ndarray
        Batches of them.

    Raises
    ------
    EngineError
        If the codes of a layer differ by more than 1e-3 (relative L2 norm).
    """
    pairs = [
        pair
        for probe in probes
        for pair in zip(engine.run(probe), reference.run(probe), strict=True)
    ]
    for found, expected in pairs:
        if found.shape != expected.shape:
            raise EngineError(
                f"{engine.name} gives codes of shape {found.shape} on a probe, but "
                f"{reference.name} gives {expected.shape}."
            )
        if not np.isfinite(expected).all():
            # No sign of a wrong conversion: images that give such codes are refused with a name.
            numbers = np.isfinite(expected)
            found, expected = np.where(numbers, found, 0), np.where(numbers, expected, 0)
        scale = np.linalg.norm(expected)
        error = np.linalg.norm(found - expected) / max(float(scale), 1e-12)
        if not error <= _TOLERANCE:
            raise EngineError(
                f"{engine.name} gives codes that differ by {error:.1e} from those of "
                f"{reference.name} on a probe; at most {_TOLERANCE:.0e} are allowed."
            )
