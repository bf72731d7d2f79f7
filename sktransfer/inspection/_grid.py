"""Images in a grid: what there is, and what an estimator is most wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InputError, shown
from ._answers import Answers, answers_of
from ._examples import (
    Names,
    cells,
    draw,
    images_of,
    items_of,
    name_of_label,
    names_of_classes,
    opened_images,
    thumbnail,
    title_of,
)

__all__ = ["ImageGridDisplay", "WorstErrorsDisplay"]


class ImageGridDisplay:
    """Some of many images, those of each class in turn, with their labels.

    Make it with :meth:`from_images`.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, 3), uint8
        Those that are shown, small; None is one that cannot be read.
    indices : ndarray of int
        Which these are.
    labels : list or None, default=None
        Their labels.
    n_images : int
        How many there are in all.
    display_labels : dict or sequence, default=None
        Names of labels.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_shown,)

    See Also
    --------
    EmbeddingMapDisplay : All images, alike ones side by side.
    image_facts : Their size, light, colour and sharpness.

    Examples
    --------
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import ImageGridDisplay
    >>> photos = load_cifar10_sample()
    >>> display = ImageGridDisplay.from_images(photos, n_images=20)
    >>> len(display.axes_), len(set(display.labels))
    (20, 10)
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray | None],
        indices: np.ndarray,
        labels: Sequence[Any] | None = None,
        n_images: int,
        display_labels: Names = None,
    ):
        self.images, self.indices, self.labels = images, indices, labels
        self.n_images, self.display_labels = n_images, display_labels

    @classmethod
    def from_images(
        cls,
        X: Any,
        y: Any = None,
        *,
        n_images: int = 16,
        order: str = "lot",
        random_state: Any = 0,
        value_range: Any = "auto",
        axes: Any = None,
        display_labels: Names = None,
    ) -> ImageGridDisplay:
        """Draw some images, by lot as many of each class, or the first.

        Parameters
        ----------
        X : array, list or table of images, or Bunch
            As :class:`~sktransfer.CNNCodes` takes them; or what
            :func:`~sktransfer.load_image_folder` returned, with labels and their names.
        y : array-like of shape (n_images,), default=None
            Labels; None is none.
        n_images : int, default=16
            How many are shown at most.
        order : {"lot", "given"}, default="lot"
            By lot, those of each class in turn; or the first, as they are given.
        random_state : int, RandomState or None, default=0
            Draws the lots.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        axes : array of matplotlib Axes, default=None
            One for each image that is shown; None makes a figure.
        display_labels : dict or sequence, default=None
            Names of labels, by label or by number.

        Returns
        -------
        display : ImageGridDisplay

        Raises
        ------
        InputError
            If `X` is not a collection of images, or there are not as many labels.
        """
        if isinstance(X, Bunch):
            y = X.get("target") if y is None else y
            display_labels = X.get("target_names") if display_labels is None else display_labels
            X = X.data
        _check_number(n_images)
        if order not in ("lot", "given"):
            raise ValueError(f"order= must be 'lot' or 'given', got {shown(repr(order))}.")
        images = images_of(X, value_range)
        labels = None if y is None else _as_labels(y, len(images))
        indices = np.arange(len(images))
        if order == "lot":
            indices = check_random_state(random_state).permutation(len(images))
            indices = indices if labels is None else _in_turn(indices, labels)
        indices = indices[:n_images]
        return cls(
            images=[thumbnail(images, int(one)) for one in indices],
            indices=indices,
            labels=None if labels is None else [labels[one] for one in indices],
            n_images=len(images),
            display_labels=display_labels,
        ).plot(axes)

    def plot(self, axes: Any = None) -> ImageGridDisplay:
        """Draw the images.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            One for each image that is shown; None makes a figure.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes as images.
        """
        self.axes_ = cells(axes, len(self.images), type(self).__name__, columns=6, size=(1.7, 2))
        self.figure_ = self.axes_[0].figure
        some = len(self.images)
        told = f"{some} images" if some == self.n_images else f"{some} of {self.n_images} images"
        title_of(self.figure_, axes, told)
        for number, (ax, image, index) in enumerate(
            zip(self.axes_, self.images, self.indices, strict=True)
        ):
            title = f"image {index}"
            if self.labels is not None:
                title = name_of_label(self.labels[number], self.display_labels)
            draw(ax, image, title)
        return self


class WorstErrorsDisplay:
    """Images whose true label is least probable to an estimator, the worst first.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, 3), uint8
        Those that are shown, small; None is one that cannot be read.
    indices : ndarray of int
        Which these are.
    y_true, y_pred : list
        Their labels or values, and those that are predicted; of several tags a list each.
    losses : ndarray of shape (n_shown,)
        Of probabilities the negative logarithm of that of the true label, of several tags their
        mean; of scores by how much the largest other one exceeds that of the true label; of labels
        1 for wrong ones; of values their absolute error.
    told : list of str
        What is said of each image beside its labels.
    display_labels : dict or sequence, default=None
        Names of labels.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_shown,)

    See Also
    --------
    SaliencyDisplay : Why an estimator says so.

    Notes
    -----
    Many of the worst errors are labels that are wrong. Of images that an estimator was fitted on it
    says little: take images that were held out, or the predictions of
    :func:`sklearn.model_selection.cross_val_predict`.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_predict
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import WorstErrorsDisplay
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=96), LogisticRegression())
    >>> found = cross_val_predict(pipe, X[:60], y[:60], cv=3, method="predict_proba")
    >>> display = WorstErrorsDisplay.from_predictions(X[:60], y[:60], found)
    >>> bool(display.losses[0] >= display.losses[-1])
    True
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray | None],
        indices: np.ndarray,
        y_true: Sequence[Any],
        y_pred: Sequence[Any],
        losses: np.ndarray,
        told: Sequence[str],
        display_labels: Names = None,
    ):
        self.images, self.indices, self.y_true, self.y_pred = images, indices, y_true, y_pred
        self.losses, self.told, self.display_labels = losses, told, display_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, value_range: Any = "auto", **options: Any
    ) -> WorstErrorsDisplay:
        """Predict, and draw the images that the estimator is most wrong about.

        Parameters
        ----------
        estimator : object
            Fitted; `predict_proba` is asked, else `decision_function`, else `predict`.
        X : images
            As `estimator` takes them; such as it was not fitted on.
        y : array-like of shape (n_images,) or (n_images, n_tags)
            What is true of them.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, where the estimator does not know itself.
        **options : dict
            `n_images`, `axes` and `display_labels` of :meth:`from_predictions`.

        Returns
        -------
        display : WorstErrorsDisplay
        """
        images = items_of(estimator, X, value_range)
        told = answers_of(estimator)(X)
        kind = {"probability": "probabilities", "score": "scores", "value": "values"}[told.unit]
        return cls._of(images, y, told, kind, **options)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_pred: Any,
        *,
        classes: Any = None,
        kind: str = "auto",
        n_images: int = 12,
        value_range: Any = "auto",
        axes: Any = None,
        display_labels: Names = None,
    ) -> WorstErrorsDisplay:
        """Draw the images whose predictions are most wrong.

        Parameters
        ----------
        X : array, list or table of images
            As :class:`~sktransfer.CNNCodes` takes them.
        y_true : array-like of shape (n_images,) or (n_images, n_tags)
            Labels, tags of 0 and 1, or values.
        y_pred : array-like of shape (n_images,), (n_images, n_classes) or (n_images, n_tags)
            Probabilities or scores with a column for each class or tag, or labels, or values.
        classes : array-like of shape (n_classes,), default=None
            What the columns are of, as `classes_` of the estimator; None is the sorted labels of
            `y_true`, all of which must be there then.
        kind : {"auto", "probabilities", "scores", "labels", "values"}, default="auto"
            What `y_pred` holds. "auto" takes rows that sum to 1, and numbers of tags within 0 and
            1, for probabilities, other tables for scores, floats in one column for values, and all
            else for labels.
        n_images : int, default=12
            How many are shown at most.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        axes : array of matplotlib Axes, default=None
            One for each image that is shown; None makes a figure.
        display_labels : dict or sequence, default=None
            Names of labels, by label or by number.

        Returns
        -------
        display : WorstErrorsDisplay

        Raises
        ------
        InputError
            If there are not as many images as labels and predictions.
        ValueError
            If the columns are not those of the classes.
        """
        kinds = ("auto", "probabilities", "scores", "labels", "values")
        if kind not in kinds:
            raise ValueError(f"kind= must be one of {kinds}, got {shown(repr(kind))}.")
        found = np.asarray(y_pred)
        images = opened_images(X, len(found), value_range)
        truth = np.asarray(y_true)
        kind = _kind_of(truth, found) if kind == "auto" else kind
        if kind in ("labels", "values") and found.ndim == 1:
            found = found[:, None]
        if kind in ("labels", "values") or truth.ndim == 2:
            targets = list(range(found.shape[1]))
        else:
            targets = np.unique(truth).tolist() if classes is None else np.asarray(classes).tolist()
            if len(targets) != found.shape[1]:
                raise ValueError(
                    f"classes= must name the {found.shape[1]} columns of y_pred, got "
                    f"{len(targets)} labels. Pass classes=estimator.classes_."
                )
        told = Answers(found, targets, kind)
        return cls._of(
            images, truth, told, kind, n_images=n_images, axes=axes, display_labels=display_labels
        )

    @classmethod
    def _of(
        cls, images: Any, y: Any, told: Answers, kind: str, *, n_images: int = 12,
        axes: Any = None, display_labels: Names = None,
    ) -> WorstErrorsDisplay:  # fmt: skip
        _check_number(n_images)
        truth = np.asarray(y)
        if len(truth) != len(images):
            raise InputError(f"y must have one entry for each of {len(images)}, got {len(truth)}.")
        if truth.ndim == 1 and kind in ("probabilities", "scores"):
            display_labels = names_of_classes(display_labels, told.targets)
        losses, found, words = _judged(truth, told, kind)
        unknown = np.flatnonzero(np.isnan(losses))
        if len(unknown):
            raise InputError(
                f"y and y_pred must be known, image {unknown[0]} and {len(unknown) - 1} more have "
                "NaN alone. Leave them out."
            )
        indices = np.argsort(-losses, kind="stable")[:n_images]
        if kind == "labels":
            indices = indices[losses[indices] > 0]
            if not len(indices):
                raise InputError("y_pred has no error: every label is as in y_true.")
        return cls(
            images=[thumbnail(images, int(one)) for one in indices],
            indices=indices,
            y_true=[truth.tolist()[one] for one in indices],
            y_pred=[found.tolist()[one] for one in indices],
            losses=losses[indices],
            told=[words[one] for one in indices],
            display_labels=display_labels,
        ).plot(axes)

    def plot(self, axes: Any = None) -> WorstErrorsDisplay:
        """Draw the images; where the prediction is right after all the title is green.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            One for each image that is shown; None makes a figure.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes as images.
        """
        self.axes_ = cells(axes, len(self.images), type(self).__name__, size=(2.6, 3))
        self.figure_ = self.axes_[0].figure
        title_of(self.figure_, axes, "Worst errors")
        each = zip(
            self.axes_, self.images, self.indices, self.y_true, self.y_pred, self.told, strict=True
        )
        for ax, image, index, true, predicted, told in each:
            title = (
                f"image {index}\n{self._name(true)}, predicted {self._name(predicted)}\n{told}"
                if true != predicted
                else f"image {index}\n{self._name(true)}\n{told}"
            )
            font = {"color": "tab:green"} if true == predicted else {}
            draw(ax, image, title.rstrip(), **font)
        return self

    def _name(self, label: Any) -> str:
        if isinstance(label, list):  # tags
            tags = [name_of_label(n, self.display_labels) for n, one in enumerate(label) if one]
            return " + ".join(tags) or "none"
        if isinstance(label, float):
            return f"{label:.4g}"
        return name_of_label(label, self.display_labels)


def _kind_of(truth: np.ndarray, found: np.ndarray) -> str:
    if found.ndim == 1:
        return "values" if found.dtype.kind == "f" and truth.dtype.kind in "fiu" else "labels"
    within = found.dtype.kind == "f" and bool((found >= 0).all() and (found <= 1).all())
    if truth.ndim == 2:
        return "probabilities" if within else "scores"
    return "probabilities" if within and np.allclose(found.sum(1), 1, atol=1e-3) else "scores"


def _judged(
    truth: np.ndarray, told: Answers, kind: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Losses, what is predicted, and what else is told, of all images."""
    scores = told.scores
    if kind in ("labels", "values"):
        flat = scores[:, 0] if truth.ndim == 1 else scores
        if kind == "labels":
            wrong = flat != truth
            wrong = wrong if wrong.ndim == 1 else wrong.any(1)
            return wrong.astype(float), flat, [""] * len(truth)
        errors = np.abs(flat - truth)
        errors = errors if errors.ndim == 1 else errors.mean(1)
        return errors, flat, [f"off by {one:.4g}" for one in errors]
    if truth.ndim == 2:
        return _judged_tags(truth, scores, kind)
    known = {label: column for column, label in enumerate(told.targets)}
    for label in truth.tolist():
        if label not in known:
            raise ValueError(
                f"y must hold labels of {shown(told.targets)}, got {shown(repr(label))}."
            )
    columns = np.array([known[label] for label in truth.tolist()], np.intp)
    every = np.arange(len(truth))
    own = scores[every, columns]
    found = np.array(told.targets, object)[scores.argmax(axis=1)]
    if kind == "probabilities":
        losses = -np.log(np.clip(own, 1e-15, 1))
        return losses, found, [f"probability {one:.2g}" for one in own]
    others = scores.astype(float).copy()
    others[every, columns] = -np.inf
    losses = others.max(axis=1) - own
    return losses, found, [f"score {one:.2f}" for one in own]


def _judged_tags(
    truth: np.ndarray, scores: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    if truth.shape != scores.shape:
        raise ValueError(
            f"y and y_pred must have one column for each tag, got {truth.shape[1]} and "
            f"{scores.shape[1]}."
        )
    truth = truth.astype(float)
    if kind == "probabilities":
        right = np.where(truth == 1, scores, 1 - scores)
        each = -np.log(np.clip(right, 1e-15, 1))
        found = scores > 0.5
    else:
        each = np.where(truth == 1, -scores, scores)
        found = scores > 0
    # A tag that is not known counts nowhere.
    known = ~np.isnan(truth)
    with np.errstate(invalid="ignore"):
        losses = np.where(known, each, 0).sum(axis=1) / known.sum(axis=1)
    return losses, found.astype(int), [f"loss {one:.2g}" for one in losses]


def _check_number(n_images: int) -> None:
    if n_images < 1:
        raise ValueError(f"n_images= must be at least 1, got {n_images}.")


def _as_labels(y: Any, n: int) -> list[Any]:
    labels = np.asarray(y).tolist()
    if len(labels) != n:
        raise InputError(f"y must have a label for each of {n} images, got {len(labels)}.")
    return [tuple(one) if isinstance(one, list) else one for one in labels]


def _in_turn(lots: np.ndarray, labels: list[Any]) -> np.ndarray:
    """The first of each class, then the second of each, classes sorted."""
    seen: dict[Any, int] = {}
    turns = []
    for one in lots:
        turns.append(seen.get(labels[one], 0))
        seen[labels[one]] = turns[-1] + 1
    ordered = sorted(seen, key=lambda label: (str(type(label)), label))
    rank = {label: number for number, label in enumerate(ordered)}
    order = sorted(range(len(lots)), key=lambda place: (turns[place], rank[labels[lots[place]]]))
    return lots[order]
