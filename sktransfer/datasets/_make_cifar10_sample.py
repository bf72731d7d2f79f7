"""Draw the sample that `load_cifar10_sample` ships, for maintainers.

    python -m sktransfer.datasets._make_cifar10_sample cifar10.npz [FOLDER]

``cifar10.npz`` holds all of CIFAR-10 in its original order: X_train (50000, 32, 32, 3) uint8,
y_train, X_test and y_test. The sample is written to FOLDER, or into this package. The pixels and
the table are the same on every machine; so is the PNG, byte for byte, with one release of Pillow
(another may bring another zlib).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sktransfer.datasets._cifar10 import CLASSES, encode_sheet

SEED = 2009  # the year of the report
PER_CLASS = 100


def draw(labels: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draw 100 indices of each class, and mix them."""
    per_class = [
        rng.choice(np.flatnonzero(labels == label), PER_CLASS, replace=False)
        for label in range(len(CLASSES))
    ]
    return rng.permutation(np.concatenate(per_class))


def make_sample(full: Path, folder: Path) -> None:
    """Write ``cifar10_sample.png`` and ``cifar10_sample.csv`` to `folder`."""
    # RandomState, whose stream is frozen; that of default_rng may change with a release of numpy.
    rng = np.random.RandomState(SEED)
    images, rows = [], ["part,source_index,target"]
    with np.load(full) as arrays:
        for part in ("train", "test"):
            labels = arrays[f"y_{part}"]
            indices = draw(labels, rng)
            images.append(arrays[f"X_{part}"][indices])
            rows += [f"{part},{index},{labels[index]}" for index in indices]
    (folder / "cifar10_sample.png").write_bytes(encode_sheet(np.concatenate(images)))
    (folder / "cifar10_sample.csv").write_bytes("\n".join([*rows, ""]).encode("ascii"))


def main(arguments: Sequence[str]) -> None:
    """Run from the command line."""
    if len(arguments) not in (1, 2):
        sys.exit(__doc__)
    folder = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).parent / "data"
    make_sample(Path(arguments[0]), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
