"""Grids, worst errors, neighbours and maps show the images that they should."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import Bunch

from sktransfer import CNNCodes
from sktransfer.exceptions import InputError
from sktransfer.inspection import (
    EmbeddingMapDisplay,
    ImageGridDisplay,
    NeighboursDisplay,
    WorstErrorsDisplay,
)
from sktransfer.inspection._answers import answers_of
from sktransfer.inspection._examples import names_of_classes

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def images():
    """Twelve images, each of one grey of its own."""
    return np.repeat(np.arange(0, 240, 20), 8 * 9 * 3).reshape(12, 8, 9, 3).astype(np.uint8)


def greys(display) -> list[int]:
    return [int(one[0, 0, 0]) // 20 for one in display.images]


def titles(display) -> list[str]:
    return [ax.get_title() for ax in np.ravel(display.axes_)]


# Grids.


def test_each_class_is_shown(images):
    y = np.array(["a"] * 9 + ["b", "c", "c"])
    display = ImageGridDisplay.from_images(images, y, n_images=5)
    assert display.labels == ["a", "b", "c", "a", "c"]  # each class in turn, b has one
    assert [y[one] for one in display.indices] == display.labels
    assert greys(display) == display.indices.tolist() and titles(display) == display.labels
    assert display.figure_._suptitle.get_text() == "5 of 12 images"
    again = ImageGridDisplay.from_images(images, y, n_images=5)
    np.testing.assert_array_equal(again.indices, display.indices)
    other = ImageGridDisplay.from_images(images, y, n_images=5, random_state=1)
    assert other.indices.tolist() != display.indices.tolist()
    first = ImageGridDisplay.from_images(images, y, n_images=12, order="given")
    assert first.indices.tolist() == list(range(12))
    assert first.figure_._suptitle.get_text() == "12 images"
    with pytest.raises(ValueError, match="order= must be"):
        ImageGridDisplay.from_images(images, order="worst")


def test_bunches_bring_labels_and_names(images, tmp_path):
    bunch = Bunch(data=images, target=np.arange(12) % 2, target_names=np.array(["cat", "dog"]))
    display = ImageGridDisplay.from_images(bunch, n_images=4)
    assert titles(display) == ["cat", "dog", "cat", "dog"]
    no_file = [*images[:2], tmp_path / "absent.jpg"]
    display = ImageGridDisplay.from_images(no_file, n_images=3)
    assert display.images[display.indices.tolist().index(2)] is None
    assert sorted(titles(display)) == ["image 0", "image 1", "image 2"]
    with pytest.raises(InputError, match="a label for each of 12 images, got 3"):
        ImageGridDisplay.from_images(images, [1, 2, 3])
    with pytest.raises(ValueError, match="n_images= must be at least 1"):
        ImageGridDisplay.from_images(images, n_images=0)


def test_large_images_are_shown_small():
    display = ImageGridDisplay.from_images([np.zeros((300, 448, 3), np.uint8)])
    assert display.images[0].shape == (150, 224, 3)


# Worst errors.


def test_the_least_probable_first(images):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 12)
    y = np.array(["x", "y", "z"] * 4)
    display = WorstErrorsDisplay.from_predictions(images, y, probabilities, n_images=7)
    single = [
        log_loss([label], [row], labels=["x", "y", "z"])
        for label, row in zip(y, probabilities, strict=True)
    ]
    order = np.argsort(single)[::-1][:7]
    np.testing.assert_array_equal(display.indices, order)
    np.testing.assert_allclose(display.losses, np.array(single)[order])
    assert greys(display) == order.tolist()
    worst = order[0]
    predicted = "xyz"[probabilities[worst].argmax()]
    assert display.y_true[0] == y[worst] and display.y_pred[0] == predicted
    assert titles(display)[0].startswith(f"image {worst}\n{y[worst]}, predicted {predicted}\nprob")
    names = WorstErrorsDisplay.from_predictions(
        images, y, probabilities, n_images=1, display_labels={"x": "ex", "y": "why", "z": "zed"}
    )
    assert any(one in titles(names)[0] for one in ("ex,", "why,", "zed,"))


def test_scores_labels_values_and_tags(images):
    y = np.arange(12) % 2
    scores = np.stack([np.zeros(12), np.where(y == 1, 1.0, -1.0)], axis=1)
    scores[4, 1], scores[7, 1] = 5, -3
    display = WorstErrorsDisplay.from_predictions(images, y, scores, n_images=2)
    assert display.indices.tolist() == [4, 7] and display.losses.tolist() == [5, 3]
    labels = y.copy()
    labels[[3, 8]] = 1 - labels[[3, 8]]
    display = WorstErrorsDisplay.from_predictions(images, y, labels)
    assert display.indices.tolist() == [3, 8]
    with pytest.raises(InputError, match="no error"):
        WorstErrorsDisplay.from_predictions(images, y, y)
    values = y + np.r_[np.zeros(10), 0.5, -2]
    display = WorstErrorsDisplay.from_predictions(images, y.astype(float), values, n_images=2)
    assert display.indices.tolist() == [11, 10] and "off by 2" in titles(display)[0]
    tags = np.stack([y, 1 - y], axis=1).astype(float)
    found = np.where(tags == 1, 0.9, 0.1)
    found[6] = 0.8
    tags[6, 0] = np.nan
    display = WorstErrorsDisplay.from_predictions(
        images, tags, found, n_images=1, display_labels=["sun", "sea"]
    )
    # Of image 6 the second tag alone counts, which is there.
    assert display.indices.tolist() == [6]
    assert display.losses[0] == pytest.approx(-np.log(0.8))


def test_estimators_are_asked_what_they_can_tell(thirty):
    X, y = thirty
    codes = CNNCodes("resnet18", weights=None, image_size=32)
    sure = make_pipeline(codes, LogisticRegression()).fit(X[:15], y[:15])
    display = WorstErrorsDisplay.from_estimator(sure, X[15:], y[15:], n_images=3)
    own = sure.predict_proba(X[15:])
    own = own[np.arange(15), np.searchsorted(sure.classes_, y[15:])]
    np.testing.assert_allclose(display.losses, np.sort(-np.log(own))[::-1][:3])
    margins = make_pipeline(codes, StandardScaler(), LinearSVC()).fit(X[:15], y[:15])
    display = WorstErrorsDisplay.from_estimator(margins, X[15:], y[15:], n_images=15)
    wrong = display.losses > 0
    assert [t != p for t, p in zip(display.y_true, display.y_pred, strict=True)] == wrong.tolist()
    value = make_pipeline(codes, Ridge()).fit(X[:15], y[:15])
    display = WorstErrorsDisplay.from_estimator(value, X[15:], y[15:], n_images=1)
    assert display.losses[0] == pytest.approx(np.abs(value.predict(X[15:]) - y[15:]).max())
    with pytest.raises(ValueError, match="y must hold labels of"):
        WorstErrorsDisplay.from_estimator(sure, X[15:], [99] * 15)
    with pytest.raises(InputError, match="one entry for each of 15, got 3"):
        WorstErrorsDisplay.from_estimator(sure, X[15:], y[:3])
    with pytest.raises(ValueError, match="classes= must name the 2 columns"):
        WorstErrorsDisplay.from_predictions(X[:3], [1, 2, 3], np.full((3, 2), 0.5))


def test_answers_in_other_forms(images):
    y = np.array(list("ab" * 6), object)  # as of pandas
    found = np.full((12, 2), 0.5)
    display = WorstErrorsDisplay.from_predictions(images, y, found, n_images=2)
    assert display.y_true == ["a", "b"] and display.y_pred == ["a", "a"]
    found[3] = np.nan
    with pytest.raises(InputError, match="image 3 and 0 more have NaN"):
        WorstErrorsDisplay.from_predictions(images, y, found, kind="probabilities")
    # scikit-learn's forests give a list, with a column for each class of each tag.
    tags = np.stack([np.arange(12) % 2, np.zeros(12, int), np.ones(12, int)], axis=1)
    forest = RandomForestClassifier(5, random_state=0).fit(images.reshape(12, -1), tags)
    told = answers_of(forest)(images.reshape(12, -1))
    assert told.scores.shape == (12, 3)
    assert (told.scores[:, 1] == 0).all() and (told.scores[:, 2] == 1).all()
    forest.fit(images.reshape(12, -1), np.stack([np.arange(12) % 3, tags[:, 0]], axis=1))
    with pytest.raises(ValueError, match="one output at a time"):
        answers_of(forest)(images.reshape(12, -1))


# Neighbours.


def test_the_nearest_by_a_plain_loop(images):
    rng = np.random.default_rng(0)
    codes, known = rng.normal(size=(3, 5)), rng.normal(size=(9, 5))
    y = np.array(list("abcabcabc"))
    display = NeighboursDisplay.from_codes(
        images[:3], codes, images[3:], known, y, n_neighbors=4, display_labels={"a": "ah"}
    )
    for row, code in enumerate(codes):
        away = [1 - code @ one / np.linalg.norm(code) / np.linalg.norm(one) for one in known]
        order = np.argsort(away)[:4]
        np.testing.assert_array_equal(display.indices[row], order)
        np.testing.assert_allclose(display.distances[row], np.sort(away)[:4])
        assert display.labels[row] == y[order].tolist()
        shown = [int(one[0, 0, 0]) // 20 - 3 for one in display.neighbours[row]]
        assert shown == order.tolist()
    assert display.axes_.shape == (3, 5)
    assert "ah" in "".join(titles(display)) and titles(display)[0] == "image 0"
    some = NeighboursDisplay.from_codes(images[:3], codes, images[3:], known, n_images=2)
    np.testing.assert_array_equal(some.indices[:, :4], display.indices[:2])
    assert some.axes_.shape == (2, 6)
    few = NeighboursDisplay.from_codes(images[:1], codes[:1], images[3:5], known[:2])
    assert few.indices.shape == (1, 2)
    with pytest.raises(InputError, match="one label for each of 9"):
        NeighboursDisplay.from_codes(images[:3], codes, images[3:], known, y[:4])
    with pytest.raises(InputError, match="first of which is 1"):
        NeighboursDisplay.from_codes(
            images[:3], [[1.0], [np.nan], [2.0]], images[3:], np.ones((9, 1))
        )


def test_codes_of_estimators_and_pipelines(thirty):
    X, y = thirty
    codes = CNNCodes("resnet18", weights=None, image_size=32).fit(X)
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression()).fit(X, y)
    for estimator in (codes, pipe):
        display = NeighboursDisplay.from_estimator(estimator, X[:2], X, y, n_neighbors=1)
        assert display.indices.tolist() == [[0], [1]]  # it is its own nearest
        np.testing.assert_allclose(display.distances, 0, atol=1e-6)
    with pytest.raises(NotFittedError):
        NeighboursDisplay.from_estimator(clone(pipe), X[:2], X)
    with pytest.raises(TypeError, match="must have transform"):
        NeighboursDisplay.from_estimator(LogisticRegression(), X[:2], X)


# Maps.


def test_the_map_of_pca_is_pca(images):
    codes, y = make_blobs(12, n_features=6, centers=3, random_state=0)
    display = EmbeddingMapDisplay.from_codes(
        codes, y, images, method="pca", n_thumbnails=4, display_labels=["no", "one", "two"]
    )
    expected = PCA(2).fit_transform(codes)
    np.testing.assert_allclose(np.abs(display.positions), np.abs(expected), atol=1e-8)
    assert 1 <= len(display.thumbnails) <= 4
    for index, image in display.thumbnails.items():
        assert int(image[0, 0, 0]) // 20 == index
    assert [one.get_text() for one in display.ax_.get_legend().get_texts()] == ["no", "one", "two"]
    assert display.ax_.get_xlabel() == "principal component 1" and "12 items" in (
        display.ax_.get_title()
    )
    dots = np.concatenate([one.get_offsets() for one in display.ax_.collections])
    assert sorted(map(tuple, dots)) == sorted(map(tuple, display.positions))


def test_neighbours_stay_together():
    codes, y = make_blobs(45, n_features=20, centers=3, random_state=0)
    display = EmbeddingMapDisplay.from_codes(codes, y)
    assert display.method == "tsne" and not display.thumbnails
    away = np.linalg.norm(display.positions[:, None] - display.positions[None], axis=2)
    np.fill_diagonal(away, np.inf)
    assert (y[away.argmin(1)] == y).mean() > 0.95
    again = EmbeddingMapDisplay.from_codes(codes)
    np.testing.assert_array_equal(again.positions, display.positions)
    values = EmbeddingMapDisplay.from_codes(codes, np.linspace(0, 1, 45), method="pca")
    assert len(values.figure_.axes) == 2  # a bar of colours


def test_texts_are_refused_where_images_are_drawn():
    texts, y = ["a warm film", "dull and long", "a mess of a film"], [0, 1, 0]
    likely, codes = np.full((3, 2), 0.5), np.eye(3)
    for draw in (
        lambda: WorstErrorsDisplay.from_predictions(texts, y, likely),
        lambda: NeighboursDisplay.from_codes(texts, codes, texts, codes),
        lambda: EmbeddingMapDisplay.from_codes(codes, y, texts),
        lambda: ImageGridDisplay.from_images(texts),
    ):
        with pytest.raises(InputError, match=r"must be images.*got texts"):
            draw()


def test_names_of_classes_are_in_their_order(images):
    likely = np.tile([0.9, 0.1], (3, 1))
    kwargs = {"classes": ["cat", "dog"], "kind": "probabilities"}
    draw = WorstErrorsDisplay.from_predictions
    shown = draw(images[:3], ["dog"] * 3, likely, display_labels=["Felis", "Canis"], **kwargs)
    assert "Felis" in shown.axes_[0].get_title() and "Canis" in shown.axes_[0].get_title()
    for names in (["Felis"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="each of 2 classes in their order"):
            draw(images[:3], ["dog"] * 3, likely, display_labels=names, **kwargs)
    assert names_of_classes(["a", "b", "c"], [0, 2]) == {0: "a", 2: "c"}
    with pytest.raises(ValueError, match="2 names and the label 2"):
        ImageGridDisplay.from_images(images[:3], [0, 1, 2], display_labels=["a", "b"])
    with pytest.raises(ValueError, match="must be a dict"):
        ImageGridDisplay.from_images(images[:2], ["x", "y"], display_labels=["a", "b"])


def test_maps_that_cannot_be_drawn(monkeypatch, images):
    codes = np.random.default_rng(0).normal(size=(12, 3))
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"sktransfer\[umap\]"):
        EmbeddingMapDisplay.from_codes(codes, method="umap")
    with pytest.raises(ValueError, match="method= must be one of"):
        EmbeddingMapDisplay.from_codes(codes, method="isomap")
    with pytest.raises(InputError, match="at least 3 items, got 2"):
        EmbeddingMapDisplay.from_codes(codes[:2])
    with pytest.raises(InputError, match="an image for each of 12"):
        EmbeddingMapDisplay.from_codes(codes, None, images[:5])
    with pytest.raises(InputError, match="item 1 has NaN"):
        EmbeddingMapDisplay.from_codes(codes, [0.5, np.nan] + [1.0] * 10)
    assert (EmbeddingMapDisplay.from_codes(np.ones((12, 3))).positions == 0).all()
    one_column = EmbeddingMapDisplay.from_codes(codes[:, :1], method="pca")
    assert one_column.positions.shape == (12, 2)
    ax = matplotlib.pyplot.subplots()[1]
    assert EmbeddingMapDisplay.from_codes(codes, method="pca", ax=ax).ax_ is ax
