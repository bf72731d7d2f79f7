"""5 folds × 6 values of C with refit: a plain Pipeline around a torch transformer, the same with
``memory=``, ours with its store in memory, and ours twice on a store on disk. Passes are counted:
images that go through the network, per image. One run each, because the plain one takes
minutes; its time grows with the number of images, and so do the others'."""

import functools
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from shared import ours
from shared.networks import load_network
from shared.tables import table
from sktransfer.datasets import load_cifar10_sample
from sktransfer.store import MemoryStore

VALUES = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10]
PASSES = {"images": 0}


# Loaded once for all fits, better than people do.
loaded = functools.cache(load_network)


class TorchFeatures(TransformerMixin, BaseEstimator):
    """The transformer people write: batches of 32 through a network under no_grad."""

    def __init__(self, name="efficientnet_lite0", size=224):
        self.name, self.size = name, size

    def fit(self, X, y=None):
        """Nothing to learn."""
        return self

    def transform(self, X):
        """Codes of arrays."""
        PASSES["images"] += len(X)
        network = loaded(self.name, self.size)
        batches = [X[start : start + 32] for start in range(0, len(X), 32)]
        with torch.no_grad():
            return np.concatenate(
                [network.module(network.normalised(batch)).numpy() for batch in batches]
            )


def run(settings):
    """One table."""
    X, y = images(settings.search_images, settings.size)
    name = (settings.networks or ["efficientnet_lite0"])[0]
    network = loaded(name, settings.size)
    naive = TorchFeatures(name, settings.size)
    engine = next(found for found in ("openvino", "torch") if ours.installed(found))
    with tempfile.TemporaryDirectory() as folder:
        disk = ours.make_codes(network, engine, "float32", f"{folder}/codes", crop_pct=1.0)
        memory = ours.make_codes(network, engine, "float32", MemoryStore(2**28), crop_pct=1.0)
        searches = {
            f"ours, {engine} float32, memory": (memory, None),
            f"ours, {engine} float32, disk, first run": (disk, None),
            f"ours, {engine} float32, disk, second run": (disk, None),
            "memory=": (naive, f"{folder}/joblib"),
            "plain Pipeline": (naive, None),
        }
        memory.fit_transform(X[:1, ::-1].copy())  # convert and compile before the clock runs
        found = {title: search(X, y, *how) for title, how in searches.items()}
    slowest = found["plain Pipeline"][0]
    rows = [
        [title, f"{passes / len(X):.2f}", f"{seconds:.1f}", f"{slowest / seconds:.1f}"]
        for title, (seconds, passes) in reversed(found.items())
    ]
    header = [f"{name}, {len(X)} images at {settings.size} px", "passes per image", "seconds"]
    yield table([*header, "× plain"], rows)


def images(number, size):
    """Images of the CIFAR-10 sample, enlarged: at least ten of each class, classes in turn."""
    X, y = load_cifar10_sample(return_X_y=True)
    few = y < max(2, number // 10)
    X, y = X[few], y[few]
    rank = np.empty(len(y), int)
    for label in np.unique(y):
        rank[y == label] = np.arange(np.sum(y == label))
    first = np.argsort(rank, kind="stable")[:number]
    enlarged = [np.asarray(Image.fromarray(X[index]).resize((size, size))) for index in first]
    return np.stack(enlarged), y[first]


def search(X, y, features, memory):
    """Seconds and images through the network of one search."""
    PASSES["images"] = 0
    pipe = Pipeline(
        [("cnn", features), ("scale", StandardScaler()), ("svm", LogisticRegression(max_iter=200))],
        memory=memory,
    )

    def counted(plain):
        def run(engine, pixels):
            PASSES["images"] += len(pixels)
            return plain(engine, pixels)

        return run

    start = time.perf_counter()
    with ours.engines_run(counted):
        GridSearchCV(pipe, {"svm__C": VALUES}, cv=5).fit(X, y)
    return time.perf_counter() - start, PASSES["images"]
