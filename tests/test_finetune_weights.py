"""Weights of images and classes, groups, and validation."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.class_weight import compute_sample_weight

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.finetune import Mixup

QUICK = {"image_size": 32, "max_epochs": 2, "trainable": "head", "random_state": 0}


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def photos(sample):
    return sample.data[:40], np.array(["cat", "dog", "ship", "bird"])[np.arange(40) % 4]


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_weight_zero_is_left_out_of_the_probe(photos, head):
    X, y = photos
    weight = np.where(np.arange(40) < 30, 1.0, 0.0)
    zero = classifier(head=head, max_epochs=0).fit(X, y, sample_weight=weight)
    without = classifier(head=head, max_epochs=0).fit(X[:30], y[:30])
    np.testing.assert_allclose(zero.decision_function(X), without.decision_function(X), atol=2e-4)


def test_weight_zero_is_left_out_of_the_regression(photos):
    X, y = photos[0], np.arange(40.0)
    weight = np.where(np.arange(40) < 30, 1.0, 0.0)
    targets = np.where(weight, y, 1e3)
    zero = FineTuneRegressor(**{**QUICK, "max_epochs": 0}).fit(X, targets, sample_weight=weight)
    without = FineTuneRegressor(**{**QUICK, "max_epochs": 0}).fit(X[:30], y[:30])
    np.testing.assert_allclose(zero.predict(X), without.predict(X), rtol=1e-4, atol=1e-3)


def test_weight_zero_gives_no_gradient(photos):
    X, y = photos
    weight = np.where(np.arange(40) < 30, 1.0, 0.0)
    other = y.copy()
    other[30:] = np.roll(y, 1)[30:]
    one = classifier(head_init="random", trainable=1).fit(X, y, sample_weight=weight)
    two = classifier(head_init="random", trainable=1).fit(X, other, sample_weight=weight)
    np.testing.assert_array_equal(one.decision_function(X), two.decision_function(X))


@pytest.mark.parametrize("init", ["linear_probe", "random"])
@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_weights_of_classes_are_weights_of_their_images(photos, init, mixup):
    X, y = photos
    given = {"cat": 3.0, "dog": 0.5, "ship": 1.0, "bird": 1.0}
    changes = {"head_init": init, "lr": 1e-2, "callbacks": [Mixup(mixup)] if mixup else None}
    by_class = classifier(class_weight=given, **changes).fit(X, y)
    weight = compute_sample_weight(given, y)
    by_image = classifier(**changes).fit(X, y, sample_weight=weight)
    plain = classifier(**changes).fit(X, y)
    expected = by_image.decision_function(X)
    np.testing.assert_allclose(by_class.decision_function(X), expected, rtol=1e-6, atol=1e-6)
    assert np.abs(plain.decision_function(X) - expected).max() > 1e-2
    # Both together multiply.
    both = classifier(class_weight=given, **changes).fit(X, y, sample_weight=weight)
    squared = classifier(**changes).fit(X, y, sample_weight=weight**2)
    np.testing.assert_allclose(
        both.decision_function(X), squared.decision_function(X), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("init", ["linear_probe", "random"])
def test_balanced_weights_find_the_rare_class(sample, init):
    rng = np.random.default_rng(0)
    common = np.flatnonzero(sample.target == sample.target[0])[:60]
    rare = np.flatnonzero(sample.target != sample.target[0])[:6]
    test = np.flatnonzero(sample.target != sample.target[0])[6:66]
    numbers = rng.permutation([*common, *rare])
    X, y = sample.data[numbers], np.isin(numbers, rare)
    changes = {"head_init": init, "lr": 1e-3, "max_epochs": 5}
    plain = classifier(**changes).fit(X, y)
    balanced = classifier(class_weight="balanced", **changes).fit(X, y)
    weighted = classifier(**changes).fit(X, y, sample_weight=compute_sample_weight("balanced", y))
    assert (
        balanced.predict(sample.data[test]).mean() > plain.predict(sample.data[test]).mean() + 0.05
    )
    np.testing.assert_allclose(
        balanced.decision_function(X), weighted.decision_function(X), rtol=1e-5, atol=1e-5
    )


def test_balanced_weights_need_a_fit_first(photos):
    clf = classifier(class_weight="balanced")
    with pytest.raises(ValueError, match="partial_fit does not"):
        clf.partial_fit(*photos)
    clf.fit(*photos).partial_fit(*photos)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(40), "zero"),
        (-np.ones(40), "[Nn]egative"),
        (np.full(40, np.nan), "NaN"),
        (np.ones(39), "sample_weight"),
    ],
)
def test_weights_that_are_none(photos, weight, message):
    clf = classifier()
    with pytest.raises(ValueError, match=message):
        clf.fit(*photos, sample_weight=weight)
    assert set(vars(clf)) == set(clf.get_params())


def test_weights_are_routed_by_searches_and_pipelines(photos, routing):
    X, y = photos
    weight = np.linspace(0.1, 2, 40)
    seen = []

    class Noting(FineTuneClassifier):
        def fit(self, X, y, sample_weight=None, **more):
            seen.append(None if sample_weight is None else sample_weight.copy())
            return super().fit(X, y, sample_weight=sample_weight, **more)

        __init__ = FineTuneClassifier.__init__

    clf = Noting(**QUICK).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipe = Pipeline([("same", FunctionTransformer()), ("clf", clf)])
    search = GridSearchCV(pipe, {"clf__lr": [1e-3, 1e-2]}, cv=2, error_score="raise")
    search.fit(X, y, sample_weight=weight)
    assert [len(one) for one in seen] == [20] * 4 + [40]
    np.testing.assert_array_equal(seen[-1], weight)
    plain = classifier(lr=search.best_params_["clf__lr"]).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(search.predict_proba(X), plain.predict_proba(X))


def test_groups_are_routed_and_stay_together(photos, routing, monkeypatch):
    from sktransfer.finetune._tasks import Labels

    X, y = photos
    groups = np.arange(40) // 4
    seen = []
    split = Labels.split

    def noting(task, numbers, groups, *rest):
        found = split(task, numbers, groups, *rest)
        seen.append((groups, found))
        return found

    monkeypatch.setattr(Labels, "split", noting)
    clf = classifier(early_stopping=True, validation_fraction=0.3).set_fit_request(groups=True)
    cross_validate(clf, X, y, params={"groups": groups}, cv=GroupKFold(2), error_score="raise")
    assert len(seen) == 2
    for kept, (learn, validate) in seen:
        assert len(kept) == 20
        assert sorted([*learn, *validate]) == list(range(20))
        assert len(validate) >= 4
        assert not set(kept[learn]) & set(kept[validate])


def test_the_best_weights_come_back(photos, sample):
    """From labels at random the loss of validation rises soon, at this rate."""
    X, y = photos
    held_out = sample.data[40:80], y
    clf = classifier(lr=3e-2, max_epochs=12, patience=3, early_stopping=True, schedule="constant")
    clf.fit(X, y, validation_data=held_out)
    losses = [row["valid_loss"] for row in clf.history_]
    assert int(np.argmin(losses)) < len(losses) - 1 < 11
    shares = clf.predict_proba(held_out[0])
    now = -np.log(shares[np.arange(40), np.searchsorted(clf.classes_, y)]).mean()
    np.testing.assert_allclose(now, min(losses), rtol=1e-5)


def test_a_share_is_validated_on_and_stratified(photos):
    X, y = photos
    clf = classifier(early_stopping=True, validation_fraction=0.2).fit(X, y)
    assert all("valid_loss" in row and "valid_acc" in row for row in clf.history_)
    assert "valid_loss" not in classifier().fit(X, y).history_[0]


def test_validation_data_are_no_images_to_learn_from(photos, sample):
    X, y = photos
    plain = classifier(trainable=1).fit(X, y)
    watched = classifier(trainable=1).fit(X, y, validation_data=(sample.data[40:60], y[:20]))
    np.testing.assert_array_equal(watched.decision_function(X), plain.decision_function(X))
    assert len(watched.history_[:, "valid_loss"]) == 2
    with pytest.raises(ValueError, match=r"must hold the classes .* got 'cow'"):
        classifier().fit(X, y, validation_data=(X[:1], ["cow"]))
    with pytest.raises(ValueError, match="2 samples and 1"):
        classifier().fit(X, y, validation_data=(X[:2], y[:1]))
