"""What is drawn is the history, the masks and the boxes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.inspection import BoxDisplay, MaskDisplay, TrainingCurveDisplay
from sktransfer.metrics import mean_iou_score

pytest.importorskip("matplotlib").use("Agg")
QUICK = {"image_size": 32, "max_epochs": 3, "random_state": 0, "early_stopping": True}


def test_curves(thirty):
    clf = FineTuneClassifier(**QUICK, trainable=1).fit(*thirty)
    display = TrainingCurveDisplay.from_estimator(clf)
    assert list(display.curves) == ["loss", "accuracy", "learning rate"]
    loss, accuracy, rates = display.lines_
    assert [line.get_label() for line in loss] == ["training", "validation"]
    np.testing.assert_array_equal(loss[0].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(loss[0].get_ydata(), clf.history_[:, "train_loss"])
    np.testing.assert_array_equal(loss[1].get_ydata(), clf.history_[:, "valid_loss"])
    np.testing.assert_array_equal(accuracy[1].get_ydata(), clf.history_[:, "valid_acc"])
    assert [line.get_label() for line in rates] == ["head", "blocks.6"]
    assert display.best_epoch == clf.best_epoch_
    assert display.figure_._suptitle.get_text().startswith("Training of FineTuneClassifier (")
    np.testing.assert_array_equal(rates[1].get_ydata(), clf.history_[:, "lr blocks.6"])


def test_curves_show_something():
    epochs = np.arange(1, 5)
    curves = {
        "loss": {"training": np.array([1.0, 0.5, 0.4, 0.3])},
        "accuracy": {"training": np.array([0.9945, 0.999, 0.998, 1.0])},
        "learning rate": {
            "head": np.full(4, 1e-3),
            "blocks.6": np.full(4, 1e-4),
            "blocks.5": np.full(4, 1e-4),
            "blocks.4": np.full(4, 1e-4),
        },
    }
    display = TrainingCurveDisplay(epochs=epochs, curves=curves, best_epoch=3, title="A fit")
    display.plot()
    assert display.figure_._suptitle.get_text() == "A fit"
    loss, accuracy, rates = display.axes_
    assert loss.get_ylim()[0] == 0
    low, high = accuracy.get_ylim()
    assert low < 0.9 and 1 < high < 1.1  # not a mountain range of half a percent
    names = [[one.get_text() for one in ax.get_legend().get_texts()] for ax in display.axes_]
    assert names == [
        ["training", "best epoch (3)"], ["training", "best epoch (3)"],
        ["head", "blocks.6 to blocks.4"],
    ]  # fmt: skip
    assert len(rates.lines) == 2
    marked = [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == "--"]
    assert marked == [3]


def test_axes_are_those_given(thirty):
    import matplotlib.pyplot as plt

    model = FineTuneRegressor(**QUICK, trainable="head").fit(*thirty)
    axes = plt.subplots(1, 2)[1]
    display = TrainingCurveDisplay.from_estimator(model, axes=axes)
    assert list(display.curves) == ["loss", "learning rate"]
    assert display.axes_[0] is axes[0] and display.figure_ is axes[0].figure
    with pytest.raises(ValueError, match="one for each of loss, learning rate, got 1"):
        display.plot(axes[0])


def test_refuses_what_is_not_fitted():
    with pytest.raises(NotFittedError):
        TrainingCurveDisplay.from_estimator(FineTuneClassifier())
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    with pytest.raises(NotFittedError):
        TrainingCurveDisplay.from_estimator(pipe)
    pipe.fit(np.arange(6.0)[:, None], [0, 1] * 3)
    with pytest.raises(TypeError, match="LogisticRegression is not trained in epochs"):
        TrainingCurveDisplay.from_estimator(pipe)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sktransfer\[plot\]"):
        TrainingCurveDisplay(epochs=np.arange(1), curves={"loss": {}}).plot()


# Masks and boxes.


@pytest.fixture
def scene():
    """Four images of two sizes with masks; the prediction of 2 is worst, then that of 0."""
    rng = np.random.default_rng(0)
    sizes = [(20, 30), (20, 30), (16, 12), (20, 30)]
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    truth = [np.zeros(size, int) for size in sizes]
    for one in truth:
        one[4:12, 2:8] = 7
    found = [one.copy() for one in truth]
    found[0][4:8] = 0
    found[2][:] = 0
    return images, truth, found


def test_masks_the_worst_first(scene):
    images, truth, found = scene
    display = MaskDisplay.from_predictions(images, truth, found, n_images=3, background=0)
    assert display.indices.tolist() == [2, 0, 1] and display.classes == [0, 7]
    own = [mean_iou_score([truth[i]], [found[i]]) for i in (2, 0, 1)]
    np.testing.assert_allclose(display.scores, own)
    assert display.axes_.shape == (3, 2)
    for row, i in enumerate(display.indices):
        for column, masks in enumerate((truth, found)):
            image, layer = (one.get_array() for one in display.axes_[row, column].images)
            np.testing.assert_array_equal(image, images[i])
            np.testing.assert_array_equal(layer[..., 3] > 0, masks[i] == 7)
    assert display.axes_[0, 1].get_title() == f"prediction of image 2, IoU {own[0]:.2f}"
    assert display.axes_[0, 0].get_title() == "truth of image 2"
    labels = [one.get_text() for one in display.figure_.legends[0].get_texts()]
    assert labels == ["7"]
    display.figure_.canvas.draw()


def test_masks_that_nobody_labelled_have_no_colour(scene):
    images, truth, found = scene
    display = MaskDisplay.from_predictions(
        images, truth, found, unlabeled=0, order="given", n_images=9, display_labels={7: "road"}
    )
    assert display.indices.tolist() == [0, 1, 2, 3] and display.classes == [7]
    layer = display.axes_[1, 0].images[1].get_array()
    np.testing.assert_array_equal(layer[..., 3] > 0, truth[1] == 7)
    assert [one.get_text() for one in display.figure_.legends[0].get_texts()] == ["road"]


def test_predictions_alone(scene):
    images, _, found = scene
    display = MaskDisplay.from_predictions(images, None, found, n_images=2)
    assert display.axes_.shape == (2, 1) and display.y_true is None
    assert display.axes_[1, 0].get_title() == "prediction of image 1"


class Answers:
    """An estimator that answers what it was given."""

    unlabeled, value_range = 9, (0, 255)

    def __init__(self, answers):
        self.answers = answers

    def predict(self, X):
        return self.answers


def test_an_estimator_says_what_it_leaves_out(scene):
    images, truth, found = scene
    truth[0][0, 0] = 9
    display = MaskDisplay.from_estimator(Answers(found), images, truth, n_images=1)
    assert display.unlabeled == 9 and display.classes == [0, 7]
    assert BoxDisplay.from_estimator(Answers([[]] * 4), images).indices.tolist() == [0, 1, 2, 3]


BOXES = [
    [
        {"boxes": [[2, 3, 10, 12]], "labels": ["a"]},
        [],
        [],
        {"boxes": [[1, 1, 5, 5]], "labels": ["b"]},
    ],
    [
        {"boxes": [[2, 3, 10, 12], [0, 0, 4, 4]], "labels": ["a", "a"], "scores": [0.9, 0.1]},
        [],
        {"boxes": [[3, 3, 9, 9]], "labels": ["b"], "scores": [0.8]},
        {"boxes": [[1, 1, 5, 4], [7, 7, 9, 9]], "labels": ["b", "b"], "scores": [0.5, 0.6]},
    ],
]  # fmt: skip


def test_boxes_the_worst_first(scene):
    images = scene[0]
    display = BoxDisplay.from_predictions(images, *BOXES)
    assert display.indices.tolist() == [2, 3, 0, 1]
    np.testing.assert_allclose(display.scores, [0, 0.5, 1, 1])
    last = display.axes_[2]
    assert last[0].get_title() == "truth of image 0"
    assert last[1].get_title() == "prediction of image 0, AP 1.00"
    for ax in last:  # the second prediction is below min_score
        (patch,) = ax.patches
        assert (patch.get_xy(), patch.get_width(), patch.get_height()) == ((1.5, 2.5), 8, 9)
    assert [ax.texts[0].get_text() for ax in last] == ["a", "a 0.90"]
    colours = {ax.patches[0].get_edgecolor() for ax in (last[0], display.axes_[0, 1])}
    assert len(colours) == 2, "a class, a colour"
    display.figure_.canvas.draw()
    assert len(display.plot(min_score=0).axes_[2, 1].patches) == 2


def test_boxes_to_look_at(scene):
    display = BoxDisplay.from_predictions(scene[0], None, BOXES[0], n_images=1)
    assert display.axes_.shape == (1, 1) and len(display.axes_[0, 0].patches) == 1


def test_images_are_drawn_upright(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    mask = np.zeros((30, 20), int)
    for display in (
        MaskDisplay.from_predictions([tmp_path / "a.jpg"], None, [mask]),
        BoxDisplay.from_predictions([tmp_path / "a.jpg"], None, [[]]),
    ):
        assert display.images[0].shape == (30, 20, 3)


@pytest.mark.parametrize("kind", [MaskDisplay, BoxDisplay])
def test_what_does_not_fit_a_figure_is_named(kind, scene):
    import matplotlib.pyplot as plt

    images, truth, found = scene
    given = (truth, found) if kind is MaskDisplay else BOXES
    with pytest.raises(ValueError, match="an image for each of 4 answers, got 3"):
        kind.from_predictions(images[:3], *given)
    with pytest.raises(ValueError, match="order= must be worst"):
        kind.from_predictions(images, *given, order="random")
    with pytest.raises(ValueError, match="at least 1"):
        kind.from_predictions(images, *given, n_images=0)
    axes = plt.subplots(2, 2)[1]
    with pytest.raises(ValueError, match="axes= must hold 8, 2 for each of 4 images, got 4"):
        kind.from_predictions(images, *given, axes=axes)
    display = kind.from_predictions(images, *given, n_images=2, axes=axes)
    assert display.axes_[1, 0] is axes[1, 0] and display.figure_ is axes[0, 0].figure


def test_masks_of_other_images_are_refused(scene):
    images, _, found = scene
    with pytest.raises(ValueError, match="mask 2 of y_pred must be 20×30"):
        MaskDisplay.from_predictions([images[0]] * 4, None, found)


def test_many_classes_have_many_colours():
    labels = np.arange(30).reshape(1, 5, 6)
    display = MaskDisplay.from_predictions(np.zeros((1, 5, 6, 3), np.uint8), labels, labels)
    layer = display.axes_[0, 0].images[1].get_array().reshape(30, 4)
    assert len(np.unique(layer, axis=0)) == 30
