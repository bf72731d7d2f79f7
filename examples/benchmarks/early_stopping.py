"""Does early stopping cost accuracy? Measured on sets of a few hundred images.

    python examples/benchmarks/early_stopping.py RESULTS --folder chess --folder dogs_cats

For every draw of every set: accuracy on the images that were not drawn, of the default fit
(without), of the usual early stopping (a tenth is held out, training ends when its loss has not
fallen for 5 epochs, and the weights of the lowest loss come back), and of `early_stopping=True`.
The CIFAR-10 sample ships; a folder holds one folder for each class. With --regression the target
is the mean brightness of the image, and what is printed is R². Results are appended to the file
RESULTS, one line each, and what is there is not computed again. Printed is a table in Markdown:
mean and standard deviation over the draws, and the differences to the fit without, in points.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from skorch.callbacks import EarlyStopping

from shared.results import lines_of
from shared.tables import table
from sktransfer import FineTuneClassifier, FineTuneRegressor, load_image_folder
from sktransfer.datasets import load_cifar10_sample

WAYS = ("without", "usual", "early_stopping=True")
MOST_TEST = 1000


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", help="file of results, appended to")
    add("--folder", action="append", default=[], help="one folder for each class in it")
    add("--sizes", type=int, nargs="+", default=[150, 300, 1000])
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--ways", nargs="+", choices=WAYS, default=WAYS)
    add("--regression", action="store_true", help="of the CIFAR-10 sample's brightness")
    add("--size", type=int, default=96, help="of the images, in pixels")
    add("--epochs", type=int, default=10)
    add("--augment", choices=["light", "auto"])
    add("--cache", default="memory", help="folder that keeps what the frozen part computed")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def sets(args):
    """Name, images and targets of each set."""
    images, labels = load_cifar10_sample(return_X_y=True)
    if args.regression:
        yield "CIFAR-10 sample, brightness", list(images), images.mean(axis=(1, 2, 3))
        return
    yield "CIFAR-10 sample", list(images), labels
    for folder in args.folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files that are no images
            found = load_image_folder(folder)
        yield Path(folder).name, list(found.data), np.asarray(found.target)


def score(way, args, draw, learn, test):
    """Accuracy or R² on the test part, and how many epochs were learnt for."""
    kind = FineTuneRegressor if args.regression else FineTuneClassifier
    estimator = kind(
        image_size=args.size,
        max_epochs=args.epochs,
        augment=args.augment,
        cache=args.cache,
        random_state=draw,
    )
    validation = None
    if way == "usual":
        stratify = None if args.regression else learn[1]
        numbers, held_out = train_test_split(
            np.arange(len(learn[1])),
            test_size=max(0.1, len(np.unique(stratify)) / len(learn[1])) if not args.regression
            else 0.1,
            stratify=stratify,
            random_state=draw,
        )  # fmt: skip
        learn, validation = _some(*learn, numbers), _some(*learn, held_out)
        stopping = EarlyStopping(patience=5, load_best=True, sink=lambda *_: None)
        estimator.set_params(callbacks=[("stopping", stopping)])
    estimator.set_params(early_stopping=way == "early_stopping=True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few are held out
        estimator.fit(*learn, validation_data=validation)
    if way == "usual":
        epoch = dict(estimator.net_.callbacks_)["stopping"].best_epoch_
    else:
        epoch = getattr(estimator, "best_epoch_", args.epochs)
    return float(estimator.score(*test)), int(epoch)


def _some(X, y, numbers):
    return [X[i] for i in numbers], y[numbers]


def measure(args, known):
    """Fit what is not in the file of results yet."""
    for draw in args.draws:
        for n in args.sizes:
            for name, X, y in sets(args):
                if n >= len(y):
                    continue
                learn, test = train_test_split(
                    np.arange(len(y)),
                    train_size=n,
                    stratify=None if args.regression else y,
                    random_state=draw,
                )
                for way in args.ways:
                    key = [name, n, draw, way, args.size, args.epochs, args.augment]
                    if key in known:
                        continue
                    start = time.process_time()
                    value, epoch = score(
                        way, args, draw, _some(X, y, learn), _some(X, y, test[:MOST_TEST])
                    )
                    seconds = time.process_time() - start
                    with open(args.results, "a") as file:
                        file.write(json.dumps([*key, value, epoch, seconds]) + "\n")
                    print(*key, f"{value:.3f}, epoch {epoch}, {seconds:.0f} s", flush=True)


def print_table(args, lines):
    """A row for each set and number of images."""
    lines = [one for one in lines if one[4:7] == [args.size, args.epochs, args.augment]]
    rows = []
    for name, n in dict.fromkeys((one[0], one[1]) for one in lines):
        found = {
            way: {one[2]: one for one in lines if one[:2] == [name, n] and one[3] == way}
            for way in WAYS
        }
        draws = sorted(set.intersection(*(set(one) for one in found.values())))
        if not draws:
            continue
        scores = {way: np.array([found[way][draw][7] for draw in draws]) for way in WAYS}
        cells = [f"{one.mean():.3f} ± {one.std():.3f}" for one in scores.values()]
        differences = [
            f"{100 * (scores[way] - scores['without']).mean():+.1f} "
            f"({', '.join(f'{100 * one:+.1f}' for one in scores[way] - scores['without'])})"
            for way in WAYS[1:]
        ]
        epochs = ", ".join(str(found[WAYS[2]][draw][8]) for draw in draws)
        seconds = [np.mean([found[way][draw][9] for draw in draws]) for way in WAYS]
        ratio = f"{seconds[2] / seconds[0]:.1f}"
        rows.append([name, f"{n:,}", *cells, *differences, epochs, ratio])
    header = ["set", "images", *WAYS, "usual, difference", "early_stopping=True, difference",
              "its epochs", "its time, × without"]  # fmt: skip
    print(table(header, rows))


def main():
    args = parse()
    if not args.table:
        measure(args, [line[:7] for line in lines_of(args.results)])
    print_table(args, lines_of(args.results))


if __name__ == "__main__":
    main()
