"""What `load_image_folder` says about what it passed over."""

from __future__ import annotations

import os
import warnings
from collections import Counter

from sktransfer.datasets._walk import HIDDEN, FolderWalk
from sktransfer.exceptions import SktransferWarning

_LAYOUT = "a folder for each class is expected: root/<class>/<file>"
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
_SHOWN = 5  # examples in a message


def nothing_found(walk: FolderWalk, folders: list[str]) -> str:
    """Say why there is no image at all."""
    message = f"no images were found in {walk.root}; {_LAYOUT}"
    if not folders and walk.skipped:
        message += (
            ". It holds files but no folders: photographs without classes can go to CNNCodes "
            "itself, as a list of paths"
        )
    return message + (f". Passed over were:\n{_account(walk.skipped)}" if walk.skipped else "")


def _account(skipped: list[tuple[str, str]]) -> str:
    """Count reasons, the most frequent first, each with the first path."""
    counts = Counter(reason for _, reason in skipped)
    first: dict[str, str] = {}
    for path, reason in skipped:
        first.setdefault(reason, path)
    lines = [f"  {n} × {reason} ({first[reason]})" for reason, n in counts.most_common(_SHOWN)]
    rest = len(counts) - len(lines)
    return "\n".join(lines + [f"  and {rest} other reasons"] * bool(rest))


def warn_of_skipped(walk: FolderWalk, taken: int) -> None:
    """Warn if anything but hidden files was passed over."""
    told = [(path, reason) for path, reason in walk.skipped if reason != HIDDEN]
    if told:
        warnings.warn(
            f"{taken} images were found in {walk.root}, and {len(told)} files or folders passed "
            f"over:\n{_account(told)}\nThe attribute `skipped` of the Bunch lists them all; "
            "`extensions=` replaces the list of extensions that are images.",
            SktransferWarning,
            stacklevel=3,  # the caller of load_image_folder
        )


def warn_of_parts(root: str, images: dict[str, list[str]]) -> None:
    """Warn if the folders are called train, test and the like, with more folders inside."""
    nested = any(
        os.path.dirname(path) != os.path.join(root, name)
        for name, paths in images.items()
        for path in paths
    )
    if nested and {name.lower() for name in images} <= _PARTS:
        names = list(images)
        warnings.warn(
            f"the classes found in {root} are {names}, which look like parts of a data set with "
            f"the folders of classes inside; load each part, as in "
            f"load_image_folder({os.path.join(root, names[0])!r})",
            SktransferWarning,
            stacklevel=3,  # the caller of load_image_folder
        )
