"""Asking the store for the codes of arrays that it knows (hashing, look-up, the output), against
computing them in float32 with the fastest engine there is. Per image; median (smallest–largest)."""

import tempfile

import numpy as np

from shared import ours
from shared.images import crops
from shared.networks import load_network
from shared.tables import std, table
from shared.timing import seconds_of

NETWORKS = ["efficientnet_lite0", "resnet18"]
IMAGES = 256


def run(settings):
    """One table."""
    number, size = min(IMAGES, settings.images), settings.size
    photos = np.stack([np.asarray(photo) for photo in crops(number, size, size)])
    engine = next(name for name in ("openvino", "torch") if ours.installed(name))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in settings.networks or NETWORKS:
            network = load_network(name, size)
            caches = {"computed": None, "memory": "memory", "disk": f"{folder}/{name}"}
            tasks = {}
            for title, cache in caches.items():
                codes = ours.make_codes(network, engine, "float32", cache, crop_pct=1.0).fit(photos)
                tasks[title] = lambda codes=codes: codes.transform(photos)
            took = seconds_of(tasks, settings.repeats)  # the first turn fills the stores
            for store in ("memory", "disk"):
                shown = std(1e6 * took[store] / number, 0)
                share = std(100 * took[store] / took["computed"], 2, " %")
                rows.append([name, store, shown, share])
    yield table(["network", "store", "µs an image", f"of {engine} float32, all cores"], rows)
