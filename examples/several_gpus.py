"""
Fine-tune on several GPUs or machines
=====================================

Start it once for each GPU; without a launcher it is an ordinary fit::

    torchrun --nproc_per_node 4 examples/several_gpus.py
    accelerate launch --multi_gpu --num_processes 4 examples/several_gpus.py
    torchrun --nproc_per_node 2 examples/several_gpus.py --device cpu

Every process computes its share of every batch; all end with the same estimator.
"""

import argparse
import os

import joblib

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample


def main():
    """Learn together, and let the first process save what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--amp", default="auto")
    parser.add_argument("--save", default="fine_tuned.joblib")
    args = parser.parse_args()
    X, y = load_cifar10_sample(return_X_y=True)
    clf = FineTuneClassifier(
        image_size=args.image_size,
        max_epochs=2,
        batch_size=16,
        distributed=True,
        device=args.device,
        amp=args.amp,
        random_state=0,
    )
    clf.fit(X[: args.images], y[: args.images])
    if os.environ.get("RANK", "0") == "0":
        joblib.dump(clf, args.save)
        print(f"accuracy {clf.score(X[1000:1200], y[1000:1200]):.2f}, saved as {args.save}")


if __name__ == "__main__":
    main()
