"""How many views of the photographs are kept, and where."""

from __future__ import annotations

import os
import shutil
import tempfile

__all__ = ["Storage", "choose_storage"]

from dataclasses import dataclass

_MOST_VIEWS = 4
# Shares of free memory and free disk that one fit may take.
_MEMORY, _DISK = 0.25, 0.25


@dataclass(frozen=True)
class Storage:
    """What was decided.

    Attributes
    ----------
    n_views : int
    where : {"memory", "disk", "nowhere"}
    n_bytes : int
        Room that the views take together.
    """

    n_views: int
    where: str
    n_bytes: int


def choose_storage(
    n_bytes: int,
    *,
    views: int | None,
    augmented: bool,
    from_pixels: bool,
    epochs: int,
    asked: object,
) -> Storage:
    """Decide by what one view takes.

    Parameters
    ----------
    n_bytes : int
        Of one view of all photographs.
    views : int or None
        `augment_views`; None is as many as epochs, at most 4, and as there is room for.
    augmented : bool
        Without augmentation there is one view.
    from_pixels : bool
        Whether nothing is frozen; then views cost no pass, and each epoch has its own.
    epochs : int
    asked : {"auto", "memory", "disk", False}
        `cache_activations`.
    """
    wanted = 1
    if augmented:
        wanted = views or (max(1, epochs) if from_pixels else min(_MOST_VIEWS, max(1, epochs)))
    fresh = augmented and from_pixels and views is None
    if asked is False or (fresh and asked == "auto"):
        everyone = max(1, epochs) if augmented and views is None else wanted
        return Storage(everyone, "nowhere", 0)
    memory, disk = _MEMORY * free_memory(), _DISK * shutil.disk_usage(tempfile.gettempdir()).free
    if asked in ("memory", "disk"):
        room = memory if asked == "memory" else disk
        if views is None and augmented:
            wanted = max(1, min(wanted, int(room // max(n_bytes, 1))))
        return Storage(wanted, str(asked), wanted * n_bytes)
    for where, room in (("memory", memory), ("disk", disk)):
        if views is None and augmented:
            fits = min(wanted, int(room // max(n_bytes, 1)))
            if fits >= min(2, wanted):
                return Storage(fits, where, fits * n_bytes)
        elif wanted * n_bytes <= room:
            return Storage(wanted, where, wanted * n_bytes)
    return Storage(wanted, "nowhere", 0)


def free_memory() -> int:
    """Bytes of memory that are free; 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30
