"""Masks in every form, and where an image stands in what a network sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import InputError, SktransferWarning
from sktransfer.inputs import (
    NO_LABEL,
    ImagePreparation,
    as_images,
    as_masks,
    as_whole_images,
    encode_masks,
)

HEIGHT, WIDTH = 20, 30


def preparation(height, width, resize="pad"):
    return ImagePreparation((height, width), resize, (height, width), "bilinear", (0, 0, 0))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def masks():
    return np.random.default_rng(1).choice([0, 7, 255], (3, HEIGHT, WIDTH)).astype(np.uint8)


def saved(masks, folder, mode="L"):
    paths = []
    for number, mask in enumerate(masks):
        paths.append(folder / f"{number}.png")
        picture = Image.fromarray(mask)
        if mode == "P":
            picture.putpalette(list(range(256)) * 3)
        picture.save(paths[-1])
    return paths


def encoded(y, images, to=None, **options):
    y = as_masks(y, len(images))
    to = to or preparation(HEIGHT, WIDTH)
    return encode_masks(y, as_images(images), to, **options)


FORMS = {
    "array": lambda y, folder: y,
    "channel first": lambda y, folder: y[:, None],
    "channel last": lambda y, folder: y[..., None],
    "tensor": lambda y, folder: torch.from_numpy(y),
    "int64": lambda y, folder: y.astype(np.int64),
    "whole floats": lambda y, folder: y.astype(np.float32),
    "list": lambda y, folder: list(y),
    "nested": lambda y, folder: [one.tolist() for one in y],
    "pictures": lambda y, folder: [Image.fromarray(one) for one in y],
    "greys in colour": lambda y, folder: [Image.fromarray(one).convert("RGB") for one in y],
    "files": lambda y, folder: saved(y, folder),
    "palettes": lambda y, folder: [str(one) for one in saved(y, folder, "P")],
    "array of paths": lambda y, folder: np.array([str(one) for one in saved(y, folder)]),
    "bytes": lambda y, folder: [one.read_bytes() for one in saved(y, folder)],
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_masks_are_the_same(form, images, masks, tmp_path):
    classes, found = encoded(FORMS[form](masks, tmp_path), images)
    assert classes.tolist() == [0, 7, 255]
    np.testing.assert_array_equal(classes[found], masks)


def test_names_as_labels_and_masks_of_different_sizes():
    sizes = [(4, 6), (5, 3)]
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    masks = [np.full(sizes[0], "road"), np.full(sizes[1], "sky")]
    masks[0][0, 0] = "sky"
    classes, found = encoded(masks, images, preparation(6, 6))
    assert classes.tolist() == ["road", "sky"]
    assert found[0, 1, 0] == 1 and (found[0, 1:5, 1:] == 0).all()
    assert (found[0, [0, 5]] == NO_LABEL).all(), "bars"


def test_scribbles_leave_out_what_nobody_labelled(images, masks):
    classes, found = encoded(masks, images, unlabeled=0)
    assert classes.tolist() == [7, 255]
    np.testing.assert_array_equal(found == NO_LABEL, masks == 0)
    floats = np.where(masks == 0, np.nan, masks)
    again, same = encoded(floats, images)
    assert again.tolist() == [7, 255]
    np.testing.assert_array_equal(same, found)


def test_an_image_that_is_turned_has_an_upright_mask(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    opened = as_images([tmp_path / "a.jpg"]).open(0)
    assert opened.size() == (WIDTH, HEIGHT) == opened.pixels().shape[:2]
    mask = np.zeros((WIDTH, HEIGHT), int)
    encoded([mask], [tmp_path / "a.jpg"], preparation(WIDTH, HEIGHT))
    with pytest.raises(InputError, match=r"EXIF.*turn the mask"):
        encoded([mask.T], [tmp_path / "a.jpg"], preparation(WIDTH, HEIGHT))


def test_a_mask_that_is_turned_is_made_upright(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(mask).save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(mask, -1)  # what a viewer shows
    np.testing.assert_array_equal(as_masks([tmp_path / "a.png"]).open(0), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: list(y[:2]), "for each of 3 images, got 2"),
        (lambda y: y[0], r"pass \[mask\]"),
        (lambda y: [one[:10] for one in y], r"mask 0 of y must be 20×30 .* got 10×30"),
        (lambda y: [y[0], y[1].T, y[2]], "mask 1 of y .* transposed"),
        (lambda y: [y[0], None, y[2]], "mask 1 of y is missing"),
        (lambda y: y + 0.5, "mask 0 of y must hold labels"),
        (lambda y: [y[0], y[1].astype(str), y[2]], "one kind"),
        (lambda y: [y[0], y[1] > 0, y[2] > 0], "one kind.*comparisons give bools"),
        (lambda y: ["cat"] * 3, r"labels or a file of one, got 'cat'.* FineTuneClassifier takes"),
        (lambda y: [0, 1, 0], "must be an array .*, got 0.* FineTuneClassifier takes"),
        (lambda y: ["nothing.png"] * 3, r"mask 0 of y \(nothing.png\) file not found"),
        (lambda y: [np.stack([one, one + 1, one], 2) for one in y], "in colours .shape"),
        (lambda y: [Image.fromarray(np.stack([one, one + 1, one], 2)) for one in y], "colours"),
        (lambda y: np.arange(3 * 600).reshape(3, 20, 30), "Numbers of objects"),
        (lambda y: {"masks": y}, "must be an array"),
    ],
)
def test_what_is_no_mask_is_named(change, says, images, masks):
    with pytest.raises(InputError, match=says):
        encoded(change(masks), images)


def test_greys_as_colours_are_labels_in_arrays_and_files(images, masks, tmp_path):
    expected = encoded(masks, images)[1]
    colours = [np.stack([one] * 3, 2) for one in masks]
    np.testing.assert_array_equal(encoded(colours, images)[1], expected)
    files = [tmp_path / f"{i}.png" for i in range(len(masks))]
    for one, file in zip(colours, files, strict=True):
        Image.fromarray(one).save(file)
    np.testing.assert_array_equal(encoded(files, images)[1], expected)


def test_a_label_that_was_not_there_before_is_named(images, masks):
    with pytest.raises(InputError, match=r"mask 0 .* holds the label 255, .* none of the"):
        encoded(masks, images, classes=np.array([0, 7]))


def test_lossy_files_are_no_masks(images, masks, tmp_path):
    Image.fromarray(masks[0]).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="JPEG"):
        encoded([tmp_path / "a.jpg"], images[:1])


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("size", [(20, 30), (31, 17), (64, 64)])
def test_a_point_of_the_image_is_found_in_what_the_network_sees_and_back(resize, size):
    """A bright square is where the boxes and the mask of it are."""
    to = preparation(48, 40, resize)
    height, width = size
    box = np.array([[0.2 * width, 0.3 * height, 0.7 * width, 0.8 * height]]).round()
    left, top, right, bottom = box[0].astype(int)
    image = np.zeros((*size, 3), np.uint8)
    image[top:bottom, left:right] = 255
    placement = to.placement(size)
    seen, found = to.of(image)[..., 0], placement.boxes(box)[0]
    rows, columns = np.flatnonzero(seen.max(1) > 127), np.flatnonzero(seen.max(0) > 127)
    edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(found, edges, atol=0.75)
    mask = placement.mask((image[..., 0] > 0).astype(np.int16), NO_LABEL)
    assert ((mask == 1) == (seen > 127)).mean() > 0.97
    np.testing.assert_allclose(placement.boxes_back(placement.boxes(box)), box)
    scores = torch.from_numpy((seen / 255.0).astype(np.float32))[None]
    back = placement.scores(scores)[0].numpy()
    assert back.shape == size and ((back > 0.5) == (image[..., 0] > 0)).mean() > 0.9


def test_what_would_be_cut_away_is_refused():
    with pytest.raises(ValueError, match='"pad" or "squash"'):
        preparation(8, 8, "crop").placement((8, 16))


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_thin_strokes_are_not_lost(resize):
    """Every label of a cell may be that of the cell, and none that is drawn is lost."""
    rng = np.random.default_rng(0)
    mask = np.full((120, 90), NO_LABEL, np.int16)
    mask[np.arange(100), rng.integers(0, 90)] = 0
    mask[7, 5:80] = 1
    placement = preparation(16, 16, resize).placement(mask.shape)
    seen = placement.mask(mask, NO_LABEL)
    top, left, height, width = placement.box
    for row in range(height):  # cell by cell
        for column in range(width):
            rows = ((np.arange(120) + 0.5) * height / 120).astype(int) == row
            columns = ((np.arange(90) + 0.5) * width / 90).astype(int) == column
            there = set(mask[np.ix_(rows, columns)].ravel().tolist()) - {NO_LABEL}
            assert seen[top + row, left + column] in (there or {NO_LABEL})
    outside = np.ones((16, 16), bool)
    outside[top : top + height, left : left + width] = False
    assert (seen[outside] == NO_LABEL).all()


@pytest.mark.parametrize("X", [np.zeros((64, 64)), np.zeros((40, 60), np.uint8),
                               torch.zeros(40, 60), [[0.0] * 48] * 3])  # fmt: skip
def test_one_image_or_rows_without_places_are_refused(X):
    with pytest.raises(InputError, match=r"pass \[X\]|reshape its rows|without a list|alone"):
        as_whole_images(X, value_range="auto")


def test_masks_with_very_many_labels_are_told(images, masks):
    smooth = np.arange(600).reshape(20, 30) % 200
    with pytest.warns(SktransferWarning, match="mask 1 of y holds .* without interpolation"):
        encoded([masks[0], smooth, masks[2]], images)


@pytest.mark.parametrize("unlabeled", ["255", "?"])
def test_unlabeled_is_of_the_kind_of_the_labels(unlabeled, images, masks):
    with pytest.raises(InputError, match=f"unlabeled= must be one .* numbers, got '.?{unlabeled}"):
        encoded(masks, images, unlabeled=unlabeled)
