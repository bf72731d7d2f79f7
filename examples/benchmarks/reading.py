"""Images per core-second from JPEG files in memory to what a network is given; interleaved.

    pip install ".[jpeg]"
    python examples/benchmarks/reading.py [IMAGE]

One core, medians of 9 with the smallest and largest ratio to the first row of each table.
"""

import io
import sys
import time
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision import transforms
from torchvision.transforms import v2

from sktransfer import Preprocessing
from sktransfer.inputs import as_images
from sktransfer.networks._spec import image_preparation

TURNS, REPEATS = 9, 4


def ways_of(data, filter_):
    """What is compared: each reads one file."""
    scale = transforms.Normalize([0.5] * 3, [0.5] * 3)
    filters = {"interpolation": transforms.InterpolationMode(filter_)}
    pictures = transforms.Compose(
        [
            transforms.Resize(256, **filters),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            scale,
        ]
    )
    tensors = v2.Compose(
        [v2.Resize(256, **filters), v2.CenterCrop(224), v2.ToDtype(torch.float32, True), scale]
    )
    facts = Preprocessing(224, mean=0.5, std=0.5, crop_pct=0.875, interpolation=filter_)
    crop, pad = (
        image_preparation(facts, resize=resize)
        for resize in ("crop", "pad")
    )

    def by_tensors():
        pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        tensors(torch.from_numpy(pixels).permute(2, 0, 1))

    def ours(preparation):
        preparation(as_images([data]).open(0))

    def without_simplejpeg(preparation):
        with mock.patch("sktransfer.inputs._files.decode_jpeg", lambda image, data: None):
            ours(preparation)

    return {
        "PIL, torchvision's transforms": lambda: pictures(
            Image.open(io.BytesIO(data)).convert("RGB")
        ),
        "PIL, torchvision's v2 on tensors": by_tensors,
        "ours, images by Pillow alone": lambda: by_pillow(data, crop),
        "ours, crop": lambda: without_simplejpeg(crop),
        "ours, pad": lambda: without_simplejpeg(pad),
        "ours, crop, simplejpeg": lambda: ours(crop),
        "ours, pad, simplejpeg": lambda: ours(pad),
    }


def by_pillow(data, preparation):
    """Decoded and cropped by Pillow, pixel for pixel."""
    with mock.patch("sktransfer.inputs._resize.agrees", lambda *lengths: False):
        preparation.of(as_images([data]).open(0).picture())


def main(path=None):
    """Print the tables."""
    torch.set_num_threads(1)
    photo = Image.fromarray(load_sample_image("china.jpg")) if path is None else Image.open(path)
    for size in [(500, 375), (2000, 1500)]:
        buffer = io.BytesIO()
        photo.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
        for filter_ in ("bilinear", "bicubic"):
            print(f"\n| {size[0]}×{size[1]}, {filter_} | images per core-second | ratio |")
            print("|---|---|---|")
            report(ways_of(buffer.getvalue(), filter_))


def report(ways):
    """Time all ways in turn, again and again."""
    rates = {way: [] for way in ways}
    for turn in range(TURNS + 1):
        for way, run in ways.items():
            start = time.process_time()
            for _ in range(REPEATS):
                run()
            if turn:
                rates[way].append(REPEATS / (time.process_time() - start))
    base = np.array(next(iter(rates.values())))
    for way, found in rates.items():
        ratio = np.array(found) / base
        shown = f"{np.median(ratio):.1f} ({ratio.min():.1f}–{ratio.max():.1f})"
        print(f"| {way} | {np.median(found):.0f} | {shown} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
