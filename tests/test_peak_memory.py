"""Memory that 20,000 images take beyond what 500 take."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts kilobytes"),
]
MANY, FEW = 20_000, 500

SCRIPT = """
import resource, sys
from pathlib import Path
from sktransfer import CNNCodes

folder, n, cache, target = sys.argv[1:]
paths = [f"{folder}/{number:05}.jpg" for number in range(int(n))]
# An early layer, so that it is quick: 1,024 numbers an image.
codes = CNNCodes(image_size=16, layer="blocks.0", pooling="flatten", cache=cache or None,
                 on_error="nan").fit(paths)
if target:
    codes.transform_to(target, paths)
else:
    assert codes.transform(paths).shape == (len(paths), 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images that differ, each of 60 KB in memory and 4 KB on disk.

    What stands behind the end of a JPEG is not decoded, and a hole takes no room. Were the
    bytes of files held on to, 20,000 would take 1.2 GB.
    """
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 48)).save(folder / "one.jpg")
    one = (folder / "one.jpg").read_bytes()
    for number in range(MANY):
        with open(folder / f"{number:05}.jpg", "wb") as file:
            file.write(one + number.to_bytes(4, "big"))
            file.truncate(60_000)
    return folder


def peak(folder, n_images, cache="", target=""):
    """MB that a process takes at most."""
    arguments = [str(folder), str(n_images), str(cache), str(target)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return float(done.stdout)


@pytest.fixture(scope="module")
def few(folder):
    return peak(folder, FEW)


@pytest.mark.parametrize("cache", ["", "memory", "folder"])
def test_transform_takes_its_output_and_a_constant(folder, few, cache, tmp_path):
    output = (MANY - FEW) * 1024 * 4 / 2**20
    many = peak(folder, MANY, tmp_path / "store" if cache == "folder" else cache)
    print(f"cache={cache or None}: {few:.0f} MB, {many:.0f} MB")
    assert many - few < output + 300


def test_transform_to_takes_a_constant(folder, few, tmp_path):
    target = tmp_path / "codes.npy"
    many = peak(folder, MANY, target=target)
    again = peak(folder, MANY, target=target)  # all are known
    print(f"transform_to: {few:.0f} MB, {many:.0f} MB, again {again:.0f} MB")
    assert many - few < 150 and again - few < 150
    assert np.load(target, mmap_mode="r").shape == (MANY, 1024)


def test_images_that_cannot_be_read_take_next_to_nothing(folder, few, tmp_path):
    """Neither the bytes of damaged files nor the frames of errors are held on to."""
    bad = tmp_path / "bad"
    bad.mkdir()
    for number in range(0, MANY, 2):  # of the others there is no file
        with open(bad / f"{number:05}.jpg", "wb") as file:
            file.write(b"no image" + number.to_bytes(4, "big"))
            file.truncate(60_000)
    many = peak(bad, MANY, target=tmp_path / "codes.npy")
    print(f"unreadable: {few:.0f} MB, {many:.0f} MB")
    assert many - few < 150
