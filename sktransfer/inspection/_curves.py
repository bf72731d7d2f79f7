"""Curves over the epochs of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._optional import import_pyplot

__all__ = ["TrainingCurveDisplay"]


class TrainingCurveDisplay:
    """Losses, accuracies and learning rates over the epochs of a fit.

    Make it with :meth:`from_estimator`. What does not exist, such as the accuracy of a
    regression, has no panel.

    Parameters
    ----------
    epochs : ndarray of int
        Numbers of the epochs.
    curves : dict of str to dict of str to ndarray
        For each panel, ``"loss"``, ``"accuracy"`` or ``"learning rate"``, the curves by name;
        NaN where an epoch has no value.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes
        One for each panel.
    lines_ : list of list of matplotlib.lines.Line2D
        The curves of each panel.

    See Also
    --------
    sktransfer.FineTuneClassifier : Its `history_` is what is drawn.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import TrainingCurveDisplay
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> clf = FineTuneClassifier(trainable="head", image_size=32, max_epochs=2).fit(X[:40], y[:40])
    >>> display = TrainingCurveDisplay.from_estimator(clf)
    """

    def __init__(self, *, epochs: np.ndarray, curves: dict[str, dict[str, np.ndarray]]):
        self.epochs, self.curves = epochs, curves

    @classmethod
    def from_estimator(cls, estimator: Any, *, axes: Any = None) -> TrainingCurveDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : FineTuneClassifier or FineTuneRegressor
        axes : sequence of matplotlib Axes, default=None
            One for each panel; None makes a figure.

        Returns
        -------
        display : TrainingCurveDisplay
        """
        check_is_fitted(estimator, "history_")
        return cls.from_history(estimator.history_, axes=axes)

    @classmethod
    def from_history(cls, history: Any, *, axes: Any = None) -> TrainingCurveDisplay:
        """Draw a history.

        Parameters
        ----------
        history : skorch.history.History
        axes : sequence of matplotlib Axes, default=None

        Returns
        -------
        display : TrainingCurveDisplay
        """
        keys = {key: None for row in history for key in row}
        panels: dict[str, dict[str, np.ndarray]] = {"loss": {}, "accuracy": {}, "learning rate": {}}
        for key in keys:
            panel, name = _place(key)
            if panel is not None:
                values = [row.get(key, np.nan) for row in history]
                panels[panel][name] = np.array(values, dtype=float)
        epochs = np.array([row["epoch"] for row in history], dtype=int)
        return cls(epochs=epochs, curves={k: v for k, v in panels.items() if v}).plot(axes)

    def plot(self, axes: Any = None) -> TrainingCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            One for each panel; None makes a figure.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes as panels.
        """
        if axes is None:
            axes = _new_axes(len(self.curves))
        self.axes_ = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(self.axes_) != len(self.curves):
            raise ValueError(
                f"axes= must hold one for each of {', '.join(self.curves)}, got {len(self.axes_)}."
            )
        self.lines_ = []
        for ax, (panel, curves) in zip(self.axes_, self.curves.items(), strict=True):
            self.lines_.append(
                [ax.plot(self.epochs, y, label=name, marker=".")[0] for name, y in curves.items()]
            )
            ax.set(xlabel="epoch", ylabel=panel)
            ax.legend()
            ax.xaxis.get_major_locator().set_params(integer=True)
            if panel == "learning rate" and all((y > 0).all() for y in curves.values()):
                ax.set_yscale("log")
        self.figure_ = self.axes_[0].figure if len(self.axes_) else None
        return self


def _place(key: str) -> tuple[str | None, str]:
    """Panel and name of a key of the history."""
    for end, panel in (("_loss", "loss"), ("_acc", "accuracy")):
        if key.endswith(end):
            return panel, {"train": "training", "valid": "validation"}.get(
                key.removesuffix(end), key.removesuffix(end)
            )
    if key.startswith("lr "):
        return "learning rate", key.removeprefix("lr ")
    return None, key


def _new_axes(n_panels: int) -> Any:
    plt = import_pyplot("TrainingCurveDisplay")
    return plt.subplots(1, n_panels, figsize=(4 * n_panels, 3), layout="constrained")[1]
