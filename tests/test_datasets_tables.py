"""Folders with parts, tables with a row for each image, folders of masks."""

from __future__ import annotations

import csv
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

from sktransfer import load_image_folder, load_image_table, load_mask_folder
from sktransfer.exceptions import ImageError, InputError, SktransferWarning
from sktransfer.inputs import as_images


def picture(path, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 1).save(path)
    return path


# ---------------------------------------------------------------- parts


@pytest.fixture
def parts(tmp_path):
    for name in ("training/cat/a", "training/dog/b", "training/eel/c",
                 "Val/dog/d", "test/cat/e", "test/dog/f", "test/eel/g"):  # fmt: skip
        picture(tmp_path / f"{name}.png")
    return tmp_path


def test_parts_of_a_folder_have_the_same_numbers(parts):
    with pytest.warns(SktransferWarning, match=r"no image of 2 of 3 categories.*cat.*eel"):
        found = load_image_folder(parts, split="all")
    assert list(found.target_names) == ["cat", "dog", "eel"]
    assert found.train.target.tolist() == found.test.target.tolist() == [0, 1, 2]
    assert found.valid.target.tolist() == [1]
    assert "train: 3 images" in found.DESCR and "valid: 1 images" in found.DESCR
    with pytest.warns(SktransferWarning, match="no image"):
        X, y = load_image_folder(parts, split="valid", return_X_y=True, target_as="name")
    assert [X[0].endswith("d.png"), *y] == [True, "dog"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test = load_image_folder(parts, split="test", shuffle=True)
        dogs = load_image_folder(parts, split="all", categories=["dog"])
    assert dogs.valid.target.tolist() == [0]
    assert test.target_names[test.target].tolist() == [p.split("/")[-2] for p in test.data]


def test_classes_by_name_are_what_a_classifier_predicts(parts):
    from sklearn.dummy import DummyClassifier

    found = load_image_folder(parts, split="train", target_as="name")
    assert found.target.tolist() == ["cat", "dog", "eel"]
    assert set(DummyClassifier().fit(np.zeros((3, 1)), found.target).predict([[0]])) == {"cat"}


def test_parts_that_are_not_there_or_twice(parts):
    picture(parts / "train" / "cat" / "x.png")
    with pytest.raises(InputError, match=r"train.*training.*both.*'train'; rename one"):
        load_image_folder(parts, split="all")
    with pytest.raises(InputError, match=r"folders such as train.*'cat', 'dog', 'eel'.*leave"):
        load_image_folder(parts / "test", split="train")
    (parts / "train").rename(parts / "more")
    (parts / "Val").rename(parts / "old")
    with pytest.raises(InputError, match=r"called valid or val.*has the parts \['train', 'test'\]"):
        load_image_folder(parts, split="valid")
    with pytest.raises(InputError, match=r"split must be one of"):
        load_image_folder(parts, split="training")
    with pytest.raises(InputError, match=r"target_as must be one of"):
        load_image_folder(parts, target_as="names")


# ---------------------------------------------------------------- tables


@pytest.fixture
def photos(tmp_path):
    for name in ("a", "b", "sub/c", "d"):
        picture(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def write(path, header, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


ROWS = [["b.png", "dog", "p1", "train"], ["a.png", "cat", "p2", "val"],
        ["sub/c.png", "dog", "p1", "training"], ["d.png", "cat", "p3", "test"]]  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_table_as_csv_in_the_order_of_its_rows(photos, delimiter):
    path = write(photos / "t.csv", ["Image Path", "species", "patient", "part"], ROWS, delimiter)
    found = load_image_table(path, label="species", groups="patient")
    assert found.data.tolist() == [str(photos / row[0]) for row in ROWS]
    assert found.target_names.tolist() == ["cat", "dog"] and found.target.tolist() == [1, 0, 1, 0]
    assert found.groups.tolist() == ["p1", "p2", "p1", "p3"] and found.rows.tolist() == [0, 1, 2, 3]
    assert found.skipped == [] and "4 images of 2 classes" in found.DESCR
    by_part = load_image_table(path, label="species", split="part", target_as="name")
    assert by_part.train.target.tolist() == ["dog", "dog"]
    assert by_part.valid.rows.tolist() == [1] and by_part.test.data[0].endswith("d.png")
    assert load_image_table(path).target is None


@pytest.mark.parametrize("make", [dict, pd.DataFrame, pl.DataFrame])
def test_table_as_frame_with_a_root(photos, make):
    table = make({"file": ["a", "b", "d"], "n": [4, 2, 4], "size": [0.5, 1.5, 2.0],
                  "is_valid": [False, True, False]})  # fmt: skip
    found = load_image_table(table, label="n", root=photos, suffix=".png", split="is_valid")
    assert found.target_names.tolist() == [2, 4]  # whole numbers stay what they are
    assert found.train.target.tolist() == [1, 1] and found.valid.target.tolist() == [0]
    X, y = load_image_table(table, value="size", root=photos, suffix=".png", return_X_y=True)
    assert y.tolist() == [0.5, 1.5, 2.0] and X[0] == str(photos / "a.png")


def test_names_that_are_numbers_and_paths_of_windows(photos):
    picture(photos / "7.png")
    found = load_image_table({"file": [7], "g": [3.0]}, groups="g", root=photos, suffix=".png")
    assert found.data.tolist() == [str(photos / "7.png")] and found.groups.tolist() == [3]
    found = load_image_table({"file": ["sub\\c.png"]}, root=photos)
    assert found.data.tolist() == [str(photos / "sub" / "c.png")]


def test_tags_in_columns_and_in_a_column(photos):
    flags = {"file": ["a.png", "b.png"], "sun": [1, 0], "sea": [0.0, None]}
    found = load_image_table(pd.DataFrame(flags), tags=["sun", "sea"], root=photos)
    np.testing.assert_array_equal(found.target, [[1, 0], [0, np.nan]])
    words = {"file": ["a.png", "b.png", "d.png"], "tags": ["sun; hot dog", "", "hot dog"]}
    found = load_image_table(words, tags="tags", root=photos)
    assert found.target_names.tolist() == ["hot dog", "sun"]
    assert found.target.tolist() == [[1, 1], [0, 0], [1, 0]] and found.target.dtype == np.int64
    long = write(photos / "long.csv", ["file", "tag"],
                 [["a.png", "sun"], ["b.png", "sea"], ["a.png", "sea"]])  # fmt: skip
    found = load_image_table(long, tags="tag")
    assert found.target.tolist() == [[1, 1], [1, 0]] and found.rows.tolist() == [0, 1]


def test_bad_rows_are_named_or_left_out(photos):
    picture(photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    rows = [["a.png", "x"], ["gone.png", "x"], ["b.png", ""], ["a.png", "y"], ["broken.png", "y"],
            ["", "x"], ["d.png", "y"]]  # fmt: skip
    path = write(photos / "t.csv", ["file", "label"], rows)
    with pytest.raises(InputError) as caught:
        load_image_table(path, label="label")
    for told in ("Line 3 of t.csv", "'gone.png'", str(photos), "root=", "3 more rows", "on_bad="):
        assert told in str(caught.value)
    with pytest.warns(SktransferWarning, match=r"5 rows .* left out, 2 images") as warned:
        found = load_image_table(path, label="label", on_bad="drop", verify=True)
    assert warned[0].filename == __file__
    assert [one.rsplit("/", 1)[1] for one in found.data] == ["a.png", "d.png"]
    whys = " ".join(why for _, why in found.skipped)
    for told in ("has no path", "no label", "as line 2 of t.csv does", "broken.png", "gone.png"):
        assert told in whys
    assert len(found.skipped) == 5


@pytest.mark.parametrize(("table", "options", "message"), [
    ({"x": ["a.png"]}, {}, r"file must name the column of paths.*\['x'\]"),
    ({"file": ["a.png"], "labels": ["x"]}, {"label": "label"}, "Did you mean 'labels'"),
    ({"file": ["a"]}, {}, r"pass suffix='\.png'"),
    ({"file": ["a.png"], "y": ["x"]}, {"value": "y"}, "Row 0 of the table has 'x', which is no"),
    ({"file": ["a.png"], "y": ["2"]}, {"tags": ["y"]}, "must be 0, 1 or empty"),
    ({"file": ["a.png"], "y": [0.5]}, {"label": "y"}, "pass value="),
    ({"file": ["a.png", "b.png"], "y": [1, "x"]}, {"label": "y"}, "one kind, got int, str"),
    ({"file": ["a.png"], "y": [""]}, {"tags": "y"}, "at least one tag"),
    ({"file": ["a.png"], "y": [None]}, {"groups": "y"}, "Row 0 of the table has no group"),
    ({"file": ["a.png"]}, {"root": ["x"]}, "root must be the path of a folder, got a list"),
    ({"file": ["a.png"], "y": [1]}, {"label": "y", "tags": "y"}, "Only one of"),
    ({"file": ["a.png"]}, {"root": "nowhere"}, "root must be the folder"),
    ({"file": ["a.png", "a.png"]}, {}, "names .*a.png, as row 0 of the table does"),
    ({"file": [], "label": []}, {}, "must have rows"),
    ("nowhere.csv", {}, "there is none"),
    (3, {}, "table must be the path of a CSV file"),
])  # fmt: skip
def test_tables_that_are_refused(photos, table, options, message):
    with pytest.raises(InputError, match=message):
        load_image_table(table, **{"root": photos, **options})


def test_a_relative_path_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as caught:
        as_images(["a.png"]).open(0)
    for told in (repr(str(tmp_path)), "load_image_table", "root="):
        assert told in str(caught.value)


def test_a_line_of_another_length_is_named(photos):
    path = photos / "t.csv"
    path.write_text("file,label\na.png,x\nb.png,x,y\n")
    with pytest.raises(InputError, match=r"Line 3 of .*2 columns, got 3"):
        load_image_table(path)


# ---------------------------------------------------------------- masks


@pytest.fixture
def streets(tmp_path):
    for name in ("1", "a/2", "a/3"):
        picture(tmp_path / "images" / f"{name}.jpg")
        picture(tmp_path / "masks" / f"{name}.png", mode="L")
    return tmp_path


def test_masks_are_found_by_the_name_of_their_image(streets):
    found = load_mask_folder(streets / "images", streets / "masks", verify=True)
    assert [re.sub(r".*masks/", "", one) for one in found.target] == ["1.png", "a/2.png", "a/3.png"]
    assert [re.sub(r".*images/", "", one) for one in found.data] == ["1.jpg", "a/2.jpg", "a/3.jpg"]
    for path in (streets / "masks").rglob("*.png"):  # all in one folder, with another name
        path.rename(streets / "masks" / f"{path.stem}_seg.png")
    with pytest.raises(InputError, match=r"1\.jpg has no mask '1\.png'.*pass suffix='_seg'"):
        load_mask_folder(streets / "images", streets / "masks")
    X, y = load_mask_folder(streets / "images", streets / "masks", suffix="_seg", return_X_y=True)
    assert len(X) == 3 and y[2].endswith("3_seg.png")


def test_images_and_masks_in_one_folder(tmp_path):
    for name in ("1", "2"):
        picture(tmp_path / f"{name}.png")
        picture(tmp_path / f"{name}_mask.png", mode="L")
    found = load_mask_folder(tmp_path, tmp_path, suffix="_mask")
    assert [one[-5:] for one in found.data] == ["1.png", "2.png"]
    with pytest.raises(InputError, match="two folders"):
        load_mask_folder(tmp_path, tmp_path)


def test_what_has_no_partner_or_does_not_fit(streets):
    picture(streets / "images" / "4.jpg")
    picture(streets / "masks" / "5.png", mode="L")
    picture(streets / "masks" / "1.png", (4, 6), mode="L")
    with pytest.raises(InputError, match=r"4\.jpg has no mask.*and 1 more files"):
        load_mask_folder(streets / "images", streets / "masks")
    with pytest.warns(SktransferWarning, match=r"3 files were left out, 2 images"):
        found = load_mask_folder(streets / "images", streets / "masks", on_bad="drop", verify=True)
    assert "transposed" in found.skipped[-1][1] and len(found.data) == 2
    picture(streets / "masks" / "4.jpg")
    with pytest.raises(InputError, match="JPEG"):
        load_mask_folder(streets / "images", streets / "masks")
