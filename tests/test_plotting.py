"""The curves drawn are the history."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.plotting import TrainingCurveDisplay

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
    np.testing.assert_array_equal(rates[1].get_ydata(), clf.history_[:, "lr blocks.6"])


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


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sktransfer\[plot\]"):
        TrainingCurveDisplay(epochs=np.arange(1), curves={"loss": {}}).plot()
