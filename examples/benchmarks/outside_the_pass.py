"""CPU seconds of `find_issues` and `advise` beside the one pass of the network.

    OMP_NUM_THREADS=1 python examples/benchmarks/outside_the_pass.py [FILE.npz] [--images 10000]

The file holds `X_train` and `y_train`, such as all of CIFAR-10; without one it is the sample that
ships. CPU seconds of all threads, so that other work on the machine counts little. The pass is
that of efficientnet_lite0 at 224 px, measured on some of the images.
"""

import argparse
import tempfile
import time

import numpy as np

from sktransfer import CNNCodes, advise, find_issues
from sktransfer.datasets import load_cifar10_sample

FEW = 200


def cpu_seconds(call):
    """Of all threads."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main():
    """Print the table."""
    if args.file:
        with np.load(args.file) as data:
            X, y = data["X_train"][: args.images], data["y_train"][: args.images].astype(int)
    else:
        X, y = (part[: args.images] for part in load_cifar10_sample(return_X_y=True))
    large = CNNCodes(cache=None).fit(X[:1])
    large.transform(X[:8])
    one_pass = cpu_seconds(lambda: large.transform(X[:FEW])) * len(X) / min(FEW, len(X))
    print(f"{len(X)} images: a pass at 224 px takes {one_pass:.0f} CPU seconds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # What is beside the pass does not hang on the size that the network sees.
        codes = CNNCodes(image_size=32, cache=folder, cache_layers="all").fit(X[:1])
        codes.transform(X)
        for call in (find_issues, advise):
            seconds = cpu_seconds(lambda call=call: call(X, y, codes))
            share = seconds / (seconds + one_pass)
            print(f"| `{call.__name__}` | {seconds:.0f} | {share:.0%} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--images", type=int, default=10_000)
    args = parser.parse_args()
    main()
