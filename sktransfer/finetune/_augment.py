"""Changed views of images that keep what is on them.

View v of an image is always the same: its random numbers are drawn from the content of the image
and v. So folds, candidates and runs share what was computed of it, and view 0 is the image as it
is.

Where something is said of the places of an image, masks and boxes move with it: a `Target` follows
the same draw. Named augmentations move both by one `Geometry`; transforms of torchvision and
functions of the user's get the target as they know it, and may look at it.
"""

from __future__ import annotations

import inspect
import io
import pickle
import random as python_random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import nn

from .._content import GENERATORS, content_of
from .._optional import cloudpickle
from ..exceptions import ImageError, TrainingError, shown
from ..inputs import ImagePreparation, Images, OpenedImage, Placement, Subset, digest_of

__all__ = [
    "Augment",
    "Augmented",
    "Geometry",
    "MovedTogether",
    "Target",
    "Targets",
    "check_augment",
    "make_augment",
]

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


@dataclass(frozen=True)
class Geometry:
    """Where what is on an image goes: it is mirrored first, and then a part is cut out.

    Attributes
    ----------
    mirrored : bool
        Left to right.
    image_width : int
        Of the whole image.
    left, top, width, height : int
        What is cut out, which may go beyond the image.
    """

    mirrored: bool
    image_width: int
    left: int
    top: int
    width: int
    height: int

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The same of a picture, black beyond its borders."""
        if self.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return picture if box == (0, 0, *picture.size) else picture.crop(box)


class Target(ABC):
    """What is said of the places of one image, in its own pixels, so that it can move with it.

    Attributes
    ----------
    noun : str
        What messages call it.
    digest : bytes
        Tells it from any other.
    """

    noun: ClassVar[str]
    digest: bytes

    @abstractmethod
    def moved(self, geometry: Geometry) -> Self:
        """The same after the image has moved."""

    @abstractmethod
    def for_transform(self, height: int, width: int) -> Any:
        """As transforms of torchvision take it: a tv_tensor, or a dict of some."""

    @abstractmethod
    def from_transform(self, given: Any, height: int, width: int) -> Self:
        """What a transform made of it, for an image of this size.

        Raises
        ------
        ValueError
            If it is none, or does not fit the image.
        """

    @abstractmethod
    def placed(self, placement: Placement) -> np.ndarray:
        """As the task encodes it, where the network sees the image so: of one shape always."""


class Targets(Protocol):
    """What is said of the places of some images, opened one at a time."""

    def __len__(self) -> int: ...

    def open(self, index: int) -> Target:
        """What is said of one image."""
        ...


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


class MovesTargets(Augment):
    """One way to change images and what is said of their places.

    Attributes
    ----------
    looks_at_targets : bool
        Whether what becomes of an image may hang on its target.
    """

    looks_at_targets: ClassVar[bool] = False

    @abstractmethod
    def together(
        self, opened: OpenedImage, target: Target, random: np.random.Generator
    ) -> tuple[Target, tuple[int, int]]:
        """What the same draw makes of a target, and height and width of the image then."""


class Flip(MovesTargets):
    """Mirror half of the views, left to right."""

    key = "light 1"

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        return self._geometry(picture.width, picture.height, random)(picture)

    def together(
        self, opened: OpenedImage, target: Target, random: np.random.Generator
    ) -> tuple[Target, tuple[int, int]]:
        height, width = opened.size()
        geometry = self._geometry(width, height, random)
        return target.moved(geometry), (geometry.height, geometry.width)

    def _geometry(self, width: int, height: int, random: np.random.Generator) -> Geometry:
        return Geometry(bool(random.random() < 0.5), width, 0, 0, width, height)


class FlipCropColour(Flip):
    """Mirror; shift small images by up to an eighth, crop 60 to 100% of large ones; and
    change brightness, contrast and saturation by up to 20%."""

    key = "auto 1"

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        picture = super().__call__(picture, random)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(random.uniform(0.8, 1.2))
        return picture


    def _geometry(self, width: int, height: int, random: np.random.Generator) -> Geometry:
        mirrored = super()._geometry(width, height, random).mirrored
        part = _shifted if max(width, height) <= _SMALL else _cropped
        return Geometry(mirrored, width, *part(width, height, random))


def _shifted(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Pad by an eighth with black and cut the old size out, as recipes for 32 pixels do."""
    across, down = (int(random.integers(-(side // 8), side // 8 + 1)) for side in (width, height))
    return across, down, width, height


def _cropped(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Cut out 60 to 100% of the area, with sides in proportions of 3:4 to 4:3."""
    area = width * height * random.uniform(0.6, 1.0)
    aspect = width / height * np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    across = min(width, max(1, round(np.sqrt(area * aspect))))
    down = min(height, max(1, round(np.sqrt(area / aspect))))
    left = int(random.integers(0, width - across + 1))
    top = int(random.integers(0, height - down + 1))
    return left, top, across, down


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
        return _as_picture(self._changed(random, picture))

    def _changed(self, random: np.random.Generator, *given: Any) -> Any:
        """What the transform makes of something, with all its draws from one generator."""
        with self._drawing, _drawn_from(random, self._generators):
            try:
                return self._fresh()(*given)
            except Exception as error:
                kind = type(self._transform).__module__.partition(".")[0]
                remedy = f" {_ALBUMENTATIONS}" if kind == "albumentations" else ""
                told = shown(error).rstrip(".")
                why = f"{type(error).__name__}: {told}" if told else type(error).__name__
                raise TrainingError(f"augment= failed: {why}.{remedy}") from error

    def _fresh(self) -> Any:
        if self._copied is None:
            return self._transform
        return _Unpickler(io.BytesIO(self._copied), self._generators).load()


class JointTransform(Transform, MovesTargets):
    """A transform or function of an image and its target, which gives both."""

    looks_at_targets = True

    def together(
        self, opened: OpenedImage, target: Target, random: np.random.Generator
    ) -> tuple[Target, tuple[int, int]]:
        picture, target = self.both(opened.picture(), target, random)
        return target, (picture.height, picture.width)

    def both(
        self, picture: Image.Image, target: Target, random: np.random.Generator
    ) -> tuple[Image.Image, Target]:
        """The changed image, and its target."""
        given = target.for_transform(picture.height, picture.width)
        changed = self._changed(random, picture, given)
        if not isinstance(changed, (tuple, list)) or len(changed) != 2:
            raise ValueError(
                f"augment= must give a pair (image, {target.noun}), gave "
                f"{shown(repr(type(changed)))}."
            )
        picture = _as_picture(changed[0])
        return picture, target.from_transform(changed[1], picture.height, picture.width)


def takes_targets(transform: Any) -> bool:
    """Whether a transform takes an image and its target."""
    from torchvision.transforms import v2

    if isinstance(transform, v2.Transform):
        return True
    call = transform.forward if isinstance(transform, nn.Module) else transform
    try:
        inspect.signature(call).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature that can be told
        return True
    return True


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


def check_augment(augment: Any, images: Images, targets: Targets | None = None) -> None:
    """Look at what a transform gives before anything long begins.

    It is tried on the first image, and on one that holds black, white and all between, since an
    image can look as before though it was normalised.

    Parameters
    ----------
    augment : object
        As in the estimator.
    images : Images
    targets : Targets or None
        What moves with them.

    Raises
    ------
    ValueError
        If it gives no images.
    TrainingError
        If it fails on the first image.
    """
    made = make_augment(augment, targets)
    if not isinstance(made, Transform) or not len(images):
        return
    try:
        first = images.open(0)
        picture = first.picture()
    except ImageError:  # said by whoever reads all images
        return
    change: Any = made
    if isinstance(made, JointTransform) and targets is not None:
        MovedTogether(images, made, 1, targets).open(0).picture()
        one = targets.open(0)

        def change(picture: Image.Image, random: np.random.Generator) -> Image.Image:
            return made.both(picture, one, random)[0]

    else:
        Augmented(images, made, 1).open(0).picture()
    _check_levels(change, picture.size)


def _check_levels(change: Any, size: tuple[int, int]) -> None:
    """Refuse what makes white nearly black."""
    ramp = np.linspace(0, 255, 256).astype(np.uint8).reshape(1, 256, 1)
    levels = Image.fromarray(np.broadcast_to(ramp, (256, 256, 3)).copy()).resize(size)
    # What is cut out of the levels may be their dark end.
    white = Image.new("RGB", size, (255, 255, 255))
    brightest = []
    for draw in range(_DRAWS):
        # It may well take images of its own kind alone.
        with suppress(TrainingError):
            brightest.append(_brightest(change(levels, np.random.default_rng(draw))))
            if brightest[-1] <= _NEARLY_BLACK:
                brightest.append(_brightest(change(white, np.random.default_rng(draw))))
    # What is all black is meant so, or white by another draw.
    if brightest and 0 < max(brightest) <= _NEARLY_BLACK:
        raise ValueError(
            "augment= must give uint8 from 0 to 255 or floats from 0 to 1, but white came out as "
            f"{max(brightest)} of 255, nearly black. Scale where types change, as "
            "ToDtype(torch.uint8, scale=True) does, and divide by 255 no more than once."
        )


def _brightest(picture: Image.Image) -> int:
    return int(np.asarray(picture).max())


def make_augment(augment: Any, targets: Targets | None = None) -> Augment | None:
    """The augmentation that a parameter means, of images alone or of what moves with them too.

    Raises
    ------
    ValueError
        If it takes the image alone, and there are targets.
    """
    if augment is None:
        return None
    if isinstance(augment, str):
        return {"light": Flip, "auto": FlipCropColour}[augment]()
    if isinstance(augment, Augment):
        return augment
    if targets is None:
        return Transform(augment)
    if not takes_targets(augment):
        raise ValueError(
            "augment= must move what is said of an image with the image, but "
            f"{shown(repr(augment), 80)} takes the image alone. Take a transform of "
            "torchvision.transforms.v2, or a function of (image, target) that gives both."
        )
    return JointTransform(augment)


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
        random = np.random.default_rng(seed)
        changed: Image.Image = self._told(opened, self._augment, picture, random)
        return changed

    def _told(self, opened: OpenedImage, change: Any, *given: Any) -> Any:
        """What a change gives; errors name the image."""
        try:
            return change(*given)
        except (TrainingError, ValueError) as error:
            raise type(error)(str(opened.error(str(error)))) from error.__cause__


class MovedTogether(Augmented):
    """One view of each image of a sequence, and of what is said of its places.

    Parameters
    ----------
    images, augment, view : object
        As above.
    targets : Targets
    """

    _augment: MovesTargets

    def __init__(
        self, images: Images | Subset, augment: MovesTargets, view: int, targets: Targets
    ):
        super().__init__(images, augment, view)
        self._targets = targets

    def open(self, index: int) -> OpenedImage:
        opened: Any = self.images.open(index)
        if self._view == 0:
            return opened
        target = self._targets.open(index) if self._augment.looks_at_targets else None
        digest = self._digest(opened, target)
        seed = int.from_bytes(digest, "little")
        if target is None:
            return opened.changed(digest, partial(self._change, opened, seed))
        return opened.changed(digest, partial(self._change_both, opened, seed, target))

    def target(self, index: int, preparation: ImagePreparation) -> np.ndarray:
        """What is said of one image, as the network sees it."""
        opened: Any = self.images.open(index)
        target = self._targets.open(index)
        digest = self._digest(opened, target if self._augment.looks_at_targets else None)
        random = np.random.default_rng(int.from_bytes(digest, "little"))
        moved, size = self._told(opened, self._augment.together, opened, target, random)
        return moved.placed(preparation.placement(size))

    def _digest(self, opened: OpenedImage, target: Target | None) -> bytes:
        content = opened.digest + (b"" if target is None else target.digest)
        return digest_of(f"view {self._view}, {self._augment.key}", content)

    def _change_both(
        self, opened: OpenedImage, seed: int, target: Target, picture: Image.Image
    ) -> Image.Image:
        augment: Any = self._augment
        random = np.random.default_rng(seed)
        changed: Image.Image = self._told(opened, augment.both, picture, target, random)[0]
        return changed
