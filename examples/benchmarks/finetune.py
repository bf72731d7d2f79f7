"""Accuracy of strategies on real images with real weights: mean and std over seeds.

    python examples/benchmarks/finetune.py DATA [--size 128] [--seeds 3] [--epochs 8] [--sets ...]

DATA is a folder with chess/ and dogs_cats/ (images in one folder per class); the CIFAR-10
sample ships. Training and test parts: the sample's own, else 70 to 30, stratified, drawn again for
each seed. Printed are accuracies on the test part after the last epoch, the lowest after any epoch
(does it dip below the linear probe on the way?), and seconds of the fit with the measuring after
each epoch.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from sktransfer import FineTuneClassifier, load_image_folder
from sktransfer.datasets import load_cifar10_sample

STRATEGIES = {
    "linear probe": {"trainable": "head", "max_epochs": 0},
    "head on, probe first": {"trainable": "head"},
    "last stage": {"trainable": 1},
    "last 2 stages (default)": {},
    "last 2 stages, float32": {"amp": "float32"},
    "last 2 stages, random head": {"trainable": 2, "head_init": "random"},
    "all": {"trainable": "all"},
    "all, random head": {"trainable": "all", "head_init": "random"},
    "from scratch": {
        "trainable": "all",
        "weights": None,
        "preprocessing": "default",
        "batchnorm": "train",
        "head_init": "random",
        "backbone_lr_factor": 1.0,
        "lr": 3e-2,
    },
}
for size in (8, 64):
    for how in ("frozen", "train"):
        STRATEGIES[f"batch norms: {how}, batches of {size}"] = {
            "batchnorm": how,
            "batch_size": size,
        }


def parts(name, data, seed):
    """Images and labels to learn from and to test with."""
    if name == "cifar10":
        X, y = load_cifar10_sample(return_X_y=True)
        return X[:1000], X[1000:], y[:1000], y[1000:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some files in chess are no images
        found = load_image_folder(Path(data) / name)
    return train_test_split(
        np.array(found.data),
        np.array(found.target),
        test_size=0.3,
        stratify=found.target,
        random_state=seed,
    )


def main():
    """Print a row for each set and strategy."""
    for name in args.sets:
        for strategy in args.strategies or STRATEGIES:
            scores, lowest, seconds = [], [], []
            for seed in range(args.seeds):
                X, X_test, y, y_test = parts(name, args.data, seed)
                parameters = {
                    "image_size": args.size,
                    "max_epochs": args.epochs,
                    "random_state": seed,
                    "cache": args.cache,
                    **STRATEGIES[strategy],
                }
                start = time.perf_counter()
                clf = FineTuneClassifier(**parameters)
                clf.fit(X, y, validation_data=(X_test, y_test))  # looked at, nothing more
                seconds.append(time.perf_counter() - start)
                scores.append(clf.score(X_test, y_test))
                each = [row["valid_acc"] for row in clf.history_]
                lowest.append(min(each, default=scores[-1]))
            print(
                f"| {name} | {strategy} | {np.mean(scores):.3f} ± {np.std(scores):.3f} "
                f"| {np.mean(lowest):.3f} | {np.mean(seconds):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--cache", default="memory")
    parser.add_argument("--sets", nargs="+", default=["cifar10", "chess", "dogs_cats"])
    parser.add_argument("--strategies", nargs="+")
    args = parser.parse_args()
    main()
