"""Several tags an image: an indicator matrix in the place of labels."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.class_weight import compute_sample_weight

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.finetune import EMA, Mixup
from sktransfer.finetune._head_init import fit_head
from sktransfer.finetune._tags import Tags
from sktransfer.finetune._tasks import weighted_mean

QUICK = {"image_size": 32, "max_epochs": 1, "trainable": "head", "random_state": 0}
N = 48


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:N]


@pytest.fixture(scope="module")
def Y(sample):
    """Three tags; some images have none of them."""
    y = sample.target[:N]
    return np.stack([y % 2 == 0, y > 6, np.isin(y, (3, 5))], axis=1).astype(int)


def unknown(Y, share=0.3):
    hidden = np.random.default_rng(0).random(Y.shape) < share
    return np.where(hidden, np.nan, Y)


@pytest.fixture(scope="module")
def fitted(X, Y):
    return classifier(lr=0.03, max_epochs=8).fit(X, Y)


def test_answers(fitted, X, Y):
    shares, scores, found = (
        getattr(fitted, name)(X) for name in ("predict_proba", "decision_function", "predict")
    )
    assert shares.shape == scores.shape == found.shape == Y.shape
    np.testing.assert_allclose(shares, expit(scores.astype(float)), rtol=1e-6)
    np.testing.assert_array_equal(found, shares > 0.5)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), shares, rtol=1e-6)
    assert found.dtype == np.int64 and fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.score(X, Y) == (found == Y).all(axis=1).mean() > 0.8
    weight = np.arange(1.0, N + 1)
    assert fitted.score(X, Y, weight) == pytest.approx(
        np.average((found == Y).all(axis=1), weights=weight)
    )
    assert fitted.__sklearn_tags__().classifier_tags.multi_label
    history = fitted.history_
    assert 0.5 < history[-1]["train_acc"] <= 1 and "valid_acc" not in history[-1]


@pytest.mark.parametrize(
    "form",
    [
        sparse.csr_matrix,
        sparse.coo_array,
        pd.DataFrame,
        lambda Y: pd.DataFrame(Y.astype(bool), columns=list("abc")),
        lambda Y: pd.DataFrame(Y, columns=list("abc")).astype("Int64"),
        np.ndarray.tolist,
        list,
        lambda Y: Y.astype(float),
        lambda Y: torch.from_numpy(Y),
        lambda Y: np.ma.array(Y),
    ],
)
def test_every_form_of_a_matrix(X, Y, form):
    expected = classifier().fit(X, Y)
    clf = classifier().fit(X, form(Y))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    assert clf.score(X, form(Y)) == expected.score(X, Y)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, np.ma.masked])
def test_every_form_of_not_known(X, Y, missing):
    gaps = unknown(Y)
    expected = classifier().fit(X, gaps)
    if missing is np.ma.masked:
        other = np.ma.array(Y, mask=np.isnan(gaps))
    else:
        other = gaps.astype(object)
        other[np.isnan(gaps)] = missing
    clf = classifier().fit(X, other)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_one_hot_rows_are_tags_too(X):
    Y = np.eye(4, dtype=int)[np.arange(N) % 4]
    assert classifier().fit(X, Y).predict_proba(X).shape == (N, 4)


def test_one_column_is_one_label(X):
    with pytest.warns(Warning, match="column-vector"):
        clf = classifier().fit(X, (np.arange(N) % 2)[:, None])
    assert clf.predict(X).shape == (N,)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1, 1: 3}, [{0: 1, 1: 2}] * 3])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_that_of_torch(Y, class_weight, gaps, smoothing):
    """Weighted by entry, smoothed and masked by hand."""
    y = unknown(Y) if gaps else Y.astype(float)
    weight = np.linspace(0.5, 2, N)
    task, target = Tags.of(y, N)
    task = Tags(task.classes, label_smoothing=smoothing).weighted(class_weight, target)
    out = torch.randn(N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = task.losses(out, torch.from_numpy(target))
    mass = torch.from_numpy(np.array(task.sample_weights(target, weight)))

    known = ~np.isnan(y)
    entry = np.repeat(weight[:, None], 3, axis=1) * known
    for tag in range(3):
        rows, one = known[:, tag], class_weight
        if isinstance(one, list):
            one = one[tag]
        entry[rows, tag] *= compute_sample_weight(one, y[rows, tag].astype(int))
    smooth = np.where(known, y * (1 - smoothing) + smoothing / 2, 0)
    loss = torch.nn.BCEWithLogitsLoss(weight=torch.from_numpy(entry), reduction="sum")
    expected = loss(out, torch.from_numpy(smooth)) / entry.sum()
    torch.testing.assert_close(weighted_mean(losses, mass), expected, rtol=1e-6, atol=1e-6)


def test_what_is_not_known_has_no_gradient():
    task, target = Tags.of([[1, np.nan], [np.nan, np.nan], [0, 1]], 3)
    out = torch.zeros(3, 2, requires_grad=True)
    task.losses(out, torch.from_numpy(target)).sum().backward()
    np.testing.assert_array_equal(out.grad, [[-0.5, 0], [0, 0], [0.25, -0.25]])
    np.testing.assert_allclose(task.sample_weights(target, None), [0.5, 0, 1])
    hits, asked = task.hits(torch.tensor([[1.0, 1], [1, 1], [1, 1]]), torch.from_numpy(target))
    assert hits.tolist() == [1, 0, 1] and asked.tolist() == [1, 0, 2]


def test_the_head_starts_from_one_logistic_regression_for_each_tag(X, Y):
    codes = CNNCodes(image_size=32).fit_transform(X)
    task, target = Tags.of(Y, N)
    head = torch.nn.Linear(codes.shape[1], 3)
    fit_head(head, codes, target, None, task)
    outputs = codes @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    scaled = (codes - codes.mean(axis=0)) / np.sqrt(codes.var(axis=0).mean())
    # The strength of each tag's penalty is one of three.
    for tag in range(3):
        found = min(
            np.abs(
                OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1000))
                .fit(scaled, Y)
                .decision_function(scaled)[:, tag]
                - outputs[:, tag]
            ).max()
            for strength in (3e-4, 3e-3, 3e-2)
        )
        assert found < 1e-2


def test_the_head_starts_from_known_tags_and_their_weights(X, Y):
    codes = CNNCodes(image_size=32).fit_transform(X)
    gaps, sample_weight = unknown(Y), 1.0 + np.arange(N) % 3
    task, target = Tags.of(gaps, N)
    task = task.weighted("balanced", target)
    weight = task.sample_weights(target, sample_weight)
    coef, intercept = task.fit_linear(codes, target, weight)
    for tag in range(3):
        rows = ~np.isnan(gaps[:, tag])
        y = gaps[rows, tag].astype(int)
        w = compute_sample_weight("balanced", y) * sample_weight[rows]
        found = min(
            np.abs(codes @ (probe.coef_[0] - coef[tag]) + probe.intercept_ - intercept[tag]).max()
            for strength in (3e-4, 3e-3, 3e-2)
            for probe in [LogisticRegression(C=strength, max_iter=1000).fit(codes[rows], y, w)]
        )
        assert found < 1e-2


def test_tags_that_are_always_the_same(X, Y):
    """All there, none there, none known, in a fold or everywhere."""
    constant = np.c_[Y, np.ones(N), np.zeros(N), np.full(N, np.nan)]
    clf = classifier(max_epochs=0, class_weight="balanced").fit(X, constant)
    shares = clf.predict_proba(X)
    # As if there were one example more of each answer.
    np.testing.assert_allclose(shares[:, 3:], np.tile([49 / 50, 1 / 50, 0.5], (N, 1)), rtol=1e-5)
    clf = classifier(max_epochs=3, early_stopping=True, callbacks=[Mixup(0.5)]).fit(X, constant)
    shares = clf.predict_proba(X)
    assert (shares[:, 3] > 0.9).all() and (shares[:, 4] < 0.1).all()
    np.testing.assert_allclose(shares[:, 5], 0.5, atol=1e-6)
    only = classifier().fit(X, np.ones((N, 2), int))
    assert (only.predict(X) == 1).all()


def test_balanced_weights_by_hand():
    y = np.array([[1, 0, np.nan], [0, 0, np.nan], [0, 0, 1], [0, np.nan, 1]])
    task, target = Tags.of(y, 4)
    found = task.weighted("balanced", target).class_weight
    np.testing.assert_allclose(found, [[4 / 6, 1, 1], [4 / 2, 1, 1]])


def test_rare_tags_are_learnt_with_balanced_weights(X, Y):
    rare = np.c_[np.arange(N) < 3, Y[:, 0]].astype(int)
    plain, balanced = (
        classifier(class_weight=one, max_epochs=3).fit(X, rare) for one in (None, "balanced")
    )
    assert balanced.predict_proba(X)[:, 0].mean() > 2 * plain.predict_proba(X)[:, 0].mean()


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_rare_tags_are_on_both_sides(fraction, seed):
    random = np.random.default_rng(seed)
    Y = (random.random((200, 8)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.95, 0.5]).astype(float)
    Y[:2, 5] = Y[3, 7] = 1
    Y[random.random(Y.shape) < 0.1] = np.nan
    task, target = Tags.of(Y, 200)
    train, held_out = task.split(target, None, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(200))
    assert abs(len(held_out) - 200 * fraction) <= 6
    for answer in (0, 1):
        counts = (Y == answer).sum(axis=0)
        held = (Y[held_out] == answer).sum(axis=0)
        assert (held[counts > 1] > 0).all() and (held < counts)[counts > 1].all()
        # As iterative stratification promises, within a few images.
        assert (np.abs(held - fraction * counts) <= 7).all()


@pytest.mark.parametrize("n_groups", [2, 3, 7, 40])
def test_groups_stay_together(n_groups, Y):
    task, target = Tags.of(Y[:40], 40)
    for groups in (np.arange(40) % n_groups, np.minimum(np.arange(40), n_groups - 1)):
        train, held_out = task.split(target, groups, 0.1, 0)
        assert len(train) and len(held_out) and len(train) + len(held_out) == 40
        assert not set(groups[train]) & set(groups[held_out])


def test_what_is_not_known_counts_nowhere(X, Y):
    """Whatever stood there; the score leaves out images of which nothing is known."""
    gaps = unknown(Y)
    gaps[:5] = np.nan
    clf = classifier(max_epochs=0).fit(X, gaps)
    without = classifier(max_epochs=0).fit(X[5:], gaps[5:])
    np.testing.assert_allclose(clf.predict_proba(X), without.predict_proba(X), rtol=1e-4)
    right = (clf.predict(X) == gaps) | np.isnan(gaps)
    assert clf.score(X, gaps) == right[5:].all(axis=1).mean()


def test_partial_fit(X, Y):
    clf = classifier(lr=0.1, batch_size=4)
    clf.partial_fit(X[:8], Y[:8], classes=[0, 1, 2])
    for _ in range(20):
        clf.partial_fit(X, Y, classes=np.arange(3))
    assert clf.score(X, Y) > 0.7
    with pytest.raises(ValueError, match="one for each of the 3 tags"):
        clf.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="one for each of the 3 tags"):
        classifier().partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match='class_weight="balanced" needs all'):
        classifier(class_weight="balanced").partial_fit(X, Y)


def test_class_weights_are_taken_as_they_are_now(X, Y):
    clf = classifier(class_weight={0: 1, 1: 1}, lr=0.03)
    before = clf.partial_fit(X, Y).predict_proba(X).mean(axis=0)
    clf.set_params(class_weight=[{0: 1e-3, 1: 1}, {0: 1, 1: 1e-3}, {0: 1, 1: 1}])
    for _ in range(5):
        clf.partial_fit(X, Y)
    moved = clf.predict_proba(X).mean(axis=0) - before
    assert moved[0] > 0.03 and moved[1] < -0.01 and abs(moved[2]) < 0.01


def test_warm_start_keeps_the_tags(X, Y):
    clf = classifier(warm_start=True).fit(X, pd.DataFrame(Y, columns=list("abc")))
    first = clf.history_[-1]["train_loss"]
    clf.set_params(max_epochs=3).fit(X, Y)
    assert len(clf.history_) == 4 and clf.history_[-1]["train_loss"] < first
    for y, message in (
        (Y[:, 0], r"indicator matrix with 3 columns, as in the first fit, got .*\(48,\)"),
        (Y[:, :2], r"3 columns, as in the first fit, got .*\(48, 2\)"),
        (2 * Y, r"must hold 0, 1, and NaN .*got 2 for sample"),
        (pd.DataFrame(Y, columns=list("acb")), "columns .*'a', 'b', 'c'.* in this order"),
    ):
        with pytest.raises(ValueError, match=message):
            clf.fit(X, y)
    labels = classifier(warm_start=True).fit(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"one-hot rows of shape .*argmax\(axis=1\)"):
        labels.fit(X, np.eye(2)[Y[:, 0]])
    with pytest.raises(ValueError, match="1d array with one label for each sample"):
        labels.fit(X, Y)


def test_validation_data(X, Y):
    clf = classifier(max_epochs=2)
    clf.fit(X[:32], Y[:32], validation_data=(X[32:], unknown(Y[32:])))
    row = clf.history_[-1]
    gaps = unknown(Y[32:])
    known = ~np.isnan(gaps)
    assert row["valid_acc"] == pytest.approx((clf.predict(X[32:]) == gaps)[known].mean())
    shares = clf.predict_proba(X[32:])
    losses = -np.log(np.where(gaps == 1, shares, 1 - shares))[known]
    assert row["valid_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    with pytest.raises(ValueError, match=r"y of validation_data .*3 columns"):
        clf.fit(X[:32], Y[:32], validation_data=(X[32:], Y[32:, 0]))


@pytest.mark.parametrize(
    "more",
    [
        {"callbacks": [Mixup(0.4)], "label_smoothing": 0.1},
        {"head": "mlp"},
        {"trainable": 1},
        {"callbacks": [EMA(0.9)]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_with_other_parameters(X, Y, more):
    clf = classifier(max_epochs=4, lr=0.01, early_stopping=True, **more).fit(X, unknown(Y, 0.1))
    assert f1_score(Y, clf.predict(X), average="macro", zero_division=0) > 0.6


def test_pickles(fitted, X):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(again.classes_, fitted.classes_)


def test_the_net_answers_as_the_estimator(fitted, X):
    from skorch.callbacks import EpochScoring

    score = EpochScoring("f1_macro", lower_is_better=False, name="f1", on_train=True)
    Y = fitted.predict(X)
    clf = classifier(callbacks=[score, EpochScoring("average_precision", name="ap")])
    clf.fit(X, Y, validation_data=(X, Y))
    row = clf.history_[-1]
    assert row["f1"] == pytest.approx(f1_score(Y, clf.predict(X), average="macro"), abs=0.3)
    assert row["ap"] == pytest.approx(average_precision_score(Y, clf.predict_proba(X)))


@pytest.mark.parametrize("scoring", ["f1_macro", "average_precision", None])
def test_searches(X, Y, scoring):
    search = GridSearchCV(classifier(), {"lr": [1e-3, 1e-2]}, scoring=scoring, cv=2)
    search.fit(X, Y)
    assert 0 < search.best_score_ <= 1
    assert search.predict(X).shape == Y.shape


def test_scores_with_gaps(X, Y):
    scores = cross_val_score(classifier(), X, unknown(Y), cv=KFold(2))
    assert np.isfinite(scores).all()


NAMES = [["a", "b"], ["b"], []] * 16


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (NAMES, "lists of labels.*MultiLabelBinarizer"),
        ([set(one) for one in NAMES], "lists of labels.*MultiLabelBinarizer"),
        ([tuple(one) for one in NAMES], "lists of labels.*MultiLabelBinarizer"),
        (pd.Series(NAMES), "lists of labels.*MultiLabelBinarizer"),
        ([["a", "b"]] * N, r"shape \(48, 2\).*MultiLabelBinarizer"),
        (np.full((N, 2), 2), r"shape \(48, 2\).*MultiOutputClassifier"),
        (np.full((N, 2), -1), r"of 0, 1, and NaN .* holds -1 for sample 0, column 0\."),
        (np.full((N, 2), 0.7), r"of 0, 1, and NaN .* holds 0\.7 for sample 0, column 0\."),
        (np.full((N, 2), np.nan), "nothing is known of any of 48"),
        (np.ones((N - 1, 2)), "48 samples and 47"),
        (np.ones((N, 2, 2)), r"shape \(48, 2, 2\)"),
    ],
)
def test_no_tags(X, y, message, passes):
    clf = classifier()
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    assert passes["images"] == 0 and set(vars(clf)) == set(clf.get_params())


def test_names_become_a_matrix(X):
    binarizer = MultiLabelBinarizer()
    clf = classifier().fit(X, binarizer.fit_transform(NAMES))
    assert len(binarizer.inverse_transform(clf.predict(X))) == N


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: -1, 1: 1}, "class_weight must be a dict .*, got -1 for the class 0"),
        ({"a": 1, "b": 2}, r"'a', which is none of the classes \[0, 1\]"),
        ({"0": 1, "1": 2}, r"'0', which is none of .* Did you mean 0\?"),
        ([{0: 1, 1: 1}], "a list of one such dict for each of 3 tags, got 1"),
        ([{0: 1}, {1: 2}, {1: np.nan}], r"class_weight\[2\] must be .*, got nan for the class 1"),
        ([1, 2, 3], r"class_weight\[0\] must be a dict .*, got 1"),
        ({0: 1, 1: "a"}, "got 'a' for the class 1"),
    ],
)
def test_class_weights_that_are_none(X, Y, class_weight, message, passes):
    with pytest.raises(ValueError, match=message):
        classifier(class_weight=class_weight).fit(X, Y)
    with pytest.raises(ValueError, match="class_weight must not be 0 for every sample"):
        classifier(class_weight={0: 0, 1: 0}).fit(X, Y)
    assert passes["images"] == 0


def test_checkpoints(X, Y, tmp_path):
    fit = partial(classifier(checkpoint_dir=tmp_path, max_epochs=2, early_stopping=True).fit, X)
    first = fit(unknown(Y)).predict_proba(X)
    np.testing.assert_array_equal(fit(unknown(Y)).predict_proba(X), first)
