"""Data sets of torch, as images and labels that scikit-learn can take apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer.exceptions import InputError, shown
from sktransfer.inputs import lazy_images, name_of


def load_torch_dataset(
    dataset: Any, *, labels: bool = True, target_as: str = "number", return_X_y: bool = False
) -> Any:
    """List the images of a ``torch.utils.data.Dataset`` with their labels.

    No image is read but the first, and where nothing else tells the labels, each once: `data` holds
    items that read theirs when they are asked for. :class:`~sktransfer.CNNCodes` and all others
    take the data set itself as X, too; what splits X, such as
    :func:`~sklearn.model_selection.cross_val_score`, needs `data`.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With a length, of tuples of an image and a label; of dicts with an image and "label",
        "labels" or "target"; or of images. Images may be PIL images, arrays or tensors. It is
        better without transforms: images are resized here, and random ones are new in each pass.
    labels : bool, default=True
        Whether to find the labels.
    target_as : {"number", "name"}, default="number"
        "name" takes the names of classes that the data set has in `classes`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object, shape (n_images,)
            An item for each image.
        target : ndarray of shape (n_images,) or (n_images, n_tags), or None
            The labels, as the data set gives them, or names.
        target_names : ndarray of str or None
            The names of classes, if the data set has them.
        DESCR : str
            What was found.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    Raises
    ------
    InputError
        A ValueError: it is no such data set, is empty, or has no labels that are numbers, names or
        rows of 0 and 1; or names are asked for and it has none.
    ImageError
        An item that cannot be read while labels are found.

    Notes
    -----
    Items are read one at a time, since data sets are seldom made for several threads.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.datasets import load_torch_dataset
    >>> pixels = torch.zeros((4, 3, 8, 8), dtype=torch.uint8)
    >>> pairs = torch.utils.data.TensorDataset(pixels, torch.tensor([0, 1, 1, 0]))
    >>> load_torch_dataset(pairs).target.tolist()
    [0, 1, 1, 0]
    """
    if target_as not in ("number", "name"):
        raise InputError(f'target_as must be "number" or "name", got {shown(repr(target_as))}.')
    data = lazy_images(dataset)
    if data is dataset:
        raise InputError(
            "dataset must be a torch.utils.data.Dataset with a length, got "
            f"{name_of(dataset)}; of a DataLoader pass its dataset."
        )
    classes = _classes(dataset)
    target = _labels(dataset, data[0].source) if labels else None
    names = None if classes is None else np.array(classes)
    if target_as == "name" and target is not None and target.dtype.kind != "U":
        if names is None or target.dtype.kind not in "iu" or target.ndim != 1:
            raise InputError('target_as="name" needs a data set with `classes`, the names.')
        target = names[target]
    told = "" if target is None or names is None else f" of {len(names)} classes"
    bunch = Bunch(data=data, target=target, target_names=names,
                  DESCR=f"{len(data)} images{told} of a {type(dataset).__name__}")  # fmt: skip
    return (data, target) if return_X_y else bunch


def _classes(dataset: Any) -> list[str] | None:
    """Names of classes, also of the data set that a part is of."""
    while dataset is not None:
        found = getattr(dataset, "classes", None)
        if isinstance(found, (list, tuple)) and all(isinstance(one, str) for one in found):
            return list(found)
        dataset = getattr(dataset, "dataset", None)
    return None


def _labels(dataset: Any, source: Any) -> np.ndarray:
    known = _known_labels(dataset)
    n = len(dataset)
    if known is not None and len(known) == n:
        # Transforms of labels make others of them.
        if all(np.array_equal(known[i], _label_of(source.item(i))) for i in {0, n // 2, n - 1}):
            return known
    found = [_label_of(source.item(index)) for index in range(n)]
    shapes = {np.shape(one) for one in found}
    kinds = {np.asarray(one).dtype.kind for one in found}
    target = np.array(found) if len(shapes) == 1 and not kinds - set("biufU") else None
    if target is None or target.ndim > 2 or len(kinds) > 1:
        raise InputError(
            "labels must be numbers, names or rows of 0 and 1, all of one kind, but item 0 has "
            f"{name_of(found[0])}; pass labels=False if images are all that you want."
        )
    return target


def _known_labels(dataset: Any) -> np.ndarray | None:
    """What the data set has as `targets` or `labels`, in the order of its items."""
    whole, numbers = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if whole is not None and numbers is not None:
        known = _known_labels(whole)
        return None if known is None else known[np.asarray(numbers, dtype=np.int64)]
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, (list, tuple)):
        known_parts = [_known_labels(one) for one in parts]
        if any(one is None for one in known_parts):
            return None
        return np.concatenate([one for one in known_parts if one is not None])
    for name in ("targets", "labels", "_labels"):
        known = getattr(dataset, name, None)
        if known is not None and hasattr(known, "__len__"):
            try:
                array = np.asarray(known)
            except (TypeError, ValueError):
                return None
            return array if array.ndim in (1, 2) and array.dtype.kind in "biufU" else None
    return None


def _label_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        keys = [key for key in ("label", "labels", "target") if key in item]
        label = item[keys[0]] if keys else None
    else:
        label = item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None
    if label is None:
        raise InputError(
            "items must be tuples of an image and a label, or dicts with 'label', but one has no "
            "label; pass labels=False if images are all that you want."
        )
    if hasattr(label, "detach"):  # a tensor
        label = label.detach().cpu().numpy()
    return label if isinstance(label, str) else np.asarray(label)[()]
