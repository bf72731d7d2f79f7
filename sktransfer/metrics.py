"""How good masks and boxes are, as functions and as scorers for ``scoring=``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer

from .exceptions import InputError, shown
from .inputs import Boxes, as_boxes, as_masks

__all__ = [
    "ap50_scorer",
    "ap_coco_scorer",
    "average_precision_boxes",
    "mean_iou_score",
    "mean_iou_scorer",
]


def mean_iou_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[Any] | np.ndarray | None = None,
    unlabeled: Any = None,
    average: str | None = "macro",
    sample_weight: Any = None,
) -> float | np.ndarray:
    """Intersection over union of masks, pooled over the pixels of all images.

    For each class, the number of pixels that truth and prediction both give it, divided by the
    number that at least one of them gives it, over all images together; then the mean over classes
    (section 5 of [1]_). It is :func:`sklearn.metrics.jaccard_score` of all pixels in a row.

    Parameters
    ----------
    y_true : array of shape (n_images, height, width), list of arrays, or files
        Masks in any form that :class:`~sktransfer.PixelClassifier` takes.
    y_pred : array of shape (n_images, height, width), list of arrays, or files
        Masks of the same sizes, as ``predict`` gives them.
    labels : list or None, default=None
        The classes that count; None is all that occur in `y_true` or `y_pred`. Pixels of other
        classes still count as errors of these.
    unlabeled : object, default=None
        The label of pixels in `y_true` that nobody labelled: they are left out. So is NaN.
    average : {"macro", "micro", "weighted"} or None, default="macro"
        The mean over classes; of all classes together (sum of intersections over sum of unions);
        weighted by pixels in `y_true`; or, if None, the value of each class, NaN of those that
        occur nowhere.
    sample_weight : array-like of shape (n_images,) or None, default=None
        How much the pixels of each image count.

    Returns
    -------
    score : float, or ndarray of shape (n_classes,) if ``average=None``
        Between 0 and 1. Classes that occur neither in `y_true` nor in `y_pred` are left out of
        means. In the order of `labels`, or sorted.

    Raises
    ------
    InputError
        If there are not as many masks, one cannot be read, sizes differ, or labels are words in
        one and numbers in the other; says which mask.

    Warns
    -----
    UndefinedMetricWarning
        If there is no labelled pixel of any class: the score is NaN.

    See Also
    --------
    sklearn.metrics.jaccard_score : The same for a label for each sample.

    References
    ----------
    .. [1] M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman (2010). The
       PASCAL visual object classes (VOC) challenge. IJCV 88.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.metrics import mean_iou_score
    >>> truth = np.array([[[0, 0], [1, 1]]])
    >>> mean_iou_score(truth, [[[0, 1], [1, 1]]], average=None).round(2).tolist()
    [0.5, 0.67]
    >>> round(mean_iou_score(truth, [[[0, 1], [1, 1]]]), 2)
    0.58
    """
    _check_average(average, ("macro", "micro", "weighted"))
    truth = as_masks(y_true, None, "y_true")
    predicted = as_masks(y_pred, len(truth), "y_pred")
    weights = _weights(sample_weight, len(truth))
    counts = _Counts()
    for index in range(len(truth)):
        one, other = truth.open(index), predicted.open(index)
        if one.shape != other.shape:
            raise InputError(
                f"Masks of y_true and y_pred must have one size, but {truth.label(index)} has "
                f"{one.shape[0]}×{one.shape[1]} pixels (height × width) and "
                f"{predicted.label(index)} {other.shape[0]}×{other.shape[1]}."
            )
        keep = _is_labelled(one, unlabeled)
        if keep is not None:
            one, other = one[keep], other[keep]
        counts.add(one, other, weights[index])
    classes = counts.classes() if labels is None else _given_labels(labels)
    both, of_truth, of_any = (counts.of(kind, classes) for kind in ("both", "truth", "any"))
    iou = np.divide(both, of_any, out=np.full(len(classes), np.nan), where=of_any > 0)
    if average is None:
        return iou
    if not of_any.any() or (average == "weighted" and not of_truth.any()):
        _warn_undefined("There is no labelled pixel of any class", "Mean IoU")
        return float("nan")
    if average == "micro":
        return float(both.sum() / of_any.sum())
    if average == "weighted":
        return float(np.nansum(iou * of_truth) / of_truth.sum())
    return float(np.nanmean(iou))


class _Counts:
    """Pixels of each class: in the truth, in the prediction, and in both."""

    def __init__(self) -> None:
        self._of: dict[str, dict[Any, float]] = {"both": {}, "truth": {}, "prediction": {}}
        self._kind: str | None = None

    def add(self, truth: np.ndarray, predicted: np.ndarray, weight: float) -> None:
        """Count the pixels of one image."""
        for what, labels in (
            ("truth", truth),
            ("prediction", predicted),
            ("both", truth[truth == predicted] if self._comparable(truth, predicted) else truth),
        ):
            for label, n in zip(*_histogram(labels), strict=True):
                self._of[what][label] = self._of[what].get(label, 0.0) + weight * n

    def classes(self) -> np.ndarray:
        """All labels, in order."""
        return np.array(sorted({*self._of["truth"], *self._of["prediction"]}))

    def of(self, what: str, classes: np.ndarray) -> np.ndarray:
        """Pixels of some classes; "any" is in truth or prediction."""
        if what == "any":
            each = [self.of(one, classes) for one in ("truth", "prediction", "both")]
            return each[0] + each[1] - each[2]
        return np.array([self._of[what].get(one, 0.0) for one in classes.tolist()])

    def _comparable(self, truth: np.ndarray, predicted: np.ndarray) -> bool:
        """Numpy says of words and numbers that none are equal, which would be a score of 0."""
        kinds = ["str" if one.dtype.kind == "U" else "numbers" for one in (truth, predicted)]
        self._kind = self._kind or kinds[0]
        if kinds != [self._kind] * 2:
            raise InputError(
                f"Labels of y_true and y_pred must be of one kind, but y_true holds {self._kind} "
                f"and others are {next(one for one in kinds if one != self._kind)}."
            )
        return True


def _histogram(labels: np.ndarray) -> tuple[list[Any], list[int]]:
    """Labels that occur, and how often; NaN is none."""
    if labels.dtype.kind == "f":
        labels = labels[~np.isnan(labels)].astype(np.int64)
    if labels.dtype.kind in "biu" and labels.size:
        low, high = int(labels.min()), int(labels.max())
        if high - low < max(labels.size, 256):  # many times as fast as to sort them
            counts = np.bincount(labels.ravel().astype(np.int64) - low)
            known = np.flatnonzero(counts)
            return (known + low).tolist(), counts[known].tolist()
    values, counts = np.unique(labels, return_counts=True)
    return values.tolist(), counts.tolist()


def _is_labelled(labels: np.ndarray, unlabeled: Any) -> np.ndarray | None:
    """Which pixels count; None for all."""
    keep = None if labels.dtype.kind != "f" else ~np.isnan(labels)
    if unlabeled is None or unlabeled != unlabeled:
        return keep
    if isinstance(unlabeled, str) != (labels.dtype.kind == "U"):
        return keep
    known = labels != unlabeled
    return known if keep is None else keep & known


def _given_labels(labels: Any) -> np.ndarray:
    found = np.asarray(labels)
    if found.ndim != 1 or len({*found.tolist()}) != len(found) or not len(found):
        raise InputError(f"labels= must be a list of different labels, got {shown(labels)}.")
    return found


def _weights(sample_weight: Any, n: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n)
    found = np.asarray(sample_weight, np.float64)
    if found.shape != (n,) or not (found >= 0).all():
        raise InputError(
            f"sample_weight= must be a number of at least 0 for each of {n} images, got "
            f"{shown(found.tolist())}."
        )
    return found


def _check_average(average: str | None, known: tuple[str, ...]) -> None:
    if average is not None and average not in known:
        names = ", ".join(f'"{one}"' for one in known)
        raise ValueError(f"average= must be {names} or None, got {shown(average)}.")


def _warn_undefined(why: str, what: str) -> None:
    warnings.warn(f"{why}: {what} is not defined, and NaN.", UndefinedMetricWarning, stacklevel=3)


# Boxes.


# As COCO has it: recalls at which precision is read, thresholds, and boxes of a class in an image.
_RECALLS = np.linspace(0, 1, 101)
_COCO = np.linspace(0.5, 0.95, 10)
_MOST = 100


def average_precision_boxes(
    y_true: Any,
    y_pred: Any,
    *,
    iou: float | str = 0.5,
    average: str | None = "macro",
    labels: Sequence[Any] | np.ndarray | None = None,
) -> float | np.ndarray:
    """Average precision of boxes, as COCO defines it.

    For each class, predictions of all images are taken by falling score, those with one score in
    the order of images. Each is right if its intersection over union with a box of its class in
    its image is at least `iou`, and that box is not another's yet; of several it takes the one
    that it covers best. The score is the mean of 101 precisions, at recalls from 0 to 1, each the
    best precision at that recall or a higher one [1]_.

    Parameters
    ----------
    y_true : list, Series or object array of length n_images
        Dicts of ``"boxes"`` (k, 4), x1, y1, x2, y2 in pixels, and ``"labels"`` (k,); or arrays
        (k, 4) of one class.
    y_pred : list, Series or object array of length n_images
        Dicts that hold ``"scores"`` (k,) as well, as ``predict`` gives them.
    iou : float in (0, 1] or "coco", default=0.5
        What a prediction must reach; 0.5 gives what is called AP50. "coco" is the mean over 0.50,
        0.55, ..., 0.95, which asks for precise boxes.
    average : {"macro"} or None, default="macro"
        The mean over classes, or the value of each.
    labels : list or None, default=None
        The classes that count; None is all that occur in `y_true` or `y_pred`.

    Returns
    -------
    score : float, or ndarray of shape (n_classes,) if ``average=None``
        Between 0 and 1. NaN for classes without a box in `y_true`, which the mean leaves out. In
        the order of `labels`, or sorted.

    Raises
    ------
    InputError
        If there are not as many images, boxes are none, or predictions have no scores; says which.

    Warns
    -----
    UndefinedMetricWarning
        If `y_true` holds no box of these classes at all: the score is NaN.

    See Also
    --------
    sklearn.metrics.average_precision_score : Of scores of single samples, and without
        interpolation.

    Notes
    -----
    An image without boxes counts: what is predicted there is wrong. Of one class in one image the
    100 predictions with the highest scores count, as in COCO's own code, with which the values
    agree. Boxes touch where x2 of one is x1 of the other; there is no pixel more.

    References
    ----------
    .. [1] T.-Y. Lin, M. Maire, S. Belongie, J. Hays, P. Perona, D. Ramanan, P. Dollár, C. L.
       Zitnick (2014). Microsoft COCO: common objects in context. ECCV. Its evaluation code,
       pycocotools, says the rest.

    Examples
    --------
    >>> from sktransfer.metrics import average_precision_boxes
    >>> truth = [{"boxes": [[0, 0, 10, 10]], "labels": ["cell"]}, []]
    >>> found = [{"boxes": [[0, 0, 10, 9]], "labels": ["cell"], "scores": [0.8]},
    ...          {"boxes": [[5, 5, 9, 9]], "labels": ["cell"], "scores": [0.9]}]
    >>> round(average_precision_boxes(truth, found), 2)  # the surest one is wrong
    0.5
    >>> round(average_precision_boxes(truth, found, iou="coco"), 2)  # 8 of 10 thresholds or 9
    0.45
    """
    _check_average(average, ("macro",))
    thresholds = _thresholds(iou)
    truth = as_boxes(y_true, None, "y_true")
    predicted = as_boxes(y_pred, len(truth), "y_pred")
    for boxes in (truth, predicted):
        boxes.check_corners()
    predicted.check_scored()
    known = _union(truth, predicted)
    classes = known if labels is None else _given_labels(labels)
    found = _Ranked(truth, predicted, known)
    by_class = dict(zip(known.tolist(), found.precisions(thresholds), strict=True))
    each = np.array([by_class.get(one, np.nan) for one in classes.tolist()], np.float64)
    if average is None:
        return each
    if np.isnan(each).all():
        _warn_undefined("y_true holds no box of any class", "Average precision")
        return float("nan")
    return float(np.nanmean(each))


def _thresholds(iou: float | str) -> np.ndarray:
    if isinstance(iou, str) and iou == "coco":
        return _COCO
    if not isinstance(iou, Real) or not 0 < iou <= 1:
        raise ValueError(f'iou= must be "coco" or a number in (0, 1], got {shown(iou)}.')
    return np.array([float(iou)])


def _union(truth: Boxes, predicted: Boxes) -> np.ndarray:
    each = [one for one in (truth, predicted) if len(one.labels)]
    kinds = {one.name: "str" if one.labels.dtype.kind == "U" else "numbers" for one in each}
    if len({*kinds.values()}) > 1:
        raise InputError(
            "Labels of y_true and y_pred must be of one kind, but y_true holds "
            f"{kinds['y_true']} and y_pred {kinds['y_pred']}."
        )
    return np.unique(np.concatenate([one.labels for one in each])) if each else np.empty(0, int)


class _Ranked:
    """Predictions by image, class and falling score, and what each can be matched with."""

    def __init__(self, truth: Boxes, predicted: Boxes, classes: np.ndarray):
        self._true_class = np.searchsorted(classes, truth.labels)
        self._n_classes, self._n_true = len(classes), len(truth.labels)
        own_class = np.searchsorted(classes, predicted.labels)
        images = predicted.images
        order = np.lexsort((-predicted.scores, own_class, images))  # stable
        group = np.stack([images[order], own_class[order]])
        new = np.append(True, (group[:, 1:] != group[:, :-1]).any(axis=0))[: len(order)]
        first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        rank = np.arange(len(order)) - first
        keep = rank < _MOST
        order, self._rank = order[keep], rank[keep]
        self._class, self._scores = own_class[order], predicted.scores[order]
        self._corners = predicted.corners[order]
        self._starts = np.searchsorted(images[order], np.arange(len(predicted) + 1))
        self._truth = truth

    def precisions(self, thresholds: np.ndarray) -> np.ndarray:
        """Average precision of each class, the mean over thresholds; NaN without truth."""
        right = self._matched(thresholds)
        found = np.full(self._n_classes, np.nan)
        n_true = np.bincount(self._true_class, minlength=self._n_classes)
        # By falling score; of one score by image, where they are by falling score already.
        order = np.lexsort((-self._scores, self._class))
        ends = np.searchsorted(self._class[order], np.arange(self._n_classes + 1))
        for number in np.flatnonzero(n_true):
            own = right[order[ends[number] : ends[number + 1]]]
            found[number] = _interpolated(own, n_true[number])
        return found

    def _matched(self, thresholds: np.ndarray) -> np.ndarray:
        """Which predictions are right at which threshold, (n_predicted, n_thresholds).

        In a group, an image and class, a box is taken by the first that it suits. Predictions of
        one rank are in different groups, so a rank is matched at once, at all thresholds.
        """
        thresholds = np.minimum(thresholds, 1 - 1e-10)  # 1 is hardly ever reached in floats
        parts = list(self._pairs(thresholds.min()))
        right = np.zeros((len(self._scores), len(thresholds)), bool)
        if not any(len(own) for own, _, _ in parts):
            return right
        own, other, overlap = (np.concatenate(part) for part in zip(*parts, strict=True))
        # The best first, of equals the last one: that is what COCO's code comes to.
        order = np.lexsort((-other, -overlap, own, self._rank[own]))
        own, other, overlap = own[order], other[order], overlap[order]
        taken = np.zeros((self._n_true, len(thresholds)), bool)
        ranks = self._rank[own]
        bounds = np.flatnonzero(np.append(True, ranks[1:] != ranks[:-1]))
        for start, stop in zip(bounds, np.append(bounds[1:], len(ranks)), strict=True):
            mine, theirs = own[start:stop], other[start:stop]
            may = (overlap[start:stop, None] >= thresholds) & ~taken[theirs]
            firsts = np.flatnonzero(np.append(True, mine[1:] != mine[:-1]))
            places = np.where(may, np.arange(len(mine))[:, None], len(mine))
            best = np.minimum.reduceat(places, firsts, axis=0)
            which, at = np.nonzero(best < len(mine))
            taken[theirs[best[which, at]], at] = True
            right[mine[firsts[which]], at] = True
        return right

    def _pairs(self, least: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Predictions and boxes of one image and class, and their IoU, of at least `least`."""
        for index in range(len(self._truth)):
            own = slice(self._starts[index], self._starts[index + 1])
            other = self._truth.of(index)
            if own.start == own.stop or other.start == other.stop:
                continue
            overlap = _iou(self._corners[own], self._truth.corners[other])
            same = self._class[own, None] == self._true_class[other]
            rows, columns = np.nonzero((overlap >= least) & same)
            yield rows + own.start, columns + other.start, overlap[rows, columns]


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m); 0 of two without area."""
    first, second = first[:, None], second[None]
    begin = np.maximum(first[..., :2], second[..., :2])
    end = np.minimum(first[..., 2:], second[..., 2:])
    both = np.prod(np.maximum(end - begin, 0), axis=-1)
    areas = [np.prod(one[..., 2:] - one[..., :2], axis=-1) for one in (first, second)]
    union = areas[0] + areas[1] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _interpolated(right: np.ndarray, n_true: int) -> float:
    """Mean precision at 101 recalls of predictions (n, n_thresholds), by falling score."""
    if not len(right):
        return 0.0
    hits = np.cumsum(right, axis=0)
    precision = hits / np.arange(1, len(right) + 1)[:, None]
    best = np.maximum.accumulate(precision[::-1])[::-1]
    total = 0.0
    for recall, column in zip((hits / n_true).T, best.T, strict=True):
        places = np.searchsorted(recall, _RECALLS)
        total += column[places[places < len(column)]].sum()
    return float(total / (len(_RECALLS) * right.shape[1]))


def mean_iou_scorer(estimator: Any, X: Any, y: Any, **options: Any) -> float:
    """`mean_iou_score` of what an estimator predicts, for ``scoring=``.

    Parameters
    ----------
    estimator : object
        Fitted. Pixels with the label that its `unlabeled` names are left out, as in its `score`;
        also of one in a pipeline or search.
    X : array, list or table
        Images, as `estimator` takes them.
    y : array, list or column
        Masks, as :func:`mean_iou_score` takes them.
    **options : dict
        As :func:`mean_iou_score` has them.

    Returns
    -------
    score : float
        From 0 to 1.

    See Also
    --------
    mean_iou_score : The score itself.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktransfer import PixelClassifier
    >>> from sktransfer.metrics import mean_iou_scorer
    >>> cross_val_score(PixelClassifier(), X, masks, scoring=mean_iou_scorer)  # doctest: +SKIP
    """
    fitted = getattr(estimator, "best_estimator_", estimator)
    fitted = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
    options.setdefault("unlabeled", getattr(fitted, "unlabeled", None))
    return float(mean_iou_score(y, estimator.predict(X), **options))


ap50_scorer = make_scorer(average_precision_boxes)
ap_coco_scorer = make_scorer(average_precision_boxes, iou="coco")
