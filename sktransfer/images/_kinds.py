"""What one item of a collection is."""

from __future__ import annotations

import os
from typing import Any, cast

import numpy as np
from PIL import Image

from ._arrays import is_array_like

_MISSING_TYPES = ("NAType", "NaTType")  # of pandas, which need not be installed


def kind_of(item: Any) -> str:
    """Name what an item is: file, array, row, column, number, missing or other."""
    if isinstance(item, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
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
    return {0: "number", 1: "row"}.get(np.ndim(item) if ndim is None else ndim, "array")


def is_missing(item: Any) -> bool:
    """Tell whether an item is None, NaN, NA or NaT, as a column with gaps holds."""
    if isinstance(item, float):
        return item != item
    return item is None or type(item).__name__ in _MISSING_TYPES


def name_of(value: Any) -> str:
    """Name the type of a value in messages."""
    kind = cast(type, type(value))
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else kind.__qualname__
