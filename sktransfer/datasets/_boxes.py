"""Images and the boxes in them, from the formats that tools for labelling write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer.datasets._box_formats import (
    NO_BOXES,
    Annotated,
    is_coco,
    read_coco,
    read_csv,
    read_json,
    read_voc,
    read_yolo,
    yolo_names,
)
from sktransfer.datasets._exif import SIDEWAYS, orientation_of, turned
from sktransfer.datasets._folder import readable_extensions
from sktransfer.datasets._paths import PathIndex, files_below
from sktransfer.exceptions import InputError, SktransferWarning, shown
from sktransfer.inputs import Images, as_boxes, as_images, bad_boxes, check_boxes

_FORMATS = {"coco": ".json", "voc": ".xml", "yolo": ".txt", "csv": ".csv"}
_ON_BAD = ("raise", "drop", "keep")
# Folders of images beside those of boxes.
_USUAL = ("images", "JPEGImages")


def load_boxes(
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    format: str = "auto",
    on_bad: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """List images and the boxes in them, as tools for labelling write them.

    Parameters
    ----------
    path : str or path-like
        - a JSON file of COCO, or a folder that holds one;
        - a folder with XML files of VOC, at any depth;
        - a folder with text files of YOLO, at any depth, or with the folders ``labels`` and
          ``images``; the classes are named by ``classes.txt`` or ``data.yaml`` there or above;
        - a CSV file with a row for each box: ``image_path``, ``xmin``, ``ymin``, ``xmax``,
          ``ymax``, ``label``, or other names that :func:`boxes_by_image` knows.
    images : str, path-like or None, default=None
        The folder of the images. None looks beside the files of boxes, and in ``images`` and
        ``JPEGImages`` there or a folder above.
    format : {"auto", "coco", "voc", "yolo", "csv"}, default="auto"
        "auto" tells it by the content.
    on_bad : {"raise", "drop", "keep"}, default="raise"
        What to do with boxes that have no area or are not in their image: an error that names the
        first, leave them out with a warning that counts them (an error, where these are more than
        half: they are of another format then, or of other images), or keep all boxes as they are
        written, which reads no image. Of YOLO images are always read, for their sizes.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object, shape (n_images,)
            The absolute path, a str, of each image; also of those without boxes, where the format
            knows them.
        target : ndarray of object, shape (n_images,)
            For each image a dict of ``"boxes"``, float64 of shape (k, 4), x1, y1, x2, y2 in
            pixels, and ``"labels"`` of shape (k,): the names of the classes, numbers where they
            have no names.
        target_names : ndarray
            The classes, sorted: all that the files name, or that occur.
        skipped : list of (str, str)
            What was left out, and why: bad boxes, and the crowds of COCO.
        DESCR : str
            What was found: the number of boxes of each class.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    Raises
    ------
    InputError
        If there are no boxes to be found, a file is broken (named with its line), an image is not
        found or of another size than its file says, or boxes are bad.

    Warns
    -----
    SktransferWarning
        If boxes were left out.

    See Also
    --------
    boxes_by_image : The same of a data frame.
    load_image_folder : Images with a label each.

    Notes
    -----
    Numbers are taken as they are written. VOC counts pixels from 1, which moves its boxes by one
    pixel at most. XML that declares entities is refused.

    Boxes are those of images as they are seen, turned by their EXIF orientation. Where the sizes in
    a file tell that its boxes were drawn on images as they lie, the boxes are turned too; not with
    ``on_bad="keep"``.

    Examples
    --------
    >>> from sktransfer import load_boxes
    >>> cells = load_boxes("BCCD/", on_bad="drop")  # doctest: +SKIP
    >>> cells.target[0]["labels"]  # doctest: +SKIP
    """
    if format != "auto" and format not in _FORMATS:
        raise ValueError(f"format= must be auto, {', '.join(_FORMATS)}, got {shown(format)}.")
    if on_bad not in _ON_BAD:
        raise ValueError(f"on_bad= must be {', '.join(_ON_BAD)}, got {shown(on_bad)}.")
    root = _existing(path, "path")
    folder = None if images is None else _existing(images, "images=")
    files = [root] if os.path.isfile(root) else list(files_below(root))
    kind = _told(files, root) if format == "auto" else format
    entries, names, skipped = _read(kind, files, root)
    finder = _Finder(folder)
    if kind == "yolo":
        paths, entries = _with_images(entries, finder, _yolo_folders(root, folder)[1])
    else:
        paths = [finder.find(one) for one in entries]
    if not paths:
        raise InputError(f"{shown(root)} must hold boxes of at least one image, and holds none.")
    _check_once(paths, entries)
    opened = as_images(paths, value_range=(0, 1))
    sizes = _sizes(opened) if kind == "yolo" or on_bad != "keep" else np.zeros((len(paths), 2))
    if kind == "yolo":
        for one, size in zip(entries, sizes, strict=True):
            one.boxes = one.boxes * size[[1, 0, 1, 0]]
    if on_bad != "keep":
        _stand_up(paths, entries, sizes)
        _check_sizes(paths, entries, sizes)
    target = _targets(entries)
    if on_bad == "raise":
        _check(target, opened, sizes, entries)
    elif on_bad == "drop":
        skipped += _drop(target, opened, sizes, entries)
    bunch = _bunch(root, paths, target, names, skipped)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _existing(path: Any, name: str) -> str:
    try:
        found = os.path.abspath(os.path.expanduser(os.fsdecode(path)))
    except TypeError as error:
        raise InputError(f"{name} must be a file or folder, got {shown(repr(path))}.") from error
    if not os.path.exists(found):
        raise InputError(f"{name} must be a file or folder; there is nothing at {shown(found)}.")
    return found


# Which format it is, and what is in it.


def _told(files: Sequence[str], root: str) -> str:
    """The format of some files, by their content."""
    kinds = {
        "voc": any(one.lower().endswith(".xml") for one in files),
        "coco": any(_is_json(one) for one in files),
        "csv": any(one.lower().endswith((".csv", ".tsv")) for one in files),
        "yolo": any(_is_yolo(one) for one in files),
    }
    found = [kind for kind, there in kinds.items() if there]
    if not found:
        raise InputError(
            f"{shown(root)} must hold boxes: COCO's JSON, VOC's XML, YOLO's text or a CSV table; "
            f"found none of them among {len(files)} files."
        )
    if len(found) > 1:
        raise InputError(
            f"{shown(root)} holds boxes of several formats; name the one to read: format= one of "
            f"{', '.join(found)}."
        )
    return found[0]


def _is_json(file: str) -> bool:
    return file.lower().endswith(".json") and is_coco(read_json(file))


def _is_yolo(file: str) -> bool:
    """Whether the first line of a text file is numbers; of many images it may be empty."""
    if not _may_be_yolo(file):
        return False
    with open(file, encoding="utf-8-sig", errors="replace") as stream:
        words = stream.readline().split()
    try:
        return len([float(one) for one in words[1:]]) >= 4
    except ValueError:
        return False


def _may_be_yolo(file: str) -> bool:
    name = os.path.basename(file).lower()
    return name.endswith(".txt") and name not in NO_BOXES and not name.startswith("readme")


def _read(
    kind: str, files: Sequence[str], root: str
) -> tuple[list[Annotated], list[Any] | None, list[tuple[str, str]]]:
    """Images with their boxes, names of the classes if the files say them, what was skipped."""
    if len(files) > 1 or not os.path.isfile(root):
        files = [one for one in files if one.lower().endswith(_FORMATS[kind])]
    if kind == "coco":
        chosen = files if len(files) == 1 else [one for one in files if _is_json(one)]
        return read_coco(_only(chosen, root, ".json"))
    if kind == "csv":
        return read_csv(_only(files, root, ".csv")), None, []
    if kind == "voc":
        return [read_voc(one) for one in files], None, []
    if os.path.isfile(root):
        raise InputError(f"path must be the folder of YOLO's files, got {shown(root)}.")
    files = [one for one in files if _may_be_yolo(one)]
    if not files:
        raise InputError(f"{shown(root)} must hold YOLO's text files, and holds none.")
    names = yolo_names(_and_above(root))
    base = _yolo_folders(root, None)[0]
    return [read_yolo(one, os.path.relpath(one[:-4], base), names) for one in files], names, []


def _only(files: Sequence[str], root: str, extension: str) -> str:
    if len(files) != 1:
        names = shown([os.path.relpath(one, root) for one in files]) if files else "none"
        raise InputError(
            f"{shown(root)} must hold one {extension} file of boxes, got {names}; pass its path."
        )
    return files[0]


def _and_above(folder: str) -> list[str]:
    """A folder, those of labels in it, and the two above it."""
    above = os.path.dirname(folder)
    inside = os.path.join(folder, "labels")
    return [one for one in (folder, inside, above, os.path.dirname(above)) if os.path.isdir(one)]


# Where the images are.


class _Finder:
    """Finds images by what files of boxes call them.

    Parameters
    ----------
    folder : str or None
        Where they are; None is beside the files of boxes, and in images and JPEGImages there or
        in the folder above.
    """

    def __init__(self, folder: str | None):
        self._folder = folder
        self._below: dict[str, PathIndex] = {}

    def find(self, entry: Annotated) -> str:
        """The path of the image of an entry.

        Raises
        ------
        InputError
            If there is none, or may be several.
        """
        name = entry.image.replace("\\", "/")
        beside = os.path.dirname(entry.file)
        above = os.path.dirname(beside)
        named = [os.path.join(one, what) for one in (beside, above) for what in _USUAL]
        homes = [beside, *named] if self._folder is None else [self._folder]
        direct = [os.path.join(one, name) for one in homes]
        for path in direct if self._folder is not None else [*direct, os.path.join(above, name)]:
            if os.path.isfile(path) and _is_image(path):
                return os.path.normpath(path)
        for home in homes:
            found = self.below(home)
            place = found.find(name, any_extension=True)
            if place is not None:
                return os.path.join(home, found.paths[place])
        raise InputError(
            f"The image {shown(entry.image)} of {shown(entry.file)} must be in "
            f"{shown(self._folder or beside)}, and is not; name the folder of the images: images=."
        )

    def below(self, home: str) -> PathIndex:
        """All images in a folder and those in it, by their path from there."""
        if home not in self._below:
            paths = [os.path.relpath(one, home) for one in files_below(home) if _is_image(one)]
            self._below[home] = PathIndex(paths)
        return self._below[home]


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in readable_extensions()


def _yolo_folders(root: str, images: str | None) -> tuple[str, str]:
    """The folders of labels and of images, which are named alike below them."""
    pair = [os.path.join(root, one) for one in ("labels", "images")]
    if all(os.path.isdir(one) for one in pair):
        return pair[0], images or pair[1]
    parts = root.split(os.sep)
    if images is None and "labels" in parts:
        at = len(parts) - 1 - parts[::-1].index("labels")
        other = os.sep.join([*parts[:at], "images", *parts[at + 1 :]])
        if os.path.isdir(other):
            return root, other
    return root, images or root


def _with_images(
    entries: list[Annotated], finder: _Finder, images: str
) -> tuple[list[str], list[Annotated]]:
    """Paths of all images in a folder, and an entry for each; without a file it has no boxes."""
    found = finder.below(images)
    of_image: dict[int, Annotated] = {}
    for entry in entries:
        place = found.find(entry.image, any_extension=True)
        if place is None:
            raise InputError(
                f"{shown(entry.file)} must have an image of its name in {shown(images)}, and has "
                "none. Name the folder of the images, images=, or move files that hold no boxes."
            )
        if place in of_image:
            raise InputError(f"{_both(entry, of_image[place])} are of {found.paths[place]}.")
        of_image[place] = entry
    nothing = np.empty((0, 4))
    return [os.path.join(images, one) for one in found.paths], [
        of_image.get(place, Annotated(path, "", nothing, []))
        for place, path in enumerate(found.paths)
    ]


def _both(one: Annotated, other: Annotated) -> str:
    return f"{shown(one.file)} and {shown(other.file)}"


def _check_once(paths: Sequence[str], entries: Sequence[Annotated]) -> None:
    first: dict[str, Annotated] = {}
    for path, entry in zip(paths, entries, strict=True):
        if path in first:
            raise InputError(
                f"Each image must have its boxes in one place, but {_both(first[path], entry)} "
                f"are of {shown(path)} ({shown(first[path].image)} and {shown(entry.image)})."
            )
        first[path] = entry


def _sizes(images: Images) -> np.ndarray:
    """Height and width of each image as it is seen, (n_images, 2)."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return np.array(list(threads.map(lambda i: images.open(i).size(), range(len(images)))))


def _stand_up(paths: Sequence[str], entries: Sequence[Annotated], sizes: np.ndarray) -> None:
    """Turn boxes as EXIF turns their images, if they were drawn on these as they lie.

    Tools that draw so write sizes of images as they lie. Where images lie on their side these tell;
    what they tell holds for the others, which are upside down or mirrored.

    Raises
    ------
    InputError
        If sizes tell both.
    """
    written = [one.size for one in entries]
    seen = [(height, width) for height, width in sizes.tolist()]
    if not any(one == two[::-1] != two for one, two in zip(written, seen, strict=True)):
        return
    turns = [orientation_of(path) for path in paths]
    lies: dict[bool, str] = {}
    for path, one, two, turn in zip(paths, written, seen, turns, strict=True):
        if turn in SIDEWAYS and one in (two, two[::-1]) and two != two[::-1]:
            lies.setdefault(one != two, path)
    if len(lies) == 2:
        raise InputError(
            "Boxes must be drawn on images all of which were turned by their EXIF orientation, or "
            f"none, but by their sizes those of {shown(lies[False])} are, and those of "
            f"{shown(lies[True])} are not. Load them apart."
        )
    for entry, two, turn in zip(entries, seen, turns, strict=True):
        if True in lies:
            entry.boxes = turned(entry.boxes, turn, two)
            if turn in SIDEWAYS and entry.size is not None:
                entry.size = entry.size[::-1]


def _check_sizes(paths: Sequence[str], entries: Sequence[Annotated], sizes: np.ndarray) -> None:
    """Check that images have the size that their files say."""
    for path, entry, (height, width) in zip(paths, entries, sizes.tolist(), strict=True):
        if entry.size not in (None, (height, width)):
            raise InputError(
                f"Images must have the size that their boxes were drawn on, but {shown(path)} has "
                f"{width}×{height} pixels (width × height), and {shown(entry.file)} says "
                f"{entry.size[1]}×{entry.size[0]}. If its boxes are right nevertheless, pass "
                'on_bad="keep".'
            )


# What is made of it.


def _targets(entries: Sequence[Annotated]) -> np.ndarray:
    # Tables without a label have one class without a name, which is the number 0 everywhere.
    labels = [[0] * len(one.boxes) if one.labels is None else one.labels for one in entries]
    numbers = any(isinstance(one, int) for own in labels for one in own)
    target = np.empty(len(entries), object)
    target[:] = [
        {"boxes": one.boxes, "labels": np.array(own, np.int64 if numbers else np.str_)}
        for one, own in zip(entries, labels, strict=True)
    ]
    return target


def _check(
    target: np.ndarray,
    images: Images,
    sizes: np.ndarray,
    entries: Sequence[Annotated],
    most: bool = False,
) -> None:
    def source(index: int) -> str:
        return f"{entries[index].file}, of {images.source(index)}"

    try:
        check_boxes(as_boxes(target, len(images), "target", source), images, sizes, source)
    except InputError as error:
        hint = 'load_boxes(..., on_bad="drop") leaves bad boxes out, "keep" keeps them.'
        if most:
            hint = (
                'More than half of the boxes are bad, so that on_bad="drop" would hide something '
                'else; "keep" keeps them all.'
            )
        raise InputError(f"{error} {hint}") from error


def _drop(
    target: np.ndarray, images: Images, sizes: np.ndarray, entries: Sequence[Annotated]
) -> list[tuple[str, str]]:
    """Remove bad boxes, and say which."""
    boxes = as_boxes(target, len(images), "target")
    bad = bad_boxes(boxes, sizes)
    n_bad = int(bad.sum())
    if not n_bad:
        return []
    if 2 * n_bad > len(bad):  # another format, or other images
        _check(target, images, sizes, entries, most=True)
    dropped = []
    for number in np.flatnonzero(bad).tolist():
        path = str(images.source(int(boxes.images[number])))
        corners = shown(boxes.corners[number].tolist())
        dropped.append((path, f"the box {corners} has no area, or is not in the image"))
    for index, one in enumerate(target):
        keep = ~bad[boxes.of(index)]
        target[index] = {key: values[keep] for key, values in one.items()}
    warnings.warn(
        f"{n_bad} of {len(bad)} boxes were left out, which have no area or are not in their image: "
        f"the first is {dropped[0][1].split(' has ')[0].removeprefix('the box ')} of "
        f"{shown(dropped[0][0])}. The attribute `skipped` of the Bunch lists them all.",
        SktransferWarning,
        stacklevel=3,  # the caller of load_boxes
    )
    return dropped


def _bunch(
    root: str,
    paths: Sequence[str],
    target: np.ndarray,
    names: Sequence[Any] | None,
    skipped: list[tuple[str, str]],
) -> Bunch:
    labels = [one["labels"] for one in target]
    there, counts = np.unique(np.concatenate([*labels]), return_counts=True)
    known = there if names is None else np.unique(np.array(names, str))
    n_of = dict(zip(there.tolist(), counts.tolist(), strict=True))
    empty = sum(not len(one) for one in labels)
    data = np.empty(len(paths), object)
    data[:] = list(paths)
    head = (
        f"{sum(counts)} boxes of {len(known)} classes in {len(paths)} images ({empty} without "
        f"boxes) in {root}"
    )
    return Bunch(
        data=data,
        target=target,
        target_names=known,
        skipped=skipped,
        DESCR="\n".join([head, *(f"{one}: {n_of.get(one, 0)}" for one in known.tolist())]),
    )
