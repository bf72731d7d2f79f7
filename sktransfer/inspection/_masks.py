"""Images with the masks of their pixels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from ..inputs import Images, Masks, as_masks, check_fits
from ..metrics import mean_iou_score
from ._examples import Grid, chosen, opened_images

__all__ = ["MaskDisplay"]


class MaskDisplay:
    """Images under their masks, truth beside prediction, the worst first.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, 3), uint8
        Those that are shown.
    y_pred : list of ndarray of shape (height, width)
        What is predicted of each.
    y_true : list of ndarray of shape (height, width) or None, default=None
        What is true of each.
    classes : list
        All labels there may be: each has a colour.
    indices : ndarray of int
        Which images these are.
    scores : ndarray of shape (n_shown,)
        Mean IoU of each image; NaN without a truth.
    unlabeled : object, default=None
        The label in `y_true` of pixels that nobody labelled.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_shown, 2) or (n_shown, 1)
        A row for each image; without a truth it has one column.

    See Also
    --------
    BoxDisplay : The same for boxes.
    sktransfer.metrics.mean_iou_score : The score by which images are ordered.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import MaskDisplay
    >>> X = np.zeros((3, 8, 8, 3), np.uint8)
    >>> truth = np.zeros((3, 8, 8), int)
    >>> truth[:, 2:5] = 1
    >>> found = truth.copy()
    >>> found[1] = 0
    >>> display = MaskDisplay.from_predictions(X, truth, found, n_images=2)
    >>> display.indices.tolist()  # the second image is the worst
    [1, 0]
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_pred: Sequence[np.ndarray],
        y_true: Sequence[np.ndarray] | None = None,
        classes: Sequence[Any],
        indices: np.ndarray,
        scores: np.ndarray,
        unlabeled: Any = None,
    ):
        self.images, self.y_pred, self.y_true = images, y_pred, y_true
        self.classes, self.indices, self.scores = classes, indices, scores
        self.unlabeled = unlabeled

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, **options: Any
    ) -> MaskDisplay:
        """Predict, and draw what is true beside what is predicted.

        Parameters
        ----------
        estimator : object
            Fitted; its ``predict`` gives masks.
        X : images
            As `estimator` takes them.
        y : masks or None, default=None
            What is true of them.
        **options : dict
            As :meth:`from_predictions` has them. `unlabeled` and `value_range` are those of the
            estimator if they are not given.

        Returns
        -------
        display : MaskDisplay
        """
        for name in ("unlabeled", "value_range"):
            if hasattr(estimator, name):
                options.setdefault(name, getattr(estimator, name))
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
        labels: Sequence[Any] | None = None,
        unlabeled: Any = None,
        value_range: Any = "auto",
        axes: Any = None,
        alpha: float = 0.5,
        background: Any = None,
        display_labels: Mapping[Any, str] | None = None,
    ) -> MaskDisplay:
        """Draw what is true beside what is predicted.

        Parameters
        ----------
        X : array, list of arrays, of files or of PIL images
            As :class:`~sktransfer.CNNCodes` takes them.
        y_true : masks or None
            What is true, in any form; None shows predictions alone, in the order given.
        y_pred : masks
            What is predicted, as ``predict`` gives them.
        n_images : int, default=4
            How many images are shown at most.
        order : {"worst", "best", "given"}, default="worst"
            By mean IoU of single images, or as given.
        labels : list or None, default=None
            The classes that count and have a colour; None is all that occur.
        unlabeled : object, default=None
            The label of pixels in `y_true` that nobody labelled: they count nowhere, and stay
            without colour.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        axes : array of matplotlib Axes, default=None
            One for each image, two with a truth; None makes a figure.
        alpha : float, default=0.5
            How much of the colours covers the image, 0 to 1.
        background : object, default=None
            A label that stays without colour; None is none.
        display_labels : dict or None, default=None
            Names of labels in the legend.

        Returns
        -------
        display : MaskDisplay

        Raises
        ------
        InputError
            If masks and images do not belong to each other; says which.
        """
        found = as_masks(y_pred, None, "y_pred")
        images = opened_images(X, len(found), value_range)
        truth = None if y_true is None else as_masks(y_true, len(found), "y_true")
        given = [found] if truth is None else [truth, found]
        scores = np.full(len(found), np.nan)
        if truth is not None:
            scores = _scores(truth, found, labels, unlabeled)
        indices = chosen(scores, n_images, order)
        classes = _classes(given, unlabeled) if labels is None else list(labels)
        parts = [[_fitting(masks, int(i), images) for i in indices] for masks in given]
        display = cls(
            images=[np.asarray(images.open(int(i)).picture()) for i in indices],
            y_pred=parts[-1],
            y_true=None if truth is None else parts[0],
            classes=classes,
            indices=indices,
            scores=scores[indices],
            unlabeled=unlabeled,
        )
        return display.plot(
            axes, alpha=alpha, background=background, display_labels=display_labels
        )

    def plot(
        self,
        axes: Any = None,
        *,
        alpha: float = 0.5,
        background: Any = None,
        display_labels: Mapping[Any, str] | None = None,
    ) -> MaskDisplay:
        """Draw the images.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            One for each image, two with a truth; None makes a figure.
        alpha : float, default=0.5
            How much of the colours covers the image, 0 to 1.
        background : object, default=None
            A label that stays without colour; None is none.
        display_labels : dict or None, default=None
            Names of labels in the legend.

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
        coloured = [one for one in self.classes if one not in (background, self.unlabeled)]
        for ax, mask in grid.cells("IoU"):
            layer = np.zeros((*mask.shape, 4))
            for label in coloured:
                layer[mask == label] = (*grid.colours[label][:3], alpha)
            ax.imshow(layer, interpolation="nearest")
        grid.legend(coloured)
        self.figure_, self.axes_ = grid.figure, grid.axes
        return self


def _scores(
    truth: Masks, found: Masks, labels: Sequence[Any] | None, unlabeled: Any
) -> np.ndarray:
    """Mean IoU of each image; NaN where nothing is labelled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        options = {"labels": labels, "unlabeled": unlabeled}
        pairs = ((truth.one(i), found.one(i)) for i in range(len(truth)))
        return np.array([mean_iou_score(*pair, **options) for pair in pairs])


def _fitting(masks: Masks, index: int, images: Images) -> np.ndarray:
    labels = masks.open(index)
    check_fits(masks, index, labels, images)
    return labels


def _classes(given: Sequence[Masks], unlabeled: Any) -> list[Any]:
    found: set[Any] = set()
    for masks in given:
        for index in range(len(masks)):
            known = np.unique(masks.open(index))
            known = known[~np.isnan(known)].astype(np.int64) if known.dtype.kind == "f" else known
            found |= {*known.tolist()}
    return sorted(found - {unlabeled})
