"""Codes of large files against full decoding and Pillow's resizing, with real weights."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from sktransfer import CNNCodes

SIDE = 224


@pytest.fixture(scope="module")
def files():
    """JPEG files as cameras and scanners write them: large, turned, grey, CMYK, of odd sizes."""
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)
    turned = Image.Exif()
    turned[0x0112] = 6
    large = Image.Resampling.LANCZOS
    return [
        encode(china.resize((2000, 1500), large)),
        encode(flower.resize((2000, 1334), large), exif=turned),
        encode(china.crop((100, 0, 500, 427)).resize((1201, 1281), large), progressive=True),
        encode(flower.convert("L").resize((999, 1333), large)),
        encode(china.convert("CMYK").resize((1023, 683), large)),
        encode(flower.resize((500, 375), large), subsampling=0),
    ]


def encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def cropped(image, filter_):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    return Compose([Resize(256, InterpolationMode(filter_.name.lower())), CenterCrop(SIDE)])(image)


def padded(image, filter_):
    inner = ImageOps.contain(image, (SIDE, SIDE), filter_)
    square = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))  # 255 times 0.5, the network's mean
    square.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
    return square


def squashed(image, filter_):
    # Pillow 13 takes tall images down first and then across, earlier ones as torchvision does.
    return image.resize((SIDE, image.height), filter_).resize((SIDE, SIDE), filter_)


@pytest.mark.parametrize(
    ("resize", "own"), [("crop", cropped), ("pad", padded), ("squash", squashed)]
)
def test_codes_of_files_stay_within_half_a_percent_of_full_decoding(resize, own, files):
    pictures = [
        ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB") for data in files
    ]
    framed = [np.asarray(own(picture, Image.Resampling.BICUBIC)) for picture in pictures]
    expected = CNNCodes(resize="crop", crop_pct=1.0, cache=None).fit_transform(np.stack(framed))
    found = CNNCodes(resize=resize, cache=None).fit_transform(files)
    one_by_one = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 5e-3
    assert one_by_one.max() < 1e-2
