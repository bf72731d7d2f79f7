"""Several processes, kill -9 and a full disk: the store stays usable, and no row is wrong."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from sktransfer.exceptions import StoreWarning
from sktransfer.store import DiskStore

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs kill -9 and resource limits")
spawn = multiprocessing.get_context("spawn")


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def row(i: int) -> np.ndarray:
    """A row that its number decides: mostly 5 KB, now and then 400 KB."""
    return np.random.default_rng(i).random(1280 if i % 50 else 100_000, np.float32)


def right(store: DiskStore, numbers) -> list[int]:
    """The rows that are there; none may be wrong."""
    found = dict(zip(numbers, store.get_many("space", [key(i) for i in numbers]), strict=True))
    there = [i for i in numbers if found[i] is not None]
    assert all(np.array_equal(found[i], row(i)) for i in there)
    return there


def put(store: DiskStore, numbers) -> None:
    store.put_many("space", [key(i) for i in numbers], [row(i) for i in numbers])


def sound(folder: Path) -> bool:
    base = sqlite3.connect(folder / "codes-v3.sqlite")
    try:
        return base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        base.close()


def write_all(folder, start, stop, barrier):
    warnings.simplefilter("error")
    barrier.wait()
    store = DiskStore(folder)  # both make the file at the same time
    for i in range(start, stop, 8):
        put(store, range(i, i + 8))
        if i % 5 == 0:
            right(store, range(stop))


@pytest.mark.slow
def test_processes_write_the_same_and_other_rows_at_once(tmp_path):
    folder, barrier = tmp_path / "store", spawn.Barrier(3)
    spans = [(0, 600), (0, 600), (400, 1000)]
    writers = [spawn.Process(target=write_all, args=(folder, *s, barrier)) for s in spans]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert right(DiskStore(folder), range(1100)) == list(range(1000))
    assert sound(folder)


def write_until_killed(folder, first, done):
    store = DiskStore(folder)
    for i in itertools.count(first, 8):
        put(store, range(i, i + 8))
        done.send(i + 8)


@pytest.mark.slow
def test_a_process_killed_while_writing_loses_nothing_it_had_put(tmp_path):
    folder, rng = tmp_path / "store", np.random.default_rng(0)
    DiskStore(folder)
    for kill in range(10):
        first = 10_000 * kill
        done, there = spawn.Pipe(duplex=False)
        writer = spawn.Process(target=write_until_killed, args=(folder, first, there))
        writer.start()
        there.close()
        while done.recv() < first + 8 * (1 + kill):
            pass
        time.sleep(rng.uniform(0, 0.01))  # anywhere in a transaction
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        last = first
        with contextlib.suppress(EOFError):
            while True:
                last = done.recv()
        fresh = right(DiskStore(folder), range(first, last + 1000))
        assert fresh[: last - first] == list(range(first, last)), "what was put is there"
        assert len(fresh) % 8 == 0, "a batch is there as a whole or not at all"
    assert sound(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(DiskStore(folder), range(500_000, 500_008))
    assert len(right(DiskStore(folder), range(500_000, 500_010))) == 8


def fill_limited_disk(folder, answer):
    """Like a full disk, for this process alone: no file may grow beyond 1 MB."""
    store = DiskStore(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(1, 1001, 8):
            store.claim("space", [key(j) for j in range(i, i + 8)])
            put(store, range(i, i + 8))
        there = right(store, range(1, 1001))
        free = store.claim("space", [key(1), key(990)])
    answer.send((there, free, [str(warning.message) for warning in caught]))


def test_a_full_disk_warns_once_and_keeps_what_fits(tmp_path):
    folder = tmp_path / "store"
    answer, there = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=fill_limited_disk, args=(folder, there))
    writer.start()
    kept, free, messages = answer.recv()
    writer.join(30)
    assert writer.exitcode == 0
    assert 20 <= len(kept) < 1000
    assert kept[:20] == list(range(1, 21))
    assert free[1], "a row that is not there may be computed"
    assert len(messages) == 1
    assert "could not be written" in messages[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = DiskStore(folder, lease=1)
        assert right(store, range(1, 1001)) == kept
        assert store.wait("space", [key(i) for i in range(1000)], timeout=3), "after a lease"
        put(store, range(1, 1001))
        assert right(store, range(1, 1001)) == list(range(1, 1001))
    assert sound(folder)


SCRIPT = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
from test_store_processes import *
warnings.simplefilter(sys.argv[3])
store = DiskStore(sys.argv[2])
print(len(right(store, range(1, 1001))), sum(store.claim("space", [key(1), key(999)])))
put(store, [999])
"""


def in_new_process(folder, warn) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder), warn],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.split()


def use_up(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as rest:
        while True:
            rest.write(bytes(100))


def test_a_disk_that_is_really_full(tmp_path):
    """On a file system of 8 MB; root only, as mounting one is."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        store = DiskStore(tmp_path / "store")
        with pytest.warns(StoreWarning, match="could not be written .*disk is full"):
            for i in range(1, 1001, 8):
                put(store, range(i, i + 8))
        kept = right(store, range(1, 1001))
        assert len(kept) > 50
        use_up(tmp_path / "rest")
        assert right(store, range(1, 1001)) == kept
        store.close()
        use_up(tmp_path / "log")  # with it the log went, and there is no room for a new one
        assert in_new_process(tmp_path / "store", "ignore") == [b"%d" % len(kept), b"2"]
        with pytest.warns(StoreWarning, match="could not be opened"):
            DiskStore(tmp_path / "another").put_many("space", [key(1)], [row(1)])
        subprocess.run(["mount", "-o", "remount,size=32m", str(tmp_path)], check=True)
        assert in_new_process(tmp_path / "store", "error") == [b"%d" % len(kept), b"1"]
        assert right(store, range(1, 1001)) == [*kept, 999]
        assert sound(tmp_path / "store")
        DiskStore(tmp_path / "another").close()
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
