"""Saving, loading, cloning and failing: what is left of an estimator afterwards."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import EpochScoring

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import EngineWarning, ImageError, TrainingError
from sktransfer.finetune import Mixup

FACTS = {
    "image_size": 32, "crop_pct": 1.0, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
}  # fmt: skip
QUICK = {"image_size": 32, "max_epochs": 2, "random_state": 0}


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def photos(sample):
    return sample.data[:24], np.array(["cat", "dog", "ship"])[np.arange(24) % 3]


@pytest.fixture(scope="module")
def resnet():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(weights=None).train()


def module_classifier(module, **changes):
    return classifier(backbone=module, preprocessing=FACTS, cache=None, **changes)


def dumped(est, path):
    joblib.dump(est, path)
    return path.stat().st_size


def test_a_head_is_small(photos, tmp_path):
    clf = classifier(trainable="head").fit(*photos)
    assert dumped(clf, tmp_path / "clf.joblib") < 200e3
    loaded = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(
        loaded.decision_function(photos[0]), clf.decision_function(photos[0])
    )


@pytest.mark.parametrize("changes", [{}, {"bundle_weights": True}], ids=["named", "bundled"])
def test_the_whole_network_is_there_once(photos, tmp_path, changes):
    clf = classifier(trainable="all", max_epochs=1, **changes).fit(*photos)
    network = sum(value.nbytes for value in clf._load_model().learnt().values())
    assert network > 12e6
    if changes:  # and the old output layer, which is part of the network
        network += 4 * 1000 * 1281
    assert network < dumped(clf, tmp_path / "clf.joblib") < 1.05 * network
    loaded = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(photos[0]), clf.predict_proba(photos[0]))
    # What was loaded is saved as what was fitted, before and after it was used.
    assert dumped(loaded, tmp_path / "again.joblib") < 1.05 * network
    again = joblib.load(tmp_path / "again.joblib")
    np.testing.assert_array_equal(again.predict_proba(photos[0]), clf.predict_proba(photos[0]))


@pytest.mark.parametrize("trainable", ["head", 1])
def test_bundled_weights_need_no_package(photos, monkeypatch, trainable):
    clf = classifier(trainable=trainable, bundle_weights=True, cache=None).fit(*photos)
    content = pickle.dumps(clf)
    monkeypatch.setattr("sktransfer.networks._load.load_backbone", None)
    loaded = pickle.loads(content)
    np.testing.assert_array_equal(loaded.predict_proba(photos[0]), clf.predict_proba(photos[0]))


def test_a_file_of_weights_is_held_by_the_pickle(photos, resnet, tmp_path):
    file = tmp_path / "mine.pth"
    torch.save(resnet.state_dict(), file)
    clf = classifier(
        backbone="resnet18",
        weights=file,
        preprocessing="default",
        trainable="all",
        max_epochs=1,
        lr=1e-4,
    ).fit(*photos)
    size = dumped(clf, tmp_path / "clf.joblib")
    assert size < 1.1 * file.stat().st_size
    file.unlink()
    loaded = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(photos[0]), clf.predict_proba(photos[0]))
    # The fine-tuned network poses as the one it came from nowhere: another fit of that is right.
    clf.partial_fit(*photos)
    loaded.partial_fit(*photos)
    assert loaded.n_iter_ == 2
    # The optimizer begins again in what was loaded, so only the images are learnt alike.
    assert loaded.score(*photos) >= clf.score(*photos) - 0.2


def test_a_module_travels_and_stays_as_it_is(photos, resnet, tmp_path):
    before = copy.deepcopy(resnet.state_dict())
    clf = module_classifier(resnet, trainable="all", batchnorm="train").fit(*photos)
    assert resnet.training and all(p.requires_grad for p in resnet.parameters())
    assert all(p.grad is None for p in resnet.parameters())
    for name, value in resnet.state_dict().items():
        assert value.equal(before[name]), name
    expected = clf.predict_proba(photos[0])
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(photos[0]), expected)
    # A clone of what was loaded starts from the module that was given, not from what was learnt.
    again = clone(loaded).fit(*photos)
    np.testing.assert_array_equal(again.predict_proba(photos[0]), expected)


@pytest.mark.slow
def test_a_fresh_process_predicts_the_same(photos, tmp_path):
    X, y = photos
    clf = classifier(trainable=1, cache=None, n_jobs=1).fit(X, y)
    reg = FineTuneRegressor(trainable="head", cache=None, **QUICK).fit(X, np.arange(24.0))
    joblib.dump((clf, reg), tmp_path / "both.joblib")
    np.save(tmp_path / "X.npy", X)
    script = f"""
        import joblib, numpy as np
        folder = {os.fspath(tmp_path)!r}
        clf, reg = joblib.load(folder + "/both.joblib")
        X = np.load(folder + "/X.npy")
        np.savez(folder + "/found.npz", p=clf.predict_proba(X), y=clf.predict(X), v=reg.predict(X),
                 n=clf.n_iter_, loss=[row["train_loss"] for row in clf.history_])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(found["p"], clf.predict_proba(X))
    np.testing.assert_array_equal(found["y"], clf.predict(X))
    np.testing.assert_array_equal(found["v"], reg.predict(X))
    np.testing.assert_array_equal(found["loss"], [row["train_loss"] for row in clf.history_])


def test_the_net_of_a_loaded_estimator_is_made_when_asked_for(photos, monkeypatch):
    clf = classifier(trainable=1).fit(*photos)
    loaded = pickle.loads(pickle.dumps(clf))
    with monkeypatch.context() as patch:
        patch.setattr("sktransfer.networks._load.load_backbone", None)
        check_is_fitted(loaded)
        repr(loaded), loaded._repr_html_()
        assert "net_" not in vars(loaded)
        assert [row["epoch"] for row in loaded.history_] == [1, 2]
    for one in (loaded, copy.deepcopy(loaded)):
        assert not hasattr(one, "net_")
        with pytest.raises(AttributeError, match=r"no net_: it is not in a pickle.*make_net\(\)"):
            one.net_  # noqa: B018
    assert loaded.make_net() is loaded.net_ is loaded.make_net()
    assert loaded.net_.history == clf.history_
    for one, other in zip(
        loaded.net_.module_.state_dict().values(),
        clf.net_.module_.state_dict().values(),
        strict=True,
    ):
        assert one.equal(other)
    np.testing.assert_array_equal(loaded.predict_proba(photos[0]), clf.predict_proba(photos[0]))
    loaded.partial_fit(*photos)
    assert [row["epoch"] for row in loaded.history_] == [1, 2, 3]


def test_no_net_before_a_fit():
    clf = classifier()
    assert not hasattr(clf, "net_")
    with pytest.raises(AttributeError, match="not fitted yet"):
        clf.net_  # noqa: B018
    for call in (clf.predict, clf.predict_proba, clf.transform):
        with pytest.raises(NotFittedError):
            call(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_model_from_a_gpu_works_on_a_cpu(photos):
    if torch.cuda.is_available():
        pytest.skip("this machine has the GPU that the test wants to be missing")
    clf = classifier(trainable=1).fit(*photos)
    expected = clf.predict_proba(photos[0])
    loaded = pickle.loads(pickle.dumps(clf.set_params(device="cuda")))
    with pytest.warns(EngineWarning, match="Continuing with the CPU"):
        found = loaded.predict_proba(photos[0])
    np.testing.assert_array_equal(found, expected)


def test_clone_is_unfitted(photos):
    clf = classifier(trainable="head").fit(*photos)
    twin = clone(clf)
    assert twin.get_params() == clf.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(twin)
    assert set(vars(twin)) == set(clf.get_params())


def test_set_params_after_fit_changes_nothing_fitted(photos):
    X, y = photos
    clf = classifier(trainable=1, cache=None).fit(X, y)
    expected, codes, layers = clf.predict_proba(X), clf.transform(X), clf.layers_
    clf.set_params(
        trainable="head",
        head="mlp",
        dropout=0.5,
        lr=1.0,
        image_size=64,
        resize="crop",
        batchnorm="train",
        weights=None,
        backbone="resnet18",
        method="bitfit",
        random_state=1,
        class_weight="balanced",
        value_range=(0, 1),
    )
    for est in (clf, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(est.predict_proba(X), expected)
        np.testing.assert_array_equal(est.transform(X), codes)
        assert est.layers_ == layers


def test_warm_start_follows_the_parameters_and_partial_fit_goes_on(photos):
    clf = classifier(trainable="head", schedule="constant", warmup=0.0).fit(*photos)
    net = clf.net_
    assert clf.partial_fit(*photos).net_ is net
    weights = clf.net_.module_.head[-1].weight.detach().clone()
    clf.set_params(warm_start=True, lr=1e-4, max_epochs=3).fit(*photos)
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4, 5, 6]
    assert clf.history_[-1]["lr head"] == 1e-4
    moved = (clf.net_.module_.head[-1].weight - weights).abs().max()
    assert 0 < moved < 1e-3


def test_a_first_fit_that_fails_leaves_nothing(photos, tmp_path):
    X, y = photos
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [os.fspath(tmp_path / "bad.png")] * len(y)
    for bad, error in ((paths, ImageError), (X, TrainingError)):
        clf = classifier(lr=1e30, cache=None)
        with pytest.raises(error):
            clf.fit(bad, y)
        assert set(vars(clf)) == set(clf.get_params())
        with pytest.raises(NotFittedError):
            clf.predict(X)


@pytest.mark.parametrize("way", ["fit", "partial_fit", "warm_start"])
def test_a_second_fit_that_fails_leaves_the_first(photos, tmp_path, way):
    """Also weights that a step with a huge rate had moved before the loss was no number."""
    X, y = photos
    clf = classifier(trainable=1, batch_size=8, cache=None).fit(X, y)
    expected, history = clf.predict_proba(X), list(clf.history_)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"image 0 .*bad\.png"):
        clf.partial_fit([os.fspath(tmp_path / "bad.png")] * 24, y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        clf.fit(X, y[:-1])
    clf.set_params(warm_start=way == "warm_start", lr=1e30)
    if way == "partial_fit":
        clf.make_net().set_params(lr=1e30)
        for group in clf.net_.optimizer_.param_groups:
            group["lr"] = group["initial_lr"] = 1e30
    with pytest.raises(TrainingError):
        (clf.partial_fit if way == "partial_fit" else clf.fit)(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert list(clf.history_) == history
    clf.set_params(lr=1e-3, warm_start=False).partial_fit(X, y)
    assert clf.n_iter_ == 3
    assert np.isfinite(clf.predict_proba(X)).all()


def test_a_second_fit_that_fails_leaves_the_account_of_columns(photos):
    X, y = photos
    rows = pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel ")
    clf = classifier(trainable="head").fit(rows, y)
    names, before = list(clf.feature_names_in_), dict(vars(clf))
    with pytest.raises(TrainingError):
        clf.set_params(lr=1e30).fit(X[:, :16, :16], y)
    assert {**vars(clf), "lr": 1e-3} == {**before, "lr": 1e-3}
    assert list(clf.feature_names_in_) == names
    clf.set_params(lr=1e-3).fit(X, y)
    assert not hasattr(clf, "n_features_in_") and not hasattr(clf, "feature_names_in_")


def test_generators_of_the_caller_are_left_alone(photos):
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3)
    np.random.seed(3)
    clf = classifier(
        trainable=1, dropout=0.5, callbacks=[Mixup(0.2)], augment="auto", head="mlp",
        early_stopping=True,
    ).fit(*photos)
    clf.predict(photos[0])
    pickle.loads(pickle.dumps(clf)).predict(photos[0])
    assert torch.rand(3).equal(expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": lambda image: image},
        {"head": lambda n_inputs, n_outputs: torch.nn.Linear(n_inputs, n_outputs)},
        {"callbacks": [EpochScoring(lambda net, X, y: 0.0, on_train=True)]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_functions_that_pickle_cannot_save_are_named(photos, tmp_path, changes):
    clf = classifier(trainable="head", **changes).fit(*photos)
    (name,) = changes
    for save in (pickle.dumps, lambda one: joblib.dump(one, tmp_path / "clf")):
        with pytest.raises(pickle.PicklingError, match=f"^{name}= cannot be pickled.*cloudpickle"):
            save(clf)
    expected = clf.predict_proba(photos[0])
    wrapped = joblib.wrap_non_picklable_objects(clf, keep_wrapper=False)
    for twin in (copy.deepcopy(clf), pickle.loads(pickle.dumps(wrapped))):
        np.testing.assert_array_equal(twin.predict_proba(photos[0]), expected)
