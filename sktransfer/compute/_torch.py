"""The engine that needs nothing but torch."""

from __future__ import annotations

import queue
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from ..exceptions import EngineError, EngineWarning
from ..networks import FrozenModule, running, tracing
from ._base import Engine, batch_tokens, copies_of_few
from ._threads import CPU, available_cores, on_all_cores, worker_pool

__all__ = ["SeveralDevices", "TorchEngine", "compiled", "within_memory"]


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Small batches keep activations in the processor's cache; a GPU wants large ones.
_CPU_BATCH, _GPU_BATCH = 8, 128


class TorchEngine(Engine):
    """Run a frozen network with torch.

    Parameters
    ----------
    network : FrozenModule
        It is copied; the original stays as it is.
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}
    compile_for : ndarray or None, default=None
        A batch like those to compile the network for, which takes some ten seconds.

    Raises
    ------
    EngineError
        If the network cannot be compiled.
    """

    def __init__(
        self,
        network: FrozenModule,
        device: torch.device,
        precision: str,
        *,
        compile_for: np.ndarray | None = None,
    ):
        self.name, self.precision, self.device = f"torch-{device.type}", precision, device
        on_cpu = device.type == "cpu"
        self.batch_size = _CPU_BATCH if on_cpu else _GPU_BATCH
        self.batch_tokens = batch_tokens(device)
        network = network.folded().to(device).in_precision(_DTYPES[precision])
        self._network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = _channels_last(network)
        # What was compiled takes batches of one size, with images that nobody asked for.
        self._divisible = on_cpu and compile_for is None
        if compile_for is not None:
            example = np.resize(compile_for, (self.batch_size, *compile_for.shape[1:]))
            self._network = compiled(network, torch.from_numpy(example).to(device))
        if device.type != "cpu":
            self._lanes = Lanes(device)
        self._largest = 2**31  # items that the memory holds, as far as is known

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        if batch.ndim == 3 and batch.size and len(batch) < (few := copies_of_few(batch.shape[1])):
            filled = np.resize(batch, (few, *batch.shape[1:]))  # with the same ones again
            return tuple(rows[: len(batch)] for rows in self.run(filled))
        if self.device.type == "cpu":
            with CPU.one_core():
                return self._compute(batch)
        with self._lanes.take():
            return self._within_memory(batch)

    def run_on_all_cores(
        self, batch: np.ndarray, *, exact: bool
    ) -> tuple[np.ndarray, ...] | None:
        # With several threads torch's convolutions and means add in another order.
        if exact or not self._divisible or batch.ndim != 4 or available_cores() == 1:
            return None
        with CPU.all_cores() as free:
            return on_all_cores(self._compute, batch) if free else None

    def _within_memory(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        def by(size: int) -> tuple[np.ndarray, ...]:
            parts = [self._compute(batch[i : i + size]) for i in range(0, len(batch), size)]
            return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

        size = min(len(batch), self._largest)
        codes, smaller = within_memory(by, size, self.device)
        if smaller < size:
            self._largest = smaller
        return codes

    def _compute(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        with running(), torch.inference_mode():
            moved = torch.from_numpy(np.ascontiguousarray(batch))
            if self.device.type == "cuda":
                moved = moved.pin_memory().to(self.device, non_blocking=True)
            elif self.device.type != "cpu":
                moved = moved.to(self.device)
            return tuple(code.float().cpu().numpy() for code in self._network(moved))


def _channels_last(network: FrozenModule) -> FrozenModule:
    """Lay convolutions out as the pixels are; ``Module.to`` would choke on 5-d buffers."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


class Lanes:
    """Two batches at a time on CUDA, one copied while the other is computed; one elsewhere.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device):
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        on_cuda = device.type == "cuda"
        for _ in range(2 if on_cuda else 1):
            self._free.put(torch.cuda.Stream(device) if on_cuda else None)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Have a lane for oneself; on CUDA, its stream is the current one."""
        stream = self._free.get()
        try:
            if stream is None:
                yield
            else:
                with torch.cuda.stream(stream):
                    yield
        finally:
            self._free.put(stream)


# What an accelerator's memory does not hold at once.


T = TypeVar("T")


def within_memory(run: Callable[[int], T], size: int, device: Any) -> tuple[T, int]:
    """Run so many images at a time as the memory of an accelerator holds.

    Parameters
    ----------
    run : callable
        Does all the work by so many images at a time.
    size : int
        How many to begin with; halved as long as they are too many.
    device : torch.device or str
        For messages.

    Returns
    -------
    result : object
        What `run` gave.
    size : int
        How many images it held.

    Raises
    ------
    EngineError
        If it does not hold one.
    """
    while True:
        try:
            return run(size), size
        except torch.cuda.OutOfMemoryError as error:
            if size <= 1:
                raise EngineError(
                    f"The memory of {device} does not hold the network and one item. "
                    'End other processes that use the device, or take device="cpu".'
                ) from error
        # Behind the handler, since the error holds on to tensors of what was tried.
        size = -(-size // 2)
        torch.cuda.empty_cache()
        warnings.warn(
            f"The memory of {device} does not hold the batch; continuing with {size} items at a "
            "time, with the same results.",
            EngineWarning,
            stacklevel=3,
        )


# torch.compile, at one batch size: each new shape would take another ten seconds or more.


Codes = tuple[torch.Tensor, ...]


def compiled(network: FrozenModule, example: torch.Tensor) -> Callable[[torch.Tensor], Codes]:
    """A network compiled for batches like an example; others are cut and filled up to its size.

    Raises
    ------
    EngineError
        If the compiler is missing or fails.
    """
    options: Any = {"freezing": True} if example.device.type == "cpu" else None
    call = torch.compile(network, dynamic=False, options=options)

    def first() -> None:
        with tracing(), torch.inference_mode():
            call(example)

    try:
        # In a thread that computes on one core, as those do that will call it.
        worker_pool().submit(first).result()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(
            f"torch.compile failed: {reason} It needs a C++ compiler on a CPU, and Triton on "
            "CUDA; compile=False needs nothing."
        ) from error
    return lambda pixels: _in_batches(call, pixels, len(example))


def _in_batches(call: Callable[[torch.Tensor], Codes], pixels: torch.Tensor, size: int) -> Codes:
    parts = []
    for part in pixels.split(size):
        missing = size - len(part)
        filled = torch.cat([part, part[:1].expand(missing, -1, -1, -1)]) if missing else part
        parts.append(tuple(codes[: len(part)] for codes in call(filled)))
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


# Several devices of one kind: each batch goes to one that is free.


# As many batches as a device works on at a time.
_EACH = 2


class SeveralDevices(Engine):
    """Engines with the same network on several devices.

    Parameters
    ----------
    engines : sequence of Engine
        At least one; all of one name and precision, so their codes are interchangeable.
    """

    def __init__(self, engines: Sequence[Engine]):
        first = engines[0]
        self.name, self.precision = first.name, first.precision
        self.batch_size, self.batch_tokens = first.batch_size, first.batch_tokens
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for _ in range(_EACH):
            for engine in engines:
                self._free.put(engine)

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        engine = self._free.get()
        try:
            return engine.run(batch)
        finally:
            self._free.put(engine)
