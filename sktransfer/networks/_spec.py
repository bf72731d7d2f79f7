"""What is known about a network: how its images are prepared, and who it is."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import PreprocessingError, did_you_mean, shown
from ..inputs import ImagePreparation

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Backbone",
    "Preprocessing",
    "as_preprocessing",
    "image_preparation",
    "names_elsewhere",
    "reason_of",
    "weights_by_name",
]


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Preprocessing:
    """How an image is made into what a network was trained on.

    These are facts about weights, not settings: a network fed otherwise gives worse codes
    without an error.

    Parameters
    ----------
    image_size : (int, int) or int
        Height and width in pixels.
    mean, std : (float, float, float), (float,) or float
        Of red, green and blue, for pixels in 0 to 1. They are subtracted and divided by. One
        number in a tuple is for a network of one channel, which sees images in grey; a number
        is for either.
    crop_pct : float, default=1.0
        Part of the shorter side that the centre crop keeps, in (0, 1]. Above 1, as a few of
        timm's weights have it, the crop is larger than the image.
    interpolation : str, default="bilinear"
        Name of Pillow's filter: "nearest", "bilinear", "bicubic", "lanczos", "box" or
        "hamming".

    Raises
    ------
    PreprocessingError
        If a value has another type or lies outside its range.

    Examples
    --------
    >>> facts = Preprocessing(224, mean=0.5, std=0.5, crop_pct=0.875)
    >>> facts.image_size, facts.mean, facts.resize_size()
    ((224, 224), (0.5, 0.5, 0.5), (256, 256))
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        mean, std = _as_channels(mean=self.mean, std=self.std)
        checked = {
            "image_size": _as_size(self.image_size),
            "mean": mean,
            "std": std,
            "crop_pct": _as_share(self.crop_pct),
            "interpolation": _as_interpolation(self.interpolation),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def n_channels(self) -> int:
        """Channels of the images: 3, or 1 for grey.

        Returns
        -------
        int
            The length of `mean` and `std`.
        """
        return len(self.mean)

    def for_channels(self, n: int) -> Preprocessing | None:
        """The same for a network of so many channels.

        Parameters
        ----------
        n : int
            3, or 1 for grey.

        Returns
        -------
        facts : Preprocessing or None
            None where the numbers of the channels differ, so that one cannot stand for all.
        """
        if n == self.n_channels:
            return self
        if n not in (1, 3) or len(set(self.mean)) > 1 or len(set(self.std)) > 1:
            return None
        return replace(self, mean=self.mean[:1] * n, std=self.std[:1] * n)

    def resize_size(self) -> tuple[int, int]:
        """Height and width that an image is scaled to cover before the centre crop.

        Returns
        -------
        size : tuple of int
            ``floor(image_size / crop_pct)``: twice the length of the shorter edge for square
            images, which is torchvision's `resize_size` and timm's `scale_size`.
        """
        height, width = self.image_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)


def image_preparation(
    facts: Preprocessing,
    *,
    image_size: int | tuple[int, int] | None = None,
    resize: str = "pad",
    crop_pct: float | None = None,
) -> ImagePreparation:
    """How an image is made to fit: what weights want, and what else was asked for.

    The weights' own size and crop are used to the pixel where neither is asked for
    otherwise; else the image is scaled to cover ``image_size / crop_pct``.
    """
    size = _asked_size(image_size, facts)
    if size == facts.image_size and crop_pct is None:
        cover = facts.resize_size()
    else:
        share = facts.crop_pct if crop_pct is None else crop_pct
        cover = math.floor(size[0] / share), math.floor(size[1] / share)
    return ImagePreparation(
        image_size=size,
        resize=resize,
        resize_size=cover,
        interpolation=facts.interpolation,
        background=tuple(round(255 * level) for level in facts.mean),
    )


def _asked_size(asked: int | tuple[int, int] | None, facts: Preprocessing) -> tuple[int, int]:
    """Height and width in pixels; None is the size the weights were trained with."""
    if asked is None:
        return facts.image_size
    if isinstance(asked, (tuple, list)):
        if len(asked) != 2 or min(asked) < 1:
            raise ValueError(
                f"image_size must be a number of pixels or (height, width), got {asked!r}."
            )
        return int(asked[0]), int(asked[1])
    return int(asked), int(asked)


# The longer side that is seen of images, where nobody says how large they are to be: more
# costs in proportion to the area.
_LONGEST = 512
# Images whose sizes are looked at, and what the size is a multiple of: how much most networks
# reduce an image.
_LOOKED_AT, _MULTIPLE = 100, 32


def dense_preparation(
    backbone: Backbone,
    images: Any,
    *,
    image_size: int | tuple[int, int] | None = None,
    resize: str = "pad",
) -> ImagePreparation:
    """How images are made to fit where something is said of every place of them.

    Parameters
    ----------
    backbone : Backbone
    images : Images
        None can be unreadable.
    image_size : int, (int, int) or None
        None is the median height and width of the images, reduced so that the longer side has
        at most 512 pixels, or enlarged to those that the network was trained with: on small
        images its last maps would have hardly a place.
    resize : {"pad", "squash"}

    Raises
    ------
    ValueError
        If a part of an image would be cut away.
    ImageError
        If an image cannot be read.
    """
    if image_size is None:
        numbers = sorted({round(i) for i in np.linspace(0, len(images) - 1, _LOOKED_AT)})
        sizes = [images.open(number).size() for number in numbers]
        height, width = np.median(sizes, axis=0)
        longest, own = max(height, width), max(backbone.preprocessing.image_size)
        scale = min(max(longest, own), _LONGEST) / longest
        step = _patch_of(backbone)
        height, width = (max(step, round(side * scale / step) * step) for side in (height, width))
        image_size = (height, width)
    preparation = image_preparation(
        backbone.preprocessing, image_size=image_size, resize=resize, crop_pct=None
    )
    preparation.placement(preparation.image_size)  # or an error
    return preparation


def _patch_of(backbone: Backbone) -> int:
    """What sizes are to be a multiple of: networks that begin with patches need whole ones."""
    for module in backbone.module.modules():
        stride = getattr(module, "stride", None)
        if isinstance(stride, tuple):
            patch = max(stride)
            whole = stride == getattr(module, "kernel_size", None) and _MULTIPLE % patch
            return patch if whole else _MULTIPLE
    return _MULTIPLE


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network, ready to make codes.

    Parameters
    ----------
    name : str
        Plain name of the network, such as ``"resnet18"``.
    source : {"packaged", "torchvision", "timm", "registered", "module"}
        Where it comes from.
    reference : str or None
        The name that :func:`load_backbone` finds it by; None for a module.
    weights : str or None
        Name of its weights, or the file they were read from; None for random ones and for
        those of a module.
    module : torch.nn.Module
        In eval mode, on the CPU, float32, without gradients. It is shared by everything in
        this process that uses the network, so nobody may change it.
    preprocessing : Preprocessing
        What its images must be.
    fingerprint : str
        Hash of its architecture and of every weight, in hexadecimal.
    portable : bool
        Whether `reference` and `weights` suffice to have the same network in another
        process and on another machine.
    architecture : Architecture or None, default=None
        What built it; None for a module.
    """

    name: str
    source: str
    reference: str | None
    weights: str | None
    module: nn.Module
    preprocessing: Preprocessing
    fingerprint: str
    portable: bool
    architecture: Any = None


def as_preprocessing(value: Any) -> Preprocessing:
    """Take a Preprocessing, or the same in the words of another library.

    Parameters
    ----------
    value : Preprocessing, mapping or transforms
        A mapping has names of parameters of `Preprocessing` with their values; timm's
        `input_size` (3, h, w) is understood as well. Of torchvision ``weights.transforms()``
        is taken, and of torchvision and timm any Compose of Resize, CenterCrop and Normalize.
    """
    if isinstance(value, Preprocessing):
        return value
    if not isinstance(value, Mapping):
        return Preprocessing(**_facts_of_transforms(value))
    facts = dict(value)
    if "input_size" in facts and "image_size" not in facts:
        facts["image_size"] = tuple(facts.pop("input_size"))[-2:]
    # timm's data configurations tell this too; how images are resized is asked elsewhere.
    facts.pop("crop_mode", None)
    known = {field.name for field in fields(Preprocessing)}
    needed = {field.name for field in fields(Preprocessing) if field.default is MISSING}
    for name in facts.keys() - known:
        raise PreprocessingError(
            f"preprocessing= knows no {name!r}. {did_you_mean(str(name), sorted(known))}"
            f"It has {', '.join(sorted(known))}."
        )
    if missing := sorted(needed - facts.keys()):
        raise PreprocessingError(
            f"preprocessing= must tell {', '.join(missing)} too, got {sorted(facts)}."
        )
    return Preprocessing(**facts)


def _facts_of_transforms(transforms: Any) -> dict[str, Any]:
    """What torchvision's transforms tell: a preset that comes with weights, or a Compose."""
    preset = {name: getattr(transforms, name, None) for name in (*_OF_PRESETS, "interpolation")}
    steps = getattr(transforms, "transforms", None)
    if isinstance(steps, (list, tuple)):
        of = {type(step).__name__: step for step in steps}
        if surplus := of.keys() - _STEPS:
            raise PreprocessingError(
                "preprocessing= takes a Compose of Resize, CenterCrop, ToTensor and Normalize, "
                f"got {', '.join(sorted(surplus))} too. Pass Preprocessing(image_size=..., "
                "mean=..., std=...)."
            )
        resize, crop, norm = (of.get(name) for name in ("Resize", "CenterCrop", "Normalize"))
        preset = {
            "resize_size": getattr(resize, "size", None),
            "crop_size": getattr(crop, "size", None) or getattr(resize, "size", None),
            "mean": getattr(norm, "mean", None),
            "std": getattr(norm, "std", None),
            "interpolation": getattr(resize, "interpolation", "bilinear"),
        }
    if any(preset[name] is None or callable(preset[name]) for name in _OF_PRESETS):
        raise PreprocessingError(
            "preprocessing= must be a Preprocessing, a dict with its parameters, transforms of "
            f'torchvision, "default" or None, got {shown(repr(transforms))}.'
        )
    crop, edge = (_two_sides(preset[name]) for name in ("crop_size", "resize_size"))
    interpolation = preset["interpolation"]
    return {
        "image_size": crop,
        "mean": _as_floats(preset["mean"]),
        "std": _as_floats(preset["std"]),
        "crop_pct": crop[0] / edge[0],
        "interpolation": getattr(interpolation, "value", interpolation) or "bilinear",
    }


_OF_PRESETS = ("resize_size", "crop_size", "mean", "std")
_STEPS = {
    "Resize", "CenterCrop", "ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor",
    "ToImage", "ToDtype", "ConvertImageDtype", "Normalize",
}  # fmt: skip


def _two_sides(size: Any) -> tuple[int, int]:
    sides = (size,) if isinstance(size, Integral) else tuple(size)
    return int(sides[0]), int(sides[-1])


def _as_floats(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _as_size(value: Any) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, Integral) else value
    if not isinstance(sides, Sequence) or len(sides) != 2 or not all(map(_is_side, sides)):
        raise PreprocessingError(
            "image_size of a Preprocessing must be a positive number of pixels or (height, "
            f"width), got {value!r}."
        )
    return int(sides[0]), int(sides[1])


def _is_side(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _as_channels(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, a number for each channel."""
    means, stds = _as_numbers("mean", mean, lowest=0.0), _as_numbers("std", std, lowest=1e-6)
    given = [len(one) for one, told in ((means, mean), (stds, std)) if not isinstance(told, Real)]
    n = max(given, default=3)
    means, stds = (one * n if len(one) == 1 else one for one in (means, stds))
    if len(means) != len(stds):
        raise PreprocessingError(
            "mean and std of a Preprocessing must have a number for each channel, got "
            f"mean={mean!r} and std={std!r}."
        )
    return means, stds


def _as_numbers(name: str, value: Any, *, lowest: float) -> tuple[float, ...]:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        numbers = (float(value),) if isinstance(value, Real) else tuple(map(float, value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) not in (1, 3):
        raise PreprocessingError(
            f"{name} of a Preprocessing must be three numbers (red, green, blue), or one for "
            f"images in grey, got {shown(value)}."
        )
    if not all(lowest <= one <= 1.0 for one in numbers):
        raise PreprocessingError(
            f"{name} of a Preprocessing must lie in {lowest:g} to 1, for pixels in 0 to 1, got "
            f"{value!r}. Divide numbers for pixels in 0 to 255 by 255."
        )
    return numbers


def _as_share(value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 2:
        raise PreprocessingError(
            "crop_pct of a Preprocessing must be a number above 0 and at most 1 (or 2, where "
            f"the crop is to be larger than the image), got {value!r}."
        )
    return float(value)


def _as_interpolation(value: Any) -> str:
    if value not in INTERPOLATIONS:
        raise PreprocessingError(
            f"interpolation of a Preprocessing must be one of {', '.join(INTERPOLATIONS)}, got "
            f"{value!r}."
        )
    return str(value)


# Words for messages: names near to a wrong one, and why something foreign failed.


_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
_SIZE = "(?P<size>tiny|small|base|large|huge|giant|[tsblhg])"

# Networks that timm has under names of another form: what others call them, and timm's name.
_ELSEWHERE = (
    (rf"dinov3[-_/]vit[-_]?{_SIZE}(?:16)?(?![a-z])", "vit_{size}_patch16_dinov3"),
    (rf"dinov2[-_/](?:vit)?{_SIZE}(?:14)?[-_](?:with[-_])?reg", "vit_{size}_patch14_reg4_dinov2"),
    (rf"dinov2[-_/](?:vit)?{_SIZE}(?:14)?(?![a-z])", "vit_{size}_patch14_dinov2"),
    (rf"dinov2-with-registers-{_SIZE}", "vit_{size}_patch14_reg4_dinov2"),
    (r"dinov2", "vit_small_patch14_dinov2"),
    (rf"dino[-_/](?:vit)?{_SIZE}(?P<patch>8|16)(?!\d)", "vit_{size}_patch{patch}_224.dino"),
    (r"^dino$", "vit_small_patch16_224.dino"),
    (rf"siglip.*?{_SIZE}[-_]patch(?P<patch>\d+)[-_](?P<pixels>\d+)",
     "vit_{size}_patch{patch}_siglip_{pixels}"),
    (r"siglip", "vit_base_patch16_siglip_224"),
    (rf"clip.*?{_SIZE}[-_/]?(?:patch)?(?P<patch>14|16|32)(?!\d)",
     "vit_{size}_patch{patch}_clip_224.openai"),
    (rf"^vit[-/]{_SIZE}[-/](?P<patch>14|16|32)(?!\d)", "vit_{size}_patch{patch}_clip_224.openai"),
    (r"^(?:clip.*)?rn(?P<depth>50|101)$", "resnet{depth}_clip.openai"),
    (r"clip", "vit_base_patch32_clip_224.openai"),
    (rf"mae[-_](?:vit[-_])?{_SIZE}(?![a-z])", "vit_{size}_patch16_224.mae"),
)  # fmt: skip


def names_elsewhere(name: str) -> Iterator[str]:
    """timm's names for a network that a paper, torch.hub or the hub calls otherwise."""
    for pattern, ours in _ELSEWHERE:
        if found := re.search(pattern, name.casefold()):
            parts = found.groupdict()
            size = parts.get("size") or ""
            yield ours.format(**{**parts, "size": _SIZES.get(size, size)})
            return


def reason_of(error: BaseException) -> str:
    """The first line of what torch or a network says, without what torch adds to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0].rstrip(".:"), 300) if lines else type(error).__name__


def weights_by_name(weights: Any) -> Any:
    """The name of one of torchvision's weights objects, and anything else as it is.

    A pickle of the object itself could be read by the same version of torchvision alone.
    """
    if isinstance(weights, enum.Enum):
        return f"{type(weights).__name__}.{weights.name}"
    return weights
