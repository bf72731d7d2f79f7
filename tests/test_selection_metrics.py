"""Scores of codes against definitions computed the slow way, closed forms and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from sktransfer import CNNCodes
from sktransfer.selection import (
    cv_score,
    h_score,
    leep_score,
    logme_score,
    nce_score,
    transrate_score,
)

BY_CODES = [logme_score, h_score, transrate_score, cv_score]


@pytest.fixture(scope="module")
def problem():
    """Codes of three classes that overlap."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 14)
    return rng.normal(size=(42, 6)) + 1.5 * np.eye(3)[y] @ rng.normal(size=(3, 6)), y


@pytest.fixture(scope="module")
def real(sample):
    codes = CNNCodes(image_size=32).fit_transform(sample.data[:60])
    return codes, sample.target[:60]


def evidence(codes, y):
    """Largest mean log evidence per image, with A, m and the determinant written out."""

    def negative(logs):
        alpha, beta = np.exp(logs)
        n, width = codes.shape
        A = alpha * np.eye(width) + beta * codes.T @ codes
        m = beta * np.linalg.solve(A, codes.T @ y)
        value = n * np.log(beta) + width * np.log(alpha) - n * np.log(2 * np.pi)
        value -= beta * ((codes @ m - y) ** 2).sum() + alpha * m @ m
        return -0.5 * (value - np.linalg.slogdet(A)[1]) / n

    starts = [(a, b) for a in (-4.0, 0.0, 4.0) for b in (-2.0, 2.0)]
    return -min(minimize(negative, s, method="Nelder-Mead",
                         options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}).fun
                for s in starts)  # fmt: skip


@pytest.mark.parametrize("width", [2, 6])
def test_logme_is_the_evidence_maximised_directly(problem, width):
    codes, y = problem[0][:, :width], problem[1]
    slow = np.mean([evidence(codes, (y == c).astype(float)) for c in range(3)])
    assert logme_score(codes, y) == pytest.approx(slow, abs=1e-6)


def test_logme_of_regression_is_the_evidence(problem):
    codes, _ = problem
    values = codes @ [1.0, -1, 0, 0, 2, 0] + np.random.default_rng(1).normal(size=42)
    assert logme_score(codes, values) == pytest.approx(evidence(codes, values), abs=1e-6)
    both = np.column_stack([values, codes[:, 0] ** 2])
    parts = [logme_score(codes, column) for column in both.T]
    assert logme_score(codes, both) == pytest.approx(np.mean(parts))


def test_logme_of_wide_real_codes_is_a_gaussian_density(real):
    """With more numbers than images, by the marginal density of the labels itself."""
    codes, y = real[0].astype(float), (real[1] == real[1][0]).astype(float)
    kernel = codes @ codes.T

    def negative(logs):
        covariance = np.exp(logs[0]) * np.eye(60) + np.exp(logs[1]) * kernel
        return -multivariate_normal(cov=covariance, allow_singular=False).logpdf(y) / 60

    starts = [(np.log(0.1), s - np.log(np.trace(kernel) / 60)) for s in (-4.0, 0.0)]
    slow = -min(minimize(negative, s, method="Nelder-Mead", options={"fatol": 1e-12}).fun
                for s in starts)  # fmt: skip
    one = logme_score(codes, y, regression=True)
    assert one == pytest.approx(slow, abs=1e-5)
    assert one >= slow - 1e-7


def test_logme_of_labels_as_numbers_or_names(problem):
    codes, y = problem
    assert logme_score(codes, np.array(["a", "b", "c"])[y]) == logme_score(codes, y)
    assert logme_score(codes, y.astype(float)) == logme_score(codes, y)
    assert logme_score(codes, y, regression=True) != logme_score(codes, y)


@pytest.mark.parametrize("which", ["problem", "real"])
def test_h_score_is_the_trace_with_an_explicit_inverse(which, request):
    codes, y = request.getfixturevalue(which)
    codes = codes.astype(float)
    fit = LedoitWolf().fit(codes)
    means = np.array([codes[y == label].mean(0) for label in y])
    between = np.cov(means, rowvar=False, bias=True)
    slow = np.trace(np.linalg.inv(fit.covariance_) @ between) * (1 - fit.shrinkage_)
    assert h_score(codes, y) == pytest.approx(slow, rel=1e-6)


def test_h_score_without_shrinkage_in_closed_form():
    """One number, two classes: the share of the variance that lies between them."""
    codes = np.array([[0.0], [2.0], [4.0], [6.0]])
    assert h_score(codes, [0, 0, 1, 1], shrinkage=0.0) == pytest.approx(4 / 5)
    assert h_score(np.ones((4, 2)), [0, 0, 1, 1]) == 0
    with pytest.raises(ValueError, match="must be invertible"):
        h_score(np.random.default_rng(0).normal(size=(4, 9)), [0, 0, 1, 1], shrinkage=0.0)
    with pytest.raises(ValueError, match="shrinkage must be"):
        h_score(codes, [0, 0, 1, 1], shrinkage=2.0)


def test_leep_by_loops_and_in_closed_form():
    rng = np.random.default_rng(0)
    theta, y = rng.dirichlet(np.ones(4), size=12), np.repeat([0, 1, 2], 4)
    total = 0.0
    for row, label in zip(theta, y, strict=True):
        p = 0.0
        for z in range(4):
            joint = sum(theta[i, z] for i in range(12) if y[i] == label) / 12
            p += joint / (theta[:, z].sum() / 12) * row[z]
        total += np.log(p)
    assert leep_score(theta, y) == pytest.approx(total / 12)
    assert leep_score(np.eye(3)[y], y) == pytest.approx(0)
    # Outputs that say nothing leave the shares of the classes.
    assert leep_score(np.full((12, 5), 0.2), y) == pytest.approx(-np.log(3))


def test_leep_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"sum to 1 in each row, but row 1 sums to 1\.5"):
        leep_score([[0.5, 0.5], [1, 0.5], [1, 0]], [0, 0, 1])


def test_nce_in_closed_form():
    y = ["a", "a", "b", "b"]
    assert nce_score([7, 7, 9, 9], y) == pytest.approx(0)
    assert nce_score([1, 1, 1, 1], y) == pytest.approx(-np.log(2))
    # One source class holds a, b; the other b only: 2/3 log 1/3 of ...
    expected = (2 / 4) * np.log(2 / 3) + (1 / 4) * np.log(1 / 3)
    assert nce_score([1, 1, 1, 2], y) == pytest.approx(expected)
    # Hard outputs: LEEP is NCE.
    source = np.array([0, 1, 1, 2, 2, 0])
    labels = [0, 0, 1, 1, 1, 0]
    assert leep_score(np.eye(3)[source], labels) == pytest.approx(nce_score(source, labels))


def slow_rate(rows, eps):
    n, width = rows.shape
    return 0.5 * np.log(np.linalg.det(np.eye(width) + rows.T @ rows / (n * eps)))


def test_transrate_is_the_difference_of_rates(problem):
    codes, y = problem
    rows = codes - codes.mean(0)
    slow = slow_rate(rows, 0.1) - np.mean([slow_rate(rows[y == c], 0.1) for c in range(3)])
    assert transrate_score(codes, y, eps=0.1, scale=False) == pytest.approx(slow)
    rows /= np.sqrt((rows**2).sum(1).mean())
    slow = slow_rate(rows, 1e-4) - np.mean([slow_rate(rows[y == c], 1e-4) for c in range(3)])
    assert transrate_score(codes, y) == pytest.approx(slow)
    wide = np.random.default_rng(0).normal(size=(42, 50))  # the other product
    rows = wide - wide.mean(0)
    slow = slow_rate(rows, 1.0) - np.mean([slow_rate(rows[y == c], 1.0) for c in range(3)])
    assert transrate_score(wide, y, eps=1.0, scale=False) == pytest.approx(slow)


def test_cv_score_is_the_accuracy_of_a_pipeline_of_scikit_learn(real):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, y = real
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=1000))
    hits = []
    for learn, test in StratifiedKFold(3, shuffle=True, random_state=0).split(codes, y):
        hits.append(probe.fit(codes[learn], y[learn]).score(codes[test], y[test]))
    assert cv_score(codes, y, cv=3) == pytest.approx(np.mean(hits))
    values = codes[:, 0] + 0.5
    assert cv_score(codes, values) > 0.5  # of regression


@pytest.mark.parametrize("score", BY_CODES)
def test_informative_codes_score_above_random_ones(score, real):
    codes, y = real
    rng = np.random.default_rng(0)
    others = codes[rng.permutation(len(codes))]  # those of other images
    assert score(codes, y) > score(others, y)
    if score is not transrate_score:  # whose value for wide noise is large, as its page says
        assert score(codes, y) > score(rng.normal(size=codes.shape), y)


@pytest.mark.parametrize("score", BY_CODES)
def test_neither_order_nor_names_nor_scale_count(score, problem):
    codes, y = problem
    value = score(codes, y)
    order = np.random.default_rng(1).permutation(len(y))
    if score is not cv_score:  # folds depend on the order
        assert score(codes[order], y[order]) == pytest.approx(value, rel=1e-6)
    assert score(codes, 5 - y) == pytest.approx(value, rel=1e-6)
    assert score(1000 * codes, y) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("score", [logme_score, h_score, transrate_score])
def test_rotations_do_not_count(score, problem):
    codes, y = problem
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    assert score(codes @ turn, y) == pytest.approx(score(codes, y), rel=1e-6)


@pytest.mark.parametrize("score", [*BY_CODES, leep_score])
@pytest.mark.parametrize(
    ("codes", "y", "message"),
    [
        ([[0.5, 0.5]] * 4, [1, 1, 1, 1], "at least 2 classes"),
        ([[0.5, 0.5]] * 4, ["a", "b", "c", "d"], "at least 2 images"),
        ([[0.5, 0.5]] * 4, ["a", "b", "b", None], r"y\[3\] is missing"),
        ([[0.5, np.nan]] * 4, [1, 1, 0, 0], "contains NaN"),
        ([[0.5, 0.5]] * 4, [1, 1, 0], "inconsistent numbers of samples"),
        ([0.5] * 4, [1, 1, 0, 0], "Expected 2D array"),
    ],
)
def test_bad_input_is_an_error(score, codes, y, message):
    with pytest.raises(ValueError, match=message):
        score(codes, np.array(y, dtype=object) if None in y else y)


def test_cross_validation_names_the_classes_of_one_image(problem):
    y = problem[1].astype(str)
    y[0] = "alone"
    with pytest.raises(ValueError, match=r"these have one: \['alone'\]"):
        cv_score(problem[0], y)


@pytest.mark.parametrize("score", BY_CODES)
def test_codes_that_are_all_alike_say_nothing(score, problem):
    y = problem[1]
    assert np.isfinite(score(np.zeros((42, 3)), y))
    assert score(np.zeros((42, 6)), y) < score(*problem)
