"""Which files under a folder are images, and why the others are skipped."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from sktransfer.exceptions import ImageError
from sktransfer.images import HINTS, Images, as_images, readable_formats

HIDDEN = "hidden"
NO_CLASS = "directly under the root, not in the folder of a class"
NO_IMAGES = "a folder without images"
NOT_ASKED_FOR = "a folder that is not in categories"
SEEN_BEFORE = "a link to a folder that was already read"

# What Windows and macOS leave behind where dots do not hide.
_LITTER = {"desktop.ini", "thumbs.db", "__macosx"}


def readable_extensions() -> frozenset[str]:
    """List the extensions, in lower case with the dot, of all formats that are read here."""
    formats = {*readable_formats(), "MPO"}  # MPO is opened as JPEG
    return frozenset(
        extension.lower()
        for extension, name in Image.registered_extensions().items()
        if name in formats
    )


class FolderWalk:
    """A walk over folders that keeps account of what it skips.

    Parameters
    ----------
    root : str
        The folder whose folders are the classes.
    extensions : collection of str
        Of images, in lower case with the dot.
    verify : bool
        Decode every image, and skip those that cannot be decoded.

    Attributes
    ----------
    skipped : list of (str, str)
        Paths skipped so far, each with the reason.
    """

    def __init__(self, root: str, *, extensions: frozenset[str], verify: bool) -> None:
        self.root, self._extensions, self._verify = root, extensions, verify
        self.skipped: list[tuple[str, str]] = []

    def class_folders(self) -> list[str]:
        """List the folders of classes, sorted by name."""
        folders = []
        for entry, mode in self._entries(self.root):
            if stat.S_ISDIR(mode):
                folders.append(entry.path)
            else:
                self._skip(entry.path, NO_CLASS)
        return folders

    def is_asked_for(self, folder: str, categories: Collection[str]) -> bool:
        """Tell whether a folder is that of one of the classes; account for it otherwise."""
        if os.path.basename(folder) in categories:
            return True
        self._skip(folder, NOT_ASKED_FOR)
        return False

    def images(self, folder: str) -> list[str]:
        """List the images of a class, also those in folders within its folder."""
        # The root is no part of a class: a link back to it would bring in all the others.
        paths = list(self._images(folder, {os.path.realpath(self.root)}))
        if self._verify:
            paths = self._decodable(paths)
        if not paths:
            self._skip(folder, NO_IMAGES)
        return paths

    def _images(self, folder: str, seen: set[str]) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in seen:
            self._skip(folder, SEEN_BEFORE)
            return
        seen.add(real)
        for entry, mode in self._entries(folder):
            if stat.S_ISDIR(mode):
                yield from self._images(entry.path, seen)
            elif reason := self._objection(entry, mode):
                self._skip(entry.path, reason)
            else:
                yield entry.path

    def _entries(self, folder: str) -> Iterator[tuple[os.DirEntry[str], int]]:
        """Give what is in a folder, sorted by name, each with its mode (of a link's target)."""
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            self._skip(folder, f"the folder cannot be read: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                self._skip(entry.path, HIDDEN)
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                what = "a broken link" if entry.is_symlink() else "the file cannot be read"
                self._skip(entry.path, f"{what}: {error.strerror}")
                continue
            yield entry, mode

    def _objection(self, entry: os.DirEntry[str], mode: int) -> str | None:
        extension = os.path.splitext(entry.name)[1].lower()
        if extension not in self._extensions:
            hint = f" ({HINTS[extension]})" if extension in HINTS else ""
            return f"not an image's extension: {extension or 'none'}{hint}"
        if not stat.S_ISREG(mode):  # reading from a pipe would wait for ever
            return "a device or pipe"
        return None if entry.stat().st_size else "the file is empty (0 bytes)"

    def _decodable(self, paths: Sequence[str]) -> list[str]:
        if not paths:
            return []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            # What black and white are is no question of damage.
            images = as_images(paths, value_range=(0, 1))
            causes = list(threads.map(partial(_damage, images), range(len(paths))))
        for path, cause in zip(paths, causes, strict=True):
            if cause is not None:
                self._skip(path, cause)
        return [path for path, cause in zip(paths, causes, strict=True) if cause is None]

    def _skip(self, path: str, reason: str) -> None:
        self.skipped.append((path, reason))


def _damage(images: Images, index: int) -> str | None:
    try:
        images.open(index).picture()
    except ImageError as error:
        return error.cause
    return None
