"""From the facts about weights and the user's wishes to one framing."""

from __future__ import annotations

import math

from ..backbones import Preprocessing
from ..images import Framing

__all__ = ["make_framing"]


def _as_size(image_size: int | tuple[int, int] | None, facts: Preprocessing) -> tuple[int, int]:
    """Height and width in pixels; None is the size the weights were trained with."""
    if image_size is None:
        return facts.image_size
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(
                f"image_size must be a number of pixels or (height, width), got {image_size!r}."
            )
        return int(image_size[0]), int(image_size[1])
    return int(image_size), int(image_size)


def make_framing(
    facts: Preprocessing,
    *,
    image_size: int | tuple[int, int] | None,
    resize: str,
    crop_pct: float | None,
) -> Framing:
    """How a photograph is made to fit.

    The weights' own size and crop are used to the pixel where neither is asked for
    otherwise; else the photograph is scaled to cover ``image_size / crop_pct``.
    """
    size = _as_size(image_size, facts)
    if size == facts.image_size and crop_pct is None:
        cover = facts.resize_size()
        covers = (cover, cover) if isinstance(cover, int) else tuple(cover)
    else:
        share = facts.crop_pct if crop_pct is None else crop_pct
        covers = tuple(math.floor(side / share) for side in size)
    return Framing(
        image_size=size,
        resize=resize,
        resize_size=(covers[0], covers[1]),
        interpolation=facts.interpolation,
        background=tuple(round(255 * level) for level in facts.mean),
    )
