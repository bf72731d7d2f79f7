"""Words for messages: names near to a wrong one, and why something foreign failed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from ..exceptions import shown

__all__ = ["did_you_mean", "names_elsewhere", "nearest", "reason_of"]

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


def nearest(name: str, known: Iterable[str], n: int = 4) -> list[str]:
    """The known names most like a wrong one, best first, whatever their case."""
    by_plain: dict[str, str] = {}
    for one in known:
        by_plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), list(by_plain), n=n, cutoff=0.6)
    return [by_plain[one] for one in found]


def did_you_mean(name: str, known: Iterable[str], first: Iterable[str] = ()) -> str:
    """A sentence that names the nearest, with a blank behind; empty if none is near."""
    near = list(dict.fromkeys([*first, *nearest(name, known)]))[:4]
    return f"Did you mean {' or '.join(repr(one) for one in near)}? " if near else ""


def _plain(name: str) -> str:
    """Without case, separators and the prefix: people write ResNet-50 for resnet50."""
    return name.rpartition(":")[2].casefold().replace("-", "").replace("_", "").replace(" ", "")


def reason_of(error: BaseException) -> str:
    """The first line of what torch or a network says, without what torch adds to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0].rstrip(".:"), 300) if lines else type(error).__name__
