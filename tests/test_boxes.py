"""Boxes in every form, and checked beside their images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from sktransfer.exceptions import ImageError, InputError
from sktransfer.inputs import (
    NO_BOX,
    ImagePreparation,
    as_boxes,
    as_images,
    check_boxes,
    encode_boxes,
)

HEIGHT, WIDTH = 40, 60
BOXES = [np.array([[2, 3, 10, 12], [20, 10, 60, 40.0]]), np.empty((0, 4)), np.array([[5, 5, 6, 9]])]
LABELS = [np.array([7, 3]), np.empty(0, int), np.array([7])]


def preparation(height=HEIGHT, width=WIDTH, resize="pad"):
    return ImagePreparation((height, width), resize, (height, width), "bilinear", (0, 0, 0))


@pytest.fixture
def images():
    return as_images(np.zeros((3, HEIGHT, WIDTH, 3), np.uint8))


def targets(convert=lambda one: one):
    return [
        {"boxes": convert(boxes), "labels": convert(labels)}
        for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]


def of_torchvision(form):
    return [
        {"boxes": tv_tensors.wrap(_converted(boxes, form), like=tv_tensors.BoundingBoxes(
            torch.zeros(1, 4), format=form, canvas_size=(HEIGHT, WIDTH))),
         "labels": torch.from_numpy(labels), "image_id": 5, "iscrowd": torch.zeros(len(labels))}
        for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]  # fmt: skip


def _converted(boxes, form):
    from torchvision.ops import box_convert

    return box_convert(torch.from_numpy(boxes).float(), "xyxy", form.lower())


def column(values, index=(9, 4, 2)):
    return pd.Series(values, index=list(index))


FORMS = {
    "list of dicts": targets,
    "tuple": lambda: tuple(targets()),
    "lists": lambda: targets(lambda one: one.tolist()),
    "tensors": lambda: targets(torch.from_numpy),
    "bfloat16": lambda: targets(lambda one: torch.from_numpy(one).bfloat16()),
    "Series": lambda: column(targets()),
    "column": lambda: pd.DataFrame({"boxes": targets()}, index=[3, 2, 1]),
    "object array": lambda: np.array([*targets(), None], object)[:3],
    "torchvision": lambda: of_torchvision("XYXY"),
    "with widths": lambda: of_torchvision("XYWH"),
    "with centres": lambda: of_torchvision("CXCYWH"),
    "nothing for none": lambda: [targets()[0], [], targets()[2]],
    "whole floats": lambda: [{**one, "labels": one["labels"] * 1.0} for one in targets()],
    "labels as objects": lambda: [{**one, "labels": one["labels"].astype(object)}
                                  for one in targets()],
    "labels in a column": lambda: [{**one, "labels": one["labels"][:, None]} for one in targets()],
    "list of tensors": lambda: [{"boxes": [torch.tensor(b) for b in one["boxes"]],
                                 "labels": list(torch.tensor(one["labels"]))} for one in targets()],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_the_same(form, images):
    found = as_boxes(FORMS[form](), 3)
    np.testing.assert_allclose(found.corners, np.concatenate(BOXES))
    assert found.labels.tolist() == [7, 3, 7] and found.labels.dtype == np.int64
    assert found.images.tolist() == [0, 0, 2] and len(found) == 3
    assert np.isnan(found.scores).all()


@pytest.mark.parametrize(
    "form",
    [
        lambda: BOXES,
        lambda: [one.tolist() for one in BOXES],
        lambda: column(BOXES),
        lambda: [{"boxes": one} for one in BOXES],
        lambda: [torch.from_numpy(one) for one in BOXES],
    ],
)
def test_boxes_of_one_class_need_no_labels(form):
    found = as_boxes(form(), 3)
    np.testing.assert_array_equal(found.corners, np.concatenate(BOXES))
    assert found.labels.tolist() == [0, 0, 0]


def test_one_array_where_images_have_as_many_boxes():
    found = as_boxes(np.arange(24).reshape(2, 3, 4))
    assert len(found) == 2 and found.corners.shape == (6, 4)


@pytest.mark.parametrize("empty", [[], np.empty((0, 4)), np.empty(0), torch.empty(0, 4),
                                   {"boxes": [], "labels": []}, {"boxes": []}])  # fmt: skip
def test_images_without_boxes(empty, images):
    found = as_boxes([empty, empty, empty], 3)
    assert len(found) == 3 and found.corners.shape == (0, 4)
    classes, rows = encode_boxes(found, images, preparation())
    assert len(classes) == 0 and rows.shape == (3, 0, 5)
    assert encode_boxes(found, images, preparation(), classes=np.array(["a"]))[1].shape == (3, 0, 5)


@pytest.mark.parametrize(
    "names", [["cell", "platelet"], [-4, 300], [False, True], np.array(["a", "b"], object)]
)
def test_labels_of_any_kind(names, images):
    y = [{**one, "labels": [names[int(k == 7)] for k in one["labels"]]} for one in targets()]
    classes, rows = encode_boxes(as_boxes(y), images, preparation())
    assert classes.tolist() == sorted(names)
    assert rows.dtype == np.float32 and rows.shape == (3, 2, 5)
    assert rows[..., 4].tolist() == [[1, 0], [NO_BOX] * 2, [1, NO_BOX]]
    np.testing.assert_array_equal(rows[0, :, :4], BOXES[0])
    assert (rows[1] == NO_BOX).all() and (rows[2, 1] == NO_BOX).all()
    with pytest.raises(InputError, match=r"box 0 of y\[0\] has the label .* none of the classes"):
        encode_boxes(as_boxes(y), images, preparation(), classes=classes[:1])
    with pytest.raises(InputError, match="none of the classes"):
        encode_boxes(as_boxes(targets()), images, preparation(), classes=np.array(["x", "y"]))


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_boxes_are_where_the_network_sees_the_object(resize):
    sizes = [(40, 60), (90, 30)]
    box = np.array([[6, 9, 24, 33.0]])
    pictures = []
    for size in sizes:
        pictures.append(np.zeros((*size, 3), np.uint8))
        pictures[-1][9:33, 6:24] = 255
    to = preparation(64, 64, resize)
    _, rows = encode_boxes(as_boxes([box, box]), as_images(pictures), to)
    for picture, row in zip(pictures, rows, strict=True):
        lit = to.of(picture)[..., 0] > 127
        columns, lines = np.flatnonzero(lit.any(0)), np.flatnonzero(lit.any(1))
        edges = [columns[0], lines[0], columns[-1] + 1, lines[-1] + 1]
        np.testing.assert_allclose(row[0, :4], edges, atol=0.75)


def test_what_is_outside_by_a_pixel_is_cut_off(images):
    y = [[[-0.5, -1, 60.9, 41]], [[0, 0, 60, 40]], []]
    np.testing.assert_array_equal(check_boxes(as_boxes(y), images), [[0, 0, 60, 40]] * 2)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (targets()[:2], "an entry for each of 3 images"),
        (targets()[0], r"pass \[target\]"),
        (BOXES[0], r"one array of shape \(2, 4\).*pass \[boxes\]"),
        (pd.DataFrame({"xmin": [1], "ymin": [1]}), r"boxes_by_image\(table\)"),
        ("boxes.json", "got a str"),
        (None, "got a NoneType"),
        ([BOXES[0], None, []], r"y\[1\] is missing .* must be \[\] for an image without"),
        ([BOXES[0], float("nan"), []], r"y\[1\] is missing"),
        ([[1, 2, 3, 4], [], []], r"y\[0\] .* list: \[\[x1, y1, x2, y2\]\]"),
        ([np.ones((2, 5)), [], []], r"y\[0\] .* got an array of shape \(2, 5\). Labels and"),
        ([[[1, 2, 3], [1, 2, 3, 4]], [], []], r"y\[0\] .* rows of different lengths"),
        ([[["a", "b", "c", "d"]], [], []], r"y\[0\] must hold boxes \(k, 4\) of numbers"),
        ([{"bbox": []}, [], []], r"y\[0\] must be a dict .* \['bbox'\]"),
        ([[], [[1, 2, 3, np.nan]], []], r"finite numbers, but box 0 of y\[1\] is \[1, 2, 3, nan\]"),
        ([{"boxes": BOXES[0], "labels": [1, 2, 3]}, [], []], r'y\[0\] .* as many "labels" as "box'),
        ([{"boxes": BOXES[0], "labels": [1, "a"]}, [], []], r"labels of one kind"),
        ([{"boxes": BOXES[0], "labels": [1, 1.5]}, [], []], r"labels of one kind"),
        ([{"boxes": BOXES[0], "labels": ["a", None]}, [], []], r"labels of one kind"),
        ([{"boxes": BOXES[0], "labels": [1, 2]}, [], BOXES[2]], r'y\[2\] must hold "labels"'),
        ([{"boxes": BOXES[0], "labels": [1, 2]}, [], {"boxes": BOXES[2], "labels": ["a"]}],
         r"of one kind, but y\[2\] holds str and y\[0\] whole numbers"),
        ([{"boxes": BOXES[0], "scores": [1, np.nan]}, [], []], "scores that are numbers"),
        ([{"boxes": BOXES[0], "scores": [1]}, [], []], 'as many "scores"'),
    ],
)  # fmt: skip
def test_what_is_no_boxes_is_named(y, says):
    with pytest.raises(InputError, match=says):
        as_boxes(y, 3)


def spread(n=30):
    """Boxes all over images of 60 x 40."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, [50, 30], (n, 2))
    return np.hstack([corner, corner + rng.uniform(4, 10, (n, 2))])


def widths(boxes):
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def centres(boxes):
    return np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])


SIZE = np.array([60, 40, 60, 40])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (widths, "look like x, y, width, height; make"),
        (centres, "look like centre x, centre y, width, height; make"),
        (lambda b: b[:, [1, 0, 3, 2]], "look like y1, x1, y2, x2; .* EXIF"),
        (lambda b: b / SIZE, r"in pixels, but box 0 of y\[0\].* like x1, y1, x2, y2 as shares"),
        (lambda b: b[:, [2, 3, 0, 1]], "look like x2, y2, x1, y1; make"),
        (lambda b: widths(b) / SIZE, "look like x, y, width, height as shares"),
        (lambda b: centres(b) / SIZE, "look like centre x, centre y, width, height as shares"),
        (lambda b: b * 2, "lie in their image.* 60×40 pixels .* another size of it"),
    ],
)
def test_what_boxes_look_like_is_told(change, says, images):
    boxes = change(spread())
    with pytest.raises(InputError, match=says):
        check_boxes(as_boxes([boxes[:20], [], boxes[20:]]), images)


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ([5, 5, 5, 9], r"have an area, but box 20 of y\[0\] \(.*a.png\) is \[5, 5, 5, 9\]"),
        ([60.5, 5, 61, 9], r"have an area"),
        ([9, 5, 3, 7], r"x1 < x2 and y1 < y2, but box 20 of y\[0\] .*smaller x and the smaller y"),
        ([0.1, 0.2, 0.5, 0.9], r"in pixels, but box 20 of y\[0\] .*Fix or remove"),
        ([-4, 5, 3, 7], r"lie in their image, .* but box 20 of y\[0\] .*Fix or remove"),
        ([50, 5, 62, 7], r"lie in their image, .* but box 20"),
    ],
)
def test_a_box_that_is_wrong_alone_is_named(box, says, tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    boxes = [np.vstack([spread()[:20], [box]]), spread()[20:]]
    with pytest.raises(InputError, match=says):
        check_boxes(as_boxes(boxes), as_images([tmp_path / "a.png"] * 2))


def test_numbers_that_are_not_finite_are_named_with_their_file():
    with pytest.raises(InputError, match=r"box 1 of y\[1\] \(b.png\) is \[0, nan, 1, 1\]"):
        as_boxes([[], [[0, 0, 1, 1], [0, np.nan, 1, 1]]], 2, source=["a.png", "b.png"].__getitem__)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (widths, "look like x, y, width, height; make"),
        (lambda b: b / SIZE, "like x1, y1, x2, y2 as shares"),
        (lambda b: widths(b)[:2], r"boxes\[:, 2:\] \+= .* If they are corners: put the smaller x"),
    ],
)
def test_one_image_with_boxes_of_another_form_is_told(change, says, images):
    boxes = change(spread()[:10])
    with pytest.raises(InputError, match=r"of y\[1\].*" + says):
        check_boxes(as_boxes([spread(), boxes, []]), images)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (["cat", "dog"], r"y\[0\] must hold boxes .* FineTuneClassifier takes"),
        ([np.zeros((40, 60)), []], "FineTuneSegmenter takes"),
        ([[{"bbox": [1, 2, 3, 4]}], []], "got dicts. Files of boxes are read by load_boxes"),
        ([[["1", "2", "3", "4"]], []], "of numbers, got strs"),
        ([{"boxes": [[1, 2, 3, 4]] * 2, "labels": ["a", None]}, []], "None, which is a missing"),
    ],
)
def test_other_things_than_boxes_are_told_apart(y, says):
    with pytest.raises(InputError, match=says):
        as_boxes(y, 2)


def test_several_boxes_that_are_wrong_are_counted(images):
    with pytest.raises(InputError, match="one of 2 such boxes"):
        check_boxes(as_boxes([[[5, 5, 5, 9]], [[1, 1, 2, 2]], [[5, 5, 9, 5]]]), images)


def test_boxes_are_meant_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg", exif=exif)
    images = as_images([tmp_path / "a.jpg"])
    check_boxes(as_boxes([spread()[:, [1, 0, 3, 2]]]), images)
    with pytest.raises(InputError, match=r"40×60 pixels .* EXIF"):
        check_boxes(as_boxes([spread()]), images)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"image 1 \(.*none.png\)"):
        check_boxes(as_boxes([[], [[1, 1, 2, 2]]]), as_images([tmp_path / "none.png"] * 2))


def test_labels_by_another_key_are_not_passed_over():
    with pytest.raises(InputError, match=r"y\[1\] must hold its labels by the key \"labels\""):
        as_boxes([[], {"boxes": [[0, 0, 2, 2]], "label": ["cat"]}])
