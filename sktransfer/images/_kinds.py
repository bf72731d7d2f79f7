"""What one item of a collection is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from PIL import Image

from ._arrays import is_array_like

_MISSING_TYPES = ("NAType", "NaTType")  # of pandas, which need not be installed


def kind_of(item: Any) -> str:
    """Name what an item is: file, array, row, column, number, missing or other."""
    if isinstance(item, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return "file"
    if is_open_file(item):
        return "file"
    if is_missing(item):
        return "missing"
    if isinstance(item, (list, tuple)):
        if len(item) == 1 and kind_of(item[0]) in ("file", "missing"):
            return "column"
        inner = kind_of(item[0]) if item else "number"
        nested = {"number": "row", "missing": "row", "row": "array", "array": "array"}
        return nested.get(inner, "other")
    if isinstance(item, (int, float, complex, np.number, np.bool_)):
        return "number"
    ndim = getattr(item, "ndim", None)
    if not is_array_like(item):
        return "other"
    return {0: "number", 1: "row"}.get(np.asarray(item).ndim if ndim is None else ndim, "array")


def plain(item: Any) -> Any:
    """Give an item as Python has it, where a library wrapped a text, bytes or a path.

    Columns of images of the Hugging Face hub hold dicts of bytes and a path.
    """
    if isinstance(item, np.str_):
        return str(item)
    if isinstance(item, np.bytes_):
        # Numpy cuts zeros off the end, so that only paths are sure to be whole.
        return os.fsdecode(item) if _looks_like_path(item) else bytes(item)
    if hasattr(item, "as_py"):  # of pyarrow
        return plain(item.as_py())
    if isinstance(item, Mapping) and item.keys() <= {"bytes", "path"}:
        parts = (item.get("bytes"), item.get("path"))
        return next((part for part in parts if kind_of(part) == "file"), item)
    if getattr(item, "ndim", None) == 0 and getattr(item, "dtype", np.dtype(int)).kind in "OUT":
        return plain(item.item())
    return item


def _looks_like_path(data: bytes) -> bool:
    """Tell whether bytes are one line of text, as no image file is."""
    try:
        return len(data) < 4096 and data.decode().isprintable()
    except UnicodeDecodeError:
        return False


def remedy_for(item: Any) -> str:
    """Say how to get at the images where an item holds one among other things; else nothing."""
    if isinstance(item, Mapping):
        keys = [key for key, value in item.items() if kind_of(value) in ("file", "array")]
        if keys:
            return f". Pass that part of each item: [item[{keys[0]!r}] for item in X]"
    elif _is_pair(item):
        return (
            ". These look like pairs (image, label) of a data set: pass the images alone, "
            "[image for image, *_ in X]"
        )
    return ""


def _is_pair(item: Any) -> bool:
    """Tell whether an item is an image with its label, mask or path, as data sets give them."""
    if not isinstance(item, (tuple, list)) or not 2 <= len(item) <= 4:
        return False
    kinds = [kind_of(part) for part in item]
    if kinds[0] == "file":
        return True
    # A list of planes, or of nested lists, is an image.
    shape = getattr(item[0], "shape", None)
    return shape is not None and len(shape) >= 2 and (len(shape) > 2 or set(kinds) != {"array"})


def is_open_file(item: Any) -> bool:
    """Tell whether an item gives its bytes itself: an open file, an upload, a member of a zip."""
    if isinstance(item, type) or hasattr(item, "namelist"):  # a whole archive
        return False
    return callable(getattr(item, "read", None)) or callable(getattr(item, "read_bytes", None))


def is_missing(item: Any) -> bool:
    """Tell whether an item is None, NaN, NA or NaT, as a column with gaps holds."""
    if isinstance(item, float):
        return item != item
    return item is None or type(item).__name__ in _MISSING_TYPES


def name_of(value: Any) -> str:
    """Name the type of a value in messages."""
    kind = cast(type, type(value))
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else kind.__qualname__
