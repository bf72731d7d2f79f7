"""What loaders of images return is shown as images."""

from __future__ import annotations

import base64
import io
import pickle
import re

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from sktransfer.datasets import load_cifar10_sample, load_image_folder


def pictures(text: str) -> list[Image.Image]:
    codes = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in codes]


def test_a_folder_is_shown(tmp_path):
    colours = {"<red>": (250, 0, 0), "blue": (0, 0, 250)}
    for name, colour in colours.items():
        (tmp_path / name).mkdir()
        for number in range(9):
            Image.new("RGB", (200, 100), colour).save(tmp_path / name / f"{number}.png")
    (tmp_path / "blue" / "9.png").write_bytes(b"no image")
    photos = load_image_folder(tmp_path)
    text = photos._repr_html_()
    assert text.startswith("<div><p>19 images of 2 classes</p>")
    shown = pictures(text)
    # Twelve, of each class in turn, one of which may be the damaged file.
    assert len(shown) + text.count("cannot be read") == 12
    assert all(one.size == (96, 48) for one in shown)
    red = [one.getpixel((40, 20))[0] > 200 for one in shown]
    assert sum(red) == 6
    assert "<tr><td>blue</td><td>10</td></tr>" in text
    assert "<tr><td>&lt;red&gt;</td><td>9</td></tr>" in text and "<red>" not in text
    assert repr(photos) == (
        "19 images of 2 classes: data, target, target_names, filenames, skipped, DESCR"
    )
    again = pickle.loads(pickle.dumps(photos))
    assert isinstance(again, Bunch) and again.target_names.tolist() == ["<red>", "blue"]


def test_labels_of_any_kind():
    sample = load_cifar10_sample()
    text = sample._repr_html_()
    assert len(pictures(text)) == 12 and "<td>frog</td><td>200</td>" in text
    some = type(sample)(data=sample.data[:20], target=np.arange(20) / 2)
    assert some._repr_html_().startswith("<div><p>20 images</p>") and "<table>" not in (
        some._repr_html_()
    )
    many = type(sample)(data=sample.data[:40], target=np.arange(40))
    assert "… 10 more classes" in many._repr_html_()
    tags = type(sample)(data=sample.data[:3], target=np.eye(3, dtype=int))
    assert repr(tags) == "3 images: data, target"
