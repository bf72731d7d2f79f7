"""The store on disk as it grows: rows of 128 numbers under random keys. What a batch of 512 keys
takes to look up and to put, what a new connection takes to be open and answer, and the size of the
file; medians (smallest–largest). With 5 KB a row, as of the default network, the file is larger."""

import hashlib
import tempfile
import time

import numpy as np

from shared.tables import std, table
from sktransfer.store import DiskStore

WIDTH, BATCH = 128, 512


def keys_of(numbers):
    """Keys that are as random as digests."""
    return [hashlib.blake2b(int(i).to_bytes(8, "big"), digest_size=16).digest() for i in numbers]


def timed(call):
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def run(settings):
    """One table."""
    draw = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store, held = DiskStore(folder), 0
        for target in settings.rows:
            puts = []
            while held < target:
                numbers = np.arange(held, min(held + BATCH, target))
                keys = keys_of(numbers)
                values = list(draw.random((len(numbers), WIDTH), np.float32))
                puts.append(timed(lambda k=keys, v=values: store.put_many("space", k, v)))
                held += len(numbers)
            asked = [keys_of(draw.integers(0, held, BATCH)) for _ in range(20)]
            store.get_many("space", asked[0])
            found = [timed(lambda k=k: store.get_many("space", k)) for k in asked[1:]]
            strange = [[bytes([255]) + key[1:] for key in some] for some in asked]
            missing = [timed(lambda k=k: store.get_many("space", k)) for k in strange]
            opened, one = [], asked[0][:1]
            for _ in range(5):
                store.close()
                opened.append(timed(lambda k=one: DiskStore(folder).get_many("space", k)))
            told = timed(store.info)
            rows.append([f"{held:,}", std(found), std(missing), std(puts[-100:]), std(opened, 2),
                         f"{told:.0f}", f"{store.info().bytes / 2**20:.0f}"])  # fmt: skip
    yield table(
        ["rows", "512 known, ms", "512 unknown, ms", "put 512, ms", "open and 1 row, ms",
         "info, ms", "MB"], rows,
    )  # fmt: skip
