"""Any input to a sequence with one item for each image; nothing is read or copied."""

from __future__ import annotations

import array
import math
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from PIL import Image
from sklearn.utils import check_array

from ..exceptions import ImageError, InputError, SktransferWarning, shown
from ._arrays import LAYOUTS, as_array, channel_axis, is_array_like, is_tensor
from ._datasets import DatasetImage, images_of, is_torch_dataset
from ._range import warn

_IMAGES = "a path, an open file, bytes, a PIL image, an array or a tensor"
_EMPTY = "Found array with 0 sample(s): X is empty, at least one image is required"

_FIRST_CELLS = 1000  # of a column are looked at for one that is not missing

Shape = tuple[int, ...] | str | None


@dataclass(frozen=True)
class Collected:
    """One item for each image, and what is known of all of them."""

    items: Sequence[Any] | np.ndarray
    layout: str = "images"  # or "stack" of greyscale images (n, h, w), or "rows"
    n_columns: int | None = None
    shape: tuple[int, ...] | None = None  # of the image in a flattened row
    channels_first: bool = False  # which end wins where both could be the colours
    doubt: str | None = None  # of the order of the colours in rows


def collect(X: Any, image_shape: Shape, layout: str | None = None) -> Collected:
    """Find the images in `X`.

    Parameters
    ----------
    X : object
    image_shape : tuple of int, "row" or None
        What a flattened row is.
    layout : {"images", "stack", "rows"} or None
        What an earlier call found, which decides where one image could be several.

    Raises
    ------
    InputError
        If `X` is empty, one image alone, or not a collection of images.
    TypeError
        If `X` is sparse, or a table of objects that are no numbers (scikit-learn's messages).
    """
    # Rows are refused after images, whatever their length.
    collected = _collect(X, "row" if layout in ("images", "stack") else image_shape)
    if isinstance(X, (list, tuple)) and _are_grey_arrays(collected.items):
        if layout == "images":
            _refuse_planes(collected.items)
        collected = replace(collected, layout="stack")
        layout = "stack"
    # At first only numpy's arrays are taken at their word: (n, h, w) is their usual stack of grey.
    if layout is not None or is_tensor(X) or isinstance(X, (list, tuple)):
        _refuse_one_image(collected, layout)
    return collected


def _collect(X: Any, image_shape: Shape) -> Collected:
    if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)):
        if isinstance(X, (str, os.PathLike)) and os.path.isdir(X):
            raise InputError(
                f"X must be a collection of images, got the folder {shown(os.fsdecode(X))}; pass a "
                "list of paths, sktransfer.datasets.list_images(X), or load_image_folder(X).data "
                "where the folders in it are classes; load_mask_folder and load_boxes list images "
                "with masks and boxes"
            )
        raise InputError(f"X must be a collection of images, got {name_of(X)} alone; pass [X]")
    if is_open_file(X) or (isinstance(X, (Mapping, np.ndarray)) and kind_of(plain(X)) == "file"):
        raise InputError(f"X must be a collection of images, got {name_of(X)} alone; pass [X]")
    if hasattr(X, "tocsr"):  # sparse: scikit-learn's own refusal
        check_rows(X)
    if is_tensor(X):
        refuse_encoded(X)
        return _from_array(_whole(X), image_shape, channels_first=True)
    if hasattr(type(X), "columns"):  # asking a lazy frame itself would make it work
        return _from_frame(X, image_shape)
    if isinstance(X, (list, tuple)):
        return _from_items(list(X), X, image_shape)
    if is_torch_dataset(X):
        return Collected(lazy_images(X).tolist())
    # Sequences of images may show themselves as arrays, which fails if images differ in size.
    if hasattr(X, "__array__") and not isinstance(X, Sequence):
        return _from_array(_asarray(X), image_shape)
    if isinstance(X, (Mapping, Set)) or not (hasattr(X, "__getitem__") and hasattr(X, "__len__")):
        raise InputError(
            f"X must be an array, a list or a column of images, got {name_of(X)}{_way_out(X)}"
        )
    if len(X) and (remedy := remedy_for(X[0])):  # before all of a data set is read
        raise InputError(f"item 0 of X must be {_IMAGES}, got {name_of(X[0])}{remedy}")
    return _from_items([X[i] for i in range(len(X))], X, image_shape)


def lazy_images(X: Any) -> Any:
    """The images of a data set of torch as an array of items; other input as it is."""
    return images_of(X, kind_of) if is_torch_dataset(X) else X


def _way_out(X: Any) -> str:
    if isinstance(X, Mapping):
        keys = [k for k, v in X.items() if isinstance(v, (Sequence, np.ndarray)) or is_tensor(v)]
        keys = [key for key in keys if not isinstance(X[key], (str, bytes))]
        return f"; pass one of its values, such as X[{shown(repr(keys[0]))}]" if keys else ""
    if isinstance(X, Set):
        return "; pass a list, whose order is known"
    if hasattr(X, "dataset") and hasattr(X, "batch_size"):  # torch's DataLoader
        return "; pass its data set: X.dataset"
    return "; pass a list of its images: list(X)" if hasattr(X, "__iter__") else ""


def _refuse_one_image(collected: Collected, layout: str | None) -> None:
    """Refuse an array that could be several images, but more likely is one without a list."""
    shape: Any = np.shape(collected.items) if isinstance(collected.items, np.ndarray) else ()
    if collected.layout == "stack" and layout != "stack":
        if shape[0] in (3, 4) and min(shape[1:]) > 4:
            raise InputError(
                f"X of shape {shape} is taken for one image ({shape[0]}, h, w): pass [X]. If it is "
                f"{shape[0]} greyscale images, pass X[:, None]"
            )
    if collected.layout == "rows" and layout in ("images", "stack"):
        raise InputError(
            f"X of shape {shape} is one greyscale image, or a table of rows, but fit saw neither "
            "rows nor one image: pass [X], or reshape rows to (n_samples, h, w) or "
            "(n_samples, h, w, 3)"
        )


def _are_grey_arrays(items: Any) -> bool:
    """Tell whether a list holds greyscale images (h, w) and nothing else."""
    if isinstance(items, np.ndarray):
        return False
    return all(len(getattr(item, "shape", ())) == 2 for item in items)


def _refuse_planes(items: Any) -> None:
    """Refuse one image as a list of its planes, after a fit on images of another look."""
    shapes = {tuple(item.shape) for item in items}
    shape = next(iter(shapes))
    if len(items) in (3, 4) and len(shapes) == 1 and min(shape) > 4:
        raise InputError(
            f"X, {len(items)} arrays of shape {shape}, is taken for the planes of one image, since "
            "fit saw no list of greyscale arrays: pass [numpy.stack(X)]. If it is "
            f"{len(items)} greyscale images, pass numpy.stack(X)[..., None]"
        )


def _from_frame(X: Any, image_shape: Shape) -> Collected:
    if not hasattr(X, "shape"):
        raise InputError(f"X must be a data frame in memory, got {name_of(X)}; collect it first")
    if X.shape[1] == 1:
        column = np.asarray(X.to_series(0) if hasattr(X, "to_series") else X)
        if column.ndim > 2 or column.dtype.kind in "OUT":  # polars' columns of arrays, or items
            return replace(_from_array(column, image_shape), n_columns=1)
    return _rows(X, image_shape)


def _from_array(array: np.ndarray, image_shape: Shape, channels_first: bool = False) -> Collected:
    kind, ndim = array.dtype.kind, array.ndim
    if kind == "S":
        raise InputError(
            "numpy cuts zeros off the end of bytes; pass a list or dtype=object, or X.astype(str) "
            "if they are paths"
        )
    if kind in "OUT" and ndim == 1:
        return _from_items(array.tolist(), array, image_shape)
    if kind == "V" and ndim == 1:
        return _from_items(list(array), array, image_shape)
    if kind in "OUT" and ndim == 2 and array.shape[1] == 1:
        return _from_items(array[:, 0].tolist(), array, image_shape, n_columns=1)
    if ndim == 2:
        refuse_encoded(array)
        if len(array):
            refuse_encoded(array[0], 0)
        return _rows(array, image_shape)
    if ndim == 1:
        refuse_encoded(array)
    if kind not in "buif":  # complex, dates, or numbers that lost their dtype on the way
        array = _whole(array)
    _check_batch(array)
    layout = "stack" if ndim == 3 else "images"
    return Collected(array, layout, channels_first=channels_first)


def _check_batch(array: np.ndarray) -> None:
    shape = array.shape
    if array.ndim == 1:
        raise InputError(_numbers_in_a_row(shape[0]))
    if array.ndim not in (3, 4):
        raise InputError(
            "X must be (n_samples, n_columns) or images of (n, h, w), (n, h, w, c) or "
            f"(n, c, h, w) with c = 1, 3 or 4, got an array of shape {shape}"
        )
    if shape[0] == 0:
        raise InputError(f"{_EMPTY} (shape={shape})")
    if array.ndim == 3 and shape[2] in (1, 3, 4):
        raise InputError(_one_image(shape))
    if array.ndim == 4 and 0 not in shape and channel_axis(shape[1:]) is None:
        raise InputError(f"each image in X must be {LAYOUTS}, got X of shape {shape}")


def _one_image(shape: tuple[int, ...]) -> str:
    return (
        f"an array of shape {shape} is one image (h, w, {shape[2]}): pass [X]. If it is "
        f"{shape[0]} greyscale images of width {shape[2]}, pass X[..., None]"
    )


def _from_items(
    items: list[Any], X: Any, image_shape: Shape, n_columns: int | None = None
) -> Collected:
    if not items:
        raise InputError(_EMPTY)
    items = [item if type(item) is str else plain(item) for item in items]
    kinds = [kind_of(item) for item in items]
    if kinds[0] == "number":
        refuse_encoded(X)
    for index, kind in enumerate(kinds):
        if kind not in ("file", "missing", "column"):
            refuse_encoded(items[index], index)
    if all(kind == "column" for kind in kinds):  # [["a.jpg"], ["b.jpg"]]
        return _from_items([item[0] for item in items], X, image_shape, n_columns=1)
    found = set(kinds)
    if found <= {"row"} or (n_columns == 1 and found <= {"number"}):
        rows = [as_array(item) for item in items] if any(map(is_tensor, items)) else X
        return _rows(rows, image_shape)
    if found == {"missing"}:
        raise InputError("every item of X is missing")
    if found <= {"number", "missing"}:
        raise InputError(_numbers_in_a_row(len(items)))
    _refuse_batch(items)
    _refuse_batches(items)
    for index, kind in enumerate(kinds):
        remedy = "" if kind in ("file", "missing") else remedy_for(items[index])
        if remedy or kind in ("other", "number", "column"):
            what = name_of(items[index])
            raise InputError(f"item {index} of X must be {_IMAGES}, got {what}{remedy}")
    if found == {"array"} and (whole := _nested(items)) is not None:
        return _from_array(whole, image_shape)
    return Collected(items, n_columns=n_columns)


def _nested(items: list[Any]) -> np.ndarray | None:
    """Nested lists of numbers as the array they are, or None for items of several shapes.

    Lists of several arrays, which iterating over one image gives as well, stay items.
    """
    if len(items) > 1 and all(isinstance(item, (list, tuple)) for item in items):
        try:
            return as_array(items)
        except ImageError:
            return None
    shapes: set[Any] = {getattr(item, "shape", None) for item in items}
    shape = next(iter(shapes)) if len(items) > 4 and len(shapes) == 1 else None
    if shape is not None and len(shape) == 2 and shape[0] > 4 and shape[1] in (3, 4):
        raise InputError(_one_image((len(items), *shape)))
    return None


def _refuse_batch(items: list[Any]) -> None:
    """Refuse what a torch DataLoader gives at a time: images, and their labels."""
    if len(items) == 2 and getattr(items[0], "ndim", None) == 4:
        if getattr(items[1], "ndim", None) == 1 and len(items[0]) == len(items[1]):
            raise InputError(
                f"X must be a collection of images, got a pair of {len(items[0])} images and "
                f"{len(items[1])} labels, as a DataLoader gives it: pass X[0]"
            )


def _refuse_batches(items: list[Any]) -> None:
    for index, item in enumerate(items):
        shape: Any = getattr(item, "shape", ())
        if len(shape) == 4:
            join = "torch.cat(X)" if is_tensor(item) else "numpy.concatenate(X)"
            raise InputError(
                f"item {index} of X must be one image, got a batch of {shape[0]}, an array of "
                f"shape {tuple(shape)}: pass {join}"
            )


def _rows(X: Any, image_shape: Shape) -> Collected:
    try:
        rows = check_rows(X)
    except (InputError, TypeError) as error:
        if (message := _columns_of_images(X)) is not None:
            raise InputError(message) from error
        raise
    n_columns = rows.shape[1]
    shape = row_shape(n_columns, image_shape)
    doubt = None
    if image_shape is None:
        shape = told_order(rows, shape)
    else:
        doubt = doubt_of_order(rows, shape)
    return Collected(rows, "rows", n_columns=n_columns, shape=shape, doubt=doubt)


def _columns_of_images(X: Any) -> str | None:
    """Say which columns of a table hold images, where there are others or several."""
    shape: Any = getattr(X, "shape", ())
    if len(shape) != 2 or not shape[0]:
        return None
    first = X.iloc[:_FIRST_CELLS] if hasattr(X, "iloc") else X[:_FIRST_CELLS]
    if hasattr(first, "to_pylist"):  # of pyarrow, whose columns are no names
        names, rows = list(X.column_names), [list(row.values()) for row in first.to_pylist()]
    else:
        rows = np.asarray(first, dtype=object).tolist()
        names = list(X.columns) if hasattr(X, "columns") else list(range(shape[1]))
    cells = [
        next((cell for cell in column if not is_missing(cell)), None)
        for column in zip(*rows, strict=True)
    ]
    found = [
        name
        for name, cell in zip(names, cells, strict=False)
        if kind_of(plain(cell)) in ("file", "array")
    ]
    if not found or len(names) != len(cells):
        return None
    some = ", ".join(shown(name, 40) for name in found[:3]) + ", …" * (len(found) > 3)
    holds = "holds text or images" if len(found) == 1 else "hold text or images"
    steps = ", ".join(
        f"({shown(repr(f'codes_{name}'), 40)}, CNNCodes(), {shown(repr(name), 40)})"
        for name in found[:2]
    )
    return (
        f"X has {shape[1]} columns, of which {some} {holds}. Images come in one column of paths or "
        "images, alone in X: pass that column, or take one CNNCodes for each column (TextCodes for "
        f"texts), "
        f"ColumnTransformer([{steps}])"
    )


def _whole(X: Any) -> np.ndarray:
    try:
        return as_array(X)
    except ImageError as error:
        raise InputError(f"X, {name_of(X)}, {error.cause}") from error


def _asarray(X: Any) -> np.ndarray:
    try:
        return np.asarray(X)
    except Exception as error:  # each array library has its own
        raise InputError(f"X, {name_of(X)}, cannot be read as an array: {error}") from error


def _numbers_in_a_row(length: int) -> str:
    return (  # "Reshape your data" is what scikit-learn's checks look for
        f"X must be a collection of images, got {length} numbers of shape ({length},). "
        "Reshape your data: X.reshape(1, -1) if it is one flattened image"
    )


# What one item of a collection is.


_MISSING_TYPES = ("NAType", "NaTType")  # of pandas, which need not be installed


def kind_of(item: Any) -> str:
    """Name what an item is: file, array, row, column, number, missing or other."""
    if isinstance(item, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)):
        return "file"
    if is_open_file(item) or isinstance(item, DatasetImage):
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
            "[image for image, *_ in X], or of a data set of torch load_torch_dataset(dataset).data"
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


# Flattened rows: one image in each row of a table of numbers, as scikit-learn ships them.


_EXAMPLE = (
    'name image_shape=: (h, w), (h, w, 3), (3, h, w), or "row" for a greyscale image of height 1'
)

_ENOUGH = 256  # rows that are looked at for the order of their colours
_TOLD, _CERTAIN = 0.2, 0.35
_CHANCE = 4  # what chance adds to the evidence of n pixels is less than this by the root of n
_ALIKE = 0.15  # colours that differ by less, next to neighbours, are shades of grey


def check_rows(X: Any) -> np.ndarray:
    """Give the (n, n_columns) array of a table of numbers, checked as scikit-learn checks it.

    Raises
    ------
    InputError
        If `X` is empty, ragged, complex, text, or holds NaN or infinity.
    TypeError
        If `X` is sparse or holds objects that are no numbers.
    """
    try:
        rows: np.ndarray = check_array(X, input_name="X")
        if rows.dtype.kind in "OUT":  # of frames of polars it lets texts pass
            rows = rows.astype(np.float64)
    except ValueError as error:
        message = str(error)
        if "unique column names" in message:  # a line for each
            raise InputError(
                "the column names of X must be unique; pass X.to_numpy() if they mean nothing"
            ) from error
        if "inhomogeneous" in message or "setting an array element with a sequence" in message:
            raise InputError(_ragged(X)) from error
        if "string" in message:  # text where numbers must be
            message += ". Images that are files come in one column of paths, alone in X."
        raise InputError(message) from error
    return rows


def _ragged(X: Any) -> str:
    """Say which row differs in length from the first."""
    lengths = [len(row) if hasattr(row, "__len__") else 1 for row in X]
    other = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if other is None:
        return "the rows of X must hold numbers, got rows that hold sequences"
    return (
        f"the rows of X must have one length, got {lengths[0]} numbers in row 0 and "
        f"{lengths[other]} in row {other}. Images of several sizes come as arrays (h, w) or "
        "(h, w, 3) in a list"
    )


def check_image_shape(image_shape: Any) -> tuple[int, ...] | str | None:
    """Give `image_shape` as a tuple of ints, "row" or None."""
    if image_shape is None or (isinstance(image_shape, str) and image_shape == "row"):
        return image_shape
    if isinstance(image_shape, (tuple, list, np.ndarray)):
        sizes = tuple(image_shape)
        if len(sizes) in (2, 3) and all(_is_size(size) for size in sizes):
            shape = tuple(int(size) for size in sizes)
            if len(shape) == 2 or channel_axis(shape) is not None:
                return shape
    raise InputError(
        'image_shape must be None, "row", (h, w), (h, w, c) or (c, h, w) with c = 1, 3 or 4, '
        f"got {image_shape!r}"
    )


def _is_size(size: Any) -> bool:
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool) and int(size) > 0


def row_shape(n_columns: int, image_shape: tuple[int, ...] | str | None) -> tuple[int, ...]:
    """Tell the shape of the image in a row of `n_columns` numbers.

    Raises
    ------
    InputError
        If it cannot be inferred, or `image_shape` asks for another number of columns.
    """
    if image_shape == "row":
        return (1, n_columns)
    if isinstance(image_shape, tuple):
        if math.prod(image_shape) == n_columns:
            return image_shape
        raise InputError(
            f"image_shape={image_shape} needs rows of {math.prod(image_shape)} numbers, "
            f"got {n_columns}"
        )
    for channels in ((), (3,)):
        side = math.isqrt(n_columns // math.prod(channels))
        if side * side * math.prod(channels) == n_columns:
            return (side, side, *channels)
    raise InputError(
        f"rows of {n_columns} numbers are neither a square greyscale image nor a square image of "
        f"3 colours; {_EXAMPLE}"
    )


def told_order(rows: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tell an inferred image (h, w, 3) from (3, h, w) by the numbers; warn where they do not say.

    CIFAR's own files and OpenML have all red values of an image first, then green, then blue.
    """
    if len(shape) != 3 or shape[0] * shape[1] == 1:
        return shape
    height, width, _ = shape
    evidence = _planar_evidence(rows, height, width)
    if evidence is None or evidence < -_TOLD:
        return shape
    planar = (3, height, width)
    n_pixels = min(len(rows), _ENOUGH) * height * width
    if evidence > _TOLD + _CHANCE / math.sqrt(n_pixels):
        return planar
    warn(
        f"rows of {rows.shape[1]} numbers are read as images {shape}, but are hard to tell from "
        f"{planar}: name image_shape={shape} or image_shape={planar}",
        SktransferWarning,
    )
    return shape


def doubt_of_order(rows: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """Say that a known shape contradicts the numbers; None where it does not."""
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or shape[0] == shape[2]:
        return None
    planar = shape[2] != 3
    height, width = shape[1:] if planar else shape[:2]
    evidence = _planar_evidence(rows, height, width)
    if evidence is None or (evidence if planar else -evidence) > -_CERTAIN:
        return None
    other = (height, width, 3) if planar else (3, height, width)
    return (
        f"rows are read as images {shape}, as image_shape or fit said, but look like {other}: "
        "neighbours that should resemble each other do not. Check the order of the colours, or "
        f"name image_shape={other}"
    )


def _planar_evidence(rows: np.ndarray, height: int, width: int) -> float | None:
    """How much smoother images are as (3, h, w) than as (h, w, 3): a mean log ratio.

    Of CIFAR's images it is 0.8, and -1 where they are interleaved; of noise it is 0. None where
    all images are of one grey. Smoothness says nothing of an image of greys, whose three colours
    are the same in one of the two orders.
    """
    some = rows[:: max(1, len(rows) // _ENOUGH)][:_ENOUGH].astype(np.float64)
    interleaved = _roughness(some.reshape(-1, height, width, 3).transpose(0, 3, 1, 2))
    planar = _roughness(some.reshape(-1, 3, height, width))
    tells = interleaved + planar > 0
    if not tells.any():
        return None
    least = 1e-3 * float(np.ptp(some))
    evidence = np.log((interleaved + least) / (planar + least))
    grey = _is_grey(some.reshape(len(some), -1, 3))
    grey_planes = _is_grey(some.reshape(len(some), 3, -1).transpose(0, 2, 1))
    evidence[grey & ~grey_planes], evidence[grey_planes & ~grey] = -2, 2
    return float(np.clip(evidence[tells], -2, 2).mean())


def _is_grey(images: np.ndarray) -> np.ndarray:
    """Whether the colours of each of (n, pixels, 3), but for a tint, differ less than neighbours.

    Neighbours that are taken for three colours by mistake differ by a third of what those do that
    are taken for neighbours.
    """
    images = images - images.mean(axis=1, keepdims=True)
    across, along = (np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    found: np.ndarray = across < _ALIKE * along
    return found


def _roughness(images: np.ndarray) -> np.ndarray:
    """Mean difference of neighbours in each of (n, colours, h, w)."""
    total = np.zeros(len(images))
    for axis in (2, 3):
        if images.shape[axis] > 1:
            total += np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2, 3))
    return total
