"""What files of boxes say: COCO's JSON, VOC's XML, YOLO's text and tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from sktransfer.datasets._box_tables import CORNERS, find_columns, gather
from sktransfer.exceptions import InputError, shown


@dataclass
class Annotated:
    """The boxes of one image, as a file has them.

    Attributes
    ----------
    image : str
        Name or path of the image as it is written; of YOLO without the ending.
    file : str
        Path of the file that says it.
    boxes : ndarray of shape (k, 4)
        Corners in pixels; of YOLO in shares of width and height.
    labels : list or None
        One for each box; None if there is one class without a name.
    size : tuple of int or None
        Height and width of the image, if they are written.
    """

    image: str
    file: str
    boxes: np.ndarray
    labels: list[Any] | None
    size: tuple[int, int] | None = None


def _four(numbers: Any, where: str) -> np.ndarray:
    try:
        found = np.array([float(one) for one in numbers])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} must have a box of four numbers: {error}.") from error
    if found.shape != (4,) or not np.isfinite(found).all():
        raise InputError(f"{where} must have a box of four finite numbers, got {shown(numbers)}.")
    return found


def _size(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """Height and width as they are written; None where nothing or 0 is."""
    try:
        found = int(float(height or 0)), int(float(width or 0))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} must have a width and height in pixels: {error}.") from error
    return found if all(found) else None


def text_of(file: str) -> str:
    """The text of a file.

    Raises
    ------
    InputError
        If it is not in UTF-8.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(file)} must be text in UTF-8: {error}. Save it so.") from error


def _stacked(boxes: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(boxes) if boxes else np.empty((0, 4))


# COCO.


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file is COCO's."""
    parts = ("images", "annotations")
    return isinstance(content, dict) and all(isinstance(content.get(one), list) for one in parts)


def read_json(file: str) -> Any:
    """Content of a JSON file.

    Raises
    ------
    InputError
        If it is none; names the line.
    """
    try:
        return json.loads(text_of(file))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{shown(file)} must be a JSON file, but in line {error.lineno}: {error.msg}."
        ) from error


def read_coco(file: str) -> tuple[list[Annotated], list[Any], list[tuple[str, str]]]:
    """Images, names of classes, and what was skipped and why, of COCO's JSON.

    Crowds (``iscrowd``) are outlines of many objects at once, and skipped.
    """
    content = read_json(file)
    if not is_coco(content):
        raise InputError(
            f'{shown(file)} must be COCO\'s JSON, an object with lists of "images", "annotations" '
            'and "categories"; results, which are a list, are no boxes to train on.'
        )
    names = {
        _of(one, "id", "category", n, file): str(_of(one, "name", "category", n, file))
        for n, one in enumerate(content.get("categories", []))
    }
    images: dict[Any, Annotated] = {}
    boxes: dict[Any, list[np.ndarray]] = {}
    labels: dict[Any, list[str]] = {}
    for n, one in enumerate(content["images"]):
        key = _of(one, "id", "image", n, file)
        name = str(_of(one, "file_name", "image", n, file))
        size = _size(one.get("height"), one.get("width"), f"image {n} of {shown(file)}")
        if key in images:
            raise InputError(f"Two images of {shown(file)} have the id {shown(key)}.")
        images[key] = Annotated(name, file, np.empty((0, 4)), [], size)
        boxes[key], labels[key] = [], []
    skipped = []
    for n, one in enumerate(content["annotations"]):
        where = f"annotation {n} of {shown(file)}"
        key = _of(one, "image_id", "annotation", n, file)
        category = _of(one, "category_id", "annotation", n, file)
        if key not in images or category not in names:
            what = f"image {shown(key)}" if key not in images else f"category {shown(category)}"
            raise InputError(f"{where} is of {what}, which the file does not have.")
        if one.get("iscrowd"):
            skipped.append((where, "a crowd (iscrowd), no single object"))
            continue
        x, y, width, height = _four(_of(one, "bbox", "annotation", n, file), where)
        boxes[key].append(np.array([x, y, x + width, y + height]))
        labels[key].append(names[category])
    for key, image in images.items():
        image.boxes, image.labels = _stacked(boxes[key]), labels[key]
    return list(images.values()), sorted({*names.values()}), skipped


def _of(entry: Any, key: str, what: str, n: int, file: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f'{what} {n} of {shown(file)} must have "{key}", got {shown(entry)}.')
    if key.endswith("id") and not isinstance(entry[key], (int, str)):
        raise InputError(
            f'{what} {n} of {shown(file)} must have a number as "{key}", got {shown(entry[key])}.'
        )
    return entry[key]


# VOC.


def read_voc(file: str) -> Annotated:
    """The objects of one image, of VOC's XML.

    Raises
    ------
    InputError
        If it is broken, or declares entities, with which a small file may fill the memory, or
        read others.
    """
    root, lines = _parsed(file)
    if root.tag != "annotation":
        raise InputError(
            f"{shown(file)} must be VOC's XML, with <annotation> around it, got <{root.tag}>."
        )
    boxes, labels = [], []
    for one in root.findall("object"):
        where = f"The object in line {lines[id(one)]} of {shown(file)}"
        name, box = one.findtext("name"), one.find("bndbox")
        if box is None or not (name and name.strip()):
            raise InputError(f"{where} must have <name> and <bndbox>.")
        boxes.append(_four([box.findtext(part) for part in CORNERS], where))
        labels.append(name.strip())
    image = (root.findtext("filename") or "").strip() or os.path.basename(file)
    size = _size(root.findtext("size/height"), root.findtext("size/width"), shown(file))
    return Annotated(image, file, _stacked(boxes), labels, size)


def _parsed(file: str) -> tuple[Element, dict[int, int]]:
    """Root of an XML file, and the line where each element begins."""
    builder, parser, lines = TreeBuilder(), expat.ParserCreate(), {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[id(builder.start(tag, attributes))] = parser.CurrentLineNumber

    def refuse(name: str, *_: Any) -> None:
        raise InputError(f"{shown(file)} must declare no entities, but declares {shown(name)}.")

    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.data, refuse
    try:
        with open(file, "rb") as stream:
            parser.ParseFile(stream)
        return builder.close(), lines
    except expat.ExpatError as error:
        raise InputError(
            f"{shown(file)} must be an XML file, but in line {error.lineno}: "
            f"{expat.ErrorString(error.code)}."
        ) from error


# YOLO.


# Text files beside those of boxes.
NO_BOXES = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt")


def read_yolo(file: str, image: str, names: Sequence[Any] | None) -> Annotated:
    """The boxes of one image, of YOLO's text: class, centre x and y, width and height in shares.

    Of an outline, a class and three points or more, it is the box around it. A sixth number is a
    score, and passed over.
    """
    boxes, labels = [], []
    with open(file, encoding="utf-8-sig", errors="replace") as stream:
        for n, line in enumerate(stream, 1):
            if not line.strip():
                continue
            where = f"line {n} of {shown(file)}"
            words = line.split()
            number = _class_number(words[0], names, where)
            boxes.append(_shares(words[1:], where))
            labels.append(number if names is None else names[number])
    return Annotated(image, file, _stacked(boxes), labels)


def _class_number(word: str, names: Sequence[Any] | None, where: str) -> int:
    if not word.isdecimal():
        raise InputError(
            f"{where} must begin with the number of a class, got {shown(word)}. YOLO's files hold "
            "lines of class, centre x, centre y, width and height."
        )
    number = int(word)
    if names is not None and number >= len(names):
        raise InputError(
            f"{where} has the class {number}, but there are names of {len(names)} classes, from 0."
        )
    return number


def _shares(words: Sequence[str], where: str) -> np.ndarray:
    outline = len(words) >= 6 and len(words) % 2 == 0
    if not outline and len(words) not in (4, 5):
        raise InputError(f"{where} must have four numbers behind the class, got {len(words)}.")
    try:
        numbers = np.array([float(one) for one in (words if outline else words[:4])])
    except ValueError as error:
        raise InputError(f"{where} must have four numbers behind the class: {error}.") from error
    if not (numbers >= -0.01).all() or not (numbers <= 1.01).all():
        raise InputError(
            f"{where} must have shares of the width and height of the image, from 0 to 1, got "
            f"{shown(numbers.tolist())}."
        )
    if outline:
        points = numbers.reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
    x, y, width, height = numbers
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def yolo_names(folders: Sequence[str]) -> list[str] | None:
    """Names of the classes, of the first classes.txt, .names or data.yaml in some folders."""
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            file = os.path.join(folder, name)
            if name == "classes.txt" or name.endswith(".names"):
                return [line.strip() for line in text_of(file).splitlines() if line.strip()]
            if name.endswith((".yaml", ".yml")) and (found := _names_in_yaml(file)):
                return found
    return None


def _names_in_yaml(file: str) -> list[str] | None:
    import yaml

    try:
        content = yaml.safe_load(text_of(file))
    except yaml.YAMLError as error:
        raise InputError(f"{shown(file)} must be a YAML file: {error}.") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise InputError(
                f"names in {shown(file)} must be numbered from 0 without gaps, got {shown(names)}."
            )
        names = [names[number] for number in range(len(names))]
    return [str(one) for one in names] if isinstance(names, list) and names else None


# Tables.


def read_csv(file: str) -> list[Annotated]:
    """The images of a table with a row for each box, separated by comma, semicolon or tab.

    Without a header the columns are image_path, xmin, ymin, xmax, ymax and label.
    """
    text = text_of(file)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines = [(row, reader.line_num) for row in reader if any(one.strip() for one in row)]
    if not lines:
        raise InputError(f"{shown(file)} must hold a table, and is empty.")
    header, begin = _header(lines[0][0])
    rows, numbers = [row for row, _ in lines[begin:]], [n for _, n in lines[begin:]]

    def where(row: int) -> str:
        return f"line {numbers[row]} of {shown(file)}"

    try:
        columns = {part: header.index(one) for part, one in find_columns(header).items()}
    except InputError as error:
        raise InputError(f"{shown(file)}: {error}") from error
    for n, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"{where(n)} must have {len(header)} columns, got {len(row)}.")
    corners = np.full((len(rows), 4), np.nan)
    for n, row in enumerate(rows):
        words = [row[columns[part]].strip() or "nan" for part in CORNERS]
        if separator != ",":  # as spreadsheets write numbers in many countries
            words = [one.replace(",", ".") for one in words]
        try:
            corners[n] = [float(one) for one in words]
        except ValueError as error:
            names = ", ".join(CORNERS)
            raise InputError(f"{where(n)} must have numbers for {names}: {error}.") from error
    image = [row[columns["image_path"]].strip() for row in rows]
    labels = None
    if "label" in columns:
        labels = np.array([row[columns["label"]].strip() for row in rows], object)
        if all(one.removeprefix("-").isdecimal() for one in labels if one):
            labels = np.array([int(one) if one else None for one in labels], object)
    found = gather(image, corners, labels, where)
    return [
        Annotated(name, file, own["boxes"], own["labels"].tolist() if "labels" in own else None)
        for name, own in found.items()
    ]


def _header(row: list[str]) -> tuple[list[str], int]:
    """Names of columns, and the first row of boxes."""
    words = [one.strip() for one in row]
    if len(words) in (5, 6) and all(_is_number(one) or not one for one in words[1:5]):
        return ["image_path", *CORNERS, "label"][: len(words)], 0
    return words, 1


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
