"""What one item of a collection is."""

from __future__ import annotations

import array
import os
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from PIL import Image

from ..exceptions import InputError
from ._arrays import as_array, is_array_like, is_tensor

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


_STARTS = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff(?:[\xe0-\xef\xfe]..[\x20-\x7e]{4}|\xdb\0[\x43\x84\xc5])",
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF....WEBP",
    "TIFF": rb"II\*\0.{3}\0|MM\0\*\0.{3}",
    "BMP": rb"BM.{4}\0{4}.\0\0\0[\x0c\x28\x6c\x7c]\0\0\0",
}


def refuse_encoded(item: Any, index: int | None = None) -> None:
    """Refuse the bytes of an image file that come as numbers, which could pass for a row.

    Parameters
    ----------
    item : object
    index : int or None
        Which item of X it is; None is X itself.

    Raises
    ------
    InputError
        If one-dimensional bytes begin as files of images do.
    """
    name = "X" if index is None else "item"
    if index is not None and isinstance(item, (list, tuple)) and len(item) == 1:
        item, name = item[0], "item[0]"
    start = _start_of(item)
    if start is None:
        return
    for kind, pattern in _STARTS.items():
        if re.match(pattern, start, re.DOTALL):
            if isinstance(item, (list, tuple)):
                how = f"bytes({name})"
            else:
                how = f"{name}.numpy().tobytes()" if is_tensor(item) else f"{name}.tobytes()"
            where, each = ("X", "") if index is None else (f"item {index} of X", " for item in X")
            raise InputError(f"{where} holds the bytes of a {kind} file: pass [{how}{each}]")


def _start_of(item: Any) -> bytes | None:
    """The first bytes of a row of bytes, or None for anything else."""
    if isinstance(item, np.void):
        return None if item.dtype.names else item.tobytes()[:32]
    if isinstance(item, array.array):
        return item[:32].tobytes() if item.itemsize == 1 else None
    if isinstance(item, (list, tuple)):
        first = item[:32]
        fits = all(isinstance(one, (int, np.integer)) and 0 <= one < 256 for one in first)
        return bytes(int(one) for one in first) if fits else None
    shape = getattr(item, "shape", ())
    # Some encoders give a column.
    if not isinstance(shape, tuple) or not (len(shape) == 1 or (len(shape) == 2 and 1 in shape)):
        return None
    if re.match(r"(torch\.)?u?int", str(getattr(item, "dtype", "")).lower()) is None:
        return None
    head = as_array(item[:32] if len(shape) == 1 else item.reshape(-1)[:32])
    if head.itemsize > 1 and not ((head >= 0) & (head < 256)).all():
        return None
    return head.astype(np.uint8).tobytes()


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
