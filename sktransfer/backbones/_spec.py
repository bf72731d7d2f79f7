"""What is known about a network: how its images are prepared, and who it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ..exceptions import PreprocessingError
from ._suggest import did_you_mean

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Backbone", "Preprocessing", "as_preprocessing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph is made into what a network was trained on.

    These are facts about weights, not settings: a network fed otherwise gives worse codes
    without an error.

    Parameters
    ----------
    image_size : (int, int) or int
        Height and width in pixels.
    mean, std : (float, float, float) or float
        Of red, green and blue, for pixels in 0 to 1. They are subtracted and divided by.
    crop_pct : float, default=1.0
        Part of the shorter side that the centre crop keeps, in (0, 1]. Above 1, as a few of
        timm's weights have it, the crop is larger than the photograph.
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
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        checked = {
            "image_size": _as_size(self.image_size),
            "mean": _as_channels("mean", self.mean, lowest=0.0),
            "std": _as_channels("std", self.std, lowest=1e-6),
            "crop_pct": _as_share(self.crop_pct),
            "interpolation": _as_interpolation(self.interpolation),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def resize_size(self) -> tuple[int, int]:
        """Height and width that a photograph is scaled to cover before the centre crop.

        Returns
        -------
        size : tuple of int
            ``floor(image_size / crop_pct)``: twice the length of the shorter edge for square
            images, which is torchvision's `resize_size` and timm's `scale_size`.
        """
        height, width = self.image_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)


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
    """

    name: str
    source: str
    reference: str | None
    weights: str | None
    module: nn.Module
    preprocessing: Preprocessing
    fingerprint: str
    portable: bool


def as_preprocessing(value: Preprocessing | Mapping[str, Any]) -> Preprocessing:
    """Take a Preprocessing, or the same as a mapping.

    Parameters
    ----------
    value : Preprocessing or mapping
        Names of parameters of `Preprocessing` with their values. timm's `input_size`
        (3, h, w) is understood as well.
    """
    if isinstance(value, Preprocessing):
        return value
    if not isinstance(value, Mapping):
        raise PreprocessingError(
            'preprocessing= must be a Preprocessing, a dict with its parameters, "default" or '
            f"None, got {value!r}."
        )
    facts = dict(value)
    if "input_size" in facts and "image_size" not in facts:
        facts["image_size"] = tuple(facts.pop("input_size"))[-2:]
    # timm's data configurations tell this too; how photographs are framed is asked elsewhere.
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


def _as_channels(name: str, value: Any, *, lowest: float) -> tuple[float, float, float]:
    values = (value,) * 3 if isinstance(value, Real) else value
    try:
        red, green, blue = (float(one) for one in values)
    except (TypeError, ValueError) as error:
        raise PreprocessingError(
            f"{name} of a Preprocessing must be three numbers (red, green, blue), got {value!r}."
        ) from error
    if not all(lowest <= one <= 1.0 for one in (red, green, blue)):
        raise PreprocessingError(
            f"{name} of a Preprocessing must lie in {lowest:g} to 1, for pixels in 0 to 1, got "
            f"{value!r}. Divide numbers for pixels in 0 to 255 by 255."
        )
    return red, green, blue


def _as_share(value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 2:
        raise PreprocessingError(
            "crop_pct of a Preprocessing must be a number above 0 and at most 1 (or 2, where "
            f"the crop is to be larger than the photograph), got {value!r}."
        )
    return float(value)


def _as_interpolation(value: Any) -> str:
    if value not in INTERPOLATIONS:
        raise PreprocessingError(
            f"interpolation of a Preprocessing must be one of {', '.join(INTERPOLATIONS)}, got "
            f"{value!r}."
        )
    return str(value)
