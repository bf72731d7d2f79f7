"""Epochs of a last stage whose activations are on disk and not in memory: what reading costs.

    python examples/benchmarks/finetune_disk.py [--images 400] [--size 224] [--epochs 7]

resnet18 with random weights, its last stage trained; before every epoch the system is told to
forget the file of activations (posix_fadvise; Linux). Seconds an epoch, median (smallest to
largest):
with the file in memory, and with it on disk, read ahead and read when it is needed. Epochs of the
three ways take turns within one run.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample
from sktransfer.finetune import _activations

WAYS = ("in memory", "on disk, read ahead", "on disk, read when needed")
AHEAD = _activations.BatchIterator._ahead


def when_needed(iterator, parts):
    """Batches without reading ahead."""
    for part in parts:
        yield iterator.dataset.batch(part)


class Turns(Callback):
    """Another way for each epoch, and how long it took."""

    def __init__(self, folder):
        self.folder, self.seconds, self.epoch = folder, {way: [] for way in WAYS}, 0

    def on_epoch_begin(self, net, **_):
        way = WAYS[self.epoch % len(WAYS)]
        _activations.BatchIterator._ahead = AHEAD if "ahead" in way else when_needed
        for path in Path(self.folder).rglob("view-*.bin") if "disk" in way else ():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
        files = Path(self.folder).rglob("view-*.bin")
        self.n_bytes = sum(path.stat().st_size for path in files)
        self.start = time.perf_counter()

    def on_epoch_end(self, net, **_):
        if self.epoch >= len(WAYS):  # the first turn computes, and warms up
            way = WAYS[self.epoch % len(WAYS)]
            self.seconds[way].append(time.perf_counter() - self.start)
        self.epoch += 1


def main():
    """Print the table."""
    X, y = load_cifar10_sample(return_X_y=True)
    X, y = X[: args.images], y[: args.images]
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        turns = Turns(folder)
        FineTuneClassifier(
            "resnet18", weights=None, preprocessing="default", trainable=1, head_init="random",
            image_size=args.size, max_epochs=3 * args.epochs, early_stopping=False,
            cache_activations="disk", cache=None, callbacks=[turns], random_state=0,
        ).fit(X, y)  # fmt: skip
    for way, seconds in turns.seconds.items():
        low, high = min(seconds), max(seconds)
        print(f"| {way} | {np.median(seconds):.2f} ({low:.2f}–{high:.2f}) |", flush=True)
    print(f"{turns.n_bytes / 2**20:.0f} MB of activations")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=7)
    args = parser.parse_args()
    main()
