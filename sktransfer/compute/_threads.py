"""The threads that read and compute, shared by everything in a process.

Each thread takes a whole batch from file to codes and computes on one core. That keeps
every core busy whatever the balance of reading and computing, and was measured at 1.5 to 3
times the rate of one batch on several threads. One pool a process means that estimators
working at the same time never start more threads than there are cores.

A batch that would leave cores idle, such as one image, takes all of them, if nothing else is being
computed in this process at the time (`Turns`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import joblib
from threadpoolctl import threadpool_limits

from .._lazy import loaded_torch
from ..config import carried

__all__ = ["CPU", "Turns", "available_cores", "blas_on_one_core", "on_all_cores", "worker_pool"]


T = TypeVar("T")


class _WorkerPool(ThreadPoolExecutor):
    """Threads that work under the settings of the thread that hands them something to do.

    In each of them torch computes on one core.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(_on_one_core, carried(fn), *args, **kwargs)


_local = threading.local()


def _on_one_core(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    # torch may be imported after the thread began.
    if not hasattr(_local, "told") and (torch := loaded_torch()) is not None:
        torch.set_num_threads(1)
        _local.told = True
    return fn(*args, **kwargs)


_pools: dict[int, ThreadPoolExecutor] = {}
_wide: dict[int, ThreadPoolExecutor] = {}
_making = threading.Lock()


def available_cores() -> int:
    """Cores this process may use: those of its container, its affinity and its share.

    In a worker process of joblib, torch's own number of threads is that worker's share.
    """
    share = _dask_threads() or _ray_threads() or _torch_threads()
    return max(1, min(_cores_here(), share))


def _torch_threads() -> int:
    """Threads that torch computes with, or would if it were imported.

    That is what the environment says, else a thread for each core, though it may run two.
    """
    if (torch := loaded_torch()) is not None:
        return int(torch.get_num_threads())
    for name in ("MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        told = os.environ.get(name, "").partition(",")[0].strip()
        if told.isdigit() and int(told):
            return int(told)
    return joblib.cpu_count(only_physical_cores=True)


def _cores_here() -> int:
    """Cores of the container and the affinity, which take long to read."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return _cores_of(os.getpid(), affinity, os.environ.get("LOKY_MAX_CPU_COUNT"))


@lru_cache(maxsize=8)
def _cores_of(pid: int, affinity: int, bound: str | None) -> int:
    return joblib.cpu_count()


def _dask_threads() -> int | None:
    """Tasks that a worker of dask runs at a time; it lets torch have one thread in any case."""
    distributed = sys.modules.get("distributed.worker")
    if distributed is None:
        return None
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:  # not in a task
        return None


def _ray_threads() -> int | None:
    """Cores of a task of ray, which may run in a process where torch was told another number."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    try:
        return int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)) or None
    except (AssertionError, RuntimeError):  # not in a task
        return None


def worker_pool() -> ThreadPoolExecutor:
    """The pool of this process; made again in a forked child, whose threads are gone."""
    pool = _pools.get(os.getpid())
    if pool is None:
        with _making:  # threads that ask at the same time share one pool
            pool = _pools.get(os.getpid()) or _make_pool()
    return pool


def on_all_cores(function: Callable[..., T], /, *args: Any) -> T:
    """Call a function in the one thread in which torch computes on all cores of this process."""
    import torch

    pid = os.getpid()
    with _making:
        if pid not in _wide:
            _wide.clear()
            _wide[pid] = ThreadPoolExecutor(
                1,
                thread_name_prefix="sktransfer-wide",
                initializer=torch.set_num_threads,
                initargs=(available_cores(),),
            )
    return _wide[pid].submit(function, *args).result()


def _make_pool() -> ThreadPoolExecutor:
    _pools.clear()
    pool = _pools[os.getpid()] = _WorkerPool(available_cores(), thread_name_prefix="sktransfer")
    return pool


def _after_fork() -> None:
    """The threads that held locks do not live in the child."""
    global _making, _telling_blas
    _making, _telling_blas = threading.Lock(), threading.Lock()
    CPU.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Turns:
    """Who computes on the processor: many batches on one core each, or a single one on all cores.

    So there are never more threads at work than cores. Whoever wants all cores does not wait for
    them: with others at work, one core each gives more images a second.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nobody at work."""
        self._changed = threading.Condition()
        self._on_one, self._on_all = 0, False

    @property
    def is_free(self) -> bool:
        """Whether nobody is computing."""
        return not (self._on_one or self._on_all)

    @contextmanager
    def one_core(self) -> Iterator[None]:
        """Compute on one core; waits for a batch that has all of them."""
        with self._changed:
            while self._on_all:
                self._changed.wait()
            self._on_one += 1
        try:
            yield
        finally:
            with self._changed:
                self._on_one -= 1

    @contextmanager
    def all_cores(self) -> Iterator[bool]:
        """Compute on all cores, if nobody else is computing; tells whether that is so."""
        with self._changed:
            free = self.is_free
            self._on_all |= free
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._on_all = False
                    self._changed.notify_all()


CPU = Turns()


# Convex fits on codes: a thousand small products, and vectors of some ten thousand numbers.


# Multiplications of one product up to which one thread is not slower.
_SMALL_PRODUCT = 1e9


# Held by whoever has told BLAS: its threads are those of the process.
_telling_blas = threading.Lock()


@contextmanager
def blas_on_one_core(multiplications: float) -> Iterator[None]:
    """Fit a linear model without BLAS's threads, unless its products are large.

    Threads that wait for each other a thousand times make the fits of a linear model to some
    hundred codes ten times as slow on two cores.

    Parameters
    ----------
    multiplications : float
        Of one product: items by columns by outputs.
    """
    # Who comes while another one has told it, in this thread or elsewhere, changes nothing: so
    # the threads are given back by the one that took them.
    if multiplications > _SMALL_PRODUCT or not _telling_blas.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        _telling_blas.release()
