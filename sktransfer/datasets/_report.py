"""What `load_image_folder` says about what it skipped, and about classes that look odd."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter

from sktransfer.datasets._walk import HIDDEN, NOT_ASKED_FOR, FolderWalk
from sktransfer.exceptions import SktransferWarning, shown

_LAYOUT = "a folder for each class is expected: root/<class>/<file>"
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
_SHOWN = 5  # examples in a message


def nothing_found(walk: FolderWalk, folders: list[str]) -> str:
    """Say why there is no image at all."""
    message = f"no images were found in {walk.root}; {_LAYOUT}"
    if not folders and walk.skipped:
        message += (
            ". It holds files but no folders: images without classes can go to CNNCodes "
            "itself, as a list of paths"
        )
    return message + (f". Skipped were:\n{_account(walk.skipped)}" if walk.skipped else "")


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
    """Warn if anything but hidden files was skipped."""
    told = [
        (path, reason) for path, reason in walk.skipped if reason not in (HIDDEN, NOT_ASKED_FOR)
    ]
    if told:
        warnings.warn(
            f"{taken} images were found in {walk.root}, and {len(told)} files or folders "
            f"skipped:\n{_account(told)}\nThe attribute `skipped` of the Bunch lists them all; "
            "`extensions=` replaces the list of extensions that are images.",
            SktransferWarning,
            stacklevel=3,  # the caller of load_image_folder
        )


def likeness(name: str) -> str:
    """What names have in common that people take for one."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def warn_of_likeness(root: str, images: dict[str, list[str]]) -> None:
    """Warn if the names of two classes differ by case or blanks only, or two are one folder."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in images:
        real = os.path.realpath(os.path.join(root, name))
        groups.setdefault(("differ by case or blanks only", likeness(name)), []).append(name)
        groups.setdefault(("are links to one folder, with the same images", real), []).append(name)
    found = [(what, names) for (what, _), names in groups.items() if len(names) > 1]
    if found:
        told = "; ".join(f"{shown(names)} {what}" for what, names in found[:_SHOWN])
        warnings.warn(
            f"these folders of {shown(root)} are different classes: {told}. Merge or rename the "
            "folders if they are not, or name those to load: categories=",
            SktransferWarning,
            stacklevel=3,  # the caller of load_image_folder
        )


def warn_of_absent(walk: FolderWalk, images: dict[str, list[str]], categories: list[str]) -> None:
    """Warn of classes without an image, whose numbers no image has."""
    absent = sorted(set(categories) - set(images))
    if absent:
        others = [os.path.basename(path) for path, why in walk.skipped if why == NOT_ASKED_FOR]
        also = f"; it has {shown(others)}, which are not in categories" if others else ""
        warnings.warn(
            f"{shown(walk.root)} holds no image of {len(absent)} of {len(set(categories))} "
            f"categories: {shown(absent)}{also}",
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
