"""Input of dask: codes that are computed later, the same as of the input in memory."""

from __future__ import annotations

import ast
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import sktransfer
from sktransfer import CNNCodes
from sktransfer.exceptions import (
    ImageError,
    ImageSkippedWarning,
    InputError,
    ValueRangeError,
    ValueRangeWarning,
)

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
db = pytest.importorskip("dask.bag")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:30]


@pytest.fixture(scope="module")
def plain(X):
    return codes().fit_transform(X)


@pytest.fixture
def paths(X, tmp_path):
    found = []
    for i, pixels in enumerate(X):
        found.append(os.fspath(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(found[-1])
    return found


def codes(**parameters):
    return CNNCodes(image_size=32, engine="torch", **{"cache": None, **parameters})


def chunked(X, *lengths):
    """As a dask array; every image is cut in four."""
    half = tuple((n // 2, n - n // 2) if n > 3 else (n,) for n in X.shape[1:])
    return da.from_array(X, chunks=(lengths or (11, 11, 8), *half))


@pytest.fixture
def computed():
    """Tasks that dask runs, by a word of their names."""
    from dask.callbacks import Callback

    class Tasks(Callback):
        keys: list[str]

        def __init__(self):
            self.keys = []

        def _pretask(self, key, dsk, state):
            self.keys.append(str(key))

    with Tasks() as tasks:
        yield tasks.keys


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


LAYOUTS = {
    "last": lambda X: X,
    "first": lambda X: X.transpose(0, 3, 1, 2),
    "grey": lambda X: X[..., 0],
    "bool": lambda X: X > 100,
    "int": lambda X: X.astype(np.int64),
    "unit": lambda X: (X / 255).astype(np.float32),
    "float 255": lambda X: X.astype(np.float64),
    "rows": lambda X: X.reshape(len(X), -1),
    "float rows": lambda X: X.reshape(len(X), -1) / 255,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout(X, layout):
    X = LAYOUTS[layout](X)
    estimator, lazy = codes().fit(X), codes().fit(chunked(X))
    assert lazy._fitted == estimator._fitted
    assert getattr(lazy, "n_features_in_", None) == getattr(estimator, "n_features_in_", None)
    found = lazy.transform(chunked(X))
    assert isinstance(found, da.Array)
    assert found.chunks == ((11, 11, 8), (1280,))
    assert found.dtype == np.float32 and found._meta.shape == (0, 0)
    rows = found.compute()
    assert rows.dtype == np.float32
    close(rows, estimator.transform(X))
    # Also where fit saw something else.
    close(codes().fit(sample_of(X)).transform(chunked(X)).compute(), rows)


def sample_of(X):
    return X if X.ndim == 2 else np.zeros((2, 32, 32, 3), np.uint8)


def test_maps_and_several_layers(X):
    for parameters in ({"pooling": None, "layer": "blocks.3"}, {"layer": ["blocks.3", "blocks"]}):
        estimator = codes(**parameters).fit(X)
        found = estimator.transform(chunked(X))
        assert found.shape == (len(X), *estimator.code_shape_)
        close(found.compute(), estimator.transform(X))


def test_bags_and_columns_of_paths(plain, paths):
    frame = dd.from_pandas(pd.DataFrame({"photo": paths}), npartitions=4)
    array = da.from_array(np.array(paths, dtype=object), chunks=8)
    for lazy in (db.from_sequence(paths, npartitions=4), frame, frame["photo"], array):
        estimator = codes()
        found = estimator.fit_transform(lazy)
        assert found.shape[1:] == (1280,) and found.numblocks == (4, 1)
        assert np.isnan(found.shape[0]) == (lazy is not array)
        close(found.compute(), plain)
        assert hasattr(estimator, "feature_names_in_") == (lazy is frame)
    other = dd.from_pandas(pd.DataFrame({"other": paths}), npartitions=4)
    with pytest.raises(ValueError, match="feature names"):
        codes().fit(frame).transform(other)


def test_a_data_frame_of_pixels(X, plain):
    table = pd.DataFrame(X.reshape(len(X), -1) / 255).rename(columns=str)
    estimator = codes()
    close(estimator.fit_transform(dd.from_pandas(table, npartitions=3)).compute(), plain)
    assert estimator.n_features_in_ == 3072
    assert estimator._fitted.reading.float_range == (0, 1)


def test_fit_and_transform_compute_nothing(X, paths, computed):
    bad = da.map_blocks(lambda block: 1 / 0, chunked(X), dtype=np.uint8, meta=np.empty((0,) * 4))
    estimator = codes().fit(bad.astype(np.uint8))
    estimator.transform(bad.astype(np.uint8))
    given = codes(value_range=(0, 1)).fit(bad.astype(np.float32))
    given.transform(bad.astype(np.float32))
    estimator.transform(bad.astype(np.float32))  # the range is told later
    assert computed == []
    bag = db.from_sequence(paths, npartitions=5).map(os.path.abspath)
    codes().fit_transform(bag)
    pieces = {key[-2] for key in computed if "abspath" in key}
    assert pieces == {"0"}


def test_dark_chunks_of_floats_are_read_as_the_others(X):
    """The first chunk alone would look as if white were 1.

    Its values are whole numbers: fractions up to 1 beside values up to 255 are an error.
    """
    floats = X.astype(np.float32)
    floats[:8] = np.rint(floats[:8] / 255)
    for estimator in (codes().fit(floats), codes().fit(chunked(floats, 8, 22)), codes().fit(X)):
        found = estimator.transform(chunked(floats, 8, 22)).compute()
        close(found, codes().fit_transform(floats))
    with pytest.raises(ValueRangeError, match="0 to 300"):
        codes().fit(chunked(np.linspace(0, 300, 2 * 32 * 32 * 3).reshape(2, 32, 32, 3), 1, 1))
    with pytest.raises(ValueRangeError, match="one piece of lazy input"):
        codes().fit(db.from_sequence(list(floats), npartitions=2))
    with pytest.raises(ValueRangeError, match="one piece of lazy input"):
        codes().fit(X).transform(db.from_sequence(list(floats), npartitions=2)).compute()
    with pytest.raises(ValueRangeError, match="two finite numbers"):
        codes(value_range=(0, "white")).fit(chunked(floats))
    told = codes(value_range=(0, 255))
    bag = db.from_sequence(list(floats), npartitions=2)
    close(told.fit_transform(bag).compute(), told.fit_transform(floats))


def test_a_bad_image_is_named(X, paths):
    floats = (X / 255).astype(np.float32)
    floats[13, 0, 0, 0] = np.nan
    estimator = codes().fit(X)
    with pytest.raises(ImageError, match="image 13: holds NaN") as caught:
        estimator.transform(chunked(floats)).compute()
    assert caught.value.index == 13
    unknown = chunked(floats)[da.from_array(np.arange(30) > 0, chunks=11)]
    with pytest.raises(ImageError, match=r"an image: holds NaN.*item 2 of chunk 1"):
        estimator.transform(unknown).compute()
    with open(paths[13], "wb") as file:
        file.write(b"no image")
    named = re.escape(paths[13])
    with pytest.raises(ImageError, match=rf"an image \({named}\).*item 3 of partition 1"):
        estimator.transform(db.from_sequence(paths, partition_size=10)).compute()
    with pytest.raises(ImageError, match=rf"image 13 \({named}\)"):
        estimator.transform(da.from_array(np.array(paths, dtype=object), chunks=10)).compute()


def test_rows_of_nan_for_bad_images(X, plain):
    floats = (X / 255).astype(np.float32)
    floats[[3, 13], 0, 0, 0] = np.nan
    estimator = codes(on_error="nan")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageSkippedWarning)
        rows = estimator.fit_transform(chunked(floats)).compute()
    messages = [str(one.message) for one in caught if one.category is ImageSkippedWarning]
    assert len(messages) == 2
    assert any("image 13" in message and "1 of 11 images of chunk 1" in message
               for message in messages)  # fmt: skip
    bad = np.isin(np.arange(30), [3, 13])
    assert np.isnan(rows[bad]).all()
    close(rows[~bad], plain[~bad])


def test_empty_and_missing(X, plain, paths):
    estimator = codes().fit(X)
    some = chunked(X)[da.from_array(np.arange(30) < 5, chunks=11)]
    assert estimator.transform(some).compute().shape == (5, 1280)
    close(estimator.transform(chunked(X, 0, 30)).compute(), plain)
    bag = db.from_sequence([None, *paths], npartitions=2)
    with pytest.warns(ImageSkippedWarning, match="image 0: is missing"):
        rows = codes(on_error="nan").fit_transform(bag).compute()
    assert np.isnan(rows[0]).all()
    close(rows[1:], plain)
    with pytest.raises(InputError, match="empty"):
        codes().fit(chunked(X)[:0])
    with pytest.raises(InputError, match="empty"):
        estimator.transform(chunked(X)[:0])


def test_what_cannot_be_is_said_at_once(X):
    estimator = codes().fit(X)
    for lazy, message in [
        (dask.delayed(X), "lazy X must be a dask array, bag"),
        (da.zeros((4, 8, 8, 7), dtype=np.uint8), "each image in X must be"),
        (da.zeros(5), "Reshape your data"),
        (da.zeros((4, 32, 32, 3), dtype=complex), "omplex"),
    ]:
        for call in (codes().fit, estimator.transform):
            with pytest.raises(InputError, match=message):
                call(lazy)
    with pytest.raises(InputError, match="from_dask_array"):
        codes().set_output(transform="pandas").fit_transform(chunked(X))
    rows = codes().fit(X.reshape(30, -1))
    with pytest.raises(ValueError, match="features"):
        rows.transform(da.zeros((4, 100), dtype=np.uint8))


def test_the_graph_holds_the_network_once_or_only_its_name(X):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 5000), torch.nn.Linear(5000, 10),
    )  # fmt: skip
    n_bytes = sum(weight.nbytes for weight in module.parameters())
    lazy = da.zeros((1000, 32, 32, 3), chunks=(10, 32, 32, 3), dtype=np.uint8)
    named = pickle.dumps(codes().fit(X).transform(lazy).dask)
    assert len(named) < 100_000  # of 100 tasks
    facts = {"image_size": 32, "mean": 0.5, "std": 0.25}
    own = CNNCodes(module, preprocessing=facts, cache=None).fit(X)
    sent = pickle.dumps(own.transform(lazy).dask)
    assert n_bytes < len(sent) - len(named) < 1.2 * n_bytes
    again = pickle.loads(pickle.dumps(own.transform(chunked(X)).dask))
    assert again.keys() == own.transform(chunked(X)).dask.keys(), "the same input, the same names"
    close(own.transform(chunked(X)).compute(), own.transform(X))


def test_later_changes_do_not_reach_lazy_codes(X, plain):
    estimator = codes()
    found = estimator.fit_transform(chunked(X))
    estimator.set_params(layer="blocks.2", normalize="l2").fit(X)
    close(found.compute(), plain)


def test_in_a_pipeline(X, sample):
    y = sample.target[:30]
    pipe = make_pipeline(codes(), StandardScaler(), LinearSVC())
    expected = pipe.fit(X, y).decision_function(X)
    pipe.fit(chunked(X), y)
    found = pipe.decision_function(chunked(X))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)
    lazily = make_pipeline(codes()).fit(chunked(X)).transform(chunked(X))
    classes = lazily.map_blocks(pipe[1:].predict, drop_axis=1, dtype=y.dtype)
    np.testing.assert_array_equal(classes.compute(), pipe.predict(X))


def test_optional_packages_are_imported_where_they_are_needed():
    for path in Path(sktransfer.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not any(re.match(r"(dask|distributed|ray)\b", name) for name in names), path


def test_rows_of_planes_are_told_from_rows_of_pixels(X):
    planar = np.moveaxis(X, 3, 1).reshape(len(X), -1)
    for rows in (planar, planar / 255):
        lazy = da.from_array(rows, chunks=(8, -1))
        close(codes().fit_transform(lazy).compute(), codes().fit_transform(rows))
    close(codes().fit_transform(da.from_array(planar, chunks=(8, 100))), codes().fit_transform(X))


def test_floats_of_another_scale(X):
    fitted = codes().fit(X.astype(np.float32))
    small = (X / 255).astype(np.float32)
    with pytest.raises(ValueRangeError, match="255"):
        fitted.transform(da.from_array(small, chunks=-1)).compute()
    # a piece may be dark among others, but is told of
    with pytest.warns(ValueRangeWarning, match="nearly black"):
        fitted.transform(da.from_array(small, chunks=(8, -1, -1, -1))).compute(scheduler="sync")
