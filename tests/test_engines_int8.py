"""Networks in 8 bits: what they are converted by, where conversions are kept, what is refused."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest
from common import relative
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import CNNCodes, FineTuneClassifier, count_computed
from sktransfer.compute import _engine as _make
from sktransfer.compute import _quantized
from sktransfer.exceptions import EngineError, InputError, ItemError
from sktransfer.inspection import SaliencyDisplay

for name in ("openvino", "nncf"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)


class Small(nn.Module):
    """Three convolutions, so that a conversion takes no time."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


@pytest.fixture(scope="module")
def network():
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


@pytest.fixture(autouse=True)
def nothing_converted(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    forget()


def forget():
    """As in another process."""
    _make._engines.clear()
    _quantized._conversions.clear()


@pytest.fixture
def conversions(monkeypatch):
    """The number of networks that were converted, as a list that grows."""
    made = []
    convert = _quantized._in_8_bits
    monkeypatch.setattr(
        _quantized, "_in_8_bits", lambda *given: made.append(len(given[1])) or convert(*given)
    )
    return made


@pytest.fixture
def codes(network):
    about = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_size": 32}
    return CNNCodes(network, image_size=32, precision="int8", preprocessing=about, cache=None)


def test_near_float32_and_the_same_bits_wherever_it_is_computed(codes, sample, conversions):
    X = sample.data[:60]
    fitted = clone(codes).fit(X)
    found = fitted.transform(X)
    exact = clone(codes).set_params(precision="float32").fit(X).transform(X)
    assert 1e-4 < relative(found, exact) < 0.2
    # An image alone, another fit on the same images, from disk, and converted once more.
    np.testing.assert_array_equal(fitted.transform(X[7:8])[0], found[7])
    np.testing.assert_array_equal(clone(codes).fit_transform(X), found)
    forget()
    np.testing.assert_array_equal(clone(codes).fit_transform(X), found)
    assert conversions == [60]


def test_converted_twice_it_is_the_same(codes, sample, monkeypatch, tmp_path, conversions):
    X = sample.data[:40]
    found = clone(codes).fit_transform(X)
    forget()
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "another"))
    np.testing.assert_array_equal(clone(codes).fit_transform(X), found)
    assert conversions == [40, 40]


def test_a_damaged_conversion_is_made_again(codes, sample, tmp_path, conversions):
    X = sample.data[:20]
    found = clone(codes).fit_transform(X)
    (weights,) = tmp_path.rglob("int8-*.bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 255
    weights.write_bytes(content)
    forget()
    np.testing.assert_array_equal(clone(codes).fit_transform(X), found)
    assert len(conversions) == 2


def test_evenly_taken_images():
    assert _quantized.calibration_rows(5).tolist() == [0, 1, 2, 3, 4]
    rows = _quantized.calibration_rows(10_000)
    assert len(rows) == 300 and rows[0] == 0 and rows[-1] == 9_999
    assert set(np.diff(rows)) <= {33, 34}


def test_codes_by_other_images_are_other_codes(codes, sample, tmp_path):
    """In one store each conversion has rows of its own, also after float32."""
    X = sample.data[:30]
    codes = codes.set_params(cache=tmp_path / "codes")
    one, other = clone(codes).fit(X[:15]), clone(codes).fit(X[15:])
    with count_computed() as counter:
        first = one.transform(X)
        second = other.transform(X)
        again = clone(codes).fit(X[:15]).transform(X)
        exact = one.set_params(precision="float32").transform(X)
    assert counter.n_items == 3 * 30
    np.testing.assert_array_equal(first, again)
    assert all(np.abs(a - b).max() > 0 for a, b in ((first, second), (first, exact)))
    # Back to 8 bits, by the conversion of its fit.
    np.testing.assert_array_equal(one.set_params(precision="int8").transform(X), first)


def test_a_pickle_gives_the_same_codes_without_what_made_them(sample, tmp_path):
    X = sample.data[:20]
    codes = CNNCodes("squeezenet1_1", weights=None, image_size=64, precision="int8")
    codes.set_params(cache=None).fit(X)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "codes.npy", codes.transform(X))
    (tmp_path / "codes.pkl").write_bytes(pickle.dumps(codes))
    script = f"""
import os, pickle, sys
import numpy as np
sys.modules["nncf"] = None
os.environ["SKTRANSFER_CACHE"] = {str(tmp_path / "empty")!r}
os.chdir({str(tmp_path)!r})
codes = pickle.load(open("codes.pkl", "rb"))
assert np.array_equal(codes.transform(np.load("X.npy")), np.load("codes.npy"))
assert codes.warm_up() is codes
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_file_of_skops_gives_the_same_codes(codes, sample):
    sio = pytest.importorskip("skops.io")
    X = sample.data[:20]
    codes = CNNCodes("squeezenet1_1", weights=None, image_size=64, precision="int8")
    content = sio.dumps(codes.set_params(cache=None).fit(X))
    types = sio.get_untrusted_types(data=content)
    assert "sktransfer.compute._quantized.Quantized" in types
    assert all(one.startswith(("sktransfer.", "pathlib")) for one in types)
    loaded = sio.loads(content, trusted=types)
    np.testing.assert_array_equal(loaded.transform(X), codes.transform(X))


def test_a_search_over_precisions_converts_once_for_each_training_set(codes, sample, conversions):
    X, y = sample.data[:60], sample.target[:60] % 2
    pipe = make_pipeline(codes, LogisticRegression())
    grid = {"cnncodes__precision": ["float32", "int8"], "logisticregression__C": [0.1, 1.0, 10.0]}
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(X, y)
    assert search.predict(X).shape == (60,)
    # Three folds, and all images where the best is in 8 bits; not once for each C.
    in_8_bits = search.best_params_["cnncodes__precision"] == "int8"
    assert conversions == [40] * 3 + [60] * in_8_bits


def test_in_a_column_transformer_to_a_file_and_of_several_layers(codes, sample, tmp_path):
    pd = pytest.importorskip("pandas")
    X = sample.data[:20]
    expected = clone(codes).fit_transform(X)
    table = pd.DataFrame({"photo": list(X), "price": np.arange(20.0)})
    both = ColumnTransformer([("c", codes, "photo")], remainder="passthrough")
    found = both.fit_transform(table)
    np.testing.assert_array_equal(found[:, :-1], expected)
    fitted = clone(codes).fit(X)
    fitted.transform_to(tmp_path / "codes.npy", X)
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), expected)
    two = clone(codes).set_params(layer=["features.3", "features.5"], cache="memory").fit(X)
    rows = two.transform(X)
    assert rows.shape == (20, 32 + 64)
    np.testing.assert_array_equal(clone(two).fit_transform(X), rows)


def test_lazy_images_after_a_fit_on_some_in_memory(codes, sample):
    da = pytest.importorskip("dask.array")
    X = sample.data[:24]
    lazy = da.from_array(X, chunks=(8, 32, 32, 3))
    with pytest.raises(InputError, match="X is lazy"):
        clone(codes).fit(lazy)
    fitted = clone(codes).fit(X)
    found = fitted.transform(lazy).compute(scheduler="threads")
    np.testing.assert_array_equal(found, fitted.transform(X))


def test_images_that_cannot_be_read_are_left_out(codes, sample, tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, sample.data, strict=False):
        Image.fromarray(image).save(path)
    paths[2].write_bytes(b"no image")
    found = clone(codes).set_params(on_error="nan").fit(paths)
    with pytest.warns(match="1 of 6 images could not be read"):
        rows = found.transform(paths)
    assert np.isnan(rows[2]).all() and np.isfinite(np.delete(rows, 2, axis=0)).all()
    with pytest.raises(ItemError, match=r"2\.png"):
        clone(codes).fit([paths[2]])


def test_maps_of_other_layers_are_seen_in_float32(codes, sample):
    X, y = sample.data[:20], sample.target[:20] % 2
    pipe = make_pipeline(codes, LogisticRegression()).fit(X, y)
    shown = SaliencyDisplay.from_estimator(pipe, X[:2])
    assert np.isfinite(np.asarray(shown.maps[0])).all()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"engine": "torch"}, 'got engine="torch"'),
        ({"compile": True}, "got compile=True"),
        ({"device": "meta"}, "meta"),
    ],
)
def test_what_cannot_compute_it_says_so_in_fit(codes, sample, params, said):
    with pytest.raises(EngineError, match=said):
        clone(codes).set_params(**params).fit(sample.data[:4])


def test_without_the_packages(codes, sample, monkeypatch):
    X = sample.data[:4]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "nncf", None)
        with pytest.raises(ImportError, match=r"sktransfer\[int8\]"):
            clone(codes).fit(X)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(EngineError, match=r"openvino.*sktransfer\[int8\]"):
            clone(codes).fit(X)


def test_set_after_a_fit_in_float32_it_asks_for_another_fit(codes, sample):
    X = sample.data[:4]
    fitted = clone(codes).set_params(precision="float32").fit(X)
    with pytest.raises(EngineError, match="Call fit again"):
        fitted.set_params(precision="int8").transform(X)


def test_estimators_without_it_refuse_the_name(sample):
    with pytest.raises(ValueError, match=r"'precision' parameter .* must be a str among"):
        FineTuneClassifier(precision="int8").fit(sample.data[:4], sample.target[:4])


@pytest.mark.slow
def test_linear_probes_are_as_good(sample):
    """On the sample, by the default network: within half a point of float32 (mean of 3 splits)."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.preprocessing import StandardScaler

    X, y = sample.data[:1000], sample.target[:1000]

    def accuracy(precision):
        rows = CNNCodes(precision=precision, cache=None).fit_transform(X)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        folds = [StratifiedKFold(5, shuffle=True, random_state=seed) for seed in range(3)]
        return np.mean([cross_val_score(probe, rows, y, cv=cv).mean() for cv in folds])

    assert accuracy("int8") > accuracy("float32") - 0.005
