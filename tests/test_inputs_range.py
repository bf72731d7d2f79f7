"""What black and white are in arrays: one documented rule over the whole input."""

import warnings

import numpy as np
import pytest
import torch

from sktransfer.exceptions import ClippingWarning, ValueRangeError, ValueRangeWarning
from sktransfer.inputs import as_images


def ramp(low, high, dtype=float):
    """Two images; the extremes lie in different ones."""
    X = np.full((2, 4, 4, 3), (low + high) / 2)
    X[0, 0, 0, 0], X[1, 0, 0, 0] = low, high
    return X.astype(dtype)


def pixels(X, **kwargs):
    images = as_images(X, **kwargs)
    return np.stack([np.asarray(images.open(i).picture()) for i in range(len(images))])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("as_list", [False, True])
def test_all_bytes_over_255_come_back_exactly(dtype, as_list):
    byte = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    X = byte.astype(dtype) / dtype(255)
    got = pixels(list(X) if as_list else X)
    np.testing.assert_array_equal(got[..., 0], byte)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (ramp(0, 255, np.uint8), (0, 255)),
        (ramp(3, 9, np.uint8), (0, 255)),
        (ramp(0, 1, bool), (0, 1)),
        (ramp(0, 255, np.int64), (0, 255)),
        (ramp(0, 200, np.uint16), (0, 255)),
        (ramp(0, 1), (0, 1)),
        (ramp(0, 0), (0, 1)),
        (ramp(0.2, 0.4), (0, 1)),
        (ramp(-5e-7, 1 + 5e-7), (0, 1)),
        (ramp(0, 128), (0, 255)),
        (ramp(0, 255), (0, 255)),
        (ramp(140, 255.0001), (0, 255)),
        (["a.jpg"], None),
    ],
)
def test_auto_rule(X, expected):
    assert as_images(X).value_range == expected
    if not isinstance(X, list):
        assert as_images(list(X)).value_range == expected


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 1.001, float),
        (0, 16, float),
        (0, 127.9, float),
        (0, 256, float),
        (-0.01, 1, float),
        (-1, 1, np.float32),
        (-2.1, 2.6, float),
        (0, 65535, np.uint16),
        (-1, 255, np.int32),
        (0, 256, np.int64),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_anything_else_names_the_parameter_and_what_was_found(low, high, dtype, as_list):
    X = ramp(low, high, dtype)
    with pytest.raises(ValueRangeError, match=r"value_range=\(low, high\)") as caught:
        as_images(list(X) if as_list else X)
    assert f"from {low:g} to {high:g}" in str(caught.value)


def test_sixteen_bits_are_recognised_in_the_advice():
    with pytest.raises(ValueRangeError, match=r"for example value_range=\(0, 65535\)"):
        as_images(ramp(0, 50000, np.uint16))


def test_the_range_is_of_the_whole_input_not_of_each_image():
    X = np.stack([np.full((4, 4, 3), 0.9), np.full((4, 4, 3), 200.0)])
    np.testing.assert_array_equal(pixels(X)[:, 0, 0, 0], [1, 200])
    np.testing.assert_array_equal(pixels(list(X))[:, 0, 0, 0], [1, 200])


def test_large_input_is_looked_at_in_several_blocks():
    X = np.full((12, 600, 600, 3), 0.9, dtype=np.float16)  # 3 images a block
    X[7, 0, 0, 0] = 200
    assert as_images(X).value_range == (0, 255)
    X[10, 0, 0, 0] = np.nan
    images = as_images(X)
    assert (images.value_range, list(images.known_errors)) == ((0, 255), [10])


def test_later_floats_keep_to_the_range_of_earlier_ones():
    fitted = as_images(ramp(0, 255)).float_range
    assert fitted == (0, 255)
    dark = np.ones((1, 4, 4, 3))
    assert pixels(dark, float_range=fitted).max() == 1  # and not 255
    assert pixels(dark * 3.7, float_range=fitted).max() == 4
    assert pixels(dark.astype(np.uint8) + 6, float_range=fitted).max() == 7
    with pytest.raises(ValueRangeError, match="within 0 and 1, as they did in fit"):
        as_images(ramp(0, 255), float_range=(0, 1))


def list_of_tensors(X):
    return [torch.from_numpy(image) for image in X]


@pytest.mark.parametrize("high", [0.3, 1, 1.01, 1.2])
@pytest.mark.parametrize("container", [np.asarray, list, torch.from_numpy, list_of_tensors])
def test_floats_to_one_after_floats_to_255_are_another_scale(high, container):
    X = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32) * high
    X[0, 0, 0, 0] = high
    with pytest.raises(ValueRangeError, match=r"within 0 and 255, as they did in fit.*black"):
        as_images(container(X), float_range=(0, 255))
    # one bright image says that the others are dark, if they do not look like another scale
    as_images([np.rint(X[0]), X[1] * 200], float_range=(0, 255))
    # nothing is said of a piece: the others may be bright
    told_of(as_images(X, float_range=(0, 255), piece=True), "nearly black")


@pytest.mark.parametrize("fitted", [None, (0, 255)])
@pytest.mark.parametrize("container", [list, np.stack])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_two_scales_in_one_input(fitted, container, dtype):
    X = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype(dtype)
    mixed = container([X[0], X[1], X[2] / 255, X[3]])
    with pytest.raises(ValueRangeError, match=r"one scale, but image 2 holds.*Multiply it by 255"):
        as_images(mixed, float_range=fitted)
    as_images(mixed, value_range=(0, 255))
    for dark in (X[0] * 0, X[0] > 99, X[0] / 9999, np.full_like(X[0], 0.5)):
        as_images(container([X[0], dark.astype(dtype), X[1]]), float_range=fitted)
    with pytest.raises(ValueRangeError, match="image 0 holds"):
        as_images(container([X[0].ravel() / 255, X[1].ravel()]), float_range=fitted)


def told_of(images, *words):
    """The one warning that is given when the images are used, however often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images.tell()
        images.tell()
    assert [w.category for w in caught] == [ValueRangeWarning]
    said = str(caught[0].message)
    assert all(word in said for word in ("value_range=", *words)), said


def nothing_is_told_of(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.tell()


@pytest.mark.parametrize(
    ("low", "high", "example"),
    [
        (0, 1.01, (0, 1)),
        (-0.05, 1.1, (0, 1)),
        (0, 1.9, (0, 1)),
        (0, 16, (0, 16)),
        (0, 70, (0, 255)),
        (-20, 250, (0, 255)),
        (0, 300, (0, 1023)),
        (0, 50000, (0, 65535)),
        (-1, 1, (-1, 1)),
        (-2.1, 2.6, (-3, 3)),
        (-1024, 3071, (-1024, 3071)),
    ],
)
def test_following_the_advice_never_makes_images_black(low, high, example):
    with pytest.raises(ValueRangeError) as caught:
        as_images(ramp(low, high))
    assert f"for example value_range={example}" in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        assert pixels(ramp(low, high), value_range=example).max() > 60


@pytest.mark.parametrize(
    ("high", "advice"), [(255, "Divide them by 255"), (1.02, "Clip them"), (4000, "Scale them as")]
)
def test_what_to_do_with_another_scale_than_that_of_fit(high, advice):
    with pytest.raises(ValueRangeError, match=rf"within 0 and 1, as they did in fit.*{advice}"):
        as_images(ramp(0, high), float_range=(0, 1))


def test_normalised_images_are_to_be_passed_as_they_were():
    with pytest.raises(ValueRangeError, match="If they were normalised"):
        as_images(ramp(-2.1, 2.6))


MASK = np.zeros((3, 8, 8), np.uint8)
MASK[1, 2:5, 2:5] = 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("container", [np.asarray, list, lambda X: X.reshape(3, 64)])
def test_masks_of_zero_and_one(dtype, container):
    images = as_images(container(MASK.astype(dtype)))
    if dtype == np.float32:
        assert images.open(1).pixels().max() == 255
        return nothing_is_told_of(images)
    told_of(images, "no value above 1 ", "value_range=(0, 1)")
    nothing_is_told_of(as_images(container(MASK.astype(dtype)), value_range=(0, 1)))
    nothing_is_told_of(as_images(container(MASK.astype(bool))))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_the_whole_input_says_whether_it_is_dark(dtype):
    many = np.full((40, 9, 9), 3, dtype)
    told_of(as_images(many), "no value above 3 ")
    many[37, 8, 8] = 100
    nothing_is_told_of(as_images(many))
    nothing_is_told_of(as_images(list(many)))
    nothing_is_told_of(as_images(np.zeros((2, 9, 9), dtype)))  # black, whatever white is


@pytest.mark.parametrize("dtype", [np.uint16, ">u2", np.uint32])
def test_sixteen_bits_that_never_pass_eight(dtype):
    told_of(as_images(ramp(0, 200, dtype)), "16 bits", "above 200", "(0, 4095)")
    told_of(as_images(list(ramp(0, 200, dtype))), "16 bits")
    nothing_is_told_of(as_images(ramp(0, 200, dtype), value_range=(0, 255)))


@pytest.mark.parametrize(
    ("X", "given"),
    [
        (ramp(0, 1), (0, 255)),
        (ramp(0, 1, bool), (0, 255)),
        (ramp(0, 255, np.uint8), (0, 65535)),
        (ramp(0, 4095, np.uint16), (0, 65535)),
        (ramp(0, 1 / 255), "auto"),
    ],
)
def test_a_range_of_which_next_to_nothing_is_used(X, given):
    told_of(as_images(X, value_range=given), "nearly black")


def test_only_floats_have_a_float_range():
    assert as_images(ramp(0, 255, np.uint8)).float_range is None


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, ">u2"])
def test_given_range_scales_linearly(dtype):
    X = np.random.default_rng(0).integers(0, 4096, (2, 8, 8)).astype(dtype)
    got = pixels(X, value_range=(0, 4095))[..., 0]
    np.testing.assert_array_equal(got, np.floor(X.astype(float) * 255 / 4095 + 0.5))
    assert as_images(X, value_range=(0, 4095)).value_range == (0, 4095)


def test_given_range_below_zero():
    X = np.array([[[-1.0, 0.0, 1.0, 0.5, -0.5]]])
    got = pixels(X, value_range=(-1, 1))[0, 0, :, 0]
    np.testing.assert_allclose(got, [0, 127.5, 255, 191.25, 63.75], atol=0.5)


def test_given_range_applies_to_every_dtype():
    X = np.array([[[0, 50, 100, 30, 10]]])
    for dtype in (np.uint8, np.int16, float):
        got = pixels(X.astype(dtype), value_range=(0, 100))[0, 0, :, 0]
        np.testing.assert_allclose(got, [0, 127.5, 255, 76.5, 25.5], atol=0.5)
    assert pixels(X.astype(bool), value_range=(0, 255)).max() == 1


@pytest.mark.parametrize("as_list", [False, True])
def test_values_beyond_are_clipped_with_one_warning(as_list):
    X = ramp(-3, 7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = pixels(list(X) if as_list else X, value_range=(0, 4))
    assert [w.category for w in caught] == [ClippingWarning]
    assert "from -3 to 7" in str(caught[0].message)
    assert (got.min(), got.max()) == (0, 255)


def test_uint8_beyond_a_given_range_warns_too():
    with pytest.warns(ClippingWarning):
        as_images(ramp(0, 200, np.uint8), value_range=(0, 100))


def test_nothing_to_clip_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(ramp(0, 4), value_range=(0, 4))
        pixels(ramp(0, 255, np.uint8), value_range=(0, 255))
        as_images(["a.jpg"], value_range=(0, 1))


@pytest.mark.parametrize(
    "value_range", ["Auto", None, 3, (1,), (0, 1, 2), (1, 0), (1, 1), (0, np.inf), ("0", "1")]
)
def test_invalid_value_range(value_range):
    with pytest.raises(ValueRangeError, match="value_range must be"):
        as_images(ramp(0, 1), value_range=value_range)
