"""Files and PIL images of more than 8 bits: `value_range` holds for them as for arrays."""

import io
import pickle
import struct
import warnings

import numpy as np
import pytest
from common import encode
from PIL import Image
from test_inputs_colour import deep_png

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.exceptions import ClippingWarning, ImageError, SktransferWarning, ValueRangeWarning
from sktransfer.inputs import as_images

H, W = 23, 31
COLOURS = np.random.default_rng(0).integers(0, 4096, (H, W, 3)).astype(np.uint16)
COLOURS[0, 0], COLOURS[0, 1] = 0, 4095
GREY = COLOURS[..., 0].copy()


def as_pil(values, mode="I;16"):
    order = {"I;16": "<u2", "I;16B": ">u2", "I": "i4", "F": "f4"}[mode]
    return Image.frombytes(mode, values.shape[::-1], values.astype(order).tobytes())


def tiff(values, *, order="<", planar=False, extra=(), sample_format=1):
    """A TIFF file of (h, w, bands), which not every Pillow writes."""
    height, width, bands = values.shape
    data = values.transpose(2, 0, 1) if planar else values
    data = data.astype(data.dtype.newbyteorder(order)).tobytes()
    n_strips = bands if planar else 1
    size = len(data) // n_strips
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8 * values.dtype.itemsize] * bands),
        259: ("H", [1]),
        262: ("H", [2 if bands > 2 else 1]),
        273: ("I", [8 + size * strip for strip in range(n_strips)]),
        277: ("H", [bands]),
        278: ("I", [height]),
        279: ("I", [size] * n_strips),
        284: ("H", [2 if planar else 1]),
        **({338: ("H", list(extra))} if extra else {}),
        339: ("H", [sample_format] * bands),
    }
    entries, more = b"", b""
    first = 8 + len(data)  # pixels, values that fill no entry, entries
    for tag, (kind, numbers) in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(packed) > 4:
            packed, more = struct.pack(order + "I", first + len(more)), more + packed
        kinds = {"H": 3, "I": 4}
        entries += struct.pack(order + "HHI", tag, kinds[kind], len(numbers))
        entries += packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "H", len(tags))
    where = struct.pack(order + "I", first + len(more))
    return mark + where + data + more + count + entries + bytes(4)


def pixels(item, value_range=(0, 4095)):
    """Pixels of one image, which are those of its picture."""
    images = as_images([item], value_range=value_range)
    opened = images.open(0)
    np.testing.assert_array_equal(opened.pixels(), np.asarray(opened.picture()))
    return opened.pixels()


def of_array(values, value_range=(0, 4095)):
    return as_images([values], value_range=value_range).open(0).pixels()


OPAQUE = np.full((H, W), 65535, np.uint16)
ITEMS = {
    "PNG": (encode(as_pil(GREY), "PNG"), GREY),
    "PNG of colours": (deep_png(COLOURS, colour_type=2), COLOURS),
    "PNG of colours and alpha": (deep_png(np.dstack([COLOURS, OPAQUE]), colour_type=6), COLOURS),
    "PNG of grey and alpha": (deep_png(np.dstack([GREY, OPAQUE]), colour_type=4), GREY),
    "TIFF": (encode(as_pil(GREY), "TIFF"), GREY),
    "TIFF, compressed": (encode(as_pil(GREY), "TIFF", compression="tiff_lzw"), GREY),
    "TIFF, big-endian": (tiff(GREY[..., None], order=">"), GREY),
    "TIFF of colours": (tiff(COLOURS), COLOURS),
    "TIFF of colours, big-endian": (tiff(COLOURS, order=">"), COLOURS),
    "TIFF of colours and alpha": (tiff(np.dstack([COLOURS, OPAQUE]), extra=[2]), COLOURS),
    "TIFF of signed integers": (tiff(GREY[..., None].astype("i2"), sample_format=2), GREY),
    "TIFF of 32 bits": (encode(as_pil(GREY, "I"), "TIFF"), GREY),
    "TIFF of floats": (encode(as_pil(GREY, "F"), "TIFF"), GREY.astype(np.float32)),
    "JPEG 2000": (encode(as_pil(GREY), "JPEG2000"), GREY),
    "PGM": (b"P5 %d %d 65535\n" % (W, H) + GREY.astype(">u2").tobytes(), GREY),
    "PGM that says 4095": (b"P5 %d %d 4095\n" % (W, H) + GREY.astype(">u2").tobytes(), GREY),
    "PPM that says 4095": (b"P6 %d %d 4095\n" % (W, H) + COLOURS.astype(">u2").tobytes(), COLOURS),
    "PIL": (as_pil(GREY), GREY),
    "PIL, big-endian": (as_pil(GREY, "I;16B"), GREY),
    "PIL of 32 bits": (as_pil(GREY, "I"), GREY),
    "PIL of floats": (as_pil(GREY, "F"), GREY.astype(np.float32)),
}


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("value_range", [(0, 4095), (500, 3000), (-100, 5000)])
def test_value_range_holds_as_for_arrays_of_the_same_values(name, value_range):
    item, values = ITEMS[name]
    if "says" in name and values is COLOURS and value_range != (0, 4095):
        with pytest.raises(ImageError, match=r"Pillow keeps the upper 8.*into an array"):
            pixels(item, value_range)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        expected = of_array(values, value_range)
    np.testing.assert_array_equal(pixels(item, value_range), expected)


@pytest.mark.parametrize("name", ["PNG", "PNG of colours", "TIFF of colours", "JPEG 2000"])
def test_value_range_holds_for_opened_files(name, tmp_path):
    item, values = ITEMS[name]
    (tmp_path / "a").write_bytes(item)
    for opened in (Image.open(io.BytesIO(item)), Image.open(tmp_path / "a")):
        np.testing.assert_array_equal(pixels(opened), of_array(values))
    loaded = Image.open(io.BytesIO(item))
    loaded.load()
    if name == "TIFF of colours":  # the lower bytes are gone
        with pytest.raises(ImageError, match="Pillow keeps the upper 8"):
            pixels(loaded)


def test_eight_bits_need_no_range():
    grey = (GREY >> 4).astype(np.uint8)
    for fmt in ("PNG", "TIFF", "BMP", "WEBP"):
        options = {"lossless": True} if fmt == "WEBP" else {}
        data = encode(Image.fromarray(grey), fmt, **options)
        images = as_images([data, Image.open(io.BytesIO(data))], value_range=(0, 4095))
        plain = as_images([data, Image.open(io.BytesIO(data))])
        for index in (0, 1):
            np.testing.assert_array_equal(images.open(index).pixels()[..., 1], grey)
            assert images.open(index).digest == plain.open(index).digest  # codes are shared


@pytest.mark.parametrize("name", ["PNG", "PNG of colours", "TIFF of floats", "PIL"])
def test_another_range_is_another_image(name):
    item, _ = ITEMS[name]
    ranges = ["auto", (0, 4095), (0, 4096), (1, 4095)][name == "TIFF of floats" :]
    assert len({as_images([item], value_range=r).open(0).digest for r in ranges}) == len(ranges)


def test_a_clear_colour_of_sixteen_bits():
    clear = COLOURS[5, 5].astype(">u2").tobytes()
    got = pixels(deep_png(COLOURS, colour_type=2, clear=clear))
    assert got[5, 5].tolist() == [255, 255, 255]
    expected = of_array(COLOURS).copy()
    expected[(COLOURS == COLOURS[5, 5]).all(axis=2)] = 255
    np.testing.assert_array_equal(got, expected)


def test_white_is_zero():
    data = encode(as_pil(GREY), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(pixels(data), 255 - of_array(GREY))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("value_range", ["auto", (0, 4095)])
def test_floats_that_are_no_numbers(value, value_range):
    values = GREY.astype(np.float32)
    values[3, 3] = value
    with pytest.raises(ImageError, match=r"holds (NaN|infinity).*value_range"):
        pixels(encode(as_pil(values, "F"), "TIFF"), value_range)


def test_floats_say_which_range_to_name():
    values = GREY * np.float32(2) - 960
    with pytest.raises(ImageError, match=r"got -960 to 7230.*example \(-960, 7230\)"):
        pixels(encode(as_pil(values, "F"), "TIFF"), "auto")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(COLOURS.astype(np.float32), sample_format=3), "3 bands of 32-bit floats"),
        (tiff(GREY[..., None].astype(np.float64), sample_format=3), "1 band of 64-bit floats"),
        (tiff(np.dstack([COLOURS, COLOURS[..., :2]]), extra=(0, 0)), "5 bands of 16-bit integers"),
        (
            tiff(np.dstack([COLOURS, GREY]).astype(np.float32), sample_format=3),
            "4 bands of 32-bit floats",
        ),
    ],
)
@pytest.mark.parametrize("value_range", ["auto", (0, 1)])
def test_what_pillow_does_not_read_is_named(data, what, value_range):
    with pytest.raises(ImageError, match=f"{what}.*tifffile.*value_range=") as caught:
        pixels(data, value_range)
    # of four bands in an array the last would be transparency
    assert ("array[..., :3]" in str(caught.value)) == (what[0] in "45")


@pytest.mark.parametrize("value_range", ["auto", (0, 4095)])
def test_planes_of_sixteen_bits_are_refused(value_range):
    with pytest.raises(ImageError, match=r"planes of 16 bits.*into an array"):
        pixels(tiff(COLOURS, planar=True), value_range)


def told(images, category):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for index in range(len(images)):
            images.open(index).pixels()
        images.tell()
        images.tell()
    assert [w.category for w in caught] == [category]
    return str(caught[0].message)


DARK = [name for name in ITEMS if not any(w in name for w in ("says", "32", "signed", "floats"))]


@pytest.mark.parametrize("name", DARK)
@pytest.mark.parametrize("bits", [12, 14])
def test_files_that_look_black_are_told_of_once(name, bits):
    item = ITEMS[name][0]
    if bits == 14:
        if name != "PNG":
            return
        item = encode(as_pil(GREY * 4 + 3), "PNG")
    said = told(as_images([item] * 3), ValueRangeWarning)
    assert said.startswith("3 images of more than 8 bits (image 0, …)")
    assert f"above {2**bits - 1}" in said and f"value_range=(0, {2**bits - 1})" in said


def test_one_bright_image_among_dark_ones_is_enough():
    bright = encode(as_pil(GREY * 16), "PNG")
    images = as_images([ITEMS["PNG"][0], ITEMS["TIFF of colours"][0], bright])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(3):
            images.open(index).pixels()
        images.tell()
        as_images([ITEMS["PNG"][0]]).tell()  # which nobody has looked at
        black = as_images([encode(as_pil(GREY * 0), "PNG")])
        black.open(0).pixels()
        black.tell()


@pytest.mark.parametrize("white", [1023, 4095, 16383])
def test_colours_that_pillow_rounds_say_the_right_white(white):
    values = (COLOURS.astype(float) * white / 4095).astype(">u2")
    data = b"P6 %d %d 65535\n" % (W, H) + values.tobytes()
    assert f"value_range=(0, {white})" in told(as_images([data]), ValueRangeWarning)


MASK = np.zeros((H, W), np.uint8)
MASK[3:9, 4:20] = 1


@pytest.mark.parametrize("high", [1, 7, 17])
def test_masks_in_files_and_pil_images(high, tmp_path):
    Image.fromarray(MASK * np.uint8(high)).save(tmp_path / "a.png")
    mask, empty = Image.fromarray(MASK * np.uint8(high)), Image.fromarray(MASK * np.uint8(0))
    for X in ([mask, mask, empty], [encode(empty, "PNG"), encode(mask, "PNG"), empty]):
        said = told(as_images(X), ValueRangeWarning)
        assert said.startswith("3 greyscale images of 8 bits (image 0, …) hold no value above")
    said = told(as_images([tmp_path / "a.png"]), ValueRangeWarning)
    assert "a.png" in said and f"above {high} " in said
    assert "value_range=(0, 1)" in said or high > 1


def test_ordinary_dark_files_are_not_told_of():
    dark, bright = Image.fromarray(MASK * np.uint8(15)), Image.fromarray(MASK * np.uint8(90))
    colour, palette = dark.convert("RGB"), dark.convert("P")
    black, bits = Image.fromarray(MASK * np.uint8(0)), Image.fromarray(MASK > 0)
    mixed = ([dark, bright], [colour, dark], [dark, MASK * 99])
    for X in (*mixed, [colour], [palette], [black], [bits]):
        for items in (X, [encode(x, "PNG") if isinstance(x, Image.Image) else x for x in X]):
            images = as_images(items)
            for index in range(len(items)):
                images.open(index).pixels()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                images.tell()


def test_grey_files_whose_codes_are_known_may_be_bright(tmp_path):
    for name, high in (("bright", 200), ("dark", 15)):
        Image.fromarray(MASK * np.uint8(high)).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / "bright.png"), str(tmp_path / "dark.png")]
    codes = CNNCodes(image_size=32, cache=tmp_path / "store").fit(paths)
    assert said_of(lambda: codes.transform(paths[:1]))[0] == []
    assert said_of(lambda: codes.transform(paths))[0] == []
    said, _ = said_of(lambda: CNNCodes(image_size=32, cache=None).fit_transform(paths[1:] * 2))
    assert len(said) == 1 and "2 greyscale images" in said[0]


def test_values_beyond_the_range_are_told_of_once():
    said = told(as_images([ITEMS["PNG"][0]] * 2, value_range=(0, 1000)), ClippingWarning)
    assert "from 0 to 4095" in said and "value_range=(0, 1000)" in said


@pytest.mark.parametrize("bands", [4, 5])
def test_bands_that_are_left_out(bands):
    grey = (GREY >> 4).astype(np.uint8)
    values = np.dstack([grey + band for band in range(bands)])
    images = as_images([tiff(values, extra=(0,) * (bands - 3))])
    said = told(images, SktransferWarning)
    assert f"{bands - 3} of its {bands} bands" in said and "image 0" in said
    np.testing.assert_array_equal(images.open(0).pixels(), values[..., :3])


def test_pages_that_are_left_out():
    pages = [Image.fromarray((GREY >> 4).astype(np.uint8)) for _ in range(3)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert "all pages but the first" in told(as_images([data]), SktransferWarning)
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # a smaller copy, as in pyramids
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = as_images([data])
        images.open(0).pixels()
        images.tell()


def test_images_with_an_account_can_be_pickled():
    images = as_images([ITEMS["PNG"][0]])
    images.open(0).pixels()
    assert "4095" in told(pickle.loads(pickle.dumps(images)), ValueRangeWarning)


# ------------------------------------------------------------------------------- by the estimators


@pytest.fixture
def files(tmp_path, sample):
    """Six images of 12 bits in files of 16, and the same of 8 bits."""
    deep, plain = [], []
    for number, pixels in enumerate(sample.data[:6]):
        deep.append(str(tmp_path / f"{number}.png"))
        plain.append(str(tmp_path / f"{number}.8.png"))
        wide = np.rint(pixels * (4095 / 255)).astype(np.uint16)
        (tmp_path / f"{number}.png").write_bytes(deep_png(wide, colour_type=2))
        Image.fromarray(pixels).save(plain[-1])
    return deep, plain


def said_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return [str(w.message) for w in caught if issubclass(w.category, SktransferWarning)], result


def test_codes_of_deep_files(files, tmp_path):
    deep, plain = files
    codes = CNNCodes(image_size=32, cache=tmp_path / "store")
    said, dark = said_of(lambda: codes.fit_transform(deep))
    assert len(said) == 1 and said[0].startswith("6 images of more than 8 bits (image 0 (")
    expected = codes.fit_transform(plain)
    right = CNNCodes(image_size=32, cache=tmp_path / "store", value_range=(0, 4095))
    said, found = said_of(lambda: right.fit_transform(deep))
    assert said == []
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(codes.fit_transform(deep), dark)  # neither takes the other's
    report = right.transform_to(tmp_path / "codes.npy", deep)
    np.testing.assert_array_equal(np.load(report.path), found)


@pytest.mark.parametrize("trainable", [0, "all"])
def test_fine_tuning_on_deep_files(files, trainable):
    deep, plain = files
    params = {"image_size": 32, "max_epochs": 1, "trainable": trainable, "random_state": 0}
    labels = [0, 1] * 3
    said, _ = said_of(lambda: FineTuneClassifier(**params).fit(deep, labels))
    assert sum("more than 8 bits" in one for one in said) == 1
    expected = FineTuneClassifier(**params).fit(plain, labels).predict_proba(plain)
    right = FineTuneClassifier(**params, value_range=(0, 4095)).fit(deep, labels)
    np.testing.assert_allclose(right.predict_proba(deep), expected, rtol=1e-4, atol=1e-5)


def test_dark_images_after_bright_ones_are_as_dark_as_they_are(sample):
    X = sample.data[:4]
    codes = CNNCodes(image_size=32, cache=None)
    for bright in (X, X.astype(np.int64), X.astype(float), list(X)):
        codes.fit(bright)
        assert said_of(lambda: codes.transform(X[:1] // 17))[0] == []
        said, _ = said_of(lambda: codes.transform((X[:1] > 99).astype(np.uint8)))  # a mask
        assert len(said) == 1
    codes.fit(X // 17)
    assert len(said_of(lambda: codes.transform(X[:1] // 17))[0]) == 1


def test_dark_deep_files_after_bright_ones(sample, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    for number, path in enumerate(paths):
        values = sample.data[number, ..., 0].astype(np.uint16) * (257 if number < 4 else 40)
        as_pil(values).save(path)
    net = FineTuneClassifier(image_size=32, max_epochs=1, trainable=0, random_state=0)
    net.fit(paths[:4], [0, 1, 0, 1])
    assert said_of(lambda: pickle.loads(pickle.dumps(net)).predict(paths[4:]))[0] == []


def test_masks_are_told_of_once_a_call(sample):
    codes = CNNCodes(image_size=32)
    masks = (sample.data[:4] > 128).astype(np.uint8)
    said, _ = said_of(lambda: codes.fit_transform(masks))
    assert len(said) == 1 and "value_range=(0, 1)" in said[0]
    said, right = said_of(
        lambda: CNNCodes(image_size=32, value_range=(0, 1)).fit_transform(masks)
    )
    assert said == []
    np.testing.assert_array_equal(right, codes.fit_transform(masks * np.uint8(255)))
