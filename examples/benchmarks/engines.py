"""Images per second by engine, as ratios to the loop that tutorials print; interleaved in one run.

    python examples/benchmarks/engines.py [NETWORK]

Random weights, 96 arrays of 224 px, medians of 5 with the smallest and largest ratio.
"""

import copy
import sys
import time

import numpy as np
import torch

from sktransfer import CNNCodes
from sktransfer.backbones import load_backbone


def tutorial_loop(module, pixels):
    """Batches of 32 through the plain network, gradients on."""
    for start in range(0, len(pixels), 32):
        batch = torch.from_numpy(pixels[start : start + 32]).permute(0, 3, 1, 2) / 255
        module(batch)


def eager_loop(module, pixels):
    """The same under inference_mode."""
    with torch.inference_mode():
        tutorial_loop(module, pixels)


def main(name="efficientnet_lite0"):
    """Print the table."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 224, 224, 3), dtype=np.uint8)
    module = load_backbone(name, weights=None).module
    learning = copy.deepcopy(module).requires_grad_(True)  # networks that are loaded are shared
    ways = {
        "tutorial loop, gradients on": lambda: tutorial_loop(learning, pixels),
        "torch eager, inference_mode": lambda: eager_loop(module, pixels),
    }
    for engine, precision in [
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    ]:
        codes = CNNCodes(name, weights=None, engine=engine, precision=precision, cache=None)
        codes.fit(pixels)
        ways[f"CNNCodes, {engine} {precision}"] = lambda codes=codes: codes.transform(pixels)
    rates = {way: [] for way in ways}
    for turn in range(6):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            if turn:
                rates[way].append(len(pixels) / (time.perf_counter() - start))
    base = np.array(rates["tutorial loop, gradients on"])
    for way, found in rates.items():
        ratio = np.array(found) / base
        print(f"| {way} | {np.median(ratio):.1f} | {ratio.min():.1f} to {ratio.max():.1f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
