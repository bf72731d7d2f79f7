"""Share of the engine's own throughput that CNNCodes reaches from arrays: OpenVINO's queue of
requests (AsyncInferQueue, one stream a core, batches of eight from memory), same model and
precision, in turns. Alone, and beside one other process that keeps a core busy. Median
(smallest–largest)."""

import subprocess
import sys
import time
from itertools import product

from shared import ours
from shared.images import as_arrays
from shared.networks import NETWORKS, load_network
from shared.tables import ratio, table
from shared.timing import Absent, measure


def run(settings):
    """One table."""
    rows = []
    photos = as_arrays(settings.images, settings.size)
    networks = settings.networks or NETWORKS
    for precision, name in product(("float32", "bfloat16"), networks):
        network = load_network(name, settings.size)
        way = ours.codes_way(network, photos, "openvino", precision)
        raw = ours.raw_way(network, photos, "openvino", precision)
        if isinstance(way, Absent):
            yield "Skipped: OpenVINO is not installed."
            return
        shares = []
        for busy in (0, 1):
            others = [_busy_process() for _ in range(busy)]
            try:
                time.sleep(0.2 * busy)
                rates = measure([way, raw], repeats=settings.repeats, seconds=4 * settings.seconds)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            shares.append(ratio(rates[way.name], rates[raw.name]))
        rows.append([f"{name}, {precision}", *shares])
    yield table(["OpenVINO", "share, alone", "beside a busy process"], rows)


def _busy_process():
    """A process that keeps a core busy; it holds no pipe of ours, should it outlive this one."""
    words = [sys.executable, "-c", "while True: pass"]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
