"""Places are drawn, maps are read at places, and linear classifiers are found as matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from torch.nn.functional import interpolate

from sktransfer.codes import codes_at, default_pixel_estimator, linear_map_of, sample_places
from sktransfer.codes._linear import LinearScores
from sktransfer.codes._places import codes_of_rows
from sktransfer.inputs import NO_LABEL

GRID = (23, 37)


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    shapes = [(4, *GRID), (3, 12, 19), (5, 3, 5), (2, 1, 1), (2, 30, 41)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def side_by_side(maps):
    """All maps enlarged, as rows: what nobody would keep of large images."""
    large = [
        interpolate(torch.from_numpy(one)[None].double(), GRID, mode="bilinear")[0] for one in maps
    ]
    return torch.cat(large).flatten(1).T.numpy().astype(np.float32)


def test_codes_at_places_are_those_of_enlarged_maps(maps):
    places = np.random.default_rng(1).integers(0, GRID[0] * GRID[1], 100)
    expected = side_by_side(maps)
    np.testing.assert_allclose(codes_at(maps, places, GRID), expected[places], atol=1e-5)
    assert codes_at(maps, places[:0], GRID).shape == (0, 16)
    rows = np.arange(5, 9)
    found = codes_of_rows(maps, rows, GRID)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.reshape(*GRID, -1)[5:9].reshape(-1, 16), atol=1e-5)


def test_labelled_places_are_drawn_and_each_class_is_seen():
    numbers = np.full((4, 20, 30), NO_LABEL, np.int16)
    numbers[0] = 0
    numbers[0, 3, 4] = 1
    numbers[1, :2, :3] = 2
    numbers[3] = np.arange(600).reshape(20, 30) % 3
    drawn = sample_places(numbers, 50, np.random.RandomState(0))
    assert [len(one) for one in drawn] == [50, 6, 0, 50]
    assert 3 * 30 + 4 in drawn[0]
    assert set(drawn[1]) == {0, 1, 2, 30, 31, 32}
    for one in drawn:
        assert (np.diff(one) > 0).all()
    again = sample_places(numbers, 50, np.random.RandomState(0))
    assert all(map(np.array_equal, drawn, again))
    other = sample_places(numbers, 50, np.random.RandomState(1))
    assert not np.array_equal(drawn[3], other[3])
    assert [len(one) for one in sample_places(numbers, 2, np.random.RandomState(0))] == [2, 2, 0, 3]


def test_all_labelled_places_are_drawn_equally_often():
    numbers = np.zeros((2000, 2, 5), np.int16)
    numbers[:, 1, :2] = NO_LABEL
    drawn = np.concatenate(sample_places(numbers, 4, np.random.RandomState(0)))
    counts = np.bincount(drawn, minlength=10)
    assert counts[5:7].tolist() == [0, 0]
    np.testing.assert_allclose(counts[[0, 1, 2, 3, 4, 7, 8, 9]], 1000, atol=120)


LINEAR = {
    "logistic": LogisticRegression(),
    "one against the others": make_pipeline(StandardScaler(), LinearSVC()),
    "scaled": default_pixel_estimator(),
    "components": make_pipeline(StandardScaler(), PCA(3, whiten=True), LogisticRegression()),
    "steps in steps": make_pipeline(
        make_pipeline(MinMaxScaler(), PCA(4)), SelectKBest(k=2), LogisticRegression()
    ),
    "by steps": make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
    "huber": make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)),
    "ridge": RidgeClassifier(),
    "discriminant": LinearDiscriminantAnalysis(),
    "no intercept": LogisticRegression(fit_intercept=False),
    "searched": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
}


def rows_and_labels(n_classes):
    rng = np.random.default_rng(0)
    rows = rng.normal(3, 2, (300, 5)).astype(np.float32)
    labels = rows[:, :n_classes].argmax(1)
    return rows, np.array(["road", "sky", "tree"])[labels]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_classifiers_are_found_as_matrices(name, n_classes):
    rows, labels = rows_and_labels(n_classes)
    estimator = LINEAR[name].fit(rows, labels)
    coef, intercept = linear_map_of(estimator, rows)
    assert coef.dtype == intercept.dtype == np.float32
    assert coef.shape == (1 if n_classes == 2 else n_classes, 5)
    new = np.random.default_rng(1).normal(3, 2, (100, 5)).astype(np.float32)
    expected = estimator.decision_function(new).reshape(100, -1)
    np.testing.assert_allclose(new @ coef.T + intercept, expected, rtol=1e-4, atol=1e-4)
    if hasattr(estimator, "predict_proba"):
        found = LinearScores.of(estimator, rows).probabilities(new @ coef.T + intercept)
        np.testing.assert_allclose(found, estimator.predict_proba(new), atol=1e-5)


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),
        RandomForestClassifier(5, random_state=0),
        SVC(),
        SVC(kernel="linear"),  # one of each two classes
        OneVsRestClassifier(LogisticRegression()),
        make_pipeline(Normalizer(), LogisticRegression()),
        make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=1000)),
        make_pipeline(QuantileTransformer(n_quantiles=50), LogisticRegression()),
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()),
        make_pipeline(FunctionTransformer(np.abs), LogisticRegression()),
        make_pipeline(FunctionTransformer(lambda x: np.log(x + 20)), LogisticRegression()),
    ],
    ids=lambda one: str(one)[:60],
)
def test_what_is_not_linear_is_not_taken_for_it(estimator):
    rows, labels = rows_and_labels(3)
    assert linear_map_of(estimator.fit(rows, labels), rows) is None


def test_scores_of_maps_are_those_of_rows(maps):
    rows = side_by_side(maps)
    labels = (rows[:, :3] + rows[:, 4:7]).argmax(1)
    estimator = default_pixel_estimator().fit(rows, labels)
    scores = LinearScores.of(estimator, rows).on_maps(maps, GRID)
    expected = estimator.decision_function(rows).T.reshape(3, *GRID)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)
