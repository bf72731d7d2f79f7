"""What 8 bits cost a linear probe, and what they gain.

    python examples/benchmarks/int8.py accuracy [FOLDER_OF_CLASSES ...]
    python examples/benchmarks/int8.py speed [NETWORK ...]

Accuracy: half of the images for training, several draws; the network is converted by images of the
half that is learnt from. The sample of CIFAR-10, and folders with one folder for each class. Speed:
from arrays of 224 px, random weights but for the packaged network, ways in turns; ratios within a
turn, median (smallest to largest).
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes, load_image_folder
from sktransfer.datasets import load_cifar10_sample

SEEDS = 3
PRECISIONS = ("float32", "int8")


def accuracies(X, y, seed):
    """Of a probe on codes of each precision."""
    train, test = train_test_split(np.arange(len(X)), test_size=0.5, stratify=y, random_state=seed)
    found = []
    for precision in PRECISIONS:
        codes = CNNCodes(precision=precision).fit([X[i] for i in train])
        rows = codes.transform(X)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        found.append(probe.fit(rows[train], y[train]).score(rows[test], y[test]))
    return found


def accuracy(*folders):
    """Print a row for each set."""
    sets = {"CIFAR-10 sample": load_cifar10_sample(return_X_y=True)}
    for folder in folders:
        sets[Path(folder).name] = load_image_folder(folder, return_X_y=True)
    for name, (X, y) in sets.items():
        both = np.array([accuracies(X, y, seed) for seed in range(SEEDS)])
        gain = both[:, 1] - both[:, 0]
        print(
            f"| {name} | {len(X)} | "
            + " | ".join(f"{mean:.3f}" for mean in both.mean(axis=0))
            + f" | {100 * gain.mean():+.1f} ± {100 * gain.std(ddof=1):.1f} |",
            flush=True,
        )


def speed(*networks):
    """Print a row for each network: images/s, and the gain of 8 bits over each of the others."""
    images = np.random.default_rng(0).integers(0, 256, (96, 224, 224, 3), np.uint8)
    for name in networks or ("efficientnet_lite0", "mobilenet_v2", "resnet18", "resnet50"):
        weights = "default" if name == "efficientnet_lite0" else None
        ways = [
            CNNCodes(name, weights=weights, precision=precision, cache=None).fit(images[:32])
            for precision in ("float32", "bfloat16", "int8")
        ]
        rates = []
        for turn in range(6):
            took = []
            for codes in ways:
                start = time.perf_counter()
                codes.transform(images)
                took.append(time.perf_counter() - start)
            if turn:  # the first makes the engines
                rates.append([len(images) / one for one in took])
        rates = np.array(rates)
        cells = [name, *(f"{rate:.0f}" for rate in np.median(rates, axis=0))]
        for other in rates.T[:2]:
            gain = rates[:, 2] / other
            cells.append(f"{np.median(gain):.2f} ({gain.min():.2f}–{gain.max():.2f})")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    {"accuracy": accuracy, "speed": speed}[sys.argv[1]](*sys.argv[2:])
