"""Tables with a row for each image: where its file is, and its label, tags or value."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer.datasets._box_formats import text_of
from sktransfer.datasets._bunch import ImageBunch
from sktransfer.datasets._folder import damaged, part_named, readable_extensions
from sktransfer.exceptions import (
    ColumnError,
    InputError,
    SktransferWarning,
    did_you_mean,
    shown,
)
from sktransfer.inputs import is_missing, name_of

# Names of columns in use, without case, blanks and underscores, the likeliest first.
FILE_COLUMNS = "file filename filepath path image imagepath imagefile imagename img imageid"
LABEL_COLUMNS = "label class classname category categoryname labelname target species"


def load_image_table(
    table: Any,
    *,
    file: Any = None,
    label: Any = None,
    tags: Any = None,
    value: Any = None,
    split: Any = None,
    groups: Any = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    separator: str | None = None,
    target_as: str = "number",
    on_bad: str = "raise",
    verify: bool = False,
    return_X_y: bool = False,
) -> Any:
    """List the images that a table names, with their labels, tags or values.

    No image is read, unless `verify` is set: `data` holds paths, which
    :class:`~sktransfer.CNNCodes` opens when it needs them. That every file is there is looked at.

    Parameters
    ----------
    table : path, data frame or dict of columns
        A CSV file with a header, separated by comma, semicolon or tab; or a data frame of pandas or
        polars. Rows keep their order.
    file : str, default=None
        The column of paths. None takes one called file, filename, path, image or the like.
    label : str, default=None
        The column of labels, one for each image. "auto" takes one called label, class, category or
        the like.
    tags : str or list of str, default=None
        Several tags an image: the columns of 0 and 1 (or one such column), of which an empty cell
        is not known; or the one column that names the tags of an image, and rows of the same file
        are put together.
    value : str, default=None
        The column of numbers that are to be predicted. Without `label`, `tags` and `value` there is
        no target.
    split : str, default=None
        The column that says to which part of the data set a row belongs: train, valid, test and
        their other names, as in :func:`load_image_folder`, any other word, or True for "valid" and
        False for "train".
    groups : str, default=None
        The column that says what belongs together, such as the patient or the clip, for
        :class:`~sklearn.model_selection.GroupKFold`.
    root : str or path-like, default=None
        The folder that relative paths begin in. None is the folder of the CSV file, and of a data
        frame the working directory.
    suffix : str, default=""
        What is added to each path, such as ``".jpg"`` where the table has names without extension.
    separator : str, default=None
        What stands between tags in one cell. None is the first of ``|``, ``;``, ``,`` and the blank
        that the column has.
    target_as : {"number", "name"}, default="number"
        What `target` holds of labels: numbers of classes, or labels as they stand in the table,
        which a classifier that is fitted to them predicts as well.
    on_bad : {"raise", "drop"}, default="raise"
        What a row does whose file is not there or is named twice, or whose label, value or part is
        missing: an error that names the first, or it is left out, with a warning.
    verify : bool, default=False
        Read and decode every image; damaged ones are bad as well.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes. With `split` instead: `target_names`, `DESCR`, `skipped`, and
        under the name of each part such a Bunch.

        data : ndarray of object, shape (n_images,)
            The absolute path, a str, of each image.
        target : ndarray of shape (n_images,) or (n_images, n_tags), or None
            Of labels their place in `target_names`, int64, or their name; of tags 0 and 1, int64,
            or float64 with NaN where one is not known; of values float64.
        target_names : ndarray of shape (n_classes,) or (n_tags,), or None
            Labels in order (whole numbers as such), or tags.
        groups : ndarray of shape (n_images,) or None
            The column `groups`.
        rows : ndarray of int64, shape (n_images,)
            The row of each image in the table, from 0.
        filenames : ndarray of object, shape (n_images,)
            The same as `data`.
        skipped : list of (str, str)
            Every row that was left out, and why.
        DESCR : str
            What was found.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above; with `split` a Bunch of such tuples by part.

    Raises
    ------
    InputError
        A ValueError: if there is no such column or file, or a row is bad; says which line, the
        folder that was looked in, and what to do.

    Warns
    -----
    SktransferWarning
        With ``on_bad="drop"``: how many rows were left out, and why.

    See Also
    --------
    load_image_folder : Images in a folder for each class.
    load_boxes : Tables with a row for each box.

    Examples
    --------
    >>> from sktransfer import load_image_table
    >>> photos = load_image_table(
    ...     "photos.csv", file="filename", label="species", root="photos/")  # doctest: +SKIP
    >>> model.fit(photos.data, photos.target)  # doctest: +SKIP
    """
    for name, given, valid in (("target_as", target_as, ("number", "name")),
                               ("on_bad", on_bad, ("raise", "drop"))):  # fmt: skip
        if given not in valid:
            raise InputError(f"{name} must be one of {valid}, got {shown(repr(given))}.")
    asked = [name for name, one in (("label", label), ("tags", tags), ("value", value))
             if one is not None]  # fmt: skip
    if len(asked) > 1:
        raise InputError(f"Only one of label, tags and value may be given, got {asked}.")
    columns = read_table(table)
    folder = _root(root, columns)
    rows = _Rows(columns, file, folder, suffix)
    merges = isinstance(tags, str)
    target = _target(columns, label, tags, value, separator, rows)
    rows.check_files(merges=merges, verify=verify)
    parts = None if split is None else _parts(columns, split, rows)
    together = None if groups is None else columns.cells(groups)
    for row, one in enumerate(together or ()):
        if is_missing(one):
            rows.spoil(row, f"has no group in the column {shown(repr(groups))}")
    skipped = rows.drop() if on_bad == "drop" else rows.refuse()
    if not len(rows.kept):
        raise InputError(
            f"{columns.name} must name at least one image that can be used; the first row that "
            f"cannot: {skipped[0][0]} {skipped[0][1]}." if skipped
            else f"{columns.name} must have rows, and has none."
        )  # fmt: skip
    if skipped:
        _warn_of(skipped, len(rows.kept), columns.name)
    paths = np.array([rows.paths[row] for row in rows.kept], object)
    labels, names = target.of(rows, target_as == "name")
    bunch = ImageBunch(
        data=paths, target=labels, target_names=names,
        groups=None if together is None else _plain([together[row] for row in rows.kept]),
        rows=rows.kept, filenames=paths, skipped=skipped,
        DESCR=f"{len(paths)} images {target.told(names)}in {columns.name}",
    )  # fmt: skip
    if parts is None:
        return (bunch.data, bunch.target) if return_X_y else bunch
    return _by_part(bunch, parts[rows.kept], return_X_y)


# The table.


@dataclass(frozen=True)
class Columns:
    """A table as columns.

    Attributes
    ----------
    name : str
        In messages: the path of the file, or "the table".
    names : list of str
    n : int
        Number of rows.
    take : callable
        Gives the cells of a column.
    where : callable
        Names a row in messages.
    folder : str or None
        Of the file.
    """

    name: str
    names: list[Any]
    n: int
    take: Callable[[Any], list[Any]]
    where: Callable[[int], str]
    folder: str | None = None

    def cells(self, column: Any) -> list[Any]:
        """The cells of a column."""
        if column not in self.names:
            hint = did_you_mean(str(column), [str(one) for one in self.names])
            raise ColumnError(
                f"{self.name} must have the column {shown(repr(column))}, but has "
                f"{shown(self.names)}. {hint}".rstrip()
            )
        return self.take(column)

    def known(self, words: str) -> Any:
        """The first column of one of these names, without case, blanks and underscores."""
        plain = {str(one).casefold().replace("_", "").replace(" ", ""): one
                 for one in reversed(self.names)}  # fmt: skip
        return next((plain[one] for one in words.split() if one in plain), None)


def read_table(table: Any) -> Columns:
    """Take a CSV file, a data frame or a dict as columns.

    Raises
    ------
    InputError
        If it is none of them, cannot be read, or a line has more or fewer cells than the header.
    """
    if isinstance(table, (str, os.PathLike)):
        return _read_csv(os.path.abspath(os.path.expanduser(os.fsdecode(table))))
    if isinstance(table, Mapping):
        names, n = list(table), max((len(one) for one in table.values()), default=0)
        if any(len(one) != n for one in table.values()):
            raise InputError("The columns of table must have one length.")
    elif hasattr(type(table), "columns") and hasattr(table, "shape"):
        names, n = list(table.columns), len(table)
        if hasattr(table, "column_names"):  # of pyarrow, whose columns are no names
            names = list(table.column_names)
    else:
        raise InputError(
            f"table must be the path of a CSV file, a data frame or a dict of columns, got "
            f"{name_of(table)}."
        )
    if len(set(names)) != len(names):
        raise InputError(f"The columns of table must have different names, got {shown(names)}.")
    return Columns(
        "the table", names, n, lambda one: np.asarray(table[one], dtype=object).tolist(),
        lambda row: f"row {row} of the table",
    )  # fmt: skip


def _read_csv(path: str) -> Columns:
    if os.path.splitext(path)[1].lower() in (".parquet", ".feather", ".xlsx", ".xls", ".json"):
        raise InputError(
            f"table must be a CSV file, got {shown(path)}; read it with pandas and pass the data "
            "frame."
        )
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "there is none"
        also = "; load_image_folder lists the images in a folder" if os.path.isdir(path) else ""
        raise InputError(f"table must be the path of a CSV file, but {what}: {shown(path)}{also}.")
    text = text_of(path)
    reader = csv.reader(io.StringIO(text, newline=""),
                        delimiter=max(",;\t", key=text.partition("\n")[0].count))  # fmt: skip
    try:
        lines = [(row, reader.line_num) for row in reader if any(one.strip() for one in row)]
    except csv.Error as error:
        raise InputError(f"Line {reader.line_num} of {shown(path)} is no CSV: {error}.") from error
    if len(lines) < 2:
        raise InputError(f"{shown(path)} must hold a header and at least one row.")
    names, rows = [one.strip() for one in lines[0][0]], [row for row, _ in lines[1:]]
    numbers = [number for _, number in lines[1:]]
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(names):
            raise InputError(
                f"Line {number} of {shown(path)} must have {len(names)} columns, got {len(row)}. "
                "Put quotes around cells that hold the separator."
            )
    if len(set(names)) != len(names):
        raise InputError(f"The columns of {shown(path)} must have different names, got {names}.")
    return Columns(
        shown(path), names, len(rows),
        lambda one: [row[names.index(one)].strip() or None for row in rows],
        lambda row: f"line {numbers[row]} of {shown(os.path.basename(path))}",
        os.path.dirname(path),
    )  # fmt: skip


def _root(root: Any, columns: Columns) -> str:
    if root is None:
        return columns.folder or os.getcwd()
    if not isinstance(root, (str, os.PathLike)):
        raise InputError(f"root must be the path of a folder, got {name_of(root)}.")
    folder = os.path.abspath(os.path.expanduser(os.fsdecode(root)))
    if not os.path.isdir(folder):
        raise InputError(f"root must be the folder that paths begin in; {shown(folder)} is none.")
    return folder


# Rows: their files, and which of them can be used.


class _Rows:
    """The rows of a table, and why some of them cannot be used.

    Attributes
    ----------
    paths : list of str or None
        Absolute.
    bad : dict of int to str
        What is wrong, by row.
    kept : ndarray of int64
        Rows that can be used; known after `refuse` or `drop`.
    merged : dict of int to int
        Rows that tell more of the file of an earlier row.
    """

    def __init__(self, columns: Columns, file: Any, folder: str, suffix: str) -> None:
        self.columns, self.folder = columns, folder
        column = columns.known(FILE_COLUMNS) if file is None else file
        if column is None:
            raise ColumnError(
                f"file must name the column of paths; {columns.name} has {shown(columns.names)}."
            )
        cells = columns.cells(column)
        self.bad: dict[int, str] = {}
        self.merged: dict[int, int] = {}
        self.paths: list[str | None] = [None] * columns.n
        for row, cell in enumerate(cells):
            cell = str(cell) if isinstance(cell, int) else cell  # a number that is a name
            if is_missing(cell) or not isinstance(cell, (str, os.PathLike)):
                self.bad[row] = f"has no path in the column {shown(repr(column))}"
            else:
                path = os.path.expanduser(os.fsdecode(cell).strip() + suffix)
                if os.sep == "/" and not os.path.exists(os.path.join(folder, path)):
                    path = path.replace("\\", "/")  # written on Windows
                self.paths[row] = os.path.normpath(os.path.join(folder, path))
        self.kept = np.empty(0, np.int64)

    def spoil(self, row: int, why: str) -> None:
        """Say that a row cannot be used; the first reason counts."""
        self.bad.setdefault(row, why)

    def check_files(self, *, merges: bool, verify: bool) -> None:
        """Look whether each file is there, and once."""
        first: dict[str, int] = {}
        for row, path in enumerate(self.paths):
            if path is None:
                continue
            if path in first and merges:
                self.merged[row] = first[path]
            elif path in first:
                again = self.columns.where(first[path])
                self.spoil(row, f"names {shown(path)}, as {again} does")
            elif row not in self.bad:
                first[path] = row
                if (why := _not_there(path, self.folder)) is not None:
                    self.bad[row] = why
        if verify:
            good = [row for row in first.values() if row not in self.bad]
            for row, cause in zip(good, damaged([str(self.paths[one]) for one in good]),
                                  strict=True):  # fmt: skip
                if cause is not None:
                    self.bad[row] = f"names {shown(self.paths[row])}: {cause}"
        for row, earlier in self.merged.items():
            if earlier in self.bad:
                self.bad[row] = self.bad[earlier]

    def drop(self) -> list[tuple[str, str]]:
        """Leave bad rows out; give them and why."""
        out = {*self.bad, *self.merged}
        self.kept = np.array([row for row in range(self.columns.n) if row not in out], np.int64)
        return [(self.columns.where(row), self.bad[row]) for row in sorted(self.bad)]

    def refuse(self) -> list[tuple[str, str]]:
        """An error of the first bad row, if there is one."""
        if self.bad:
            row = min(self.bad)
            more = f" ({len(self.bad) - 1} more rows cannot be used)" if len(self.bad) > 1 else ""
            where = self.columns.where(row)
            raise InputError(
                f"{where[0].upper()}{where[1:]} {self.bad[row]}{more}. Correct the table, or leave "
                'such rows out with on_bad="drop".'
            )
        return self.drop()


def _not_there(path: str, folder: str) -> str | None:
    """Why there is no file of an image, and what to do; None where there is."""
    try:
        if os.path.isfile(path):
            if os.path.getsize(path):
                return None
            return f"names {shown(path)}, which is empty (0 bytes)"
    except OSError as error:
        return f"names {shown(path)}, which cannot be read: {error.strerror}"
    if os.path.isdir(path):
        return f"names {shown(path)}, which is a folder"
    inside = os.path.relpath(path, folder) if path.startswith(folder + os.sep) else None
    if inside is None:
        return f"names {shown(path)}, and no file is there"
    for end in sorted(readable_extensions()):
        if os.path.isfile(path + end):
            return f"names {shown(repr(inside))}, of which there is a file: pass suffix={end!r}"
    return (
        f"names {shown(repr(inside))}, which is not in the folder {shown(folder)}; pass root=, the "
        "folder that the paths begin in"
    )


def _parts(columns: Columns, split: Any, rows: _Rows) -> np.ndarray:
    """The part of the data set that each row belongs to."""
    flags = {"true": "valid", "false": "train"}
    parts = np.empty(columns.n, object)
    for row, cell in enumerate(columns.cells(split)):
        if is_missing(cell):
            rows.spoil(row, f"has no part in the column {shown(repr(split))}")
            continue
        word = str(cell).strip().casefold()
        parts[row] = part_named(word) or flags.get(word, word)
    return parts


def _by_part(bunch: Bunch, parts: np.ndarray, return_X_y: bool) -> Bunch:
    own = ("data", "target", "groups", "rows", "filenames")
    order = ["train", "valid", "test", *sorted(set(parts))]
    names = sorted(set(parts), key=order.index)
    reserved = {*own, "target_names", "skipped", "DESCR"} & set(names)
    if reserved:
        raise InputError(f"A part may not be called {sorted(reserved)[0]!r}; rename it.")
    found = Bunch(target_names=bunch.target_names, skipped=bunch.skipped, DESCR=bunch.DESCR)
    for part in names:
        here = parts == part
        some = {key: None if bunch[key] is None else bunch[key][here] for key in own}
        told = f"{part}: {int(here.sum())} of {bunch.DESCR}"
        found[part] = (some["data"], some["target"]) if return_X_y else ImageBunch(
            **some, target_names=bunch.target_names, skipped=bunch.skipped, DESCR=told)  # fmt: skip
    return found


def _warn_of(skipped: list[tuple[str, str]], n: int, name: str) -> None:
    where, why = skipped[0]
    warnings.warn(
        f"{len(skipped)} rows of {name} were left out, {n} images are left; the first: {where} "
        f"{why}. The attribute `skipped` of the Bunch lists them all.",
        SktransferWarning,
        stacklevel=3,  # the caller of load_image_table
    )


# What is to be predicted.


@dataclass(frozen=True)
class _Target:
    """Cells that tell the target: of labels, tags or values, or nothing.

    Attributes
    ----------
    kind : {"none", "labels", "values", "tags", "named tags"}
    cells : sequence
        One for each row; of tags the numbers of all columns.
    names : list of str
        Of columns of tags.
    """

    kind: str
    cells: Any = ()
    names: Sequence[Any] = ()

    def of(self, rows: _Rows, named: bool) -> tuple[Any, Any]:
        """Target and names of the rows that are kept."""
        if self.kind == "none":
            return None, None
        if self.kind == "named tags":
            return self._named_tags(rows)
        if self.kind == "tags":
            matrix = np.array([self.cells[row] for row in rows.kept], float)
            known = not np.isnan(matrix).any()
            return matrix.astype(np.int64) if known else matrix, np.array(self.names)
        values = [self.cells[row] for row in rows.kept]
        if self.kind == "values":
            return np.array(values, float), None
        names, numbers = np.unique(_labels(values), return_inverse=True)
        return (names[numbers] if named else numbers.astype(np.int64)), names

    def _named_tags(self, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
        of_row = {int(row): set(self.cells[row]) for row in rows.kept}
        for row, earlier in rows.merged.items():
            if earlier in of_row:
                of_row[earlier] |= set(self.cells[row])
        names = sorted(set().union(*of_row.values()))
        if not names:
            raise InputError("The column of tags must hold at least one tag, and has none.")
        matrix = np.zeros((len(of_row), len(names)), np.int64)
        place = {name: number for number, name in enumerate(names)}
        for number, tags in enumerate(of_row.values()):
            matrix[number, [place[one] for one in tags]] = 1
        return matrix, np.array(names)

    def told(self, names: Any) -> str:
        """What there is, in the description."""
        if self.kind == "labels":
            return f"of {len(names)} classes "
        return f"with {len(names)} tags " if names is not None else ""


def _target(
    columns: Columns, label: Any, tags: Any, value: Any, separator: str | None, rows: _Rows
) -> _Target:
    if label == "auto" and label not in columns.names:
        label = columns.known(LABEL_COLUMNS)
        if label is None:
            raise ColumnError(
                f"label must name the column of labels; {columns.name} has {shown(columns.names)}."
            )
    if label is not None:
        cells = columns.cells(label)
        for row, cell in enumerate(cells):
            if is_missing(cell):
                rows.spoil(row, f"has no label in the column {shown(repr(label))}")
        return _Target("labels", cells)
    if value is not None:
        return _Target("values", _numbers(columns, value, rows))
    if isinstance(tags, str) and not _are_zeros_and_ones(columns.cells(tags)):
        return _Target("named tags", _words(columns.cells(tags), separator))
    if tags is not None:
        tags = [tags] if isinstance(tags, str) else tags
        found = np.stack([_zeros_and_ones(columns, one, rows) for one in tags], axis=1)
        return _Target("tags", found, list(tags))
    return _Target("none")


def _labels(values: list[Any]) -> np.ndarray:
    """Labels as an array of whole numbers, bools or str.

    Raises
    ------
    InputError
        If they are of several kinds, or numbers with fractions.
    """
    if all(isinstance(one, str) for one in values):
        whole = all(one.removeprefix("-").isdecimal() and str(int(one)) == one for one in values)
        return np.array([int(one) for one in values] if whole else values)
    array = np.array(values)
    if array.dtype.kind == "f" and (array == np.rint(array)).all():  # as gaps make of numbers
        return array.astype(np.int64)
    if array.dtype.kind in "biu":
        return array
    if array.dtype.kind == "f":
        raise InputError("Labels must be names or whole numbers, got fractions; pass value=.")
    raise InputError(
        "Labels must be names, whole numbers or bools, all of one kind, got "
        f"{', '.join(sorted({type(one).__name__ for one in values}))}."
    )


def _numbers(columns: Columns, column: Any, rows: _Rows) -> list[float]:
    found = []
    for row, cell in enumerate(columns.cells(column)):
        try:
            found.append(float("nan") if is_missing(cell) else float(cell))
        except (TypeError, ValueError):
            found.append(float("nan"))
        if not np.isfinite(found[-1]):
            what = "no number" if is_missing(cell) else f"{shown(repr(cell))}, which is no number,"
            rows.spoil(row, f"has {what} in the column {shown(repr(column))}")
    return found


# What says of a tag whether it is there.
_ANSWERS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "0.0": 0.0, "1.0": 1.0}


def _answer(cell: Any) -> float | None:
    """What a cell says of a tag; None where it is no answer."""
    return _ANSWERS.get(str(cell).strip().casefold())


def _are_zeros_and_ones(cells: Iterable[Any]) -> bool:
    """Whether a column is of one tag, and not of names of tags."""
    told = [_answer(cell) for cell in cells if not is_missing(cell)]
    return bool(told) and None not in told


def _zeros_and_ones(columns: Columns, column: Any, rows: _Rows) -> np.ndarray:
    found = np.full(columns.n, np.nan)
    told = {row: cell for row, cell in enumerate(columns.cells(column)) if not is_missing(cell)}
    answers = {row: _answer(cell) for row, cell in told.items()}
    if len(told) > 1 and 2 * list(answers.values()).count(None) > len(told):
        raise ColumnError(
            f"tags must name columns of 0, 1 or empty cells, or one column of names; "
            f"{shown(repr(column))} holds {shown(repr(next(iter(told.values()))))} "
            "and others. Pass it alone, or leave it out."
        )
    for row, cell in told.items():
        if (answer := answers[row]) is None:
            rows.spoil(row, f"has {shown(repr(cell))} in the column of the tag "
                            f"{shown(repr(column))}, which must be 0, 1 or empty")  # fmt: skip
            continue
        found[row] = answer
    return found


def _words(cells: Iterable[Any], separator: str | None) -> list[list[str]]:
    """Tags of each row."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    if separator is None:
        separator = next((one for one in "|;," if any(one in text for text in texts)), None)
    found = []
    for cell in cells:
        if isinstance(cell, (list, tuple, set, np.ndarray)):
            found.append([str(one) for one in cell])
        elif is_missing(cell):
            found.append([])
        else:
            found.append([one.strip() for one in str(cell).split(separator) if one.strip()])
    return found


def _plain(values: list[Any]) -> np.ndarray:
    """Groups as an array of one kind: of several kinds, and of dates, as they are written."""
    try:
        return _labels(values)
    except InputError:
        return np.array([str(one) for one in values])
