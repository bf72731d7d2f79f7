"""Curves over the epochs of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
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
    best_epoch : int or None, default=None
        The best by what was held out, which is marked.
    title : str, default="Training"
        Stands above a figure that is made here.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes
        One for each panel.
    lines_ : list of list of matplotlib.lines.Line2D
        The curves of each panel; those that are the same are one line, with all their names.

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

    def __init__(
        self,
        *,
        epochs: np.ndarray,
        curves: dict[str, dict[str, np.ndarray]],
        best_epoch: int | None = None,
        title: str = "Training",
    ):
        self.epochs, self.curves = epochs, curves
        self.best_epoch, self.title = best_epoch, title

    @classmethod
    def from_estimator(cls, estimator: Any, *, axes: Any = None) -> TrainingCurveDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : FineTuneClassifier or FineTuneRegressor
            Fitted; or a pipeline that ends with one, or a search whose best is one.
        axes : sequence of matplotlib Axes, default=None
            One for each panel; None makes a figure.

        Returns
        -------
        display : TrainingCurveDisplay

        Raises
        ------
        TypeError
            If it has no history, since nothing was trained in epochs.
        """
        estimator = getattr(estimator, "best_estimator_", estimator)
        estimator = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_"):
            raise TypeError(
                "estimator must have a history of training, as FineTuneClassifier and its like "
                f"have, but {type(estimator).__name__} is not trained in epochs and has none."
            )
        return cls.from_history(
            estimator.history_,
            axes=axes,
            best_epoch=getattr(estimator, "best_epoch_", None),
            title=f"Training of {type(estimator).__name__} ({estimator.backbone_.name})",
        )

    @classmethod
    def from_history(
        cls,
        history: Any,
        *,
        axes: Any = None,
        best_epoch: int | None = None,
        title: str = "Training",
    ) -> TrainingCurveDisplay:
        """Draw a history.

        Parameters
        ----------
        history : skorch.history.History
        axes : sequence of matplotlib Axes, default=None
        best_epoch : int, default=None
            The best by what was held out, which is marked.
        title : str, default="Training"
            Stands above a figure that is made here.

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
        curves = {panel: found for panel, found in panels.items() if found}
        return cls(epochs=epochs, curves=curves, best_epoch=best_epoch, title=title).plot(axes)

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
        new = axes is None
        axes = _new_axes(len(self.curves)) if new else axes
        self.axes_ = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(self.axes_) != len(self.curves):
            raise ValueError(
                f"axes= must hold one for each of {', '.join(self.curves)}, got {len(self.axes_)}."
            )
        self.lines_ = [
            self._draw(ax, panel, curves)
            for ax, (panel, curves) in zip(self.axes_, self.curves.items(), strict=True)
        ]
        self.figure_ = self.axes_[0].figure if len(self.axes_) else None
        if new and self.figure_ is not None:
            self.figure_.suptitle(self.title)
        return self

    def _draw(self, ax: Any, panel: str, curves: dict[str, np.ndarray]) -> list[Any]:
        lines = [
            ax.plot(self.epochs, values, label=name, marker=".")[0]
            for name, values in _distinct(curves)
        ]
        ax.set(xlabel="epoch", ylabel=panel)
        ax.xaxis.get_major_locator().set_params(integer=True)
        if panel == "learning rate":
            if all((values > 0).all() for values in curves.values()):
                ax.set_yscale("log")
        else:
            if self.best_epoch is not None:
                label = f"best epoch ({self.best_epoch})"
                ax.axvline(self.best_epoch, color="0.5", linestyle="--", zorder=0, label=label)
            _widen(ax, curves, largest=1.0 if panel == "accuracy" else None)
        ax.legend()
        return lines


def _distinct(curves: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Curves with their names; those that lie on each other are one."""
    found: list[tuple[list[str], np.ndarray]] = []
    for name, values in curves.items():
        same = next((names for names, one in found if np.array_equal(one, values, True)), None)
        if same is None:
            found.append(([name], values))
        else:
            same.append(name)
    return [
        (", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}", values)
        for names, values in found
    ]


# Less of an accuracy than that is noise, which would look like a mountain range.
_LEAST = 0.1


def _widen(ax: Any, curves: dict[str, np.ndarray], largest: float | None) -> None:
    """Losses from zero on, where none is negative; of accuracies at least a tenth."""
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    if not len(values):
        return
    if largest is None:
        if values.min() >= 0:
            ax.set_ylim(bottom=0)
        return
    low = min(values.min(), largest - _LEAST)
    high = max(values.max(), low + _LEAST)
    margin = 0.05 * (high - low)
    ax.set_ylim(max(low - margin, -margin), high + margin)


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
