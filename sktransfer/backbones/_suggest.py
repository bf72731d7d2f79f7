"""Names near to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str], n: int = 4) -> list[str]:
    """The known names most like a wrong one, best first, whatever their case."""
    by_plain: dict[str, str] = {}
    for one in known:
        by_plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), list(by_plain), n=n, cutoff=0.6)
    return [by_plain[one] for one in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest, with a blank behind; empty if none is near."""
    near = nearest(name, known)
    return f"Did you mean {' or '.join(repr(one) for one in near)}? " if near else ""


def _plain(name: str) -> str:
    """Without case, separators and the prefix: people write ResNet-50 for resnet50."""
    return name.rpartition(":")[2].casefold().replace("-", "").replace("_", "").replace(" ", "")
