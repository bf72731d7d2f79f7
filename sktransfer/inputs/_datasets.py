"""Data sets of torch: images that are read one at a time, and only when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, InputError, shown
from ._arrays import is_array_like

__all__ = ["DatasetImage", "images_of", "is_torch_dataset"]


def is_torch_dataset(X: Any) -> bool:
    """Tell whether `X` is a ``torch.utils.data.Dataset`` with a length, without importing torch."""
    classes = ((one.__module__, one.__name__) for one in type(X).__mro__)
    return hasattr(X, "__len__") and ("torch.utils.data.dataset", "Dataset") in classes


class DatasetImage:
    """The image of one item of a data set, which is read when it is asked for.

    Parameters
    ----------
    source : Source
    index : int
    """

    __slots__ = ("index", "source")

    def __init__(self, source: Source, index: int) -> None:
        self.source, self.index = source, index

    def load(self) -> Any:
        """The image: a PIL image, an array, a tensor, a path or bytes.

        Raises
        ------
        ImageError
            If the data set cannot read it.
        """
        return self.source.image(self.index)

    def __repr__(self) -> str:
        return f"<image {self.index} of {type(self.source.data).__name__}>"


class Source:
    """A data set, and which part of its items is the image.

    Parameters
    ----------
    data : torch.utils.data.Dataset
        Of images; or of tuples whose first part is one, or of dicts.
    kind_of : callable
        Names what an item is.
    """

    def __init__(self, data: Any, kind_of: Callable[[Any], str]) -> None:
        self.data, self._kind_of = data, kind_of
        # Data sets are made for one thread in each of many processes.
        self._lock = threading.Lock()
        first = self.item(0)
        self.part = self._part_of(first)
        image = self._taken(first)
        kind = kind_of(image)
        if kind not in ("file", "array"):
            name = type(image).__name__
            raise InputError(
                "item 0 of X must be an image, or a tuple that begins with one, got "
                f"{'a number' if kind in ('number', 'row') else name}"
            )
        # Of arrays all are looked at before, for what black and white are.
        self.gives_arrays = kind == "array" and not isinstance(image, Image.Image)

    def item(self, index: int) -> Any:
        """What the data set has in a place; what it raises says which."""
        try:
            with self._lock:
                return self.data[index]
        except Exception as error:  # each data set has its own
            what = f"{type(error).__name__}: {shown(error)}"
            raise ImageError(f"the data set cannot read it: {what}", index) from error

    def image(self, index: int) -> Any:
        item = self.item(index)
        try:
            image = self._taken(item)
        except (IndexError, KeyError, TypeError) as error:
            what = shown(repr(item))
            raise ImageError(f"the data set gives no image here, but {what}") from error
        kind = self._kind_of(image)
        array = is_array_like(image) and not isinstance(image, Image.Image)
        if kind not in ("file", "array") or (array and not self.gives_arrays):
            raise ImageError(
                f"the data set must give images of one kind, gives a {type(image).__name__} here "
                "and something else before"
            )
        return image

    def _part_of(self, item: Any) -> Any:
        if isinstance(item, (tuple, list)) and len(item):
            return 0
        if not isinstance(item, Mapping):
            return None
        keys = [key for key, one in item.items() if self._kind_of(one) in ("file", "array")]
        if len(keys) == 1 or "image" in keys:
            return "image" if "image" in keys else keys[0]
        raise InputError(
            f"items of X must have one image, or one called 'image', got {shown(list(item))}"
        )

    def _taken(self, item: Any) -> Any:
        return item if self.part is None else item[self.part]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()


def images_of(data: Any, kind_of: Callable[[Any], str]) -> np.ndarray:
    """The images of a data set, (n,) of DatasetImage: nothing but the first is read.

    Raises
    ------
    InputError
        If it is empty, or its first item holds no image.
    """
    if not len(data):
        raise InputError("X must hold at least one image, got an empty data set")
    source = Source(data, kind_of)
    found = np.empty(len(data), object)
    found[:] = [DatasetImage(source, index) for index in range(len(data))]
    return found
