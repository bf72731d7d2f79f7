"""Masks: a label for every pixel of an image, in any form people have them in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, InputError, SktransferWarning, shown
from ._arrays import is_tensor
from ._collect import is_open_file, name_of
from ._colour import upright
from ._files import is_jpeg, read_file, read_image, read_open_file
from ._images import Images
from ._resize import ImagePreparation

__all__ = [
    "NO_LABEL",
    "Masks",
    "as_masks",
    "check_fits",
    "encode_masks",
    "fitting_masks",
    "warn_of_other_labels",
]


# In the place of the number of a class: pixels nobody labelled, and bars.
NO_LABEL = -1
# Masks with more labels than that are something else, such as numbers of objects or photographs;
# and from there on in one mask they may be.
_MOST_CLASSES, _MANY_CLASSES = 256, 64
_FORMS = (
    "an array (n, h, w), a list of arrays (h, w), of files or of PIL images, or a column of these"
)
_OF_IMAGES = " A label for each image is what FineTuneClassifier takes."


class Masks:
    """A sequence of masks that are opened one at a time; made by :func:`as_masks`.

    Parameters
    ----------
    items : sequence
    name : str
        What messages call them, such as ``y``.
    """

    def __init__(self, items: Sequence[Any] | np.ndarray, name: str = "y"):
        self._items, self._name = items, name

    def __len__(self) -> int:
        return len(self._items)

    def one(self, index: int) -> Masks:
        """One of them alone."""
        return Masks([self._items[index]], self._name)

    def label(self, index: int) -> str:
        """Name a mask in messages, such as ``mask 3 of y (masks/a.png)``."""
        item = self._items[index]
        source = f" ({shown(os.fsdecode(item))})" if isinstance(item, (str, os.PathLike)) else ""
        return f"mask {index} of {self._name}{source}"

    def open(self, index: int) -> np.ndarray:
        """Read the labels of one mask, upright: (height, width), of whole numbers, bool or str.

        NaN stands for pixels without a label; then the array is of floats.

        Raises
        ------
        InputError
            If it cannot be read, or is no mask; says which, and its path.
        """
        try:
            return _labels_of(self._items[index])
        except ImageError as error:
            if _is_a_label(item := self._items[index]):
                raise InputError(
                    f"{self.label(index)} must be an array (h, w) of labels or a file of one, got "
                    f"{shown(repr(item))}.{_OF_IMAGES}"
                ) from error
            raise InputError(f"{self.label(index)} {error.cause}.") from error.__cause__


def _is_a_label(item: Any) -> bool:
    """Whether it looks like the label of a whole image."""
    if isinstance(item, str):
        return not os.path.splitext(item)[1] and os.sep not in item
    return isinstance(item, (bool, int, np.generic))


def as_masks(y: Any, n: int | None = None, name: str = "y") -> Masks:
    """Take anything that holds masks as a sequence of arrays (height, width) of labels.

    Parameters
    ----------
    y : array, list, Series or data frame
        - arrays and tensors (n, h, w), also with an axis of length 1 for the channel;
        - a list, tuple, object array or Series of masks of any size: arrays, paths, bytes or open
          files of PNG, TIFF, BMP or GIF, and PIL images; of palettes the number of the colour is
          the label;
        - a data frame with one such column.
    n : int or None
        How many there must be.
    name : str
        What messages call them.

    Raises
    ------
    InputError
        If it is no collection of masks, or not of so many.
    """
    items = _items_of(y, name)
    if n is not None and len(items) != n:
        raise InputError(f"{name} must hold a mask for each of {n} images, got {len(items)}.")
    return Masks(items, name)


def _items_of(y: Any, name: str) -> Sequence[Any] | np.ndarray:
    if isinstance(y, Masks):
        return y._items
    if isinstance(y, (str, bytes, os.PathLike, Image.Image)) or is_open_file(y):
        raise InputError(f"{name} must be {_FORMS}, got {name_of(y)} alone; pass [mask].")
    if hasattr(type(y), "columns"):
        if len(y.columns) != 1:
            raise InputError(
                f"{name} must be one column of masks, got a table of {len(y.columns)} columns."
            )
        y = y[y.columns[0]]
    if is_tensor(y):
        y = y.detach().cpu().numpy()
    if hasattr(y, "__array__") and not isinstance(y, Image.Image):
        y = np.asarray(y)
        if y.ndim == 0:
            raise InputError(f"{name} must be {_FORMS}, got {name_of(y)}.")
        if y.dtype != object:
            return _stack(y, name)
    if not (hasattr(y, "__len__") and hasattr(y, "__getitem__")) or isinstance(y, dict):
        raise InputError(f"{name} must be {_FORMS}, got {name_of(y)}.")
    return y if isinstance(y, np.ndarray) else [y[i] for i in range(len(y))]


def _stack(y: np.ndarray, name: str) -> Sequence[Any] | np.ndarray:
    """One array: of masks, or of paths."""
    if y.ndim == 1 and y.dtype.kind in "US":
        return y.tolist()
    if y.ndim == 4 and y.shape[3] == 1:
        y = y[..., 0]
    elif y.ndim == 4 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise InputError(
            f"{name} must hold a mask (h, w) for each image, got one array of shape {y.shape}. If "
            f"it is one mask, pass [mask].{_OF_IMAGES}"
        )
    if y.ndim != 3:
        raise InputError(f"{name} must be {_FORMS}, got an array of shape {y.shape}.")
    return y


def _labels_of(item: Any) -> np.ndarray:
    if isinstance(item, Image.Image):
        return _checked(upright(_of_picture(item), item))
    if isinstance(item, (str, os.PathLike)):
        item = read_file(os.fsdecode(item))
    elif is_open_file(item):
        item = read_open_file(item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _checked(read_image(bytes(item), _of_file))
    if item is None or (isinstance(item, float) and np.isnan(item)):
        raise ImageError(f"is missing ({item!r})")
    if is_tensor(item):
        item = item.detach().cpu().numpy()
    return _checked(np.asarray(item))


def _of_file(image: Image.Image) -> np.ndarray:
    if is_jpeg(image):
        raise ImageError(
            "is a JPEG file, which changes labels at every edge; save masks as PNG files"
        )
    return upright(_of_picture(image), image)


def _of_picture(image: Image.Image) -> np.ndarray:
    """Labels as they are stored: of palettes the numbers of colours."""
    if image.mode in ("1", "L", "P") or image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        return _of_colours(np.asarray(image), f"mode {image.mode}")
    return _of_colours(np.asarray(image.convert("RGB")), f"mode {image.mode}")


def _of_colours(pixels: np.ndarray, what: str) -> np.ndarray:
    """The labels in greys that were saved as colours, (h, w, 2) to (h, w, 4)."""
    has_alpha = pixels.shape[2] in (2, 4)
    colours = pixels[..., :-1] if has_alpha else pixels
    if not has_alpha or (pixels[..., -1] == 255).all():
        if (colours == colours[..., :1]).all():
            return colours[..., 0]
    raise ImageError(
        f"is in colours ({what}), which are no labels. Give each colour a number, (h, w), or save "
        "it with a palette (mode P) or as greys (mode L)"
    )


def _checked(labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 3 and 1 in (labels.shape[0], labels.shape[2]):
        labels = labels.squeeze(0 if labels.shape[0] == 1 else 2)
    if labels.ndim == 3 and labels.shape[2] in (3, 4) and labels.dtype.kind in "iu":
        labels = _of_colours(labels, f"shape {labels.shape}")
    if labels.ndim != 2 or not labels.size:
        raise ImageError(f"must be an array (h, w) of labels, has shape {labels.shape}")
    if labels.dtype == object:
        kinds = {type(one).__name__ for one in labels.flat}
        if not kinds <= {"str", "str_"}:
            raise ImageError(f"must hold labels of one kind, holds {', '.join(sorted(kinds))}")
        return labels.astype(str)
    if labels.dtype.kind == "f":
        known = labels[~np.isnan(labels)]
        if not (known == np.rint(known)).all() or not np.isfinite(known).all():
            raise ImageError(
                "must hold labels, that is whole numbers, strings or bools, but holds numbers such "
                f"as {known[known != np.rint(known)].flat[0]:.4g}"
            )
        return labels if len(known) < labels.size else labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise ImageError(f"must hold whole numbers, strings or bools, holds {labels.dtype}")
    return labels


def check_fits(masks: Masks, index: int, labels: np.ndarray, images: Any) -> tuple[int, int]:
    """The size of an image, which its mask must have as well.

    Raises
    ------
    InputError
        If they differ; says which, both sizes, and what may have happened.
    ImageError
        If the image cannot be read.
    """
    opened = images.open(index)
    height, width = opened.size()
    if labels.shape == (height, width):
        return height, width
    why = "Masks must be as large as their images"
    if labels.shape == (width, height):
        why = (
            "It is transposed, or the image is turned by its EXIF orientation and the mask is not: "
            "turn the mask"
        )
    raise InputError(
        f"{masks.label(index)} must be {height}×{width} pixels (height × width), as "
        f"{opened.label} is, got {labels.shape[0]}×{labels.shape[1]}. {why}."
    )


def fitting_masks(y: Any, images: Images, classes: np.ndarray) -> Masks:
    """Masks of images, all looked at for whether they fit, and have any label of `classes`.

    Raises
    ------
    InputError
        As `as_masks` and `check_fits` do.

    Warns
    -----
    SktransferWarning
        If no mask has one of the labels.
    """
    masks = as_masks(y, len(images))
    known = False
    for index in range(len(masks)):
        labels = masks.open(index)
        check_fits(masks, index, labels, images)
        known = known or bool(np.isin(labels, classes).any())
    if len(masks) and not known:
        warn_of_other_labels(labels.ravel()[0], classes)
    return masks


def warn_of_other_labels(label: Any, classes: np.ndarray) -> None:
    """Say that targets have none of the labels that an estimator was fitted with."""
    warnings.warn(
        f"y holds none of the labels of fit, {shown(classes.tolist())}, but labels "
        f"such as {shown(repr(np.asarray(label).item()))}: every prediction counts as wrong.",
        SktransferWarning,
        stacklevel=3,
    )


def encode_masks(
    masks: Masks,
    images: Images | Any,
    preparation: ImagePreparation,
    *,
    classes: np.ndarray | None = None,
    unlabeled: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the classes of all places that a network sees of some images.

    Parameters
    ----------
    masks : Masks
        One for each image, and as large.
    images : Images
    preparation : ImagePreparation
        How images are made to fit the network.
    classes : ndarray or None
        The labels there may be; None finds them.
    unlabeled : object
        The label of pixels nobody labelled; None is no label. NaN always is.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        All labels, in order.
    numbers : ndarray of shape (n, height, width), int16
        Numbers of their classes; `NO_LABEL` where there is none.

    Raises
    ------
    InputError
        If a mask cannot be read, does not fit its image, or holds a label that is not in `classes`.
    ImageError
        If an image cannot be read.
    """
    found = np.full((len(masks), *preparation.image_size), NO_LABEL, np.int16)
    of_each: list[np.ndarray] = []
    many: list[int] = []
    for index, seen in enumerate(found):
        labels = masks.open(index)
        placement = preparation.placement(check_fits(masks, index, labels, images))
        known, numbers = np.unique(labels, return_inverse=True)
        if len(known) > _MOST_CLASSES:
            raise InputError(
                f"{masks.label(index)} must hold labels of at most {_MOST_CLASSES} classes, got "
                f"{len(known)}. Numbers of objects, or the pixels of a photograph, are not classes."
            )
        if len(known) > _MANY_CLASSES:
            many.append(index)
        keep = np.array([not _is_unlabeled(one, unlabeled) for one in known], bool)
        to_number = np.where(keep, np.cumsum(keep) - 1, NO_LABEL).astype(np.int16)
        seen[...] = placement.mask(to_number[numbers].reshape(labels.shape), NO_LABEL)
        of_each.append(known[keep].astype(np.int64) if known.dtype.kind == "f" else known[keep])
    _check_unlabeled(unlabeled, _one_kind(of_each, masks))
    if many:
        warnings.warn(
            f"{masks.label(many[0])} holds {len(of_each[many[0]])} different labels, as do "
            f"{len(many) - 1} more masks. If they were made larger or smaller, that must be done "
            "without interpolation (nearest); if X and y are interchanged, images come first.",
            SktransferWarning,
            stacklevel=2,
        )
    if classes is None:
        some = [one for one in of_each if len(one)]
        classes = np.unique(np.concatenate(some)) if some else np.empty(0, np.int64)
    for index, (seen, known) in enumerate(zip(found, of_each, strict=True)):
        unknown = ~np.isin(known, classes)
        if unknown.any():
            raise InputError(
                f"{masks.label(index)} holds the label {known[unknown].tolist()[0]!r}, which is "
                f"none of the classes {shown(classes.tolist())}."
            )
        to_number = np.append(np.searchsorted(classes, known), NO_LABEL).astype(np.int16)
        seen[...] = to_number[seen]  # the last stands for NO_LABEL
    return classes, found


def _is_unlabeled(label: Any, unlabeled: Any) -> bool:
    if isinstance(label, np.floating) and np.isnan(label):
        return True
    return unlabeled is not None and bool(label == unlabeled)


def _one_kind(of_each: list[np.ndarray], masks: Masks) -> str | None:
    """What labels are: "str", "bool" or "number"; None where there are none."""
    names = {"U": "str", "b": "bool"}
    kinds = [names.get(one.dtype.kind, "number") if len(one) else None for one in of_each]
    first = next((kind for kind in kinds if kind), None)
    for index, kind in enumerate(kinds):
        if kind not in (None, first):
            raise InputError(
                f"Masks must hold labels of one kind, but {masks.label(index)} holds {kind}s and "
                f"others hold {first}s. Make them alike: files of 1 bit and comparisons give "
                "bools, others give numbers such as 0 and 255."
            )
    return first


def _check_unlabeled(unlabeled: Any, kind: str | None) -> None:
    if None not in (kind, unlabeled) and (kind == "str") != isinstance(unlabeled, str):
        raise InputError(
            f"unlabeled= must be one of the labels of masks, which are {kind}s, got "
            f"{shown(repr(unlabeled))}."
        )
