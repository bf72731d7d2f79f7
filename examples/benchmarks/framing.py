"""Which resize mode makes the best codes? Accuracy of a linear classifier, for every way to make a
image square.

    python examples/benchmarks/resize mode.py DATA [CACHE]

DATA is a folder with one folder per data set, each with one folder per class. The CIFAR-10 sample
that ships with the package is added. Prints a table in Markdown: accuracy over 5 folds, mean and
standard deviation over 5 ways to draw the folds.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes, load_image_folder
from sktransfer.datasets import load_cifar10_sample

FRAMINGS = {
    "crop 0.875": {"resize": "crop", "crop_pct": 0.875},
    "crop 1.0": {"resize": "crop", "crop_pct": 1.0},
    "squash": {"resize": "squash"},
    "pad": {"resize": "pad"},
}


def data_sets(root):
    """Name, images and labels of each data set; unreadable files are left out."""
    for folder in sorted(path for path in Path(root).iterdir() if path.is_dir()):
        photos = load_image_folder(folder, verify=True)
        yield folder.name, photos.data, photos.target
    sample = load_cifar10_sample()
    yield "CIFAR-10 sample", sample.data, sample.target


def main(root, cache="memory"):
    """Print the table."""
    print("| data set | images | classes |", " | ".join(FRAMINGS), "|")
    print("|---" * (3 + len(FRAMINGS)) + "|")
    for name, X, y in data_sets(root):
        cells = []
        for framing in FRAMINGS.values():
            codes = CNNCodes(cache=cache, **framing).fit_transform(X)
            classifier = make_pipeline(StandardScaler(), LinearSVC(C=1e-3))
            means = [
                cross_val_score(
                    classifier, codes, y, cv=StratifiedKFold(5, shuffle=True, random_state=seed)
                ).mean()
                for seed in range(5)
            ]
            cells.append(f"{np.mean(means):.3f} ± {np.std(means):.3f}")
        print(f"| {name} | {len(X)} | {len(set(y))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
