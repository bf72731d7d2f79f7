"""Any input to a sequence with one item for each image; nothing is read or copied."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, InputError, shown
from ._arrays import LAYOUTS, as_array, channel_axis, is_tensor
from ._kinds import is_missing, is_open_file, kind_of, name_of, plain, refuse_encoded, remedy_for
from ._rows import check_rows, doubt_of_order, row_shape, told_order

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
                f"X must be a collection of images, got the folder {shown(os.fsdecode(X))}; pass "
                "load_image_folder(X).data, or a list of paths"
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


def _way_out(X: Any) -> str:
    if isinstance(X, Mapping):
        keys = [k for k, v in X.items() if isinstance(v, (Sequence, np.ndarray)) or is_tensor(v)]
        keys = [key for key in keys if not isinstance(X[key], (str, bytes))]
        return f"; pass one of its values, such as X[{shown(repr(keys[0]))}]" if keys else ""
    if isinstance(X, Set):
        return "; pass a list, whose order is known"
    if hasattr(X, "dataset") and hasattr(X, "batch_size"):  # torch's DataLoader
        return "; pass the images of its data set: [image for image, *_ in X.dataset]"
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
        f"images, alone in X: pass that column, or take one CNNCodes for each column, "
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
