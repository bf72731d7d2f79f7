"""One set of boxes, written in every format, is read as the same; broken files are named."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image, ImageOps

from sktransfer import boxes_by_image, boxes_to_frame, load_boxes
from sktransfer.exceptions import InputError, SktransferWarning

HEIGHT, WIDTH = 40, 60
NAMES = ["dog", "bird", "cat"]  # not in order, "bird" nowhere
SCENE = {
    "a.png": [([2, 3, 10, 12], "dog"), ([20, 10, 60, 40], "cat")],
    "b.png": [],
    "c.png": [([0, 0, 60, 40], "cat")],
}


def draw(folder, names=SCENE):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)


def coco(folder, scene=SCENE, at="annotations.json", images=""):
    draw(folder / images, scene)
    annotations = [
        {"id": 1, "image_id": 10 + n, "category_id": 3 + 2 * NAMES.index(label),
         "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for n, name in enumerate(scene) for (x1, y1, x2, y2), label in scene[name]
    ]  # fmt: skip
    content = {
        "images": [{"id": 10 + n, "file_name": name, "height": HEIGHT, "width": WIDTH}
                   for n, name in enumerate(scene)],
        "annotations": annotations,
        "categories": [{"id": 3 + 2 * n, "name": name} for n, name in enumerate(NAMES)],
    }  # fmt: skip
    (folder / at).parent.mkdir(parents=True, exist_ok=True)
    (folder / at).write_text(json.dumps(content))
    return folder / at


def voc(folder, scene=SCENE, images="JPEGImages", labels="Annotations", ending=".png"):
    draw(folder / images, scene)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    for name, boxes in scene.items():
        objects = "".join(
            f"<object><name>{label}</name>\n<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
            for (x1, y1, x2, y2), label in boxes
        )
        (folder / labels / name.replace(".png", ".xml")).write_text(
            f"<annotation>\n<filename>{name.replace('.png', ending)}</filename>\n<size><width>60"
            f"</width><height>40</height></size>\n{objects}</annotation>"
        )
    return folder


def yolo(folder, scene=SCENE, images="images", labels="labels", names="yaml"):
    draw(folder / images, scene)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    for name, boxes in scene.items():
        lines = [
            f"{NAMES.index(label)} {(x1 + x2) / 2 / 60} {(y1 + y2) / 2 / 40} {(x2 - x1) / 60} "
            f"{(y2 - y1) / 40}\n" for (x1, y1, x2, y2), label in boxes
        ]  # fmt: skip
        if lines:
            (folder / labels / name.replace(".png", ".txt")).write_text("".join(lines))
    if names == "yaml":
        (folder / "data.yaml").write_text(f"train: images\nnc: 3\nnames: {NAMES}\n")
    elif names == "yaml dict":
        (folder / "data.yaml").write_text("names:\n  0: dog\n  1: bird\n  2: cat\n")
    elif names == "text":
        (folder / labels / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def table(folder, scene=SCENE, header="image_path,xmin,ymin,xmax,ymax,label", separator=","):
    draw(folder, scene)
    lines = [header.replace(",", separator)] if header else []
    for name, boxes in scene.items():
        lines += [separator.join([name, *map(str, box), label]) for box, label in boxes]
        if not boxes:
            lines.append(separator.join([name, "", "", "", "", ""]))
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder / "boxes.csv"


def roboflow(folder):
    """Columns of which width and height are those of the image."""
    draw(folder)
    rows = [f"{name},60,40,{label},{','.join(map(str, box))}" for name in SCENE
            for box, label in SCENE[name]] + ["b.png,60,40,,,,,"]  # fmt: skip
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    (folder / "boxes.csv").write_text("\n".join([header, *rows]))
    return folder / "boxes.csv"


def broken(write, name, change):
    def make(folder):
        path = write(folder)
        file = next(folder.rglob(name))
        file.write_text(change(file.read_text()))
        return path

    return make


WRITERS = {
    "COCO": coco,
    "COCO, its folder": lambda at: coco(at).parent,
    "COCO, annotations beside images": lambda at: coco(at, at="ann/train.json", images="images"),
    "VOC": voc,
    "VOC, one folder": lambda at: voc(at, images="", labels=""),
    "VOC of other images": lambda at: voc(at, ending=".tif"),
    "VOC, labels alone": lambda at: voc(at) / "Annotations",
    "YOLO": yolo,
    "YOLO, one folder": lambda at: yolo(at, images="", labels="", names="text"),
    "YOLO, labels alone": lambda at: yolo(at, names="yaml dict") / "labels",
    "YOLO, a part": lambda at: yolo(at, images="images/train", labels="labels/train")
    / "labels/train",
    "CSV": table,
    "CSV, other names": lambda at: table(at, header="File Name,x1,y1,x2,y2,Class"),
    "CSV, semicolons": lambda at: table(at, separator=";"),
    "CSV of a spreadsheet": broken(lambda at: table(at, separator=";"), "*.csv",
                                   lambda s: s.replace("20", "20,0")),
    "CSV without header": lambda at: table(at, header=""),
    "CSV with sizes": roboflow,
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("on_bad", ["raise", "keep", "drop"])
def test_all_formats_are_the_same(form, on_bad, tmp_path):
    found = load_boxes(WRITERS[form](tmp_path / "set"), on_bad=on_bad)
    order = np.argsort([path.rsplit("/", 1)[-1] for path in found.data])
    assert [found.data[i].rsplit("/", 1)[-1] for i in order] == list(SCENE)
    for i, boxes in zip(order, SCENE.values(), strict=True):
        one = found.target[i]
        expected = np.array([box for box, _ in boxes], float).reshape(-1, 4)
        np.testing.assert_allclose(one["boxes"], expected, atol=1e-9)
        assert one["labels"].tolist() == [label for _, label in boxes]
        with Image.open(found.data[i]) as picture:
            assert picture.size == (WIDTH, HEIGHT)
    named = {"bird"} if form.startswith(("COCO", "YOLO")) else set()
    assert found.target_names.tolist() == sorted({"cat", "dog"} | named)
    assert found.DESCR.startswith("3 boxes of") and "1 without boxes" in found.DESCR
    assert found.skipped == []


def test_images_may_be_elsewhere(tmp_path):
    file = coco(tmp_path / "set")
    elsewhere = tmp_path / "other" / "deep"
    elsewhere.mkdir(parents=True)
    for name in SCENE:
        (tmp_path / "set" / name).rename(elsewhere / name)
    with pytest.raises(InputError, match=r"a\.png of .*annotations\.json must be in .* images="):
        load_boxes(file)
    data, target = load_boxes(file, images=tmp_path / "other", return_X_y=True)
    assert data[0] == str(elsewhere / "a.png") and len(target) == 3


def test_two_images_of_one_name_are_not_guessed(tmp_path):
    file = table(tmp_path / "set")
    for part in ("1", "2"):
        draw(tmp_path / "images" / part)
    with pytest.raises(InputError, match=r"a\.png may be .* or .* more of its path"):
        load_boxes(file, images=tmp_path / "images")
    text = file.read_text()
    for name in SCENE:
        text = text.replace(name, f"C:\\data\\2\\{name}")
    file.write_text(text)
    found = load_boxes(file, images=tmp_path / "images")
    assert found.data[0] == str(tmp_path / "images" / "2" / "a.png")


def test_yolo_without_names_has_numbers(tmp_path):
    found = load_boxes(yolo(tmp_path, names=None))
    assert found.target_names.tolist() == [0, 2]
    assert found.target[0]["labels"].tolist() == [0, 2]
    assert found.target[1]["labels"].dtype == np.int64


def test_yolo_outlines_become_the_boxes_around_them(tmp_path):
    yolo(tmp_path)
    (tmp_path / "labels" / "b.txt").write_text("1 0.1 0.5 0.5 0.25 0.75 1\n0 .5 .5 .5 .5 0.9\n")
    found = load_boxes(tmp_path)
    np.testing.assert_allclose(found.target[1]["boxes"], [[6, 10, 45, 40], [15, 10, 45, 30]])


def test_tables_without_labels_have_one_class(tmp_path):
    file = table(tmp_path)
    frame = pd.read_csv(file).drop(columns="label")
    frame.to_csv(file, index=False)
    found = load_boxes(file)
    assert found.target[0]["labels"].tolist() == [0, 0] and found.target_names.tolist() == [0]


def test_crowds_of_coco_are_left_out(tmp_path):
    file = coco(tmp_path)
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    found = load_boxes(file)
    assert found.target[0]["labels"].tolist() == ["cat"]
    assert found.skipped[0][0].startswith("annotation 0 of")


# Bad boxes.


BAD = {**SCENE, "d.png": [([5, 5, 5, 9], "dog"), ([1, 1, 4, 4], "dog"), ([50, 1, 70, 4], "cat")]}


def test_bad_boxes_are_named_or_dropped_or_kept(tmp_path):
    voc(tmp_path, BAD)
    with pytest.raises(InputError, match=r"box 2 of target\[3\] \(.*d\.png\).*on_bad=\"drop\""):
        load_boxes(tmp_path)
    with pytest.warns(SktransferWarning, match="2 of 6 boxes were left out"):
        found = load_boxes(tmp_path, on_bad="drop")
    np.testing.assert_array_equal(found.target[3]["boxes"], [[1, 1, 4, 4]])
    assert found.target[3]["labels"].tolist() == ["dog"] and len(found.target[0]["boxes"]) == 2
    assert len(found.skipped) == 2 and found.skipped[0][0].endswith("d.png")
    assert len(load_boxes(tmp_path, on_bad="keep").target[3]["boxes"]) == 3


def test_most_boxes_are_not_dropped_without_a_word(tmp_path):
    """Those are of another format, and not bad."""
    scene = {"a.png": [([40, 30, 10, 5], "cat"), ([20, 30, 5, 5], "cat"), ([3, 3, 9, 9], "cat")]}
    with pytest.raises(InputError, match="look like x, y, width, height"):
        load_boxes(table(tmp_path, scene), on_bad="drop")


def test_sizes_that_differ_are_told(tmp_path):
    voc(tmp_path)
    Image.new("RGB", (WIDTH * 2, HEIGHT * 2)).save(tmp_path / "JPEGImages" / "a.png")
    with pytest.raises(InputError, match=r"a\.png has 120×80 .*a\.xml says 60×40\. If its"):
        load_boxes(tmp_path)
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "JPEGImages" / "a.png")
    with pytest.raises(InputError, match=r"a\.png has 40×60"):
        load_boxes(tmp_path)


def save_turned(path, orientation):
    """An image that lies 60 x 40 in the file, with a square where the first box of a.png is."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[3:12, 2:10] = 255
    Image.fromarray(pixels).save(path, exif=exif)


def test_boxes_are_turned_with_images_that_lie(tmp_path):
    """By a tool that does not know EXIF: it writes the sizes of images as they lie."""
    scene = {f"{turn}.png": SCENE["a.png"] for turn in range(1, 9)}
    voc(tmp_path, scene)
    for turn in range(1, 9):
        save_turned(tmp_path / "JPEGImages" / f"{turn}.png", turn)
    found = load_boxes(tmp_path)
    for path, one in zip(found.data, found.target, strict=True):
        with Image.open(path) as picture:
            lit = np.asarray(ImageOps.exif_transpose(picture))[..., 0] > 0
        columns, rows = np.flatnonzero(lit.any(0)), np.flatnonzero(lit.any(1))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_array_equal(one["boxes"][0], expected)
        assert one["labels"].tolist() == ["dog", "cat"]
    assert load_boxes(tmp_path, on_bad="keep").target[5]["boxes"][0].tolist() == [2, 3, 10, 12]


def test_boxes_of_upright_images_are_left_alone(tmp_path):
    voc(tmp_path, {"a.png": SCENE["a.png"][:1]})
    save_turned(tmp_path / "JPEGImages" / "a.png", 3)
    assert load_boxes(tmp_path).target[0]["boxes"].tolist() == [[2, 3, 10, 12]]
    file = tmp_path / "Annotations" / "a.xml"
    save_turned(tmp_path / "JPEGImages" / "a.png", 6)
    upright = file.read_text().replace("<width>60", "<width>40")
    file.write_text(upright.replace("<height>40", "<height>60"))
    assert load_boxes(tmp_path).target[0]["boxes"].tolist() == [[2, 3, 10, 12]]
    voc(tmp_path, {"b.png": SCENE["a.png"][:1]})
    save_turned(tmp_path / "JPEGImages" / "b.png", 8)
    with pytest.raises(InputError, match=r"those of .*a\.png are, and those of .*b\.png are not"):
        load_boxes(tmp_path)


# Broken files.


def without(content, key, part):
    content = json.loads(content)
    del content[key][0][part]
    return json.dumps(content)


ENTITIES = '<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
BROKEN = {
    "JSON": (broken(coco, "*.json", lambda s: s.replace('"annotations"', '\n"annotations')),
             r"annotations\.json must be a JSON file, but in line \d"),
    "results": (broken(coco, "*.json", lambda s: '[{"image_id": 1}]'), "must hold boxes"),
    "no box": (broken(coco, "*.json", lambda s: without(s, "annotations", "bbox")),
               'annotation 0 of .* must have "bbox"'),
    "no name": (broken(coco, "*.json", lambda s: without(s, "images", "file_name")),
                'image 0 of .* must have "file_name"'),
    "lost image": (broken(coco, "*.json", lambda s: s.replace('"image_id": 10', '"image_id": 5')),
                   "annotation 0 of .* is of image 5, which"),
    "lost category": (broken(coco, "*.json", lambda s: s.replace("y_id\": 3", "y_id\": 4")),
                      "annotation 0 of .* is of category 4, which"),
    "no list": (broken(coco, "*.json", lambda s: '{"images": 5, "annotations": []}'), "must hold"),
    "an id": (broken(coco, "*.json", lambda s: s.replace('"id": 10', '"id": [10]')),
              r'image 0 of .* must have a number as "id", got \[10\]'),
    "a size": (broken(coco, "*.json", lambda s: s.replace('"height": 40', '"height": "x"', 1)),
               "image 0 of .* width and height in pixels"),
    "a size in XML": (broken(voc, "a.xml", lambda s: s.replace("<width>60", "<width>x")),
                      r"a\.xml must have a width and height"),
    "three numbers": (broken(coco, "*.json", lambda s: s.replace("[2, 3, 8, 9]", "[2, 3, 8]")),
                      "annotation 0 of .* four finite numbers"),
    "XML": (broken(voc, "a.xml", lambda s: s.replace("</object>", "", 1)),
            r"a\.xml must be an XML file, but in line 8: mismatched tag"),
    "entities": (broken(voc, "a.xml", lambda s: ENTITIES + s), "must declare no entities"),
    "other files": (broken(voc, "a.xml", lambda s: '<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/hosts">]>'
                           + s), "must declare no entities"),
    "no corner": (broken(voc, "a.xml", lambda s: s.replace("<xmin>20</xmin>", "")),
                  r"object in line 6 of .*a\.xml must have a box of four"),
    "a word": (broken(voc, "a.xml", lambda s: s.replace("<xmin>20", "<xmin>x")),
               "object in line 6 .*'x'"),
    "another XML": (broken(voc, "a.xml", lambda s: "<html></html>"), "got <html>"),
    "a name": (broken(yolo, "a.txt", lambda s: s.replace("0 0", "cat 0", 1)),
               r"line 1 of .*a\.txt must begin with the number"),
    "class": (broken(yolo, "a.txt", lambda s: s.replace("2 0", "3 0")), "line 2 .* class 3, but"),
    "pixels": (broken(yolo, "a.txt", lambda s: "0 10 20 30 40\n"), "line 1 .* shares"),
    "short": (broken(yolo, "a.txt", lambda s: s + "\n0 0.5 0.5\n"), "line 4 .* four numbers"),
    "gaps": (broken(yolo, "data.yaml", lambda s: "names: {0: a, 2: b}"), "without gaps"),
    "YAML": (broken(yolo, "data.yaml", lambda s: "names: [a"), "must be a YAML file"),
    "a column": (broken(table, "*.csv", lambda s: s.replace("xmin", "nothing")),
                 r"boxes\.csv: .* has none for xmin; .* xmax = x \+ width"),
    "a number": (broken(table, "*.csv", lambda s: s.replace("20,", "twenty,")),
                 r"line 3 of .*boxes\.csv must have numbers"),
    "a gap": (broken(table, "*.csv", lambda s: s.replace("20,", ",")), "line 3 .* all of xmin"),
    "no label": (broken(table, "*.csv", lambda s: s.replace("dog", "")), "line 2 .* has none"),
    "no image": (broken(table, "*.csv", lambda s: s.replace("c.png", "")), "line 5 .* has none"),
    "columns": (broken(table, "*.csv", lambda s: s.replace("cat", "cat,1")), "line 3 .* 6 columns"),
    "empty": (broken(table, "*.csv", lambda s: ""), "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_named_with_the_line(what, tmp_path):
    write, says = BROKEN[what]
    path = write(tmp_path)
    with pytest.raises(InputError, match=says):
        load_boxes(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda at: at / "nowhere", "there is nothing at"),
        (lambda at: at, "must hold boxes: COCO's JSON"),
        (lambda at: 5, "must be a file or folder, got 5"),
        (lambda at: [voc(at), table(at)][0], r"several formats; .* format= one of voc, csv"),
        (lambda at: [coco(at), coco(at, at="b.json")][0].parent, "hold one .json file of boxes"),
        (lambda at: [yolo(at), (at / "images/a.png").unlink()][0], r"a\.txt must have an image"),
        (lambda at: [voc(at), voc(at, labels="more")][0], r"in one place, but .*a\.xml and"),
    ],
)
def test_what_cannot_be_told_is_named(make, says, tmp_path):
    with pytest.raises(InputError, match=says):
        load_boxes(make(tmp_path))


def test_a_format_is_named_where_there_are_several(tmp_path):
    voc(tmp_path, images="")
    table(tmp_path)
    assert len(load_boxes(tmp_path, format="csv").data) == 3
    assert len(load_boxes(tmp_path, format="voc").data) == 3
    with pytest.raises(ValueError, match="format= must be auto, coco"):
        load_boxes(tmp_path, format="yaml")
    with pytest.raises(ValueError, match="on_bad= must be raise, drop"):
        load_boxes(tmp_path, on_bad="mend")


def test_files_in_another_encoding_are_named(tmp_path):
    for write, name in ((table, "boxes.csv"), (coco, "annotations.json"), (yolo, "data.yaml")):
        path = write(tmp_path / name)
        file = next((tmp_path / name).rglob(name))
        file.write_bytes(file.read_text().replace("cat", "k\xe4se").encode("latin-1"))
        with pytest.raises(InputError, match=f"{name} must be text in UTF-8"):
            load_boxes(path)


def test_no_file_but_an_image_is_read(tmp_path):
    voc(tmp_path)
    (tmp_path / "secret").write_text("secret")
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("a.png", "../secret"))
    with pytest.raises(InputError, match=r"must be in .*, and is not"):
        load_boxes(tmp_path)


# Tables.


def frame():
    rows = [(name, *box, label) for name in SCENE for box, label in SCENE[name]]
    return pd.DataFrame(rows, columns=["image_path", "xmin", "ymin", "xmax", "ymax", "label"])


@pytest.mark.parametrize("kind", ["pandas", "polars", "dict"])
def test_tables_of_boxes(kind):
    given = {"pandas": frame().sample(frac=1, random_state=0), "polars": pl.DataFrame(frame()),
             "dict": frame().to_dict("list")}[kind]  # fmt: skip
    files = [f"/data/{name}" for name in reversed(SCENE)]
    found, y = boxes_by_image(given, files)
    assert found.tolist() == files and [len(one["boxes"]) for one in y] == [1, 0, 2]
    by_label = {label: box for box, label in SCENE["a.png"]}
    for box, label in zip(y[2]["boxes"], y[2]["labels"], strict=True):
        assert box.tolist() == by_label[label]
    assert {*boxes_by_image(given)[0]} == {"a.png", "c.png"}


def test_rows_of_images_without_boxes():
    """Empty corners, or zeros alone, as some tools write them."""
    empty = {one: [np.nan, 0] for one in ("xmin", "ymin", "xmax", "ymax")}
    given = pd.concat([frame(), pd.DataFrame({"image_path": ["b.png", "d.png"], **empty})])
    files, y = boxes_by_image(given)
    assert files.tolist() == ["a.png", "c.png", "b.png", "d.png"]
    assert [one["boxes"].shape for one in y] == [(2, 4), (1, 4), (0, 4), (0, 4)]


def test_there_and_back():
    files, y = boxes_by_image(frame())
    back = boxes_to_frame(y, files)
    pd.testing.assert_frame_equal(back, frame(), check_dtype=False)
    numbered = boxes_to_frame([{**one, "scores": np.ones(len(one["boxes"]))} for one in y])
    assert numbered.columns[0] == "image" and numbered["image"].tolist() == [0, 0, 1]
    assert numbered["score"].tolist() == [1, 1, 1]
    assert boxes_to_frame([[], []]).empty


def test_numbers_as_labels_stay_numbers():
    given = frame().assign(label=[3, 7, 3])
    assert [one["labels"].tolist() for one in boxes_by_image(given)[1]] == [[3, 7], [3]]
    gaps = pd.concat([given, pd.DataFrame({"image_path": ["b.png"]})])
    assert gaps["label"].dtype == float
    assert [one["labels"].tolist() for one in boxes_by_image(gaps)[1]] == [[3, 7], [3], []]
    assert all("labels" not in one for one in boxes_by_image(given.drop(columns="label"))[1])


@pytest.mark.parametrize(
    ("change", "files", "says"),
    [
        (lambda f: f.drop(columns="xmin"), None, "none for xmin"),
        (lambda f: f, ["a.png"], r"among files, but c\.png is not, one of 1"),
        (lambda f: f, ["1/a.png", "2/a.png", "c.png"], "may be 1/a.png or 2/a.png"),
        (lambda f: f.replace("c.png", "x/a.png"), ["x/a.png"], "are one of files"),
        (lambda f: f.assign(ymax="far"), None, "column ymax must hold numbers"),
        (lambda f: f.assign(label=None), None, "row 0 of the table has none"),
        (lambda f: f.assign(image_path=None), None, "row 0 of the table has none"),
        (lambda f: f.assign(xmax=np.nan), None, "row 0 of the table must have all of"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(change, files, says):
    with pytest.raises(InputError, match=says):
        boxes_by_image(change(frame()), files)


def test_paths_are_the_same_by_their_end():
    given = frame()
    given["image_path"] = "train/" + given["image_path"]
    _, y = boxes_by_image(given, ["/x/train/a.png", "c.png", "/x/test/b.png"])
    assert [len(one["boxes"]) for one in y] == [2, 1, 0]
    with pytest.raises(InputError, match="not"):
        boxes_by_image(given, ["/x/test/a.png", "c.png"])


def test_messages_do_not_hold_the_whole_file(tmp_path):
    (tmp_path / "a.csv").write_text("x" * 100_000)
    with pytest.raises(InputError) as told:
        load_boxes(tmp_path)
    assert len(str(told.value)) < 2_000 and re.search("must have the columns", str(told.value))
