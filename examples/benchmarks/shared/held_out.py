"""Images to learn from and others to test on, drawn several times."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer import load_image_folder

# Of digits the last come from other writers.
TEST_DIGITS = 500


@dataclass
class HeldOut:
    """A draw: what is learnt from, what is tested on, and how to read it."""

    name: str
    draw: int
    X: object
    y: np.ndarray
    X_test: object
    y_test: np.ndarray
    params: dict = field(default_factory=dict)


def draws_of(args):
    """Every draw of every data set that is asked for."""
    for draw in args.draws:
        if args.cifar10:
            kept = np.load(args.cifar10)
            test = kept["X_test"][: args.test], kept["y_test"][: args.test]
            for n in args.cifar10_sizes:
                learn = _some(len(kept["y_train"]), n, draw)
                known = kept["X_train"][learn], kept["y_train"][learn]
                yield HeldOut(f"CIFAR-10, {n:,}", draw, *known, *test)
        if args.fashion:
            kept = np.load(args.fashion)
            X, y = kept["X"], kept["y"]
            for n in args.fashion_sizes:
                learn = _some(len(y) - args.test, n, draw)
                test = X[-args.test :], y[-args.test :]
                yield HeldOut(f"Fashion-MNIST, {n:,}", draw, X[learn], y[learn], *test)
        for n in args.digits:
            yield _digits(n, draw)
        for folder in args.folder:
            yield _folder(folder, draw, args.most)


def _some(n, wanted, draw):
    return np.random.default_rng(draw).permutation(n)[:wanted]


def _digits(n, draw):
    X, y = load_digits(return_X_y=True)
    learn = _some(len(y) - TEST_DIGITS, n, draw)
    test = X[-TEST_DIGITS:], y[-TEST_DIGITS:]
    params = {"value_range": (0, 16), "image_shape": (8, 8)}
    return HeldOut(f"digits, {n:,}", draw, X[learn], y[learn], *test, params)


def _folder(folder, draw, most):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_image_folder(folder)
    paths, y = np.asarray(found.data), np.asarray(found.target)
    if len(y) > most:
        paths, _, y, _ = train_test_split(paths, y, train_size=most, stratify=y, random_state=draw)
    X, X_test, y, y_test = train_test_split(paths, y, test_size=0.4, stratify=y, random_state=draw)
    name = folder.rstrip("/").rsplit("/", 1)[-1]
    return HeldOut(f"{name}, {len(y):,}", draw, X, y, X_test, y_test)
