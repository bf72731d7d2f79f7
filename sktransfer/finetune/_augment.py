"""Changed views of images that keep what is on them.

View v of an image is always the same: its random numbers are drawn from the content of the image
and v. So folds, candidates and runs share what was computed of it, and view 0 is the image as it
is.
"""

from __future__ import annotations

import io
import pickle
import random as python_random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from .._content import GENERATORS, content_of
from .._optional import cloudpickle
from ..exceptions import ImageError, TrainingError, shown
from ..inputs import Images, OpenedImage, Subset, digest_of

__all__ = ["Augment", "Augmented", "check_augment", "make_augment"]

# A transform that pickles to more than this is not copied for every call: it would cost more than
# the view itself.
_LARGE = 2**20
# Resizing by cubic curves overshoots by about a tenth; what normalises goes far beyond.
_OVERSHOOT = 0.1
# Calls on an image of all levels, for transforms that normalise by chance.
_DRAWS = 8
# White that comes out as 1 to this of 255 was divided once too often, or never multiplied.
_NEARLY_BLACK = 4
_PIL_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
# Images up to this many pixels a side are shifted; larger ones have detail to crop.
_SMALL = 64


class Augment(ABC):
    """One way to change images.

    Attributes
    ----------
    key : str or None
        What makes its views what they are; None where that cannot be told, and nothing is kept.
    """

    key: str | None

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
    """Mirror; shift small images by up to an eighth, crop 60 to 100% of large ones; and
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
    """A transform of torchvision or a function: it takes a PIL image and gives one, or an array.

    Each call has a copy of its own, with every random generator drawn again from the image, so that
    a view does not hang on how many views came before it, and the caller's transform stays as it
    is.

    Parameters
    ----------
    transform : callable
    """

    # The generators of Python, NumPy and torch are those of the whole process.
    _drawing = threading.Lock()

    def __init__(self, transform: Any):
        self._transform = transform
        content = content_of(transform)
        self.key = None if content.digest is None else f"transform {content.digest}"
        self._generators = list(content.generators)
        self._copied = _pickled(transform, self._generators)

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        with self._drawing, _drawn_from(random, self._generators):
            try:
                changed = self._fresh()(picture)
            except Exception as error:
                kind = type(self._transform).__module__.partition(".")[0]
                remedy = f" {_ALBUMENTATIONS}" if kind == "albumentations" else ""
                told = shown(error).rstrip(".")
                why = f"{type(error).__name__}: {told}" if told else type(error).__name__
                raise TrainingError(f"augment= failed: {why}.{remedy}") from error
        return _as_picture(changed)

    def _fresh(self) -> Any:
        if self._copied is None:
            return self._transform
        return _Unpickler(io.BytesIO(self._copied), self._generators).load()


class _Pickler(cloudpickle.Pickler):
    """Generators stay the same objects in every copy; those not known yet are noted."""

    def __init__(self, file: Any, generators: list[Any]):
        super().__init__(file)
        self._generators = generators

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, GENERATORS):
            return None
        for number, one in enumerate(self._generators):
            if one is value:
                return number
        self._generators.append(value)
        return len(self._generators) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, generators: list[Any]):
        super().__init__(file)
        self._generators = generators

    def persistent_load(self, number: int) -> Any:
        return self._generators[number]


def _pickled(transform: Any, generators: list[Any]) -> bytes | None:
    """What copies are made from; None where they would cost more than the view itself."""
    file = io.BytesIO()
    try:
        _Pickler(file, generators).dump(transform)
        copied = file.getvalue()
        _Unpickler(io.BytesIO(copied), generators).load()
    except Exception:  # pickling runs the methods of foreign objects
        return None
    return copied if len(copied) <= _LARGE else None


@contextmanager
def _drawn_from(random: np.random.Generator, generators: list[Any]) -> Iterator[None]:
    """Seed the generators of the process and those of a transform; put them back at the end."""
    of_process = [torch.default_generator, np.random.mtrand._rand, python_random._inst]
    own = [one for one in generators if all(one is not other for other in of_process)]
    before = [(one, _state(one)) for one in (*of_process, *own)]
    try:
        for one, _ in before:
            _seed(one, int(random.integers(2**62)))
        yield
    finally:
        for one, state in before:
            _set_state(one, state)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, python_random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, python_random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    elif isinstance(generator, python_random.Random):
        generator.seed(seed)
    else:
        generator.manual_seed(seed)


def _as_picture(changed: Any) -> Image.Image:
    """What a transform gave, as an RGB image.

    Raises
    ------
    ValueError
        If it is no image of one of the kinds that mean the same everywhere.
    """
    if isinstance(changed, Image.Image):
        if changed.mode not in _PIL_MODES or not all(changed.size):
            raise ValueError(
                f"augment= must give RGB images, gave one of mode {changed.mode} and "
                f"{changed.width}×{changed.height} pixels."
            )
        return changed.convert("RGB")
    if isinstance(changed, (torch.Tensor, np.ndarray)):
        return Image.fromarray(_as_pixels(changed))
    if isinstance(changed, dict) and "image" in changed:
        raise ValueError(f"augment= gave a dict, as albumentations does. {_ALBUMENTATIONS}")
    if isinstance(changed, (list, tuple)):
        raise ValueError(
            f"augment= must give one image, gave a {type(changed).__name__} of {len(changed)}. "
            "Use a transform that gives one view."
        )
    gave = "None: return the changed image" if changed is None else repr(type(changed))
    raise ValueError(f"augment= must give a PIL image, or an array or tensor of one, gave {gave}.")


_ALBUMENTATIONS = (
    "Wrap it in a function: augment=lambda image: "
    'transform(image=np.asarray(image))["image"].'
)


def _as_pixels(changed: Any) -> np.ndarray:
    """An array or tensor as (height, width, 3) in 8 bits."""
    if isinstance(changed, torch.Tensor):
        first, values = True, _on_cpu(changed)
    else:
        first, values = False, changed
    values = _in_8_bits(values, str(changed.dtype).removeprefix("torch."))
    shape = values.shape
    if values.ndim == 3 and shape[0] in (1, 3) and (first or shape[2] not in (1, 3)):
        values = values.transpose(1, 2, 0)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 3) or not values.size:
        raise ValueError(
            "augment= must give one image of 1 or 3 channels, gave an array of shape "
            f"{tuple(shape)}."
        )
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _on_cpu(changed: torch.Tensor) -> np.ndarray:
    try:
        plain = changed.detach().cpu()
        # numpy has no bfloat16.
        return (plain.float() if plain.is_floating_point() else plain).numpy()
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"augment= must give plain tensors, gave one of {changed.layout}, {changed.dtype}."
        ) from error


def _in_8_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise ValueError(
            f"augment= must give 8-bit integers (uint8) or floats from 0 to 1, gave {dtype}. "
            "Convert what it gives, without normalising: sktransfer normalises itself."
        )
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("augment= must give finite numbers, gave NaN or infinite ones.")
    if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
        return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    remedy = (
        "convert them to uint8, or divide them by 255"
        if low >= 0 and 2 < high <= 255.5
        else "leave ToTensor and Normalize out, and clamp to 0..1 what noise or erasing goes beyond"
    )
    raise ValueError(
        "augment= must not normalise: it must give uint8 or floats from 0 to 1, gave values from "
        f"{low:.3g} to {high:.3g}; {remedy}, sktransfer normalises itself."
    )


def check_augment(augment: Any, images: Images) -> None:
    """Look at what a transform gives before anything long begins.

    It is tried on the first image, and on one that holds black, white and all between, since an
    image can look as before though it was normalised.

    Raises
    ------
    ValueError
        If it gives no images.
    TrainingError
        If it fails on the first image.
    """
    made = make_augment(augment)
    if not isinstance(made, Transform) or not len(images):
        return
    try:
        first = images.open(0)
        picture = first.picture()
    except ImageError:  # said by whoever reads all images
        return
    Augmented(images, made, 1).open(0).picture()
    ramp = np.linspace(0, 255, 256).astype(np.uint8).reshape(1, 256, 1)
    levels = Image.fromarray(np.broadcast_to(ramp, (256, 256, 3)).copy()).resize(picture.size)
    # What is cut out of the levels may be their dark end.
    white = Image.new("RGB", picture.size, (255, 255, 255))
    brightest = []
    for draw in range(_DRAWS):
        # It may well take images of its own kind alone.
        with suppress(TrainingError):
            brightest.append(_brightest(made(levels, np.random.default_rng(draw))))
            if brightest[-1] <= _NEARLY_BLACK:
                brightest.append(_brightest(made(white, np.random.default_rng(draw))))
    # What is all black is meant so, or white by another draw.
    if brightest and 0 < max(brightest) <= _NEARLY_BLACK:
        raise ValueError(
            "augment= must give uint8 from 0 to 255 or floats from 0 to 1, but white came out as "
            f"{max(brightest)} of 255, nearly black. Scale where types change, as "
            "ToDtype(torch.uint8, scale=True) does, and divide by 255 no more than once."
        )


def _brightest(picture: Image.Image) -> int:
    return int(np.asarray(picture).max())


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
    images : Images or Subset
    augment : Augment
    view : int
        0 is the image as it is.
    """

    noun, in_memory = "image", False

    def __init__(self, images: Images | Subset, augment: Augment, view: int):
        self.images, self._augment, self._view = images, augment, view

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> OpenedImage:
        opened: Any = self.images.open(index)
        if self._view == 0:
            return opened
        digest = digest_of(f"view {self._view}, {self._augment.key}", opened.digest)
        seed = int.from_bytes(digest, "little")
        return opened.changed(digest, partial(self._change, opened, seed))

    def tell(self) -> None:
        """Warn of what was met in the images."""
        self.images.tell()

    def _change(self, opened: OpenedImage, seed: int, picture: Image.Image) -> Image.Image:
        try:
            return self._augment(picture, np.random.default_rng(seed))
        except (TrainingError, ValueError) as error:
            raise type(error)(str(opened.error(str(error)))) from error.__cause__
