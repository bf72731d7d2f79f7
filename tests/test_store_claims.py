"""Claims: nobody computes what another is computing, and nobody waits for the dead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
import warnings

import numpy as np
import pytest

from sktransfer.store import DiskStore, MemoryStore, Store, _claims

spawn = multiprocessing.get_context("spawn")
KEYS = [i.to_bytes(16, "big") for i in range(200)]


def row(key: bytes) -> np.ndarray:
    return np.random.default_rng(int.from_bytes(key, "big")).random(100, np.float32)


def obtain(store: Store, keys: list[bytes], seconds: float, batch_size: int = 8) -> list[bytes]:
    """Do what an engine does; give back what had to be computed here."""
    computed: list[bytes] = []
    missing = keys
    while missing:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            free = store.claim("space", batch)
            mine = [key for key, ok in zip(batch, free, strict=True) if ok]
            time.sleep(seconds * len(mine))
            computed += mine
            store.put_many("space", mine, [row(key) for key in mine])
        store.wait("space", missing, timeout=30)
        found = store.get_many("space", missing)
        missing = [key for key, there in zip(missing, found, strict=True) if there is None]
    return computed


def right(store: Store) -> bool:
    found = store.get_many("space", KEYS)
    return all(np.array_equal(there, row(key)) for there, key in zip(found, KEYS, strict=True))


@pytest.fixture
def process():
    """Starts processes, and ends those that are left after the test."""
    started = []

    def start(target, *args):
        answer, there = spawn.Pipe()
        child = spawn.Process(target=target, args=(*args, there))
        child.start()
        there.close()
        started.append(child)
        return child, answer

    yield start
    for child in started:
        child.kill()
        child.join()


def share(folder, order, answer):
    warnings.simplefilter("error")
    store = DiskStore(folder)
    answer.send("ready")
    answer.recv()
    answer.send((obtain(store, [KEYS[i] for i in order], seconds=0.005), right(store)))


@pytest.mark.parametrize("orders", ["same", "different"])
def test_two_processes_share_the_work(folder, process, orders):
    second = list(range(200)) if orders == "same" else list(range(100, 200)) + list(range(120))
    workers = [process(share, folder, list(range(200))), process(share, folder, second)]
    for _, answer in workers:
        assert answer.recv() == "ready"
    for _, answer in workers:
        answer.send("go")
    (first, first_right), (other, other_right) = (answer.recv() for _, answer in workers)
    assert first_right
    assert other_right
    assert {*first, *other} == set(KEYS)
    assert len(first) + len(other) <= 1.1 * len(KEYS)
    assert min(len(first), len(other)) >= 20, "both have worked"


def claim_and_hold(folder, numbers, lease, answer):
    store = DiskStore(folder, lease=lease)
    answer.send(store.claim("space", [KEYS[i] for i in numbers]))
    while (wish := answer.recv()) is not None:
        kind, i = wish
        if kind == "put":
            store.put_many("space", [KEYS[i]], [row(KEYS[i])])
        else:
            store.release("space", [KEYS[i]])
        answer.send("done")


def test_what_another_process_claims_is_not_given_out(folder, process):
    _, answer = process(claim_and_hold, folder, [0, 1, 2], 60)
    assert answer.recv() == [True, True, True]
    store = DiskStore(folder)
    assert store.claim("space", KEYS[:5]) == [False, False, False, True, True]
    assert store.claim("space", KEYS[3:5]) == [True, True], "its own claim is asked for again"
    assert store.claim("another space", KEYS[:1]) == [True]
    store.release("space", KEYS[:2])
    assert store.claim("space", KEYS[:1]) == [False], "only its own claims are released"
    assert store.wait("space", KEYS[3:], timeout=0), "its own claims are not waited for"

    start = time.monotonic()
    assert not store.wait("space", KEYS[:5], timeout=0.3)
    assert 0.3 <= time.monotonic() - start < 3

    for kind, i in (("put", 0), ("release", 1)):
        answer.send((kind, i))
        assert answer.recv() == "done"
    assert store.wait("space", KEYS[:2], timeout=0)
    assert store.claim("space", KEYS[:3]) == [False, True, False]
    np.testing.assert_array_equal(store.get_many("space", KEYS[:1])[0], row(KEYS[0]))


def test_the_claims_of_a_killed_process_are_free_after_a_lease(folder, process):
    child, answer = process(claim_and_hold, folder, range(200), 2)
    assert all(answer.recv())
    store = DiskStore(folder, lease=2)
    assert not any(store.claim("space", KEYS))
    killer = threading.Timer(0.3, child.kill)
    killer.start()
    start = time.monotonic()
    assert store.wait("space", KEYS, timeout=30)
    assert 1 < time.monotonic() - start < 4
    assert obtain(store, KEYS, seconds=0) == KEYS
    assert right(store)


def test_a_batch_that_takes_many_leases_is_not_stolen(folder, process):
    """Nothing is put or claimed meanwhile, and no other process takes it."""
    _, answer = process(claim_and_hold, folder, [0, 1], 0.5)
    assert answer.recv() == [True, True]
    store = DiskStore(folder, lease=0.5)
    assert not store.wait("space", KEYS[:1], timeout=2)
    assert store.claim("space", KEYS[:2]) == [False, False]
    for i in (0, 1):
        answer.send(("release", i))
        assert answer.recv() == "done"
    assert store.claim("space", KEYS[:2]) == [True, True]


def test_the_heart_beats_only_while_there_are_claims(folder):
    store = DiskStore(folder, lease=0.2)

    def beating():
        return (store.path, store.lease) in _claims._beating

    for _ in range(2):
        store.claim("space", KEYS[:2])
        time.sleep(0.4)
        assert beating()
        store.put_many("space", KEYS[:1], [row(KEYS[0])])
        store.release("space", KEYS[:2])
        end = time.monotonic() + 5
        while beating() and time.monotonic() < end:
            time.sleep(0.05)
        assert not beating()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_a_process_that_hangs_is_given_up_after_a_lease(folder, process):
    child, answer = process(claim_and_hold, folder, [0], 1)
    assert answer.recv() == [True]
    store = DiskStore(folder, lease=1)
    assert not store.wait("space", KEYS[:1], timeout=1.5)
    os.kill(child.pid, signal.SIGSTOP)
    start = time.monotonic()
    assert not store.wait("space", KEYS[:1], timeout=0.2)
    assert store.wait("space", KEYS[:1], timeout=10)
    assert time.monotonic() - start < 5
    assert store.claim("space", KEYS[:1]) == [True]
    os.kill(child.pid, signal.SIGCONT)
    answer.send(("put", 0))  # it comes back and puts what it computed: no harm
    assert answer.recv() == "done"
    assert store.claim("space", KEYS[:1]) == [False]
    np.testing.assert_array_equal(store.get_many("space", KEYS[:1])[0], row(KEYS[0]))


def pretend(folder, age=None, **fields):
    """Change the owner of all claims, as another program may."""
    if age is not None:
        fields["renewed"] = time.time() - age
    base = sqlite3.connect(folder / "codes-v3.sqlite")
    with base:
        for name, value in fields.items():
            base.execute(f"UPDATE owners SET {name} = ?", (value,))
    base.close()


@pytest.mark.parametrize(
    ("fields", "free"),
    [
        ({"name": "another-1"}, False),
        ({"name": "another-1", "age": 50}, False),
        ({"name": "another-1", "age": 70}, True),
        ({"name": "another-1", "age": -(10**6)}, True),  # a clock was set back
        ({"age": 70}, False),  # a thread of this process, which is known to be alive
    ],
    ids=str,
)
def test_whose_claims_are_free(folder, fields, free):
    store = DiskStore(folder, lease=60)
    store.claim("space", KEYS[:1])
    pretend(folder, **fields)
    done = []
    other = threading.Thread(target=lambda: done.append(store.claim("space", KEYS[:1])))
    other.start()
    other.join(10)
    assert done == [[free]]


PLANTED = ["x'ff'", "'text'", "-1", "0", "9e99", "99999999999", "CAST(x'ff' AS TEXT)"]


@pytest.mark.parametrize("value", PLANTED)
@pytest.mark.parametrize("field", ["name", "renewed"])
def test_owners_that_are_none_hold_nobody_up(folder, field, value):
    store = DiskStore(folder)
    store.claim("space", KEYS[:2])
    base = sqlite3.connect(folder / "codes-v3.sqlite")
    with base:
        base.execute("UPDATE owners SET name = 'another-1'")
        base.execute(f"UPDATE owners SET {field} = {value}")
    base.close()
    done = []

    def ask():
        elsewhere = field == "name"  # one like any other, until its lease ends
        waited = store.wait("space", KEYS[:2], timeout=0.1)
        done.append((waited, store.claim("space", KEYS[:2])) if not elsewhere else None)
        store.release("space", KEYS[:2])

    other = threading.Thread(target=ask)
    other.start()
    other.join(10)
    assert done == [None] if field == "name" else [(True, [True, True])]


@pytest.mark.parametrize("value", PLANTED)
def test_claims_of_nobody_hold_nobody_up(folder, value):
    store = DiskStore(folder)
    store.claim("space", KEYS[:2])
    base = sqlite3.connect(folder / "codes-v3.sqlite")
    with base:
        base.execute(f"UPDATE claims SET owner = {value}")
    base.close()
    assert store.wait("space", KEYS[:2], timeout=0.1)
    assert store.claim("space", KEYS[:2]) == [True, True]


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_whoever_claims_for_ever_and_finishes_nothing_is_waited_for_once(
    folder, cache, sample, monkeypatch, passes
):
    from sktransfer import CNNCodes
    from sktransfer.compute import _runner as _batches

    class Held(DiskStore if cache == "disk" else MemoryStore):
        """As others see one whose claims somebody renews and renews."""

        def claim(self, space, keys):
            return [False] * len(keys)

        def wait(self, space, keys, timeout=None):
            time.sleep(timeout)
            return False

    monkeypatch.setattr(_batches, "_PATIENCE", 0.1)
    monkeypatch.setattr(_batches, "_LONGEST", 0.5)
    X, start = sample.data[:6], time.monotonic()
    codes = CNNCodes(image_size=32, cache=Held(folder) if cache == "disk" else Held()).fit(X)
    found = codes.transform(X)
    assert passes["images"] == 6 and 0.5 < time.monotonic() - start < 60
    np.testing.assert_array_equal(codes.transform(X), found)
    assert passes["images"] == 6


def test_a_put_from_any_thread_renews_the_claims(folder):
    """The thread that claims need not be the one that puts."""
    store = DiskStore(folder, lease=0.2)
    store.claim("space", KEYS[:10])
    answers = []

    def help_out():
        for i in range(8):
            time.sleep(0.2)
            store.put_many("space", [KEYS[i]], [row(KEYS[i])])
        answers.append(store.claim("space", KEYS[7:10]))

    helper = threading.Thread(target=help_out)
    helper.start()
    helper.join(20)
    assert answers == [[False, False, False]]


def test_threads_share_the_work(folder):
    store, computed = DiskStore(folder), []
    threads = [
        threading.Thread(target=lambda: computed.extend(obtain(store, KEYS, 0.001)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(computed) == KEYS
    assert right(store)


def test_the_claims_of_a_thread_end_with_it(folder):
    store = DiskStore(folder)
    thread = threading.Thread(target=store.claim, args=("space", KEYS))
    thread.start()
    thread.join()
    assert store.wait("space", KEYS, timeout=0.5)
    assert all(store.claim("space", KEYS))


def test_nothing_is_left_behind_by_owners_that_are_gone(folder):
    store = DiskStore(folder)
    for i in range(20):
        thread = threading.Thread(target=store.claim, args=("space", KEYS[i : i + 1]))
        thread.start()
        thread.join()
    store.claim("space", KEYS[20:23])
    base = sqlite3.connect(folder / "codes-v3.sqlite")
    assert base.execute("SELECT count(*) FROM owners").fetchone() == (1,)
    assert base.execute("SELECT count(*) FROM claims").fetchone() == (3,)
    base.close()


def compute_until_killed(folder, seed, answer):
    store, order = DiskStore(folder, lease=1), np.random.default_rng(seed).permutation(len(KEYS))
    answer.send("begun")
    obtain(store, [KEYS[i] for i in order], seconds=0.003)
    answer.send("done")
    answer.recv()


@pytest.mark.slow
def test_forty_kills_lose_nothing_and_block_nobody(folder, process):
    """Two at a time; whoever waits for a dead one waits for a lease at most, and all ends well."""
    rng, store = np.random.default_rng(0), DiskStore(folder, lease=1)
    for kill in range(20):
        store.clear()
        pair = [process(compute_until_killed, folder, 2 * kill + i) for i in range(2)]
        third, answer = process(compute_until_killed, folder, 100 + kill)
        for _, other in (*pair, (third, answer)):
            assert other.recv() == "begun"
        for child, _ in pair:
            time.sleep(rng.uniform(0, 0.15))
            child.kill()
            child.join()
        start, known = time.monotonic(), store.info().rows
        assert answer.poll(10) and answer.recv() == "done"
        assert time.monotonic() - start < 5
        assert right(store) and store.info().rows == len(KEYS) >= known
        third.kill()
        third.join()
