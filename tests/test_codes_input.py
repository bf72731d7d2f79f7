"""What CNNCodes takes, what comes out, and what it says about bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.exceptions import (
    ImageError,
    ImageSkippedWarning,
    InputError,
    LayerError,
    ValueRangeError,
    ValueRangeWarning,
)


@pytest.fixture
def files(sample, tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(sample.data[number]).save(paths[-1])
    return paths


def codes(**parameters):
    return CNNCodes(**{"image_size": 32, **parameters})


def test_files_in_every_container_are_the_array(sample, files):
    expected = codes().fit_transform(sample.data[:6])
    strings = [str(path) for path in files]
    forms = {
        "list of str": strings,
        "list of Path": files,
        "array of str": np.array(strings),
        "array of objects": np.array(files, dtype=object),
        "one column": np.array(strings, dtype=object)[:, None],
        "series": pd.Series(strings),
        "series of Path": pd.Series(files),
        "frame": pd.DataFrame({"photo": strings}, index=range(10, 16)),
        "polars series": pl.Series("photo", strings),
        "polars frame": pl.DataFrame({"photo": strings}),
        "bytes": [path.read_bytes() for path in files],
        "PIL": [Image.open(path) for path in files],
        "mixed": [strings[0], files[1], sample.data[2], Image.open(files[3]), *strings[4:]],
    }
    for name, X in forms.items():
        found = codes(cache=None).fit_transform(X)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_column_transformer_beside_numbers(sample, files):
    table = pd.DataFrame({"photo": [str(p) for p in files], "size": np.arange(6.0)})
    for column in ("photo", ["photo"]):
        both = ColumnTransformer([("cnn", codes(), column), ("rest", "passthrough", ["size"])])
        both.set_output(transform="pandas")
        found = both.fit_transform(table)
        assert found.shape == (6, 1281)
        assert found.columns[0] == "cnn__efficientnet_lite0_global_pool_0"
        np.testing.assert_allclose(
            found.to_numpy()[:, :-1], codes().fit_transform(sample.data[:6]), rtol=1e-5, atol=1e-6
        )
    polars = codes().set_output(transform="polars").fit_transform(pl.DataFrame(table[["photo"]]))
    assert isinstance(polars, pl.DataFrame) and polars.shape == (6, 1280)


def test_feature_names(sample):
    X = sample.data[:2]
    fitted = CNNCodes("resnet18", weights=None, layer=["layer4", "layer1"], image_size=64).fit(X)
    names = fitted.get_feature_names_out()
    assert names[0] == "resnet18_layer4_avg_0" and names[511] == "resnet18_layer4_avg_511"
    assert names[512] == "resnet18_layer1_avg_0" and len(names) == 576
    assert len(set(names)) == 576 == fitted.transform(X).shape[1]


def test_several_layers_stand_side_by_side(sample):
    X = sample.data[:5]
    both = codes(layer=["blocks.2", None], cache=None).fit_transform(X)
    one = codes(layer="blocks.2", cache=None).fit_transform(X)
    two = codes(cache=None).fit_transform(X)
    np.testing.assert_allclose(both, np.hstack([one, two]), rtol=1e-5, atol=1e-6)


def test_maps(sample):
    fitted = codes(layer="blocks", pooling=None).fit(sample.data[:3])
    maps = fitted.transform(sample.data[:3])
    assert maps.shape == (3, *fitted.code_shape_) == (3, 320, 1, 1)
    with pytest.raises(LayerError, match="several layers"):
        codes(layer=["blocks", "blocks.2"], pooling=None).fit(sample.data[:3])
    with pytest.raises(LayerError, match="different layers"):
        codes(layer=["blocks", "blocks.6"]).fit(sample.data[:3])


@pytest.mark.parametrize("how", [None, "l2", "power"])
def test_normalize(sample, how):
    X = sample.data[:4]
    plain = codes().fit_transform(X).astype(float)
    found = codes(normalize=how).fit_transform(X)
    if how == "power":
        plain = np.sign(plain) * np.sqrt(np.abs(plain))
    if how:
        plain /= np.sqrt((plain**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)
    # What is kept is the plain code: rows in the store are not changed by reading them.
    np.testing.assert_array_equal(codes(normalize=how).fit_transform(X), found)


def test_output_is_float32_and_owned(sample):
    found = codes().fit_transform(sample.data[:2])
    assert found.dtype == np.float32 and found.flags.writeable
    found[:] = 0
    assert codes().fit_transform(sample.data[:2]).any()


def test_the_range_of_fit_is_kept_for_dark_images(sample):
    bright = sample.data[:5].astype(float)
    dark = bright // 200  # no number above 1, and no fractions
    fitted = codes(cache=None).fit(bright)
    expected = fitted.transform(dark.astype(np.uint8))
    with pytest.warns(ValueRangeWarning, match="no value above 1 "):
        found = fitted.transform(dark)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_value_range_errors_name_the_parameter(sample):
    with pytest.raises(ValueRangeError, match="value_range="):
        codes().fit(sample.data[:2] / 127.5 - 1)
    with pytest.raises(ValueRangeError, match="value_range="):
        codes().fit(sample.data[:2].astype(np.uint16) * 257)
    expected = codes().fit_transform(sample.data[:2])
    found = codes(value_range=(-1, 1)).fit_transform(sample.data[:2] / 127.5 - 1)
    np.testing.assert_array_equal(found, expected)


def test_rows_must_have_the_length_of_fit(sample):
    fitted = codes().fit(sample.data[:3].reshape(3, -1))
    assert fitted.n_features_in_ == 3072
    with pytest.raises(ValueError, match="3071 features"):
        fitted.transform(np.zeros((1, 3071)))


def damage(folder):
    """Every kind of file that is no image, by name."""
    good = folder / "good.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(good)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "truncated.jpg").write_bytes(good.read_bytes()[:-900])
    return [folder / name for name in ("empty.jpg", "text.jpg", "truncated.jpg", "vanished.jpg")]


def test_a_bad_image_is_named_and_nothing_is_lost(files, tmp_path, passes):
    bad = damage(tmp_path)
    for path in bad:
        with pytest.raises(ImageError, match=f"image 6 .*{path.name}"):
            codes().fit([*files, path]).transform([*files, path])
    assert passes["images"] == len(files)
    codes().fit_transform(files)
    assert passes["images"] == len(files)


def test_bad_images_become_rows_of_nan_and_one_warning(files, tmp_path):
    bad = damage(tmp_path)
    X = [bad[0], files[0], bad[1], files[1], *bad[2:]]
    with pytest.warns(ImageSkippedWarning, match="4 of 6 images") as caught:
        found = codes(on_error="nan").fit_transform(X)
    assert len(caught) == 1
    assert all(path.name in str(caught[0].message) for path in bad)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [1, 0, 1, 0, 1, 1])
    np.testing.assert_array_equal(found[[1, 3]], codes().fit_transform(files[:2]))


def test_arrays_with_nan_and_no_pixels(sample):
    X = [sample.data[0] / 255, np.full((4, 4, 3), np.nan), np.zeros((0, 4, 3)), np.ones((1, 1, 3))]
    with pytest.warns(ImageSkippedWarning, match="2 of 4"):
        found = codes(on_error="nan").fit_transform(X)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [0, 1, 1, 0])
    with pytest.raises(ImageError, match=r"image 1: holds NaN.*Fix or remove the image"):
        codes().fit_transform(X)
    for gap in (None, np.nan):
        with pytest.raises(ImageError, match=r"image 1: is missing.*Fix or remove the image"):
            codes().fit_transform([sample.data[0], gap])


def test_decompression_bombs(monkeypatch, files):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ImageError, match="MAX_IMAGE_PIXELS"):
        codes().fit_transform(files)


def test_one_image_without_a_list_is_an_error(sample, files):
    for X in (sample.data[0], str(files[0]), Image.open(files[0])):
        with pytest.raises(InputError, match=r"\[X\]|list"):
            codes().fit(X)


def test_an_image_of_any_size_beside_another(images):
    found = codes(cache=None).fit_transform(images)
    for i, one in enumerate(images):
        alone = codes(cache=None).fit_transform([one])
        np.testing.assert_allclose(found[[i]], alone, rtol=1e-4, atol=1e-5)


def test_progress_counts_every_image(sample, capsys):
    codes(verbose=1).fit_transform(sample.data[[0, 1, 2, 2, 0]])
    shown = capsys.readouterr().err
    assert "5.00/5.00" in shown and "image/s" in shown


def test_nothing_is_said_when_all_is_well(files, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_pipeline(codes(), LinearSVC()).fit(files, [0, 1] * 3).predict(files)
    assert capsys.readouterr() == ("", "")


def test_partial_fit_is_fit_and_then_a_check(sample, passes):
    X = sample.data[:6]
    codes = CNNCodes(image_size=32)
    assert codes.partial_fit(X[:2]) is codes
    for piece in (X[2:4], list(X[4:])):
        codes.partial_fit(piece)
    assert passes["images"] == 0
    whole = CNNCodes(image_size=32).fit(X)
    assert (codes.layers_, codes.image_size_) == (whole.layers_, whole.image_size_)
    np.testing.assert_array_equal(codes.transform(X), whole.transform(X))
    with pytest.raises(InputError):
        codes.partial_fit("one path")
    with pytest.raises(ValueRangeError):
        codes.partial_fit(X.astype(np.int64) + 1000)


def test_partial_fit_learns_what_floats_are_from_the_first_piece_that_has_some(sample):
    X = sample.data[:6]
    codes = CNNCodes(image_size=32).partial_fit(X).partial_fit(X / 255)
    codes.partial_fit(X)  # bytes are bytes
    with pytest.raises(ValueRangeError, match="within 0 and 1, as they did in fit"):
        codes.partial_fit(X.astype(float))
    np.testing.assert_array_equal(codes.transform(X / 255), codes.transform(X))


def test_partial_fit_keeps_the_columns_of_the_first_piece(sample):
    rows = sample.data[:6, ::2, ::2].reshape(6, -1)
    codes = CNNCodes(image_size=32, image_shape=(16, 16, 3)).partial_fit(rows[:2])
    assert codes.n_features_in_ == 768
    with pytest.raises(ValueError, match="X has 3 features, but CNNCodes is expecting 768"):
        codes.partial_fit(rows[:, :3])


def test_floats_to_one_after_floats_to_255_are_refused_wherever_they_come(sample, tmp_path):
    X = sample.data[:6].astype(np.float32)
    fitted = codes().fit(X)
    for small in (X / 255, list(X / 255), X / 250, X[:1] / 255):
        with pytest.raises(ValueRangeError, match="within 0 and 255, as they did in fit"):
            fitted.transform(small)
    with pytest.raises(ValueRangeError, match="255"):
        fitted.transform_to(tmp_path / "codes.npy", X / 255)
    assert not list(tmp_path.iterdir())
    tuned = FineTuneClassifier(image_size=32, trainable="head", max_epochs=1, random_state=0)
    tuned.fit(X, [0, 1] * 3)
    with pytest.raises(ValueRangeError, match="255"):
        tuned.predict(X / 255)
    with pytest.raises(ValueRangeError, match="255"):
        tuned.fit(X, [0, 1] * 3, validation_data=(X / 255, [0, 1] * 3))


def test_what_fit_saw_says_how_many_images_there_are(sample):
    X = sample.data[:6]
    chw = np.moveaxis(X[0], 2, 0)
    for fitted in (codes().fit(X), codes().fit(list(X)), codes().fit(X[..., :1])):
        for one in (chw, chw.tolist(), X[0, ..., 0], X[0, ..., 0].tolist()):
            with pytest.raises(InputError, match=r"one (greyscale )?image.*pass \[X\]"):
                fitted.transform(one)
    stack = codes().fit(X[..., 0])
    np.testing.assert_allclose(
        stack.transform(X[:3, ..., 0]), codes().fit_transform(X[:3, ..., :1]), atol=1e-5
    )


def test_rows_keep_the_order_of_colours_that_fit_saw(sample):
    planar = np.moveaxis(sample.data[:20], 3, 1).reshape(20, -1)
    fitted = codes().fit(planar)
    expected = codes().fit_transform(sample.data[:20])
    np.testing.assert_allclose(fitted.transform(planar), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.transform(planar[:1]), expected[:1], rtol=1e-4, atol=1e-5)
    with pytest.warns(ValueRangeWarning, match="order of the colours"):
        fitted.transform(sample.data[:20].reshape(20, -1))


@pytest.mark.parametrize("what", ["layer", "pooling", "image_size", "device", "names", "X"])
def test_a_failed_fit_leaves_the_transformer_as_it_was(what, sample):
    rows = pd.DataFrame(sample.data[:4, ::2, ::2].reshape(4, -1)).rename(columns=str)
    codes = CNNCodes(image_size=32, image_shape=(16, 16, 3)).fit(rows)
    before, expected = dict(vars(codes)), codes.transform(rows)
    changes = {
        "layer": {"layer": "none"},
        "pooling": {"pooling": None, "layer": [-1, -2]},
        "image_size": {"image_size": (32, 0)},
        "device": {"device": "nowhere"},
    }.get(what, {})
    bad = {"names": rows.rename(columns={"0": 0}), "X": "one path"}.get(what, rows)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        codes.set_params(**changes).fit(bad)
    codes.set_params(**{name: before[name] for name in changes})
    assert vars(codes).keys() == before.keys()
    assert all(vars(codes)[name] is before[name] for name in before if name.endswith("_"))
    np.testing.assert_array_equal(codes.transform(rows), expected)
