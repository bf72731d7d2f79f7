"""How far lower precision moves codes, and what that costs a classifier; on the CIFAR-10 sample.

    python examples/benchmarks/precision.py [NETWORK [WEIGHTS]]

Relative L2 norm of the difference to torch in float32, the smallest cosine, and the accuracy
of StandardScaler and LinearSVC(C=1e-3) on the 1,000 test images.
"""

import sys

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

WAYS = [
    ("torch", "float32"),
    ("openvino", "float32"),
    ("torch", "bfloat16"),
    ("openvino", "bfloat16"),
]


def main(name="efficientnet_lite0", weights="default"):
    """Print the table."""
    X, y = load_cifar10_sample(return_X_y=True)
    exact = None
    for engine, precision in WAYS:
        codes = CNNCodes(name, weights=weights, engine=engine, precision=precision, cache=None)
        learnt, seen = np.split(codes.fit_transform(X), 2)
        exact = seen if exact is None else exact
        off = np.linalg.norm(seen - exact, axis=1) / np.linalg.norm(exact, axis=1)
        lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(exact, axis=1)
        cosine = (seen * exact).sum(axis=1) / lengths
        svm = make_pipeline(StandardScaler(), LinearSVC(C=1e-3)).fit(learnt, y[:1000])
        accuracy = svm.score(seen, y[1000:])
        print(
            f"| {engine} {precision} | {np.median(off):.1e} | {off.max():.1e} "
            f"| {cosine.min():.4f} | {accuracy:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
