"""Facts of images are what their definitions say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sktransfer.exceptions import ImageError
from sktransfer.inspection import image_facts


def as_file(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (17, 23, 3)).astype(np.uint8)


def test_each_number_is_as_defined(noise):
    facts = {name: values[0] for name, values in image_facts([noise]).items()}
    luma = (0.299 * noise[..., 0] + 0.587 * noise[..., 1] + 0.114 * noise[..., 2]) / 255
    assert facts["brightness"] == pytest.approx(luma.mean())
    assert facts["contrast"] == pytest.approx(luma.std(), rel=1e-5)
    assert facts["darkest"] == pytest.approx(np.percentile(luma, 1), rel=1e-5)
    assert facts["brightest"] == pytest.approx(np.percentile(luma, 99), rel=1e-5)
    r, g, b = (noise[..., i].astype(float) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    m = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert facts["colourfulness"] == pytest.approx(m, rel=1e-5)
    height, width = luma.shape
    laplacian = []
    for i in range(height):
        for j in range(width):
            # Mirrored at the border, which is not repeated.
            rows = [i - 1 if i else 1, i + 1 if i + 1 < height else i - 1]
            columns = [j - 1 if j else 1, j + 1 if j + 1 < width else j - 1]
            around = sum(luma[k, j] for k in rows) + sum(luma[i, k] for k in columns)
            laplacian.append(255 * (around - 4 * luma[i, j]))
    assert facts["sharpness"] == pytest.approx(np.var(laplacian), rel=1e-4)
    assert (facts["height"], facts["width"]) == (17, 23)
    assert facts["format"] == facts["error"] == "" and np.isnan(facts["n_bytes"])


def test_as_files_are_stored(noise, tmp_path):
    jpeg, grey = as_file(noise, "JPEG"), as_file(noise[..., 0])
    alpha = np.dstack([noise, noise[..., 0]])
    palette = Image.fromarray(noise).quantize(8)
    palette.save(tmp_path / "palette.png")
    turned = Image.new("RGB", (30, 20)).getexif()
    turned[0x0112] = 6
    files = [jpeg, grey, as_file(alpha), as_file(alpha[..., [0, 3]]), tmp_path / "palette.png",
             as_file(noise, "JPEG", exif=turned)]  # fmt: skip
    facts = image_facts(files)
    assert facts["format"].tolist() == ["JPEG", "PNG", "PNG", "PNG", "PNG", "JPEG"]
    assert facts["n_channels"].tolist() == [3, 1, 4, 2, 3, 3]
    assert facts["n_bytes"][:2].tolist() == [len(jpeg), len(grey)]
    assert facts["n_bytes"][4] == (tmp_path / "palette.png").stat().st_size
    assert (facts["height"][5], facts["width"][5]) == (23, 17)  # as it is seen
    assert facts["colourfulness"][1] == 0 and facts["colourfulness"][0] > 30


def test_arrays_have_their_own_channels_and_range(noise):
    grey = noise[None, ..., 0]
    assert image_facts(grey)["n_channels"].tolist() == [1]
    assert image_facts(np.moveaxis(noise, 2, 0)[None])["height"].tolist() == [17]
    white = image_facts(np.full((1, 5, 5), 4.0), value_range=(0, 4))
    assert white["brightness"] == white["darkest"] == 1 and white["contrast"] == 0
    assert image_facts(np.full((1, 1, 1, 3), 255, np.uint8))["sharpness"] == 0


def test_blurred_images_are_less_sharp_whatever_their_size(noise):
    small = Image.fromarray(noise).resize((512, 380), Image.Resampling.NEAREST)
    large = small.resize((2048, 1520), Image.Resampling.BICUBIC)
    facts = image_facts([small, small.filter(ImageFilter.GaussianBlur(3)), large])
    sharp, blurred, enlarged = facts["sharpness"]
    assert blurred < sharp / 2
    assert enlarged > 5 * blurred  # it is blurred at 2048 pixels alone
    assert facts["width"].tolist() == [512, 512, 2048]


def test_what_cannot_be_read(noise, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(as_file(noise, "JPEG")[:300])
    X = [noise, tmp_path / "broken.jpg", tmp_path / "absent.png"]
    facts = image_facts(X)
    assert np.isnan(facts["sharpness"]).tolist() == [False, True, True]
    assert facts["error"][0] == "" and "not found" in facts["error"][2]
    assert facts["format"][1] == ""
    with pytest.raises(ImageError, match=r"image 1 .*broken\.jpg"):
        image_facts(X, on_error="raise")
    with pytest.raises(ValueError, match="on_error= must be"):
        image_facts(X, on_error="skip")
