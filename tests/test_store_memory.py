"""The store in memory: bounded, shared by clones and threads, whole after a fork."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from sktransfer import set_config
from sktransfer.store import MemoryStore, memory_store

DEFAULT = 512 * 2**20


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def row(i: int, length: int = 100) -> np.ndarray:
    return np.full(length, i, np.float32)


@pytest.fixture
def limit():
    """Sets the limit of the process-wide store, and the default again after the test."""
    yield lambda n: set_config(cache_memory=n)
    set_config(cache_memory=DEFAULT)


@pytest.mark.parametrize("length", [10, 100, 5000])
def test_the_bound_holds_for_the_memory_really_taken(length):
    bound = 2 * 2**20
    store = MemoryStore(bound)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, 20_000_000 // (4 * length + 400), 16):
            keys = [key(i) for i in range(start, start + 16)]
            store.put_many("space", keys, [row(i, length) for i in range(start, start + 16)])
        del keys
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.6 * bound < taken < 1.05 * bound
    assert store.info().bytes <= bound


def test_the_row_used_longest_ago_goes_first():
    store = MemoryStore(4 * 5000)
    for i in range(4):
        store.put_many("space", [key(i)], [row(i, 1000)])
    store.get_many("space", [key(0)])
    store.put_many("space", [key(4)], [row(4, 1000)])
    held = [found is not None for found in store.get_many("space", [key(i) for i in range(5)])]
    assert held == [True, False, True, True, True]


def test_a_row_beyond_the_bound_is_not_kept_and_not_waited_for():
    store = MemoryStore(1000)
    assert store.claim("space", [key(0)]) == [True]
    store.put_many("space", [key(0)], [row(0, 10_000)])
    assert store.info().bytes == 0
    with in_thread(lambda: store.claim("space", [key(0)])) as answer:
        assert answer == [[True]]


def test_the_limit_of_the_process(limit):
    store = memory_store()
    assert store.max_bytes == DEFAULT
    store.put_many("space", [key(i) for i in range(100)], [row(i, 1000) for i in range(100)])
    limit(100_000)
    assert 15 <= store.info().rows <= 25
    assert store.info().bytes <= 100_000
    limit(0)
    assert (store.info().rows, store.info().bytes) == (0, 0)


@pytest.mark.parametrize("wrong", [-1, 1.5, "512MB", float("inf"), float("nan")])
def test_a_limit_is_a_number_of_bytes(wrong):
    with pytest.raises(ValueError, match="cache_memory must be a whole number"):
        set_config(cache_memory=wrong)
    assert memory_store().max_bytes == DEFAULT


class Estimator(BaseEstimator):
    def __init__(self, cache=None):
        self.cache = cache


def test_copies_and_clones_are_the_store_itself():
    for store in (memory_store(), MemoryStore(1000)):
        assert copy.copy(store) is store
        assert copy.deepcopy({"a": [store]})["a"][0] is store
        assert clone(Estimator(store)).cache is store


def test_it_pickles_as_a_reference():
    memory_store().put_many("space", [key(0)], [row(0, 10**6)])
    pickled = pickle.dumps(Estimator(memory_store()))
    assert len(pickled) < 500
    assert pickle.loads(pickled).cache is memory_store()
    script = (
        "import pickle, sys; from sktransfer.store import memory_store;"
        "store = pickle.loads(sys.stdin.buffer.read());"
        "print(store is memory_store(), store.info().rows)"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(memory_store()),
        capture_output=True,
        check=True,
    )
    assert there.stdout.split() == [b"True", b"0"]


@contextlib.contextmanager
def in_thread(function):
    """Run a function in a thread that lives as long as the block; give its result in a list."""
    answer, done, end = [], threading.Event(), threading.Event()

    def run():
        answer.append(function())
        done.set()
        end.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert done.wait(10)
    try:
        yield answer
    finally:
        end.set()
        thread.join()


def test_claims_of_threads():
    store = MemoryStore()
    with in_thread(lambda: store.claim("space", [key(0), key(1)])) as answer:
        assert answer == [[True, True]]
        assert store.claim("space", [key(1), key(2)]) == [False, True]
        assert store.claim("another space", [key(1)]) == [True]
        assert store.claim("space", [key(2)]) == [True], "its own claim is asked for again"
        assert store.wait("space", [key(2)], timeout=0), "its own claim is not waited for"
        store.release("space", [key(0)])
        assert store.claim("space", [key(0)]) == [False], "only its own claims are released"
        start = time.monotonic()
        assert not store.wait("space", [key(0)], timeout=0.3)
        assert 0.25 < time.monotonic() - start < 2
        store.put_many("space", [key(0)], [row(0)])
        assert store.wait("space", [key(0)], timeout=0)
        assert store.claim("space", [key(0)]) == [False], "the row is there"
    assert store.wait("space", [key(1)], timeout=5), "the thread is gone, and so are its claims"
    assert store.claim("space", [key(1)]) == [True]


@pytest.mark.parametrize("end", ["put", "release"])
def test_waiting_ends_when_the_row_comes_or_the_claim_goes(end):
    store = MemoryStore()
    store.claim("space", [key(0)])
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(store.wait("space", [key(0)], 10)))
    thread.start()
    time.sleep(0.05)
    assert not woken
    if end == "put":
        store.put_many("space", [key(0)], [row(0)])
    else:
        store.release("space", [key(0)])
    thread.join(0.5)
    assert woken == [True]


def test_threads_share_the_work():
    store, computed = MemoryStore(), []
    keys = [key(i) for i in range(200)]

    def work():
        missing = keys
        while missing:
            for start in range(0, len(missing), 8):
                batch = missing[start : start + 8]
                free = store.claim("space", batch)
                mine = [k for k, ok in zip(batch, free, strict=True) if ok]
                computed.extend(mine)
                time.sleep(0.001 * len(mine))
                store.put_many("space", mine, [row(int.from_bytes(k, "big")) for k in mine])
            store.wait("space", missing, 10)
            found = store.get_many("space", missing)
            missing = [k for k, r in zip(missing, found, strict=True) if r is None]

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(computed) == keys
    assert [r[0] for r in store.get_many("space", keys)] == list(range(200))


def test_threads_do_not_break_the_count():
    store = MemoryStore(200_000)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            some = [int(i) for i in rng.integers(0, 500, 10)]
            store.put_many("space", [key(i) for i in some], [row(i) for i in some])
            for i, found in zip(some, store.get_many("space", [key(i) for i in some]), strict=True):
                wrong.extend([i] if found is not None and found[0] != i else [])
            if rng.random() < 0.02:
                store.clear("space")

    wrong: list[int] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    info = store.info()
    assert not wrong
    assert 0 < info.bytes <= 200_000
    store.clear()
    assert store.info().bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_midst_of_other_threads():
    store, stop = MemoryStore(), threading.Event()
    store.put_many("space", [key(0)], [row(7)])

    def disturb():
        i = 1
        while not stop.is_set():
            store.claim("other", [key(i)])
            store.put_many("space", [key(i)], [row(i)])
            i += 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(12):
            assert wait_for_child(os.fork() or child_of_fork(store)) == 0
    finally:
        stop.set()
        thread.join()
    assert store.get_many("space", [key(0)])[0][0] == 7
    assert store.get_many("space", [key(10**6)]) == [None], "what a child puts is its own"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_that_fork_at_the_same_time():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    stores = [MemoryStore(10_000) for _ in range(5)]

    def fork() -> None:
        for _ in range(20):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)

    threads = [threading.Thread(target=fork, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=15)
    sys.setswitchinterval(before)
    assert not any(thread.is_alive() for thread in threads)
    for store in stores:
        store.put_many("space", [key(0)], [row(0, 4)])
        assert store.get_many("space", [key(0)])[0] is not None


def child_of_fork(store: MemoryStore) -> int:
    """Use the store as a child; never returns."""
    signal.alarm(5)  # a lock that nobody will ever release
    status = 1
    try:
        info = store.info()
        size = info.bytes / info.rows
        store.put_many("space", [key(10**6)], [row(3)])
        right = (
            size == int(size)
            and store.get_many("space", [key(0), key(10**6)])[1][0] == 3
            and store.claim("other", [key(i) for i in range(5000)]) == [True] * 5000
        )
        status = 0 if right else 2
    finally:
        os._exit(status)


def wait_for_child(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
