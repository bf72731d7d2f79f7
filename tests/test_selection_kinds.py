"""Which network and strategy, for several tags an image and for values."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from sktransfer import (
    AutoTransferClassifier,
    CNNCodes,
    FineTuneClassifier,
    FineTuneRegressor,
    advise,
    rank_backbones,
)
from sktransfer._sklearn import GroupedFolds
from sktransfer.finetune import Labels, Tags
from sktransfer.finetune._tasks import Values
from sktransfer.selection import LinearTags, h_score, leep_score, logme_score, transrate_score
from sktransfer.selection._kinds import LABELS, TAGS, VALUES, kind_named, kind_of
from sktransfer.selection._probe import probe_layer
from sktransfer.testing import check_instances

LITE = "efficientnet_lite0"
N = 80


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:N]


@pytest.fixture(scope="module")
def Y(sample):
    y = sample.target[:N]
    return np.stack([y % 2 == 0, y > 6, np.isin(y, (3, 5))], axis=1).astype(int)


@pytest.fixture(scope="module")
def values(sample):
    X, y = sample.data[:N], sample.target[:N]
    return np.c_[X.mean(axis=(1, 2, 3)), y + np.random.default_rng(0).normal(size=N) / 10]


@pytest.fixture(scope="module")
def codes(X):
    return CNNCodes(image_size=32).fit_transform(X)


def unknown(Y):
    return np.where(np.random.default_rng(0).random(Y.shape) < 0.2, np.nan, Y)


def test_kinds():
    assert kind_of([0, 1, 1]) is LABELS and kind_of(["a", "b"]) is LABELS
    assert kind_of([0.5, 1.0]) is VALUES and kind_of([0, 1, 1], regression=True) is VALUES
    assert kind_of([[0, 1], [1, 1]]) is TAGS and kind_of([[0, np.nan], [1, 1]]) is TAGS
    assert kind_of(sparse.csr_matrix([[0, 1], [1, 1]])) is TAGS
    assert kind_of([[0, 1], [1, 1]], regression=True) is VALUES


def test_a_linear_model_for_each_tag(codes, Y):
    found = LinearTags(C=0.1).fit(codes, Y)
    expected = OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=1000)).fit(codes, Y)
    np.testing.assert_allclose(
        found.predict_proba(codes), expected.predict_proba(codes), rtol=1e-5
    )
    np.testing.assert_array_equal(found.predict(codes), expected.predict(codes))
    assert found.score(codes, Y) == expected.score(codes, Y)
    gaps = unknown(Y)
    found = LinearTags(C=0.1).fit(codes, np.c_[gaps, np.ones(N)])
    for tag in range(3):
        rows = ~np.isnan(gaps[:, tag])
        probe = LogisticRegression(C=0.1, max_iter=1000).fit(codes[rows], gaps[rows, tag])
        share = probe.predict_proba(codes)[:, 1]
        np.testing.assert_allclose(found.predict_proba(codes)[:, tag], share, rtol=1e-5)
    np.testing.assert_allclose(found.predict_proba(codes)[:, 3], (N + 1) / (N + 2))


@pytest.mark.parametrize("cv", [2, 5])
def test_folds_have_each_tag_in_its_share(Y, cv):
    groups = np.arange(N) // 2
    for own in (None, groups):
        splits = TAGS.make_splits(Y.astype(float), cv, own)
        assert sorted(np.concatenate([test for _, test in splits])) == list(range(N))
        for learn, test in splits:
            assert sorted([*learn, *test]) == list(range(N))
            assert np.abs(Y[test].sum(axis=0) - Y.sum(axis=0) / cv).max() <= 2
            assert own is None or not set(own[learn]) & set(own[test])


def average_precision(codes, Y, splits):
    """Of OneVsRestClassifier, over the folds."""
    probe = make_pipeline(
        StandardScaler(), OneVsRestClassifier(LogisticRegression(C=1e-2, max_iter=1000))
    )
    return np.mean([
        average_precision_score(
            Y[test], clone(probe).fit(codes[learn], Y[learn]).predict_proba(codes[test])
        )
        for learn, test in splits
    ])  # fmt: skip


def test_networks_are_ranked_by_tags(X, Y, codes):
    metrics = ["logme", "h_score", "transrate", "cv", "leep"]
    row = rank_backbones(X, Y, [LITE], metric=metrics, image_size=32, depth=False, cv=3).rows[0]
    for name, score in (("h_score", h_score), ("transrate", transrate_score)):
        each = [score(codes, column) for column in Y.T]
        assert row.scores[name] == pytest.approx(np.mean(each), rel=1e-5)
    each = [logme_score(codes, column.astype(float), regression=True) for column in Y.T]
    assert row.scores["logme"] == pytest.approx(np.mean(each), rel=1e-5)
    splits = TAGS.make_splits(Y.astype(float), 3)
    assert row.scores["cv"] == pytest.approx(average_precision(codes, Y, splits), rel=1e-5)
    assert row.scores["leep"] < 0


@pytest.mark.parametrize("form", [sparse.csr_matrix, unknown])
def test_other_forms_of_tags_are_ranked(X, Y, form):
    ranking = rank_backbones(
        X, form(Y), {"pretrained": LITE, "random": LITE}, weights={"random": None},
        metric=["logme", "cv", "h_score", "leep"], image_size=32, cv=2,
    )  # fmt: skip
    assert ranking.best_ == "pretrained"
    assert np.isfinite(list(ranking.rows[0].scores.values())).all()


def test_logme_with_gaps_is_the_mean_over_what_is_known(codes, Y):
    gaps = unknown(Y)
    each = [
        logme_score(codes[rows], column[rows], regression=True)
        for column, rows in zip(gaps.T, ~np.isnan(gaps.T), strict=True)
    ]
    assert logme_score(codes, gaps) == pytest.approx(np.mean(each), rel=1e-9)


def test_leep_of_tags_is_that_of_each(X, Y):
    from sktransfer.selection._features import pass_over

    seen = pass_over(CNNCodes(image_size=32), X, outputs=True)
    row = rank_backbones(X, Y, [LITE], metric="leep", image_size=32).rows[0]
    each = [leep_score(seen.probabilities, column) for column in Y.T]
    assert row.score == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("gaps", [False, True])
def test_advice_on_tags(X, Y, codes, gaps):
    y = unknown(Y) if gaps else Y
    advice = advise(X, y, image_size=32, cv=3)
    assert advice.measure == "average precision" and advice.strategy == "probe"
    assert not len(advice.suspects) and advice.learning_curve.means[-1] > 0.3
    text = repr(advice)
    assert "80 images with 3 tags" in text and "(average precision)" in text
    if not gaps:
        last = average_precision(codes, Y, TAGS.make_splits(Y.astype(float), 3))
        assert advice.layer_scores[-1][1] == pytest.approx(last, rel=1e-4)
    clf = advice.estimator.fit(X, y)
    assert clf.predict_proba(X).shape == Y.shape
    clone(clf).set_params(**{name: one[0] for name, one in advice.param_grid.items()})
    pickle.loads(pickle.dumps(clf)).predict(X)
    tuned = advise(X, y, image_size=32, cv=3, fine_tune=True)
    assert isinstance(tuned.estimator, FineTuneClassifier)
    advice.plot()


def test_advice_on_values(X, values, codes):
    for y in (values[:, 0], values):
        advice = advise(X, y, image_size=32, cv=3)
        assert advice.measure == "R²"
        splits = KFold(3, shuffle=True, random_state=0)
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13)))
        expected = cross_val_score(probe, codes, y, cv=splits).mean()
        assert advice.layer_scores[-1][1] == pytest.approx(expected, rel=1e-4)
        assert "80 images with values" in repr(advice) and "(R²)" in repr(advice)
        assert advice.estimator.fit(X, y).predict(X).shape == y.shape
        assert set(advice.param_grid) == {"codes__layer"}
    tuned = advise(X, values, image_size=32, cv=3, fine_tune=True)
    assert isinstance(tuned.estimator, FineTuneRegressor)


def test_copies_with_other_tags_are_conflicts(X, Y):
    X, Y = np.concatenate([X, X[:2]]), np.concatenate([Y, Y[:2]])
    Y[-1] = 1 - Y[-1]
    advice = advise(X, Y, image_size=32, cv=2)
    assert advice.copies == ((0, 80),) and advice.conflicts == ((1, 81),)
    assert "different tags" in repr(advice)


def test_tags_of_which_nothing_can_be_said(X, Y, passes):
    constant = np.tile([0, 1], (N, 1))
    constant[0, 0] = 1
    for call in (advise, lambda X, y, **more: rank_backbones(X, y, [LITE], **more)):
        with pytest.raises(ValueError, match="one tag must be present for at least 2 images"):
            call(X, constant, image_size=32)
        with pytest.raises(ValueError, match="80"):
            call(X, Y[:-1], image_size=32)
    assert passes["images"] == 0
    rare = np.c_[Y, np.arange(N) < 3]
    assert any("tag(s) 3 have fewer than 5" in one for one in advise(
        X, rare, image_size=32, cv=2).warnings)  # fmt: skip


@pytest.mark.parametrize("gaps", [False, True])
def test_trials_with_tags(X, Y, gaps):
    y = unknown(Y) if gaps else Y
    auto = AutoTransferClassifier(
        strategies=["probe", "layers", "fine-tune last"], image_size=32, cv=2, max_epochs=1,
        random_state=0,
    )  # fmt: skip
    auto.fit(X, y)
    assert auto.classes_.tolist() == [0, 1, 2]
    assert auto.predict(X).shape == auto.predict_proba(X).shape == Y.shape
    assert auto.decision_function(X).shape == Y.shape
    assert 0.3 < auto.best_score_ <= 1 and (auto.cv_results_["n_folds"] == 2).all()
    right = ((auto.predict(X) == y) | np.isnan(y)).all(axis=1)
    known = ~np.isnan(y).all(axis=1)
    assert auto.score(X, y) == pytest.approx(right[known].mean())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(auto)).predict(X), auto.predict(X))
    assert auto.plot_trials().get_xlabel() == "cross-validated average precision"


@pytest.mark.parametrize(
    "check",
    [
        "check_classifiers_multilabel_representation_invariance",
        "check_classifiers_multilabel_output_format_predict",
        "check_classifiers_multilabel_output_format_predict_proba",
        "check_classifiers_multilabel_output_format_decision_function",
    ],
)
def test_checks_of_scikit_learn(check):
    auto = next(one for one, _ in check_instances() if isinstance(one, AutoTransferClassifier))
    for estimator in (clone(auto).set_params(strategies=["probe"]), LinearTags()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("cv", ["five", 1.5, None])
def test_folds_that_are_none_are_refused(cv, labelled):
    with pytest.raises(ValueError, match=r"cv must be a number of folds, a splitter .*, got"):
        advise(*labelled, image_size=32, cv=cv)


def test_a_kind_is_found_by_what_its_task_calls_it():
    for task, kind in ((Labels, LABELS), (Values, VALUES), (Tags, TAGS)):
        assert kind_named(task.kind) is kind
    with pytest.raises(KeyError, match="boxes"):
        kind_named("boxes")


def test_folds_that_lack_a_class_are_scored_by_the_classes_of_all(codes):
    """As those of groups, or where images are there twice."""
    rows = codes[:60]
    target = np.repeat([0, 1, 2], 20)
    folds = np.where(target == 0, np.arange(60) % 2, np.arange(60) % 3)  # class 0 in two of three
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(3)]
    assert 0 not in target[splits[2][1]]
    found = probe_layer("", rows, target, splits, LABELS)
    expected = cross_val_score(LABELS.probe(), rows, target, cv=splits)
    np.testing.assert_allclose(found.folds, expected)


@pytest.mark.parametrize("seed", range(6))
def test_folds_of_groups_are_those_of_scikit_learn(seed):
    """Nearly all groups of one item, as of duplicates; or few large ones."""
    draw = np.random.default_rng(seed)
    n, n_classes = 300, 2 + 3 * seed
    y = draw.integers(0, n_classes, n)
    groups = np.where(draw.random(n) < 0.9, np.arange(n), draw.integers(0, n, n)) // (1 + seed % 2)
    given = {"n_splits": 2 + seed % 4, "shuffle": True, "random_state": seed}
    expected = StratifiedGroupKFold(**given).split(y, y, groups)
    found = GroupedFolds(**given).split(y, y, groups)
    for pair, other in zip(found, expected, strict=True):
        for numbers, others in zip(pair, other, strict=True):
            np.testing.assert_array_equal(numbers, others)
