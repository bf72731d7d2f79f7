"""Tables with a row for each box, and the boxes of each image: there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sktransfer._optional import import_optional
from sktransfer.datasets._paths import PathIndex
from sktransfer.exceptions import InputError, shown
from sktransfer.inputs import as_boxes, is_missing, name_of

# Names of columns in use, without case, blanks and underscores; the first is the one we write.
NAMES = {
    "image_path": "imagepath image imagefile imagename filename filepath file path img imageid",
    "xmin": "xmin x1 left",
    "ymin": "ymin y1 top",
    "xmax": "xmax x2 right",
    "ymax": "ymax y2 bottom",
    "label": "label class classname category categoryname labelname name",
}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def boxes_by_image(table: Any, files: Sequence[Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Gather a table with a row for each box into the boxes of each image.

    Parameters
    ----------
    table : data frame or dict of columns
        With columns ``image_path``, ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels and, if there
        are several classes, ``label``. Other names in use are known as well: ``filename`` or
        ``image``, ``x1``, ``left``, ``class``, in any case. A row without corners, or with zeros
        alone, is an image without boxes.
    files : sequence of str or path-like, default=None
        The images, in the order in which their boxes are to be. Those that are not in the table
        have no boxes. A name in the table may be the end of the path here, or the other way round.
        None takes the images of the table, by their first row.

    Returns
    -------
    files : ndarray of object, shape (n_images,)
        What is X for :class:`~sktransfer.FineTuneDetector`.
    y : ndarray of object, shape (n_images,)
        What is y: a dict for each image of ``"boxes"``, float64 of shape (k, 4), and ``"labels"``
        of shape (k,), unless the table has none.

    Raises
    ------
    InputError
        If a column is missing, a row has a part of its corners alone, or an image of the table is
        not among `files`.

    See Also
    --------
    load_boxes : Reads such a table, and other formats, from a file.
    boxes_to_frame : The way back.

    Examples
    --------
    >>> from sktransfer import boxes_by_image
    >>> table = {"filename": ["a.png", "b.png", "a.png"], "x1": [0, 4, 20], "y1": [1, 1, 1],
    ...          "x2": [9, 8, 40], "y2": [7, 9, 9], "class": ["car", "bus", "bus"]}
    >>> files, y = boxes_by_image(table, ["a.png", "b.png", "c.png"])
    >>> [len(one["boxes"]) for one in y]
    [2, 1, 0]
    >>> y[0]["labels"].tolist()
    ['car', 'bus']
    """
    if not hasattr(table, "columns") and not isinstance(table, dict):
        raise InputError(
            f"table must be a data frame or a dict of columns, got {name_of(table)}. Of a "
            "file take load_boxes."
        )
    names = list(table.columns) if hasattr(table, "columns") else list(table)
    columns = find_columns(names)
    image = [one.item() if isinstance(one, np.generic) else one
             for one in np.asarray(table[columns["image_path"]])]  # fmt: skip
    corners = np.stack([_numbers(table[columns[one]], columns[one]) for one in CORNERS], axis=1)
    labels = np.asarray(table[columns["label"]]) if "label" in columns else None
    found = gather(image, corners, labels, lambda row: f"row {row} of the table")
    if files is None:
        return _objects(list(found)), _objects(list(found.values()))
    index, empty = PathIndex(files), {"boxes": np.empty((0, 4))}
    if labels is not None:
        empty["labels"] = labels[:0]
    y: list[dict[str, np.ndarray] | None] = [None] * len(files)
    lost = []
    for name, own in found.items():
        place = index.find(name)
        if place is None:
            lost.append(name)
        elif y[place] is not None:
            raise InputError(f"Two images of the table, such as {shown(name)}, are one of files.")
        else:
            y[place] = own
    if lost:
        raise InputError(
            f"Images of the table must be among files, but {shown(lost[0])} is not, one of "
            f"{len(lost)}. Remove its rows from the table, or add it."
        )
    return _objects(list(files)), _objects([dict(empty) if one is None else one for one in y])


def find_columns(names: Sequence[str]) -> dict[str, str]:
    """The column of each part of a box, by the names in use; "label" may be missing."""
    plain = {str(one).casefold().replace("_", "").replace(" ", ""): one for one in reversed(names)}
    found = {
        part: next((plain[one] for one in known.split() if one in plain), None)
        for part, known in NAMES.items()
    }
    missing = [part for part, one in found.items() if one is None and part != "label"]
    if missing:
        raise InputError(
            f"The table must have the columns {', '.join(NAMES)}, but has none for "
            f"{', '.join(missing)}; it has {shown(list(names))}. Of x, y, width and height make "
            "xmax = x + width, ymax = y + height."
        )
    return {part: one for part, one in found.items() if one is not None}


def gather(
    image: Sequence[Any],
    corners: np.ndarray,
    labels: np.ndarray | None,
    where: Callable[[int], str],
) -> dict[Any, dict[str, np.ndarray]]:
    """The boxes and labels of each image, by its name, in the order of first rows.

    Raises
    ------
    InputError
        If a row has no image, or a part of its corners or no label; `where` names the row.
    """
    gaps = np.isnan(corners)
    is_box = ~gaps.all(axis=1) & (corners != 0).any(axis=1)
    rows: dict[Any, list[int]] = {}
    for row, name in enumerate(image):
        if is_missing(name) or name == "":
            raise InputError(f"Each box must have an image, but {where(row)} has none.")
        own = rows.setdefault(name, [])
        if not is_box[row]:
            continue
        if gaps[row].any():
            raise InputError(
                f"{where(row)} must have all of {', '.join(CORNERS)}, or none of them where the "
                f"image has no boxes, got {shown(corners[row].tolist())}."
            )
        if labels is not None and (is_missing(labels[row]) or labels[row] == ""):
            raise InputError(f"Each box must have a label, but {where(row)} has none.")
        own.append(row)
    found = {}
    for name, own in rows.items():
        found[name] = {"boxes": corners[own]}
        if labels is not None:
            found[name]["labels"] = _plain(labels[own])
    return found


def _plain(labels: np.ndarray) -> np.ndarray:
    """Words or whole numbers, as they are; those of a column with gaps are floats."""
    if labels.dtype.kind in "fO" and all(
        isinstance(one, (int, float)) and one == int(one) for one in labels.tolist()
    ):
        return labels.astype(np.int64)
    return labels.astype(str) if labels.dtype.kind not in "biu" else labels


def _numbers(column: Any, name: str) -> np.ndarray:
    try:
        return np.array([np.nan if is_missing(one) else float(one) for one in column], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"The column {shown(name)} must hold numbers: {error}.") from error


def _objects(values: Sequence[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def boxes_to_frame(y: Any, files: Sequence[Any] | None = None) -> Any:
    """Make a table with a row for each box, as predictions are written to a file.

    Parameters
    ----------
    y : list, Series or object array of length n_images
        Boxes as :class:`~sktransfer.FineTuneDetector` predicts or takes them.
    files : sequence of length n_images, default=None
        The path or name of each image, None is its number.

    Returns
    -------
    frame : pandas.DataFrame
        With columns ``image_path`` (``image`` without `files`), ``xmin``, ``ymin``, ``xmax``,
        ``ymax``, ``label`` and, where there are any, ``score``. Images without boxes have no row.

    Raises
    ------
    ImportError
        If pandas is missing (the extra ``plot``).
    InputError
        If there are not as many files, or `y` holds no boxes.

    See Also
    --------
    boxes_by_image : The way back.

    Examples
    --------
    >>> from sktransfer import boxes_to_frame
    >>> found = [{"boxes": [[0, 1, 9, 7]], "labels": ["car"], "scores": [0.8]}, []]
    >>> print(boxes_to_frame(found, ["a.png", "b.png"]).to_string(index=False))
    image_path  xmin  ymin  xmax  ymax label  score
         a.png   0.0   1.0   9.0   7.0   car    0.8
    """
    pandas = import_optional("pandas", "boxes_to_frame", "plot")
    boxes = as_boxes(y, None if files is None else len(files))
    images = boxes.images
    named = images if files is None else _objects([str(one) for one in files])[images]
    columns: dict[str, Any] = {"image" if files is None else "image_path": named}
    columns |= dict(zip(CORNERS, boxes.corners.T, strict=True))
    columns["label"] = boxes.labels
    if not np.isnan(boxes.scores).all():
        columns["score"] = boxes.scores
    return pandas.DataFrame(columns)
