"""Fine-tuning all layers, images/s of an epoch, to the best of four loops of plain torch: float32
and bfloat16 (autocast), with the layout of torch and channels_last. The same network with frozen
batch norms, the same batches of 16 and AdamW; the loops have their pixels prepared in memory, and
nothing augments. In turns, ratios within a turn, median (smallest–largest)."""

import time
from itertools import product

import numpy as np
import torch
from torch import nn

from shared.networks import load_network
from shared.tables import ratio, table
from sktransfer import FineTuneClassifier

CASES = [("efficientnet_lite0", 128), ("resnet18", 224), ("vit_small_patch16_224", 224)]
BATCH, CLASSES = 16, 10
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def run(settings):
    """One table."""
    rows = []
    cases = [(name, size) for name, size in CASES if name in (settings.networks or dict(CASES))]
    for name, size in cases or CASES[1:2]:
        size = min(size, settings.size)
        pixels = np.random.default_rng(0).integers(
            0, 256, (BATCH * max(2, settings.images // 85), size, size, 3), np.uint8
        )
        y = np.arange(len(pixels)) % CLASSES
        rates = turns(ways_of(name, size, pixels, y), len(pixels), settings.repeats)
        medians = {way: np.median(found) for way, found in rates.items()}
        best = max((way for way in medians if way.startswith("loop")), key=medians.get)
        for way, found in rates.items():
            rows.append([f"{name}, {size} px", way, f"{medians[way]:.0f}",
                         ratio(found, rates[best])])  # fmt: skip
    yield table(["all layers", "way", "images/s", "to the best loop"], rows)


def ways_of(name, size, pixels, y):
    """Seconds of epochs after the first, by way."""
    network = load_network(name, size)

    def loop(half, layout):
        return lambda: learn(network, pixels, y, half, LAYOUTS[layout])

    ways = {
        f"loop, {half or 'float32'}, {layout}": loop(half, layout)
        for half, layout in product((None, "bfloat16"), LAYOUTS)
    }
    for amp in ("float32", "auto"):
        ways[f'FineTuneClassifier, amp="{amp}"'] = lambda amp=amp: ours(network, pixels, y, amp)
    return ways


def learn(network, pixels, y, half, layout):
    """Seconds of the second epoch of a loop."""
    module = nn.Sequential(network.learning(), nn.Linear(network.width, CLASSES))
    module = module.eval().to(memory_format=layout)
    x = network.normalised(pixels).contiguous(memory_format=layout)
    target = torch.from_numpy(y)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    for _ in range(2):
        start = time.perf_counter()
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half is not None):
                loss = nn.functional.cross_entropy(module(x[batch]).float(), target[batch])
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start


def ours(network, pixels, y, amp):
    """Seconds of the second epoch of an estimator's fit."""
    est = FineTuneClassifier(
        network.name,
        weights=network.weights,
        trainable="all",
        head_init="random",
        image_size=network.size,
        max_epochs=2,
        batch_size=BATCH,
        lr=1e-4,
        amp=amp,
        cache=None,
        random_state=0,
    ).fit(pixels, y)
    return est.history_[-1]["dur"]


def turns(ways, number, repeats):
    """Images/s of each way in each turn."""
    rates = {way: [] for way in ways}
    for _ in range(repeats):
        for way, seconds in ways.items():
            rates[way].append(number / seconds())
    return {way: np.array(found) for way, found in rates.items()}
