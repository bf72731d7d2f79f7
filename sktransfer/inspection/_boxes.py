"""Images with the boxes of what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._optional import import_optional
from ..inputs import Boxes, as_boxes
from ..metrics import average_precision_boxes
from ._examples import Grid, chosen, opened_images

__all__ = ["BoxDisplay"]


# With more boxes than that in an image, words would cover it.
_MOST_WORDS = 25


class BoxDisplay:
    """Images with their boxes, truth beside prediction, the worst first.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, 3), uint8
        Those that are shown.
    y_pred : list of dict
        ``"boxes"`` (k, 4), x1, y1, x2, y2 in pixels, ``"labels"`` (k,) and, if there are any,
        ``"scores"`` (k,).
    y_true : list of dict or None, default=None
        The same without scores.
    classes : list
        All labels there may be: each has a colour.
    indices : ndarray of int
        Which images these are.
    scores : ndarray of shape (n_shown,)
        Average precision of each image; NaN without a truth.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_shown, 2) or (n_shown, 1)
        A row for each image; without a truth it has one column.

    See Also
    --------
    MaskDisplay : The same for masks.
    sktransfer.metrics.average_precision_boxes : The score by which images are ordered.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import BoxDisplay
    >>> X = np.zeros((2, 40, 60, 3), np.uint8)
    >>> truth = [{"boxes": [[5, 5, 20, 20]], "labels": ["car"]}] * 2
    >>> found = [{"boxes": [[5, 5, 20, 19]], "labels": ["car"], "scores": [0.9]}, []]
    >>> display = BoxDisplay.from_predictions(X, truth, found)
    >>> display.indices.tolist(), display.scores.tolist()
    ([1, 0], [0.0, 1.0])
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_pred: Sequence[dict[str, np.ndarray]],
        y_true: Sequence[dict[str, np.ndarray]] | None = None,
        classes: Sequence[Any],
        indices: np.ndarray,
        scores: np.ndarray,
    ):
        self.images, self.y_pred, self.y_true = images, y_pred, y_true
        self.classes, self.indices, self.scores = classes, indices, scores

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, **options: Any) -> BoxDisplay:
        """Predict, and draw what is true beside what is predicted.

        Parameters
        ----------
        estimator : object
            Fitted; its ``predict`` gives boxes.
        X : images
            As `estimator` takes them.
        y : boxes or None, default=None
            What is true of them.
        **options : dict
            As :meth:`from_predictions` has them. `value_range` is that of the estimator if it is
            not given.

        Returns
        -------
        display : BoxDisplay
        """
        if hasattr(estimator, "value_range"):
            options.setdefault("value_range", estimator.value_range)
        return cls.from_predictions(X, y, estimator.predict(X), **options)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_pred: Any,
        *,
        n_images: int = 4,
        order: str = "worst",
        iou: float | str = 0.5,
        value_range: Any = "auto",
        axes: Any = None,
        min_score: float = 0.3,
        display_labels: Mapping[Any, str] | None = None,
    ) -> BoxDisplay:
        """Draw what is true beside what is predicted.

        Parameters
        ----------
        X : array, list of arrays, of files or of PIL images
            As :class:`~sktransfer.CNNCodes` takes them.
        y_true : list, Series or object array, or None
            What is true: dicts of ``"boxes"`` and ``"labels"``, or arrays (k, 4). None shows
            predictions alone, in the order given. To look at data without a model pass it as
            `y_pred`.
        y_pred : list, Series or object array
            What is predicted, as ``predict`` gives it.
        n_images : int, default=4
            How many images are shown at most.
        order : {"worst", "best", "given"}, default="worst"
            By average precision of single images, or as given. Of images without true boxes it is
            1 if none is predicted, else 0.
        iou : float or "coco", default=0.5
            What a box must overlap to be right, as for
            :func:`~sktransfer.metrics.average_precision_boxes`.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        axes : array of matplotlib Axes, default=None
            One for each image, two with a truth; None makes a figure.
        min_score : float, default=0.3
            Predictions of a lower score are not drawn; they count in the order.
        display_labels : dict or None, default=None
            Names of labels.

        Returns
        -------
        display : BoxDisplay

        Raises
        ------
        InputError
            If boxes are none, or there are not as many images.
        """
        found = as_boxes(y_pred, None, "y_pred")
        images = opened_images(X, len(found), value_range)
        truth = None if y_true is None else as_boxes(y_true, len(found), "y_true")
        scores = np.full(len(found), np.nan)
        if truth is not None:
            found.check_scored()
            scores = _scores(truth, found, iou)
        indices = chosen(scores, n_images, order)
        given = [found] if truth is None else [truth, found]
        display = cls(
            images=[np.asarray(images.open(int(i)).picture()) for i in indices],
            y_pred=[_of(found, int(i)) for i in indices],
            y_true=None if truth is None else [_of(truth, int(i)) for i in indices],
            classes=sorted({label for one in given for label in one.labels.tolist()}),
            indices=indices,
            scores=scores[indices],
        )
        return display.plot(axes, min_score=min_score, display_labels=display_labels)

    def plot(
        self,
        axes: Any = None,
        *,
        min_score: float = 0.3,
        display_labels: Mapping[Any, str] | None = None,
    ) -> BoxDisplay:
        """Draw the images.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            One for each image, two with a truth; None makes a figure.
        min_score : float, default=0.3
            Predictions of a lower score are not drawn.
        display_labels : dict or None, default=None
            Names of labels.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes as are needed.
        """
        grid = Grid(axes, self, display_labels)
        for ax, target in grid.cells("AP"):
            _draw(ax, target, grid, min_score)
        grid.legend(self.classes)
        self.figure_, self.axes_ = grid.figure, grid.axes
        return self


def _of(boxes: Boxes, index: int) -> dict[str, np.ndarray]:
    own = boxes.of(index)
    found = {"boxes": boxes.corners[own], "labels": boxes.labels[own]}
    scored = not np.isnan(boxes.scores[own]).any()
    return {**found, "scores": boxes.scores[own]} if scored else found


def _scores(truth: Boxes, found: Boxes, iou: float | str) -> np.ndarray:
    """Average precision of each image."""
    scores = np.array([float(own.start == own.stop) for own in map(found.of, range(len(found)))])
    for index in np.flatnonzero(np.diff(truth.starts)).tolist():
        scores[index] = average_precision_boxes([_of(truth, index)], [_of(found, index)], iou=iou)
    return scores


def _draw(ax: Any, target: dict[str, np.ndarray], grid: Grid, min_score: float) -> None:
    patches = import_optional("matplotlib.patches", "BoxDisplay", "plot")
    scores = target.get("scores", np.full(len(target["labels"]), np.nan))
    keep = ~(scores < min_score)  # NaN is not
    parts = [one[keep].tolist() for one in (target["boxes"], target["labels"], scores)]
    for (x1, y1, x2, y2), label, score in zip(*parts, strict=True):
        colour = grid.colours[label]
        # The centre of a pixel is a whole number in matplotlib, and its border in a box.
        corner = (x1 - 0.5, y1 - 0.5)
        ax.add_patch(
            patches.Rectangle(corner, x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5)
        )
        if keep.sum() <= _MOST_WORDS:
            words = grid.name(label) + (f" {score:.2f}" if score == score else "")
            ax.text(*corner, words, color="white", fontsize="x-small", va="bottom", clip_on=True,
                    bbox={"facecolor": colour, "edgecolor": "none", "pad": 1})  # fmt: skip
