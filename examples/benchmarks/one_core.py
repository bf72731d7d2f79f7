"""Images per second of one core, from files of 500×375 to codes: what a cluster is made of.

    python examples/benchmarks/one_core.py [NETWORK]

200 JPEG files cut out of scikit-learn's two images, on one core of this process' cores,
in seconds that it worked for this process; medians of 5 with the smallest and largest, interleaved.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # before torch counts the cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from sktransfer import CNNCodes
from sktransfer.inputs import as_images


def write_images(folder, n_images=200):
    """Write crops of real images; give back their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n_images):
        image = load_sample_images().images[i % 2]
        top, left = rng.integers(0, image.shape[0] - 375), rng.integers(0, 640 - 500)
        paths.append(os.fspath(Path(folder, f"{i}.jpg")))
        crop = image[top : top + 375, left : left + 500]
        Image.fromarray(crop).save(paths[-1], quality=90)
    return paths


def read(paths, preparation):
    """Decode and resize alone, as `transform` does."""
    images = as_images(paths)
    return [preparation.of(images.open(i).picture()) for i in range(len(paths))]


def main(name="efficientnet_lite0"):
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(folder)
        bytes_each = sum(map(os.path.getsize, paths)) / len(paths)
        ways = {}
        for engine in ("torch", "openvino"):
            codes = CNNCodes(name, engine=engine, cache=None, n_jobs=1).fit(paths)
            preparation = codes._fitted.preparation
            pixels = np.stack(read(paths, preparation))
            ways["decode and frame"] = lambda preparation=preparation: read(paths, preparation)
            ways[f"forward, {engine}"] = lambda codes=codes, x=pixels: codes.transform(x)
            ways[f"files to codes, {engine}"] = lambda codes=codes: codes.transform(paths)
        rates = {way: [] for way in ways}
        for turn in range(6):
            for way, run in ways.items():
                start = time.process_time()
                run()
                if turn:
                    rates[way].append(len(paths) / (time.process_time() - start))
    print(f"{name}, {bytes_each / 1000:.0f} KB a file, images per core-second")
    for way, found in rates.items():
        print(f"| {way} | {np.median(found):.0f} | {min(found):.0f} to {max(found):.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
