"""Fine-tuning as a part of scikit-learn: searches, ensembles, processes, seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import GradientNormClipping

from sktransfer import CNNCodes, FineTuneClassifier, FineTuneRegressor
from sktransfer.finetune import EMA, Mixup

QUICK = {"image_size": 32, "max_epochs": 2, "trainable": "head", "random_state": 0}


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def photos(sample):
    """Two kinds that are far apart: images, and the same under noise."""
    images = sample.data[:24]
    noise = np.random.default_rng(0).integers(0, 255, images.shape, np.uint8)
    X = np.concatenate([images, images // 4 + noise // 4 * 3])
    y = np.repeat(["clear", "noisy"], 24)
    order = np.random.default_rng(0).permutation(48)
    return X[order], y[order]


def test_a_grid_over_strategies(photos):
    X, y = photos
    grid = {"trainable": ["head", 1], "backbone_lr_factor": [0.01, 0.1]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.8
    plain = classifier(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.predict_proba(X), plain.predict_proba(X))


def test_a_search_computes_each_frozen_image_once(photos, passes):
    """Three rates, three folds and the last fit share what is frozen."""
    X, y = photos
    GridSearchCV(classifier(), {"lr": [1e-3, 1e-2, 1e-1]}, cv=3, error_score="raise").fit(X, y)
    assert passes["images"] == 48


def test_halving(photos):
    X, y = photos
    search = HalvingGridSearchCV(
        classifier(),
        {"lr": [1e-3, 1e-2, 1e-1]},
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(X, y)
    assert search.n_iterations_ == 2
    assert search.best_score_ > 0.8


def test_predictions_across_folds(photos):
    X, y = photos
    labels = cross_val_predict(classifier(), X, y, cv=3)
    shares = cross_val_predict(classifier(), X, y, cv=3, method="predict_proba")
    scores = cross_val_predict(classifier(), X, y, cv=3, method="decision_function")
    assert (labels == y).mean() > 0.8
    np.testing.assert_array_equal(np.array(["clear", "noisy"])[shares.argmax(axis=1)], labels)
    np.testing.assert_array_equal(scores > 0, labels == "noisy")


@pytest.mark.parametrize(
    "make",
    [
        lambda: CalibratedClassifierCV(classifier(), cv=2),
        lambda: OneVsRestClassifier(classifier()),
        lambda: VotingClassifier(
            [
                ("tuned", classifier()),
                ("codes", make_pipeline(CNNCodes(image_size=32), LogisticRegression())),
            ],
            voting="soft",
        ),
        lambda: make_pipeline(FunctionTransformer(lambda X: X[:, ::-1]), classifier()),
    ],
    ids=["calibrated", "one against the rest", "voting", "pipeline"],
)
def test_inside_other_estimators(photos, make):
    X, y = photos
    three = np.where(np.arange(48) % 3, y, "third") if "OneVs" in type(make()).__name__ else y
    est = make().fit(X[:36], three[:36])
    assert est.predict_proba(X).shape == (48, len(np.unique(three)))
    np.testing.assert_allclose(est.predict_proba(X).sum(axis=1), 1)
    if three is y:
        assert est.score(X[36:], y[36:]) > 0.7


def test_a_fine_tuned_network_before_another_classifier(photos):
    X, y = photos
    pipe = make_pipeline(classifier(trainable=1), LogisticRegression())
    assert cross_val_score(pipe, X, y, cv=2, error_score="raise").mean() > 0.8
    assert pipe.fit(X, y)[0].get_feature_names_out()[-1] == "finetuneclassifier1279"


def test_a_learning_curve(photos):
    X, y = photos
    sizes, learnt, tested = learning_curve(
        classifier(), X, y, train_sizes=[8, 16, 24], cv=2, error_score="raise"
    )
    assert sizes.tolist() == [8, 16, 24]
    assert learnt.shape == tested.shape == (3, 2)
    assert tested[-1].mean() > 0.8


def test_a_regression_of_several_numbers(photos):
    X, noisy = photos[0], photos[1] == "noisy"
    y = np.column_stack([noisy, 5 - 3.0 * noisy, np.where(noisy, 1e3, -1e3)])
    reg = FineTuneRegressor(**QUICK).fit(X, y)
    assert reg.predict(X).shape == (48, 3)
    assert cross_val_score(reg, X, y, cv=3, error_score="raise").mean() > 0.5
    assert reg.fit(X, y[:, :1]).predict(X).shape == (48, 1)
    assert reg.fit(X, y[:, 0]).predict(X).shape == (48,)


STRATEGIES = {
    "head": {},
    "stage": {"trainable": 1},
    "live norms": {"trainable": 1, "batchnorm": "train"},
    "whole": {"trainable": "all", "max_epochs": 1},
    "everything": {
        "trainable": 1, "augment": "auto", "dropout": 0.2, "l2_sp": 0.01, "label_smoothing": 0.1,
        "early_stopping": True, "head": "mlp",
        "callbacks": [Mixup(0.4), EMA(0.9), GradientNormClipping(0.5)],
    },
}  # fmt: skip


LONG = pytest.param("everything", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [LONG if one == "everything" else one for one in STRATEGIES])
def test_a_seed_makes_fits_equal_to_the_bit(photos, name):
    X, y = photos
    clf = classifier(cache=None, **STRATEGIES[name])
    first, again = clone(clf).fit(X, y), clone(clf).fit(X, y)
    np.testing.assert_array_equal(first.decision_function(X), again.decision_function(X))
    assert first.history_[:, "train_loss"] == again.history_[:, "train_loss"]
    for one, other in zip(
        first.net_.module_.parameters(), again.net_.module_.parameters(), strict=True
    ):
        assert one.equal(other)
    different = clone(clf).set_params(random_state=1, batch_size=8).fit(X, y)
    assert not np.array_equal(first.decision_function(X), different.decision_function(X))


def test_a_seed_may_be_a_generator(photos):
    fits = [
        classifier(head_init="random", random_state=np.random.RandomState(0)).fit(*photos)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*(fit.decision_function(photos[0]) for fit in fits))


def _scores(clf, X, y):
    return clf.fit(X, y).decision_function(X)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head", "stage", "everything", "live norms"])
def test_fits_in_other_processes_are_the_same(photos, name):
    """Workers of joblib are equal to the bit; they have fewer threads each than we have here.

    torch sums in another order with another number of threads, so that last digits differ where
    more than rows are learnt from, and norms that follow the batches make more of them.
    """
    X, y = photos
    clf = classifier(cache=None, **STRATEGIES[name])
    here = clone(clf).fit(X, y).decision_function(X)
    there = joblib.Parallel(n_jobs=2)(joblib.delayed(_scores)(clone(clf), X, y) for _ in range(2))
    np.testing.assert_array_equal(*there)
    bounds = {"head": 0.0, "stage": 1e-3, "everything": 1e-3, "live norms": 0.1}
    np.testing.assert_allclose(there[0], here, rtol=bounds[name], atol=bounds[name])


@pytest.mark.slow
def test_a_search_with_two_processes_finds_the_same(photos):
    X, y = photos
    grid = {"trainable": ["head", 1]}
    found = [
        GridSearchCV(classifier(), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
        for n_jobs in (1, 2)
    ]
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(found[0].cv_results_[key], found[1].cv_results_[key])
    np.testing.assert_allclose(found[0].predict_proba(X), found[1].predict_proba(X), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["head", 1])
def test_one_core_gives_what_two_give(photos, tmp_path, trainable):
    X, y = photos
    clf = classifier(trainable=trainable, cache=None).fit(X, y)
    np.savez(tmp_path / "photos.npz", X=X, y=y)
    script = f"""
        import numpy as np, torch
        torch.set_num_threads(1)
        from sktransfer import FineTuneClassifier
        folder = {os.fspath(tmp_path)!r}
        photos = np.load(folder + "/photos.npz")
        clf = FineTuneClassifier(**{dict(QUICK, trainable=trainable, cache=None)!r})
        clf.fit(photos["X"], photos["y"])
        np.save(folder + "/found.npy", clf.decision_function(photos["X"]))
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=environment)
    bound = 0.0 if trainable == "head" else 1e-3
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, clf.decision_function(X), rtol=bound, atol=bound)


FIFTY_FITS = """
import gc, json, sys
import numpy as np, psutil
from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample
process, held = psutil.Process(), []
X, y = load_cifar10_sample().data[:16], np.arange(16) % 2
parameters = json.loads(sys.argv[1])
for number in range(65):
    est = FineTuneClassifier(**parameters)
    est.fit(X, y, sample_weight=np.linspace(1, 2 + number, 16)).predict(X)
    gc.collect()
    held.append(process.memory_info().rss)
print(min(held[-10:]) - min(held[5:15]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["head", 1])
def test_memory_does_not_grow_over_fifty_fits(trainable):
    """In a process of its own: what other tests left behind would come and go with it."""
    pytest.importorskip("psutil")
    parameters = json.dumps({**QUICK, "trainable": trainable, "max_epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", FIFTY_FITS, parameters], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # The allocator comes and goes by tens of MB. One network is 19 MB; its gradients and moments
    # are as much each, and 50 of them would be a gigabyte.
    assert int(done.stdout) < 30e6
