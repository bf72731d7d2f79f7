"""Which collections hold images, and what is said of those that do not."""

import array
import io
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import ImageError, InputError
from sktransfer.inputs import as_images

COLOURS = [(250, 10, 20), (30, 240, 50), (60, 70, 230)]


@pytest.fixture
def paths(tmp_path):
    """Three files of one colour each."""
    found = []
    for number, colour in enumerate(COLOURS):
        found.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (4 + number, 3), colour).save(found[-1])
    return found


def colours(X):
    images = as_images(X)
    return [images.open(i).picture().getpixel((0, 0)) for i in range(len(images))]


def objects(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


PATH_CONTAINERS = {
    "list": (list, None),
    "tuple": (tuple, None),
    "pathlib": (lambda paths: [Path(path) for path in paths], None),
    "str array": (np.array, None),
    "str column": (lambda paths: np.array(paths)[:, None], 1),
    "object array": (objects, None),
    "object array of pathlib": (lambda paths: objects([Path(path) for path in paths]), None),
    "object column": (lambda paths: objects(paths)[:, None], 1),
    "list of lists": (lambda paths: [[path] for path in paths], 1),
    "pandas Series": (pd.Series, None),
    "pandas Series, other index": (lambda paths: pd.Series(paths, index=[7, 7, 1]), None),
    "pandas category": (lambda paths: pd.Series(paths, dtype="category"), None),
    "pandas string": (lambda paths: pd.Series(paths, dtype="string"), None),
    "pandas pathlib": (lambda paths: pd.Series([Path(path) for path in paths]), None),
    "pandas Index": (pd.Index, None),
    "pandas frame": (lambda paths: pd.DataFrame({"photo": paths}), 1),
    "pandas frame of pathlib": (lambda p: pd.DataFrame({"photo": [Path(x) for x in p]}), 1),
    "polars Series": (pl.Series, None),
    "polars frame": (lambda paths: pl.DataFrame({"photo": paths}), 1),
}


@pytest.mark.parametrize("name", PATH_CONTAINERS)
def test_containers_of_paths(paths, name):
    make, n_columns = PATH_CONTAINERS[name]
    X = make(paths)
    assert colours(X) == COLOURS
    images = as_images(X)
    assert (len(images), images.n_columns, images.value_range) == (3, n_columns, None)
    assert images.label(2) == f"image 2 ({paths[2]})"
    assert images.source(2) == paths[2]


CONTENT_CONTAINERS = {
    "bytes": lambda paths: [Path(path).read_bytes() for path in paths],
    "bytearray": lambda paths: [bytearray(Path(path).read_bytes()) for path in paths],
    "memoryview": lambda paths: [memoryview(Path(path).read_bytes()) for path in paths],
    "pandas bytes": lambda paths: pd.Series([Path(path).read_bytes() for path in paths]),
    "polars bytes": lambda paths: pl.DataFrame({"a": [Path(path).read_bytes() for path in paths]}),
    "PIL": lambda paths: [Image.open(path).convert("RGB") for path in paths],
    "PIL, not loaded": lambda paths: [Image.open(path) for path in paths],
    "pandas PIL": lambda paths: pd.DataFrame({"a": [Image.open(path) for path in paths]}),
    "polars PIL": lambda paths: pl.Series([Image.open(p) for p in paths], dtype=pl.Object),
    "pandas arrays": lambda paths: pd.Series([np.asarray(Image.open(p)) for p in paths]),
    "polars arrays": lambda p: pl.Series(np.stack([np.full((2, 2, 3), c, "u1") for c in COLOURS])),
    "mixed": lambda paths: [
        paths[0],
        Image.open(paths[1]),
        torch.tensor(COLOURS[2], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 4, 4),
    ],
    "mixed with bytes and floats": lambda paths: (
        Path(paths[0]).read_bytes(),
        np.asarray(Image.open(paths[1])) / 255,
        Path(paths[2]),
    ),
}


@pytest.mark.parametrize("name", CONTENT_CONTAINERS)
def test_containers_of_contents(paths, name):
    assert colours(CONTENT_CONTAINERS[name](paths)) == COLOURS


def test_images_without_a_path_are_called_by_number(paths):
    images = as_images([np.zeros((4, 4)), Image.open(paths[0]), Image.new("L", (2, 2)), b"x"])
    assert images.label(0) == "image 0"
    assert images.label(1) == f"image 1 ({paths[0]})"
    assert (images.label(2), images.source(3)) == ("image 2", None)


def test_no_file_is_touched_before_it_is_opened(tmp_path):
    path = tmp_path / "later.png"
    images = as_images([path])
    Image.new("RGB", (3, 3), COLOURS[0]).save(path)
    opened = images.open(0)
    path.unlink()
    assert opened.picture().getpixel((0, 0)) == COLOURS[0]


def test_columns_of_numbers_for_the_estimator():
    assert as_images(np.zeros((2, 9))).n_columns == 9
    assert as_images(np.zeros((2, 5, 5))).n_columns is None
    assert as_images([np.zeros((5, 5))]).n_columns is None


@pytest.mark.parametrize("gap", [None, np.nan, float("nan"), pd.NA, pd.NaT])
def test_missing_values_are_bad_images(paths, gap):
    images = as_images([paths[0], gap, paths[2]])
    with pytest.raises(ImageError, match="image 1: is missing"):
        images.open(1)
    assert images.open(2).picture().getpixel((0, 0)) == COLOURS[2]


@pytest.mark.parametrize("make", [pd.Series, pl.Series, lambda X: pd.DataFrame({"a": X})])
def test_gaps_in_columns(paths, make):
    images = as_images(make([paths[0], None]))
    assert list(images.known_errors) == [1]


def test_images_can_be_pickled(paths):
    images = pickle.loads(pickle.dumps(as_images(paths)))
    assert images.open(1).picture().getpixel((0, 0)) == COLOURS[1]


@pytest.mark.parametrize(
    "X", ["a.jpg", Path("a.jpg"), b"bytes", Image.new("RGB", (4, 4)), np.zeros((4, 4, 3))]
)
def test_one_image_alone_must_be_wrapped(X):
    with pytest.raises(InputError, match=r"pass \[X\]"):
        as_images(X)


@pytest.mark.parametrize(
    "X",
    [
        [],
        (),
        np.array([]).astype(object),
        np.zeros((0, 4, 4, 3)),
        np.zeros((0, 9)),
        pd.Series([], dtype=object),
        pd.DataFrame({"a": []}, dtype=object),
        pl.Series([], dtype=pl.String),
        torch.zeros((0, 3, 4, 4)),
    ],
)
def test_empty(X):
    with pytest.raises(InputError, match=r"0 sample\(s\)"):
        as_images(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ({"a.jpg": 1}, "must be an array, a list or a column of images, got a dict"),
        ({"a.jpg"}, "got a set"),
        (None, "got a NoneType"),
        (7, "got a int"),
        ((path for path in ["a.jpg"]), "got a generator"),
        ([None, None], "every item of X is missing"),
        ([{"a": 1}], "item 0 of X must be a path.* got a dict"),
        (["a.jpg", 5], "item 1 of X .* got a int"),
        (["a.jpg", ("b.jpg", 1)], "item 1 of X .* got a tuple"),
        (["a.jpg", open], "item 1 of X .* got a builtin_function"),
        (np.array([{"a": 1}], dtype=object), "item 0 of X .* got a dict"),
        (np.array([b"abc\0"]), "cuts zeros off"),
        (pd.Series([1.0, 2.0]), r"shape \(2,\)"),
        (pl.LazyFrame({"a": ["a.jpg"]}), "collect"),
        (torch.zeros((2, 3, 4, 4)).to_sparse(), "cannot be read as an array"),
        (np.array("a.jpg"), r"alone; pass \[X\]"),
    ],
)
def test_what_holds_no_images(X, message):
    with pytest.raises(InputError, match=message):
        as_images(X)


def test_a_folder_is_told_how_to_be_listed(tmp_path):
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(InputError, match="load_image_folder"):
            as_images(folder)


# ------------------------------------------------------------- wrapped texts, and sets of pairs


class Named(str):
    """A text of a class of its own."""


SCALARS = {
    "numpy's str": lambda paths: list(np.array(paths)),
    "a tuple of numpy's str": lambda paths: tuple(np.array(paths)),
    "objects of numpy's str": lambda paths: objects(list(np.array(paths))),
    "a Series of numpy's str": lambda paths: pd.Series(objects(list(np.array(paths)))),
    "lists of numpy's str": lambda paths: [[path] for path in np.array(paths)],
    "numpy's bytes": lambda paths: list(np.array([path.encode() for path in paths])),
    "arrays without a dimension": lambda paths: [np.array(path) for path in paths],
    "a class of its own": lambda paths: [Named(path) for path in paths],
    "pyarrow": lambda paths: pytest.importorskip("pyarrow").array(paths),
    "scalars of pyarrow": lambda paths: list(pytest.importorskip("pyarrow").array(paths)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_texts_that_a_library_has_wrapped_are_paths(paths, name):
    images = as_images(SCALARS[name](paths))
    assert [images.open(i).picture().getpixel((0, 0)) for i in range(3)] == COLOURS
    assert images.source(2) == paths[2]


class Data:
    """What torch calls a data set: a length, and items by number."""

    def __init__(self, items):
        self.items, self.seen = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.seen.append(index)
        return self.items[index]


PIL = Image.new("RGB", (9, 8))
ARRAY = np.zeros((8, 9, 3), np.uint8)
TENSOR = torch.zeros((3, 8, 9))
PAIRS = {
    "path and label": ("a.jpg", "cat"),
    "PIL and label": (PIL, 3),
    "array and label": (ARRAY, 3),
    "array and label in a list": [ARRAY, 3],
    "tensor and tensor": (TENSOR, torch.tensor(3)),
    "image and mask": (ARRAY, ARRAY[..., 0]),
    "image, label and facts": (TENSOR, 3, {"id": 5}),
    "grey and label": (ARRAY[..., 0], 3),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("container", [list, tuple, Data, lambda items: Data(objects(items))])
def test_pairs_of_image_and_label_are_named(name, container):
    X = container([PAIRS[name]] * 3)
    with pytest.raises(InputError, match=r"item 0 of X .*pairs.*\[image for image, \*_ in X\]"):
        as_images(X)
    assert getattr(X, "seen", [0, 0, 0]).count(0) == len(getattr(X, "seen", [0, 0, 0]))


def test_a_pair_among_images_is_named():
    with pytest.raises(InputError, match=r"item 2 of X .*pairs"):
        as_images([ARRAY, ARRAY, (ARRAY, 1)])


def test_sequences_of_images_are_taken_for_what_they_are():
    from skorch.helper import SliceDataset
    from torch.utils.data import Subset

    different = [ARRAY, ARRAY[:5], TENSOR]
    pairs = Data([(item, number) for number, item in enumerate(different)])
    for X in (Data(different), SliceDataset(pairs), Subset(Data(different), [0, 1, 2])):
        images = as_images(X)
        assert [images.open(i).picture().size for i in range(3)] == [(9, 8), (9, 5), (9, 8)]
    images = as_images(Subset(pairs, [0, 1]))  # of torch: the first part is the image
    assert [images.open(i).picture().size for i in range(2)] == [(9, 8), (9, 5)]


@pytest.mark.parametrize(
    ("X", "remedy"),
    [
        ([{"image": ARRAY, "label": 1}], r"\[item\['image'\] for item in X\]"),
        (Data([{"label": 1, "picture": PIL}]), r"\[item\['picture'\] for item in X\]"),
        ([{"image": b"x", "label": 3}], r"\[item\['image'\] for item in X\]"),
        ({"label": 5, "image": [ARRAY]}, r"X\['image'\]"),
        ((item for item in [ARRAY]), r"list\(X\)"),
        (iter([ARRAY]), r"list\(X\)"),
        (zip([ARRAY], [1], strict=True), r"list\(X\)"),
        ({ARRAY.tobytes()}, "a list"),
        ((torch.zeros((2, 3, 8, 9)), torch.zeros(2)), r"pass X\[0\]"),
        ([torch.zeros((2, 3, 8, 9)), torch.zeros(2)], r"pass X\[0\]"),
    ],
)
def test_the_way_out_is_said(X, remedy):
    with pytest.raises(InputError, match=remedy):
        as_images(X)


def test_a_loader_is_told_of_its_data_set():
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.zeros((4, 3, 8, 9)), torch.zeros(4)), batch_size=2)
    with pytest.raises(InputError, match=r"pass its data set: X\.dataset"):
        as_images(loader)
    with pytest.raises(InputError, match=r"pass X\[0\]"):
        as_images(next(iter(loader)))


@pytest.mark.parametrize(
    ("X", "found"),
    [
        (pd.DataFrame({"front": ["a.jpg"], "back": ["b.jpg"]}), "2 columns, of which front, back"),
        (pl.DataFrame({"front": ["a.jpg"], "back": ["b.jpg"]}), "2 columns, of which front, back"),
        (pd.DataFrame({"image": ["a.jpg"], "price": [1.5]}), "2 columns, of which image holds"),
        (pd.DataFrame({"a": [PIL], "b": [PIL]}), "2 columns, of which a, b"),
        (pd.DataFrame({"a": [ARRAY], "b": [3]}), "2 columns, of which a holds"),
        (pd.DataFrame([["a.jpg"] * 400]), r"400 columns, of which 0, 1, 2, … hold"),
        (np.array([["a.jpg", "b.jpg"]], dtype=object), "2 columns, of which 0, 1"),
        (pd.DataFrame({"a": [None, "x.jpg"], "b": [None, "y.jpg"]}), "2 columns, of which a, b"),
        (pa.table({"a": ["x.jpg"], "b": ["y.jpg"]}), "2 columns, of which a, b hold"),
        (pa.table({"a": [None, "x.jpg"], "b": [3, 4]}), "2 columns, of which a holds"),
    ],
)
def test_columns_of_images_are_counted(X, found):
    with pytest.raises(InputError, match=rf"{found}.*one CNNCodes for each column") as caught:
        as_images(X)
    assert len(str(caught.value)) < 400


def test_column_names_that_are_there_twice():
    X = pd.DataFrame(np.zeros((2, 64)), columns=["pixel"] * 64)
    try:
        images = as_images(X)
    except InputError as error:  # of newer versions of scikit-learn
        assert "unique" in str(error) and "\n" not in str(error) and len(str(error)) < 200
    else:
        assert images.image_shape == (8, 8)


# ------------------------------------------------------------------ one image, or several of them


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("container", [torch.from_numpy, np.ndarray.tolist])
def test_one_image_with_its_channels_first_is_one(channels, container):
    X = np.random.default_rng(0).integers(0, 256, (channels, 8, 9), dtype=np.uint8)
    with pytest.raises(InputError, match=r"one image .*pass \[X\].*pass X\[:, None\]"):
        as_images(container(X))
    assert len(as_images([container(X)])) == 1
    assert len(as_images(container(X[:, None]))) == channels  # greyscale, and said so
    assert len(as_images(container(X), layout="stack")) == channels  # as in fit
    for count in (1, 2, 5, 6):
        assert len(as_images(container(np.resize(X, (count, 8, 9))))) == count
    assert len(as_images(container(X[:, :4, :2]))) == channels  # too small for an image


@pytest.mark.parametrize("container", [np.asarray, torch.from_numpy, np.ndarray.tolist, list])
def test_one_image_with_its_channels_last_is_one(container):
    X = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"is one image .*pass \[X\]"):
        as_images(container(X))


def test_what_fit_saw_decides_where_arrays_could_be_one_image_or_several():
    X = np.zeros((3, 8, 8), np.uint8)
    assert as_images(X).layout == "stack" and as_images(X[:, None]).layout == "images"
    assert as_images(X.reshape(3, -1)).layout == "rows"
    assert len(as_images(X, layout="stack")) == 3
    for layout in ("images", "rows"):
        with pytest.raises(InputError, match=r"taken for one image \(3, h, w\)"):
            as_images(X, layout=layout)
    for layout in ("images", "stack"):
        for one in (np.zeros((16, 16)), torch.zeros((16, 16)), np.zeros((16, 16)).tolist()):
            with pytest.raises(InputError, match="one greyscale image, or a table of rows"):
                as_images(one, layout=layout)


def encoded(fmt):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(
        buffer, fmt
    )
    return buffer.getvalue() + bytes(32**2 - buffer.tell() % 2**10)  # a square, as rows are


def as_uint8(data):
    return np.frombuffer(bytearray(data), np.uint8)


ENCODED = {
    "arrays": (lambda data: [as_uint8(data)] * 2, 0),
    "arrays of several lengths": (lambda data: [as_uint8(data), as_uint8(data + b"0")], 0),
    "an array among paths": (lambda data: ["a.png", as_uint8(data)], 1),
    "a column, as cv2.imencode gave it": (lambda data: [as_uint8(data)[:, None]], 0),
    "object array": (lambda data: objects([as_uint8(data), as_uint8(data + b"0")]), 0),
    "Series": (lambda data: pd.Series([as_uint8(data), as_uint8(data + b"0")]), 0),
    "table": (lambda data: np.stack([as_uint8(data)] * 2), 0),
    "one row": (lambda data: as_uint8(data)[None], None),
    "a column alone": (lambda data: as_uint8(data)[:, None], None),
    "whole numbers": (lambda data: [as_uint8(data).astype(int)] * 2, 0),
    "lists of one": (lambda data: [[as_uint8(data)]] * 2, 0),
    "polars Series of lists": (lambda data: pl.Series([list(data), [*data, 1]]), 0),
    "tensors": (lambda data: [torch.from_numpy(as_uint8(data))] * 2, 0),
    "array.array": (lambda data: [array.array("B", data)], 0),
    "numpy.void": (lambda data: [np.void(data)], 0),
    "array of void": (lambda data: np.array([np.void(data)] * 2), 0),
    "lists": (lambda data: [list(data)] * 2, 0),
    "array alone": (as_uint8, None),
    "tensor alone": (lambda data: torch.from_numpy(as_uint8(data)), None),
    "array.array alone": (lambda data: array.array("B", data), None),
    "list alone": (list, None),
}


@pytest.mark.parametrize("name", ENCODED)
def test_files_that_come_as_numbers_are_no_rows(name):
    make, index = ENCODED[name]
    where, what = ("X", "X") if index is None else (f"item {index} of X", "item")
    message = rf"{where} holds the bytes of a PNG file: pass \[.*{what}"
    with pytest.raises(InputError, match=message):
        as_images(make(encoded("PNG")))


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "WebP", "TIFF", "BMP"])
def test_the_kind_of_file_is_said(fmt):
    says = re.escape(f"a {fmt} file: pass [item.tobytes() for item in X]")
    with pytest.raises(InputError, match=says):
        as_images([as_uint8(encoded(fmt))])


@pytest.mark.parametrize(
    "start", [b"\xff\xd8\xff\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0"]
)
def test_rows_that_only_begin_alike_are_rows(start):
    row = np.full(32**2, 200, np.uint8)
    row[: len(start)] = list(start)
    for X in ([row, row], np.stack([row, row])):
        assert as_images(X).layout == "rows"


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("container", [list, tuple, lambda X: [torch.from_numpy(x) for x in X]])
def test_a_list_of_planes_is_one_image_after_images_in_colour(channels, container):
    X = container(np.random.default_rng(0).integers(0, 256, (channels, 9, 8), dtype=np.uint8))
    with pytest.raises(InputError, match=r"planes of one image.*pass \[numpy.stack\(X\)\]"):
        as_images(X, layout="images")
    # in fit it is greyscale images, and so it is after them
    assert (len(as_images(X)), as_images(X).layout) == (channels, "stack")
    assert len(as_images(X, layout="stack")) == channels
    for grey in ([*X, X[0], X[1]], X[:2], [X[0], X[1], X[2][:7]], [Image.new("L", (9, 8))] * 3):
        assert len(as_images(grey, layout="images")) == len(grey)


@pytest.mark.parametrize(("make", "how"), [(np.zeros, "numpy.concatenate"), (torch.zeros, "torch")])
def test_batches_in_a_list_are_to_be_joined(make, how):
    with pytest.raises(InputError, match=rf"item 0 .*a batch of 4.*pass {how}"):
        as_images([make((4, 3, 8, 8)), make((2, 3, 8, 8))])
