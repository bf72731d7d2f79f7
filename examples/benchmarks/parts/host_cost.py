"""What Python does beside the forward pass: arrays go through CNNCodes with an engine that computes
nothing. CPU microseconds an image, and how many images a second one process could give whatever the
engine: engines that take 0 or 100 µs an image without Python's lock, on 2, 8 and 32 threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np

from shared import ours
from shared.networks import load_network
from shared.tables import table
from sktransfer.compute import _runner

NETWORK = "efficientnet_lite0"
THREADS = [2, 8, 32]


def run(settings):
    """Two tables."""
    network = load_network((settings.networks or [NETWORK])[0], settings.size)
    number = 2 * settings.images
    engine = next(name for name in ("openvino", "torch") if ours.installed(name))
    rows = []
    for side in (settings.size, 32):
        for cache in (None, "memory"):
            X = pixels(number * (settings.repeats + 1), side)
            codes = ours.make_codes(network, engine, "float32", cache, crop_pct=1.0).fit(X[:1])
            costs = []
            with ours.engines_run(takes(0.0, network.width)):
                for turn in range(settings.repeats + 1):
                    start = time.process_time()
                    codes.transform(X[turn * number : (turn + 1) * number])
                    costs.append(1e6 * (time.process_time() - start) / number)
            kept = "kept in memory" if cache else "cache=None"
            rows.append(
                [f"{side} px, {kept}", f"{np.median(costs[1:]):.0f}", f"{min(costs[1:]):.0f}"]
            )
    yield table([f"arrays, network at {settings.size} px", "CPU µs an image", "least"], rows)
    X = pixels(number, settings.size)
    codes = ours.make_codes(network, engine, "float32", crop_pct=1.0).fit(X[:1])
    codes.transform(X[:32])
    rows = []
    for seconds in (0.0, 1e-4):
        for threads in THREADS:
            rates = [
                rate(codes, X, seconds, threads, network.width) for _ in range(settings.repeats)
            ]
            bound = f"{threads / seconds:,.0f}" if seconds else "–"
            rows.append([f"{1e6 * seconds:.0f}", threads, f"{np.median(rates):,.0f}", bound])
    yield table(["engine, µs an image", "threads", "images/s", "of the engine alone"], rows)


def pixels(number, side):
    """Different images, of noise."""
    return np.random.default_rng(0).integers(0, 256, (number, side, side, 3), np.uint8)


def takes(seconds, width):
    """An engine that waits so long for each image, and lets other threads run."""

    def make(_):
        def run(engine, batch):
            if seconds:
                time.sleep(seconds * len(batch))
            return (np.ones((len(batch), width), np.float32),)

        return run

    return make


def rate(codes, X, seconds, threads, width):
    """Images a second, as on a machine with so many cores."""
    pool = ThreadPoolExecutor(threads)
    with (
        ours.engines_run(takes(seconds, width)),
        patch.object(_runner, "available_cores", lambda: threads),
        patch.object(_runner, "worker_pool", lambda: pool),
        pool,
    ):
        codes.transform(X[: 2 * threads])
        start = time.perf_counter()
        codes.transform(X)
        return len(X) / (time.perf_counter() - start)
