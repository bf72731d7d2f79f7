"""Images to measure with, as arrays and as JPEG files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


@dataclass
class Images:
    """Images as an array of uint8 (n, h, w, 3), or as paths of files in one folder."""

    items: np.ndarray | list
    folder: Path | None = None

    @property
    def framed(self):
        """Whether they are arrays, which already are what the network sees."""
        return self.folder is None

    def __len__(self):
        return len(self.items)

    def picture(self, index):
        """One of them as a PIL image."""
        if self.framed:
            return Image.fromarray(self.items[index])
        with Image.open(self.items[index]) as image:
            return image.convert("RGB")


def crops(number, width, height, seed=0):
    """Random parts of two images of 640 x 427, scaled to a size and mirrored at random."""
    rng = np.random.default_rng(seed)
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    for index in range(number):
        photo = photos[index % len(photos)]
        share = rng.uniform(0.6, 1.0)
        across = min(photo.width, photo.height * width / height) * share
        down = across * height / width
        left = rng.uniform(0, photo.width - across)
        top = rng.uniform(0, photo.height - down)
        box = (left, top, left + across, top + down)
        picture = photo.resize((width, height), Image.Resampling.BICUBIC, box=box)
        yield picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture


def as_arrays(number, size):
    """Different images of size x size; beyond 64 they come again."""
    some = np.stack([np.asarray(photo) for photo in crops(min(number, 64), size, size)])
    return Images(np.ascontiguousarray(some[np.arange(number) % len(some)]))


def as_files(folder, number, width=500, height=375):
    """JPEG files, each a different image, of about the bytes a pixel that cameras write."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{index:05d}.jpg") for index in range(number)]
    for path, photo in zip(paths, crops(number, width, height), strict=True):
        photo.save(path, quality=90)
    return Images(paths, folder)


def found_in(folder, number):
    """JPEG files of a folder, in order of their names."""
    paths = sorted(str(path) for path in Path(folder).iterdir() if path.suffix.lower() == ".jpg")
    if not paths:
        raise SystemExit(f"--photos {folder} has no files that end in .jpg")
    return Images(paths[:number], Path(folder))
