"""Images in rows, what is true of them beside what is predicted: what masks and boxes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._optional import import_optional, import_pyplot
from ..exceptions import InputError, shown
from ..inputs import Images, as_images

ORDERS = ("worst", "best", "given")


def chosen(scores: np.ndarray, n_images: int, order: str) -> np.ndarray:
    """Numbers of the images to show; those without a score come last.

    Parameters
    ----------
    scores : ndarray of shape (n_images,)
    n_images : int
        At most so many.
    order : {"worst", "best", "given"}
    """
    if order not in ORDERS:
        raise ValueError(f"order= must be {', '.join(ORDERS)}, got {shown(order)}.")
    if n_images < 1:
        raise ValueError(f"n_images= must be at least 1, got {n_images}.")
    if order == "given":
        return np.arange(len(scores))[:n_images]
    signed = scores if order == "worst" else -scores
    return np.argsort(signed, kind="stable")[:n_images]  # NaN is last


def opened_images(X: Any, n: int, value_range: Any) -> Images:
    """Images to be drawn, as many as there are answers."""
    images = as_images(X, value_range=value_range)
    if len(images) != n:
        raise InputError(f"X must hold an image for each of {n} answers, got {len(images)}.")
    return images


class Grid:
    """Axes for some images in rows, truth and prediction in columns, and colours of classes.

    Parameters
    ----------
    axes : array of Axes or None
        One for each cell, in any shape; None makes a figure.
    display : MaskDisplay or BoxDisplay
        Whose images, answers, classes and scores are drawn.
    display_labels : mapping or None
        Names of labels.
    """

    def __init__(self, axes: Any, display: Any, display_labels: Mapping[Any, str] | None):
        self._display, classes, what = display, display.classes, type(display).__name__
        truth = {} if display.y_true is None else {"truth": display.y_true}
        self._sides = {**truth, "prediction": display.y_pred}
        n_rows, n_columns = len(display.images), len(self._sides)
        if axes is None:
            plt = import_pyplot(what)
            size = (4 * n_columns, 3.2 * n_rows)
            axes = plt.subplots(
                n_rows, n_columns, figsize=size, squeeze=False, layout="constrained"
            )[1]
        found = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(found) != n_rows * n_columns:
            raise ValueError(
                f"axes= must hold {n_rows * n_columns}, {n_columns} for each of {n_rows} images, "
                f"got {len(found)}."
            )
        self.axes = found.reshape(n_rows, n_columns)
        self.figure = self.axes[0, 0].figure
        self._names = display_labels or {}
        colormap = import_optional("matplotlib", what, "plot").colormaps
        few = colormap["tab10" if len(classes) <= 10 else "tab20"]
        many = colormap["hsv"]
        self.colours = {
            label: few(n) if len(classes) <= 20 else many(n / len(classes))
            for n, label in enumerate(classes)
        }

    def name(self, label: Any) -> str:
        """What a label is called."""
        return str(self._names.get(label, label))

    def cells(self, measure: str) -> Iterator[tuple[Any, Any]]:
        """Draw image after image; gives the axes, and what is to be drawn over it."""
        display, scored = self._display, len(self._sides) > 1
        for row, (index, score) in enumerate(zip(display.indices, display.scores, strict=True)):
            for column, (side, answers) in enumerate(self._sides.items()):
                told = f", {measure} {score:.2f}" if scored and side == "prediction" else ""
                ax = self.axes[row, column]
                ax.imshow(display.images[row])
                ax.set(xticks=[], yticks=[])
                ax.set_title(f"{side} of image {index}{told}", fontsize="medium")
                yield ax, answers[row]

    def legend(self, labels: Sequence[Any]) -> None:
        """A legend of labels outside of the images."""
        patches = import_optional("matplotlib.patches", "A legend", "plot")
        handles = [
            patches.Patch(color=self.colours[one], label=self.name(one)) for one in labels
        ]
        if handles:
            self.figure.legend(handles=handles, loc="outside right upper")
