"""Boxes: where the objects in an image are and what they are, in any form people have them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..exceptions import InputError, shown
from ._arrays import is_tensor
from ._collect import is_missing, name_of
from ._images import Images
from ._resize import ImagePreparation

__all__ = ["NO_BOX", "Boxes", "as_boxes", "bad_boxes", "check_boxes", "encode_boxes"]


# In the rows behind the last box of an image.
NO_BOX = -1

_FORMS = (
    'a list, Series or object array with an entry for each image: a dict {"boxes": (k, 4), '
    '"labels": (k,)}, or an array (k, 4) where there is one class; x1, y1, x2, y2 in pixels'
)
# Corners of boxes that say what they hold, as torchvision's do; of width and height, and centres.
_TO_CORNERS = {
    "XYXY": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "XYWH": np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "CXCYWH": np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]),
}


class Boxes:
    """The boxes of some images, one after the other; made by :func:`as_boxes`.

    Parameters
    ----------
    corners : ndarray of shape (n_boxes, 4), float64
        x1, y1, x2, y2 in pixels.
    labels : ndarray of shape (n_boxes,)
        Whole numbers, bool or str; 0 for all where none were given.
    scores : ndarray of shape (n_boxes,), float64
        NaN where none were given.
    counts : sequence of int
        How many boxes each image has.
    name : str
        What messages call them, such as ``y``.
    """

    def __init__(
        self,
        corners: np.ndarray,
        labels: np.ndarray,
        scores: np.ndarray,
        counts: Sequence[int],
        name: str = "y",
    ):
        self.corners, self.labels, self.scores = corners, labels, scores
        self.name = name
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.intp)]).astype(np.intp)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, index: int) -> slice:
        """Which boxes are those of an image."""
        return slice(self.starts[index], self.starts[index + 1])

    @property
    def images(self) -> np.ndarray:
        """The number of the image of each box, (n_boxes,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def label(self, box: int, source: str | None = None) -> str:
        """Name a box in messages, such as ``box 2 of y[5] (a.png)``."""
        image = int(self.images[box])
        where = f" ({shown(source)})" if source else ""
        return f"box {box - self.starts[image]} of {self.name}[{image}]{where}"

    def check_finite(self, source: Callable[[int], str | None] | None = None) -> None:
        """Check that corners are finite numbers.

        Parameters
        ----------
        source : callable or None
            The path of an image by its number, or None.

        Raises
        ------
        InputError
            If not; says which.
        """
        wrong = np.flatnonzero(~np.isfinite(self.corners).all(axis=1))
        if len(wrong):
            first = int(wrong[0])
            file = None if source is None else source(int(self.images[first]))
            raise InputError(
                f"Boxes must be finite numbers, but {self.label(first, file)} is "
                f"{shown_box(self.corners[first])}. Remove it, or find out where it comes from."
            )

    def check_scored(self) -> None:
        """Check that there is a score for each box.

        Raises
        ------
        InputError
            If not; says where the first is missing.
        """
        missing = np.flatnonzero(np.isnan(self.scores))
        if len(missing):
            raise InputError(
                f'{self.name} must hold "scores" beside "boxes", as predict gives them, but '
                f"{self.label(missing[0])} has none."
            )

    def check_corners(self) -> None:
        """Check that x1 <= x2 and y1 <= y2.

        Raises
        ------
        InputError
            If not; says which, and what the numbers look like.
        """
        wrong = np.flatnonzero(_is_reversed(self.corners))
        if len(wrong):
            raise InputError(
                "Boxes must be x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, but "
                f"{self.label(wrong[0])} is {shown_box(self.corners[wrong[0]])}, one of "
                f"{len(wrong)}. If they are x, y, width, height, make corners of them by "
                "boxes[:, 2:] += boxes[:, :2]; else fix or remove them."
            )


def shown_box(corners: np.ndarray) -> str:
    """Four numbers as a message shows them, such as ``[3, 4.5, 10, 12]``."""
    return f"[{', '.join(f'{one:.6g}' for one in corners)}]"


def _is_reversed(corners: np.ndarray) -> np.ndarray:
    return np.any(corners[:, 2:] < corners[:, :2], axis=1)


def as_boxes(
    y: Any,
    n: int | None = None,
    name: str = "y",
    source: Callable[[int], str | None] | None = None,
) -> Boxes:
    """Take anything that holds the boxes of images.

    Parameters
    ----------
    y : list, tuple, Series, object array or data frame with one column
        An entry for each image:

        - a dict of ``"boxes"`` (k, 4), ``"labels"`` (k,) and, of predictions, ``"scores"`` (k,);
          other keys, as torchvision's targets have them, are passed over;
        - an array (k, 4), if there is one class;
        - ``[]`` or (0, 4) for an image without boxes.

        Arrays, tensors and lists alike. Boxes of torchvision that say of which format they are
        (``tv_tensors.BoundingBoxes``) become corners.
    n : int or None
        How many images there are.
    name : str
        What messages call them.
    source : callable or None
        The path of an image by its number, or None, for messages.

    Raises
    ------
    InputError
        If it holds no boxes, or not of so many images; says of which image, and what to do.
    """
    items = _items_of(y, name)
    if n is not None and len(items) != n:
        raise InputError(
            f"{name} must hold an entry for each of {n} images, [] where there are no boxes, got "
            f"{len(items)}."
        )
    parts = [_Entry(item, f"{name}[{index}]") for index, item in enumerate(items)]
    filled = [one for one in parts if len(one.corners)]
    boxes = Boxes(
        np.concatenate([np.empty((0, 4)), *(one.corners for one in filled)]),
        _joined_labels(filled),
        np.concatenate([np.empty(0), *(one.scores for one in filled)]),
        [len(one.corners) for one in parts],
        name,
    )
    boxes.check_finite(source)
    return boxes


def _items_of(y: Any, name: str) -> Sequence[Any] | np.ndarray:
    if hasattr(type(y), "columns"):
        if len(y.columns) != 1:
            raise InputError(
                f"{name} must be one column with the boxes of each image, got a table of "
                f"{len(y.columns)} columns. Of a table with a row for each box make that by "
                "sktransfer.boxes_by_image(table)."
            )
        y = y[y.columns[0]]
    if isinstance(y, dict):
        raise InputError(
            f"{name} must be {_FORMS}; got one dict. If it is that of one image, pass [target]."
        )
    if is_tensor(y) or (hasattr(y, "__array__") and np.asarray(y).dtype != object):
        y = _as_numpy(y)
        if y.size and y.ndim != 3:
            raise InputError(
                f"{name} must be {_FORMS}; got one array of shape {y.shape}. If these are the "
                "boxes of one image, pass [boxes]; if each image has one, list(boxes[:, None])."
            )
    if not (hasattr(y, "__len__") and hasattr(y, "__getitem__")) or isinstance(y, (str, bytes)):
        raise InputError(f"{name} must be {_FORMS}; got {name_of(y)}.")
    return y.to_list() if hasattr(y, "to_list") else y  # a Series may have an index of its own


# What people call labels.
_MEANT = ("label", "category", "categories", "category_id", "class", "classes", "class_id", "names")


class _Entry:
    """Corners, labels (None if there are none) and scores of one image."""

    def __init__(self, item: Any, where: str):
        if is_missing(item):
            raise InputError(
                f"{where} is missing ({item!r}); it must be [] for an image without boxes, and "
                "images that were not labelled must be left out."
            )
        labels = scores = None
        boxes = item
        if isinstance(item, dict):
            if "boxes" not in item:
                raise InputError(
                    f'{where} must be a dict of "boxes" (k, 4) and "labels" (k,), got the keys '
                    f"{shown(list(item))}."
                )
            boxes, labels, scores = item["boxes"], item.get("labels"), item.get("scores")
            meant = [key for key in item if key in _MEANT]
            if labels is None and meant:
                raise InputError(
                    f'{where} must hold its labels by the key "labels", got {meant[0]!r}. Rename '
                    "it; leave labels out where there is one class."
                )
        self.where, self.corners = where, _corners(boxes, where)
        n = len(self.corners)
        self.labels = None if labels is None else _labels(labels, n, where)
        self.scores = np.full(n, np.nan) if scores is None else _scores(scores, n, where)


def _corners(boxes: Any, where: str) -> np.ndarray:
    found = _as_numpy(boxes)
    if found.size == 0 and found.shape[-1] in (0, 4):
        return np.empty((0, 4))
    if found.dtype == object and found.ndim == 2:  # as numbers in a column of objects
        try:
            found = found.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} must hold boxes of four numbers: {error}.") from error
    if found.ndim != 2 or found.shape[1] != 4 or found.dtype.kind not in "iuf":
        what = f"an array of shape {found.shape}" if found.ndim else name_of(boxes)
        if found.ndim == 2 and found.shape[1] == 4:
            what = f"{type(found.ravel().tolist()[0]).__name__}s"
        extra = ""
        if found.dtype == object and found.ndim == 1:
            what = "rows of different lengths"
            if any(isinstance(one, dict) for one in found):
                what = "dicts"
                extra = " Files of boxes are read by load_boxes, tables by boxes_by_image."
        if found.shape == (4,):
            extra = " Put the box into a list: [[x1, y1, x2, y2]]."
        elif found.ndim == 2 and found.shape[1] in (5, 6):
            extra = ' Labels and scores belong into a dict: {"boxes": …, "labels": …, "scores": …}.'
        if not found.ndim or (found.ndim == 2 and min(found.shape) > 6):
            extra = (
                " Labels of whole images are what FineTuneClassifier takes, masks what "
                "FineTuneSegmenter takes; files of boxes are read by load_boxes."
            )
        raise InputError(f"{where} must hold boxes (k, 4) of numbers, got {what}.{extra}")
    found = found.astype(np.float64)
    kind = getattr(boxes, "format", None)  # of torchvision
    if kind is not None:
        kind = getattr(kind, "value", kind)
        if kind not in _TO_CORNERS:
            raise InputError(
                f"{where} must hold boxes of the format {', '.join(_TO_CORNERS)}, got {kind}."
            )
        found = found @ _TO_CORNERS[kind]
    return found


def _labels(labels: Any, n: int, where: str) -> np.ndarray:
    found = _as_numpy(labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    _check_as_many("labels", found, n, where)
    if found.dtype.kind == "f" and (found == np.rint(found)).all():
        found = found.astype(np.int64)
    if found.dtype.kind not in "biuU" and n:
        kinds = {type(one).__name__ for one in found.tolist()}
        odd = [one for one in found.tolist() if is_missing(one)]
        what = f"{odd[0]!r}, which is a missing value" if odd else ", ".join(sorted(kinds))
        raise InputError(
            f"{where} must hold labels of one kind, whole numbers or str, got {what}."
        )
    return found


def _scores(scores: Any, n: int, where: str) -> np.ndarray:
    found = _as_numpy(scores)
    _check_as_many("scores", found, n, where)
    if n and (found.dtype.kind not in "iuf" or np.isnan(found).any()):
        raise InputError(f"{where} must hold scores that are numbers, got {shown(found.tolist())}.")
    return found.astype(np.float64)


def _check_as_many(what: str, found: np.ndarray, n: int, where: str) -> None:
    if found.size == n == 0:
        return
    if found.ndim != 1 or len(found) != n:
        got = f"{len(found)}" if found.ndim == 1 else f"an array of shape {found.shape}"
        raise InputError(f'{where} must hold as many "{what}" as "boxes", {n}, got {got}.')


def _joined_labels(filled: list[_Entry]) -> np.ndarray:
    if all(one.labels is None for one in filled):
        return np.zeros(sum(len(one.corners) for one in filled), np.int64)
    kinds = {"U": "str", "b": "bool"}
    first = next(one for one in filled if one.labels is not None)
    expected = kinds.get(first.labels.dtype.kind, "whole numbers")  # type: ignore[union-attr]
    for one in filled:
        if one.labels is None:
            raise InputError(f'{one.where} must hold "labels", as {first.where} does.')
        kind = kinds.get(one.labels.dtype.kind, "whole numbers")
        if kind != expected:
            raise InputError(
                f"Labels must be of one kind, but {one.where} holds {kind} and {first.where} "
                f"{expected}."
            )
    joined = np.concatenate([one.labels for one in filled])
    return joined.astype(np.int64) if joined.dtype.kind in "iu" else joined


def _as_numpy(values: Any) -> np.ndarray:
    """Numbers or words as they are: numpy would make words of numbers in one list with words."""
    if is_tensor(values):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    if isinstance(values, (list, tuple)):
        if any(is_tensor(one) for one in values):
            values = [_as_numpy(one) for one in values]
        try:
            found = np.asarray(values)
        except ValueError:  # rows of different lengths
            found = np.empty(len(values), object)
            found[:] = values
            return found
        if found.dtype.kind in "biuf" or found.size == 0:
            return found
        values = np.array(values, object)
    found = np.asarray(values)
    if found.dtype.kind != "O":
        return found
    return _of_one_kind(found)


def _of_one_kind(found: np.ndarray) -> np.ndarray:
    """An array of words, bools or whole numbers, if that is what the objects are."""
    flat = found.ravel().tolist()
    kinds = {type(one.item()) if isinstance(one, np.generic) else type(one) for one in flat}
    for kind, dtype in ((str, np.str_), (bool, np.bool_), (int, np.int64)):
        if kinds == {kind}:
            return found.astype(dtype)
    return found


# What boxes are beside their images.


# Boxes may end that many pixels outside of their image: from rounding, or counting from 1.
_BEYOND = 1.0


def check_boxes(
    boxes: Boxes,
    images: Images | Any,
    sizes: np.ndarray | None = None,
    source: Callable[[int], str | None] | None = None,
) -> np.ndarray:
    """Check that boxes lie in their images and have an area.

    Parameters
    ----------
    boxes : Boxes
    images : Images
    sizes : ndarray of shape (n_images, 2) or None
        Height and width of each image, if they are known.
    source : callable or None
        Where the boxes of an image are from, by its number, for messages; None is the image.

    Returns
    -------
    ndarray of shape (n_boxes, 4), float64
        The corners; what was outside of the image by at most a pixel is cut off.

    Raises
    ------
    InputError
        If there is one that does not; names the first, and tells what they look like: x, y, width,
        height; shares of width and height; y before x.
    ImageError
        If an image with boxes cannot be read.
    """
    sizes = _sizes(boxes, images) if sizes is None else sizes
    return _checked(boxes, sizes, source or images.source)


def bad_boxes(boxes: Boxes, sizes: np.ndarray) -> np.ndarray:
    """Which boxes `check_boxes` refuses by themselves, (n_boxes,) of bool."""
    limits = _limits(boxes, sizes)
    return (
        _is_share(boxes.corners, limits)
        | _is_reversed(boxes.corners)
        | _is_outside(boxes.corners, limits)
        | _is_flat(np.clip(boxes.corners, 0, limits))
    )


def _limits(boxes: Boxes, sizes: np.ndarray) -> np.ndarray:
    """Largest x1, y1, x2, y2 of each box."""
    return sizes[boxes.images][:, [1, 0, 1, 0]]


def _is_share(corners: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Which boxes are shares of the sides of their image: fractions from 0 to 1."""
    inside = ((corners >= 0) & (corners <= 1)).all(axis=1) & (limits > 2).all(axis=1)
    return inside & (corners != np.rint(corners)).any(axis=1)


def _is_flat(corners: np.ndarray) -> np.ndarray:
    return np.any(corners[:, 2:] <= corners[:, :2], axis=1)


def _sizes(boxes: Boxes, images: Any) -> np.ndarray:
    """Height and width of each image that has boxes, (n, 2)."""
    sizes = np.zeros((len(boxes), 2), np.intp)
    for index in np.flatnonzero(np.diff(boxes.starts)):
        sizes[index] = images.open(index).size()
    return sizes


def _checked(
    boxes: Boxes, sizes: np.ndarray, source: Callable[[int], str | None]
) -> np.ndarray:
    corners = boxes.corners
    if not len(corners):
        return corners
    limits = _limits(boxes, sizes)
    # In one image, or in all, boxes are of one form; what they look like is asked of those.
    is_share = _is_share(corners, limits)
    wrong_way, outside = _is_reversed(corners), _is_outside(corners, limits)
    odd = np.isin(boxes.images, boxes.images[is_share | wrong_way | outside])

    def refuse(wrong: np.ndarray, what: str, remedy: str | None = None) -> None:
        if wrong.any():
            remedy = _look(corners[odd], limits[odd], wrong[odd]) if remedy is None else remedy
            first = int(np.flatnonzero(wrong)[0])
            width, height = limits[first, :2]
            more = f", one of {wrong.sum()} such boxes" if wrong.sum() > 1 else ""
            raise InputError(
                f"Boxes must {what}, but {boxes.label(first, source(int(boxes.images[first])))} "
                f"is {shown_box(corners[first])} in an image of {width}×{height} pixels (width × "
                f"height){more}. {remedy}."
            )

    refuse(is_share, "be x1, y1, x2, y2 in pixels")
    refuse(wrong_way, "be x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    refuse(outside, "lie in their image, in its pixels, upright")
    clipped = np.clip(corners, 0, limits)
    refuse(_is_flat(clipped), "have an area", "Fix or remove them")
    return clipped


def _is_outside(corners: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return np.any((corners < -_BEYOND) | (corners > limits + _BEYOND), axis=1)


_FIRST = "Put the smaller x and the smaller y of a box first"


def _look(corners: np.ndarray, limits: np.ndarray, wrong: np.ndarray) -> str:
    """What to do about boxes, some of which are wrong, by what all of them look like."""
    shares = bool(corners.min() >= 0 and corners.max() <= 1 and _is_share(corners, limits).any())
    pixels = corners * limits if shares else corners
    forms = {
        "x1, y1, x2, y2": pixels,
        "x, y, width, height": pixels @ _TO_CORNERS["XYWH"],
        "centre x, centre y, width, height": pixels @ _TO_CORNERS["CXCYWH"],
        "y1, x1, y2, x2": pixels[:, [1, 0, 3, 2]],
        "x2, y2, x1, y1": pixels[:, [2, 3, 0, 1]],
    }
    fitting = [
        form
        for form, tried in forms.items()
        if not (_is_reversed(tried) | _is_outside(tried, limits)).any()
    ]
    if not fitting:
        ordered = np.sort(pixels.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        if not shares and not _is_outside(ordered, limits).any():
            return f"{_FIRST}, or remove it"
        return (
            "Fix or remove them. If many are wrong, check whether they belong to another image, "
            "to another size of it, or have another order of numbers"
        )
    form = fitting[0]
    if form == "x1, y1, x2, y2" and not shares:  # but for some that are shares
        return "Fix or remove them: they look like shares of the width and height of the image"
    of = " as shares of the width and height of the image" if shares else ""
    look = f"Your boxes look like {form}{of}; make x1, y1, x2, y2 in pixels of them"
    if form == "y1, x1, y2, x2":
        look += ". Or they were drawn before the image was turned by its EXIF orientation"
    elif form == "x, y, width, height" and not shares and len(corners) < _FEW:
        look += f" (boxes[:, 2:] += boxes[:, :2]). If they are corners: {_FIRST[0].lower()}"
        look += f"{_FIRST[1:]}"
    return look


# So few boxes may look like another form by chance.
_FEW = 5


def encode_boxes(
    boxes: Boxes,
    images: Images | Any,
    preparation: ImagePreparation,
    *,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of some images in pixels of what a network sees, and the numbers of their classes.

    Parameters
    ----------
    boxes : Boxes
        Those of each image; an image may have none.
    images : Images
    preparation : ImagePreparation
        How images are made to fit the network.
    classes : ndarray or None
        The labels there may be; None finds them.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        All labels, in order.
    found : ndarray of shape (n, most, 5), float32
        x1, y1, x2, y2 and the number of the class, of each image as many rows as the one with most
        boxes has; `NO_BOX` in the rows behind the last.

    Raises
    ------
    InputError
        If a box is not one in its image, or holds a label that is not in `classes`.
    ImageError
        If an image with boxes cannot be read.
    """
    sizes = _sizes(boxes, images)
    corners = _checked(boxes, sizes, images.source)
    classes = np.unique(boxes.labels) if classes is None else classes
    numbers = _numbers_of(boxes, classes)
    counts = np.diff(boxes.starts)
    found = np.full((len(boxes), int(counts.max(initial=0)), 5), NO_BOX, np.float32)
    for index in np.flatnonzero(counts).tolist():
        own, seen = boxes.of(index), found[index, : counts[index]]
        seen[:, :4] = preparation.placement(tuple(sizes[index].tolist())).boxes(corners[own])
        seen[:, 4] = numbers[own]
    return classes, found


def _numbers_of(boxes: Boxes, classes: np.ndarray) -> np.ndarray:
    if not len(boxes.labels):
        return np.empty(0, np.intp)
    if (boxes.labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
        unknown = np.ones(len(boxes.labels), bool)
    else:
        unknown = ~np.isin(boxes.labels, classes)
    if unknown.any():
        first = np.flatnonzero(unknown)[0]
        raise InputError(
            f"{boxes.label(first)} has the label {boxes.labels[first].item()!r}, which is none of "
            f"the classes {shown(classes.tolist())}."
        )
    return np.searchsorted(classes, boxes.labels)
