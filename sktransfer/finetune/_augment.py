"""Changed views of photographs that keep what is on them.

View v of a photograph is always the same: its random numbers are drawn from the content of
the photograph and v. So folds, candidates and runs share what was computed of it, and view 0
is the photograph as it is.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image, ImageEnhance

from ..images import OpenedImage, digest_of
from ._prefix import Opens

__all__ = ["AUGMENTS", "Augment", "Augmented", "make_augment"]

AUGMENTS = ("light", "auto")
# Photographs up to this many pixels a side are shifted; larger ones have detail to crop.
_SMALL = 64


class Augment(ABC):
    """One way to change photographs.

    Attributes
    ----------
    key : str
        What makes its views what they are.
    """

    key: str

    @abstractmethod
    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        """A changed copy of an RGB picture."""


class Flip(Augment):
    """Mirror half of the views, left to right."""

    key = "light 1"

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        if random.random() < 0.5:
            return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture


class FlipCropColour(Flip):
    """Mirror; shift small pictures by up to an eighth, crop 60 to 100% of large ones; and
    change brightness, contrast and saturation by up to 20%."""

    key = "auto 1"

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        picture = super().__call__(picture, random)
        small = max(picture.size) <= _SMALL
        picture = _shift(picture, random) if small else _crop(picture, random)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(random.uniform(0.8, 1.2))
        return picture


def _shift(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Pad by an eighth with black and cut the old size out, as recipes for 32 pixels do."""
    width, height = picture.size
    across, down = (int(random.integers(-(side // 8), side // 8 + 1)) for side in (width, height))
    return picture.crop((across, down, across + width, down + height))


def _crop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut out 60 to 100% of the area, with sides in proportions of 3:4 to 4:3."""
    width, height = picture.size
    area = width * height * random.uniform(0.6, 1.0)
    aspect = width / height * np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    across = min(width, max(1, round(np.sqrt(area * aspect))))
    down = min(height, max(1, round(np.sqrt(area / aspect))))
    left = int(random.integers(0, width - across + 1))
    top = int(random.integers(0, height - down + 1))
    return picture.crop((left, top, left + across, top + down))


class Transform(Augment):
    """A transform of torchvision, which takes a PIL image and gives a PIL image or a tensor.

    Parameters
    ----------
    transform : callable
    """

    # torch has one generator for all threads.
    _drawing = threading.Lock()

    def __init__(self, transform: Any):
        self._transform = transform
        self.key = "transform " + joblib.hash((repr(transform), type(transform).__name__))

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        with self._drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**62)))
            changed = self._transform(picture)
        if isinstance(changed, torch.Tensor):
            from torchvision.transforms.v2.functional import to_pil_image

            changed = to_pil_image(changed)
        if not isinstance(changed, Image.Image):
            raise TypeError(
                f"augment= must give a PIL image or a tensor of one, gave {type(changed)}."
            )
        return changed.convert("RGB")


def make_augment(augment: Any) -> Augment | None:
    """The augmentation that a parameter means."""
    if augment is None:
        return None
    if isinstance(augment, str):
        return {"light": Flip, "auto": FlipCropColour}[augment]()
    return augment if isinstance(augment, Augment) else Transform(augment)


class Augmented:
    """One view of each image of a sequence.

    Parameters
    ----------
    images : sequence of images
    augment : Augment
    view : int
        0 is the photograph as it is.
    """

    def __init__(self, images: Opens, augment: Augment, view: int):
        self.images, self._augment, self._view = images, augment, view

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> OpenedImage:
        opened = self.images.open(index)
        if self._view == 0:
            return opened
        digest = digest_of(f"view {self._view}, {self._augment.key}", opened.digest)
        seed = int.from_bytes(digest, "little")
        return opened.changed(digest, partial(self._change, seed=seed))

    def _change(self, picture: Image.Image, seed: int) -> Image.Image:
        return self._augment(picture, np.random.default_rng(seed))
