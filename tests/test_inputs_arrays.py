"""Arrays and tensors in every layout, dtype and container are the same images."""

import numpy as np
import pytest
import torch

from sktransfer.exceptions import ImageError, InputError
from sktransfer.inputs import as_images

N, H, W = 3, 6, 5
RGB = np.random.default_rng(0).integers(0, 256, (N, H, W, 3), dtype=np.uint8)
RGB[0, 0, 0], RGB[0, 0, 1] = 0, 255  # so that the range of floats is told whatever is drawn
GREY = RGB[..., 0].copy()
GREY[0, 0, :2] = 0, 255


def pixels(X, **kwargs):
    images = as_images(X, **kwargs)
    return np.stack([np.asarray(images.open(i).picture()) for i in range(len(images))])


def digests(X, **kwargs):
    images = as_images(X, **kwargs)
    return [images.open(i).digest for i in range(len(images))]


def object_array(items, shape=None):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array if shape is None else array.reshape(shape)


class NotAnArray:
    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype=dtype)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


CHW = np.moveaxis(RGB, 3, 1)
COLOUR_LAYOUTS = {
    "nhwc": RGB,
    "nchw": CHW,
    "nchw contiguous": np.ascontiguousarray(CHW),
    "fortran": np.asfortranarray(RGB),
    "read-only": read_only(RGB),
    "negative strides": RGB[:, :, ::-1][:, :, ::-1],
    "array-like": NotAnArray(RGB),
    "object numbers": RGB.astype(object),
    "list": list(RGB),
    "tuple of chw": tuple(CHW),
    "mixed layouts": [RGB[0], CHW[1], torch.from_numpy(CHW[2].copy())],
    "object array of images": object_array(list(RGB)),
    "object column of images": object_array(list(RGB), (N, 1)),
    "nested lists": RGB.tolist(),
    "tensor nhwc": torch.from_numpy(RGB),
    "tensor nchw": torch.from_numpy(CHW.copy()),
    "tensors": [torch.from_numpy(image) for image in CHW.copy()],
    "tensor with grad": torch.from_numpy(CHW / 255).requires_grad_(),
    "int64": RGB.astype(np.int64),
    "uint16 big-endian": RGB.astype(">u2"),
    "int16": CHW.astype(np.int16),
    "float32 0-1": RGB.astype(np.float32) / 255,
    "float32 0-1 nchw": (CHW / 255).astype(np.float32),
    "float64 0-1": RGB / 255,
    "float16 0-1": (RGB / 255).astype(np.float16),
    "longdouble 0-1": RGB.astype(np.longdouble) / 255,
    "float 0-255": RGB.astype(np.float32),
    "float tensor": torch.from_numpy(CHW / 255).float(),
    "half tensor": torch.from_numpy(CHW / 255).half(),
    "bfloat16 tensor 0-255": torch.from_numpy(CHW.copy()).bfloat16(),
    "mixed dtypes": [RGB[0], RGB[1] / 255, torch.from_numpy(CHW[2] / 255)],
}


@pytest.mark.parametrize("name", COLOUR_LAYOUTS)
def test_colour_layouts_give_the_same_pixels_and_digests(name):
    X = COLOUR_LAYOUTS[name]
    np.testing.assert_array_equal(pixels(X), RGB)
    assert digests(X) == digests(RGB)


GREY_LAYOUTS = {
    "nhw": GREY,
    "nhw1": GREY[..., None],
    "n1hw": GREY[:, None],
    "list of hw": list(GREY),
    "list of hw1 and 1hw": [GREY[0][..., None], GREY[1][None], GREY[2]],
    "tensors": [torch.from_numpy(image) for image in GREY],
    "tensor n1hw": torch.from_numpy(GREY[:, None]),
    "float": GREY / 255,
    "rgb of equal colours": np.stack([GREY] * 3, axis=-1),
}


@pytest.mark.parametrize("name", GREY_LAYOUTS)
def test_grey_layouts_give_the_same_pixels_and_digests(name):
    X = GREY_LAYOUTS[name]
    np.testing.assert_array_equal(pixels(X), np.repeat(GREY[..., None], 3, axis=3))
    assert digests(X) == digests(GREY)


@pytest.mark.parametrize("layout", ["nhwc", "nchw", "list", "float"])
def test_alpha_lies_on_white(layout):
    rgba = np.random.default_rng(1).integers(0, 256, (N, H, W, 4), dtype=np.uint8)
    rgba[0, 0, 0] = 7, 8, 9, 0  # see-through: white, whatever colour hides there
    rgba[0, 0, 1] = 7, 8, 9, 255  # solid: as it is
    X = {
        "nhwc": rgba,
        "nchw": np.moveaxis(rgba, 3, 1),
        "list": list(rgba),
        "float": rgba / 255,
    }[layout]
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    got = pixels(X)
    np.testing.assert_allclose(got, expected, atol=1)
    assert got[0, 0, 0].tolist() == [255, 255, 255]
    assert got[0, 0, 1].tolist() == [7, 8, 9]
    assert digests(X) == digests(rgba)


def test_bool_is_black_and_white():
    X = GREY > 128
    np.testing.assert_array_equal(pixels(X), np.repeat(X[..., None] * 255, 3, axis=3))


def test_images_of_different_sizes():
    X = [RGB[0], RGB[1][:2], GREY[2][:1, :1], CHW[0][:, :3, :4]]
    images = as_images(X)
    sizes = [images.open(i).picture().size for i in range(4)]
    assert sizes == [(5, 6), (5, 2), (1, 1), (4, 3)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (1, 1, 3), (3, 1, 1)])
def test_one_pixel_images_are_legal(shape):
    picture = as_images([np.full(shape, 9, np.uint8)]).open(0).picture()
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (1, 1), (9, 9, 9))


@pytest.mark.parametrize(
    ("shape", "size", "mode"),
    [
        ((2, 3, 4, 4), (4, 4), "colour"),  # RGB of 4 x 4, not RGBA of height 3
        ((2, 4, 4, 3), (4, 4), "colour"),
        ((2, 3, 7, 3), (7, 3), "colour"),  # both ends could be: the last is
        ((2, 1, 4, 4), (4, 4), "grey"),
        ((2, 4, 7, 1), (7, 4), "grey"),
    ],
)
def test_which_axis_is_the_colours(shape, size, mode):
    X = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    picture = as_images(X).open(0).picture()
    assert picture.size == size
    is_grey = np.ptp(np.asarray(picture), axis=2).max() == 0
    assert is_grey == (mode == "grey")
    assert as_images(list(X)).open(0).digest == as_images(X).open(0).digest


def test_in_tensors_the_first_axis_wins():
    X = torch.zeros((2, 3, 7, 3), dtype=torch.uint8)
    assert as_images(X).open(0).picture().size == (3, 7)
    assert as_images(list(X)).open(0).picture().size == (3, 7)


def test_memmaps_are_not_copied(tmp_path):
    np.save(tmp_path / "X.npy", RGB)
    images = as_images(np.load(tmp_path / "X.npy", mmap_mode="r"))
    np.testing.assert_array_equal(np.asarray(images.open(1).picture()), RGB[1])


def test_input_is_left_alone():
    X = RGB / 255
    before = X.copy()
    pixels(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("container", [np.asarray, list, torch.from_numpy])
@pytest.mark.parametrize("value_range", ["auto", (0, 1)])
def test_nan_and_infinity_name_the_image_and_spare_the_others(value, container, value_range):
    X = np.random.default_rng(3).uniform(size=(5, 4, 4, 3))
    X[3, 2, 1, 0] = value
    images = as_images(container(X), value_range=value_range)
    assert list(images.known_errors) == [3]
    cause = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ImageError, match=f"image 3: holds {cause}") as caught:
        images.open(3)
    assert (caught.value.index, caught.value.source) == (3, None)
    expected = np.rint(X[4] * 255)
    np.testing.assert_array_equal(np.asarray(images.open(4).picture()), expected)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (np.zeros((0, 4, 3), np.uint8), r"no pixels: its shape is \(0, 4, 3\)"),
        (np.zeros((4, 0)), r"no pixels: its shape is \(4, 0\)"),
        (np.zeros((5, 6, 7)), r"shape of one image must be .*got \(5, 6, 7\)"),
        (np.zeros(12), r"shape of one image must be .*got \(12,\)"),
        (np.zeros((4, 4), dtype=complex), "Complex data not supported"),
        (np.zeros((4, 4), dtype="datetime64[s]"), "must be numbers, got an array of dtype date"),
        ([[1, 2], [3]], "cannot be read as an array of numbers"),
    ],
)
def test_bad_arrays_name_the_image_and_spare_the_others(bad, cause):
    images = as_images([RGB[0], bad, RGB[1]])
    with pytest.raises(ImageError, match=f"image 1: .*{cause}"):
        images.open(1)
    assert str(images.known_errors[1]).startswith("image 1: ")
    np.testing.assert_array_equal(np.asarray(images.open(2).picture()), RGB[1])


def test_a_batch_among_images_is_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"item 1 of X must be one image, got a batch of 2.*conca"):
        as_images([RGB[0], np.zeros((2, 5, 6, 3)), RGB[1]])


def test_batch_of_zero_size_images():
    images = as_images(np.zeros((2, 0, 4, 3)))
    assert sorted(images.known_errors) == [0, 1]
    with pytest.raises(ImageError, match="image 1: has no pixels"):
        images.open(1)


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5, 4), (6, 5, 1)])
def test_one_image_alone_must_be_wrapped(shape):
    with pytest.raises(InputError, match=r"is one image .*pass \[X\]"):
        as_images(np.zeros(shape))
    assert len(as_images([np.zeros(shape)])) == 1


@pytest.mark.parametrize("shape", [(), (5,), (2, 5, 6, 7), (2, 3, 4, 5, 3)])
def test_shapes_that_are_no_images(shape):
    with pytest.raises(InputError, match=r"must be .*shape"):
        as_images(np.zeros(shape))


def test_complex_images():
    with pytest.raises(InputError, match="Complex data not supported"):
        as_images(np.zeros((2, 4, 4, 3), dtype=complex))


@pytest.mark.gpu
def test_tensors_on_a_gpu():
    X = torch.from_numpy(CHW / 255).cuda()
    assert digests(X) == digests(list(X)) == digests(RGB)
