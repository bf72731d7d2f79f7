"""Folders of images, one folder for each class."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch, check_random_state

from sktransfer.datasets._bunch import ImageBunch
from sktransfer.exceptions import ImageError, InputError, SktransferWarning, shown
from sktransfer.inputs import HINTS, Images, as_images, readable_formats


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    target_as: str = "number",
    categories: Sequence[str] | None = None,
    extensions: Sequence[str] | None = None,
    verify: bool = False,
    shuffle: bool = False,
    random_state: int | np.random.RandomState | None = 0,
    return_X_y: bool = False,
) -> Any:
    """List the images in ``root/<class>/<file>`` or ``root/<part>/<class>/<file>``.

    No image is read, unless `verify` is set: `data` holds paths, which
    :class:`~sktransfer.CNNCodes` opens when it needs them.

    Parameters
    ----------
    root : str or path-like
        The folder with one folder for each class. Files in folders within the folder of a class
        belong to that class, at any depth. Symbolic links are followed, each folder being read
        once for a class.
    split : {"train", "valid", "test", "all"} or None, default=None
        Where `root` holds a folder for each part of a data set, with the folders of classes inside:
        the part to load, or all of them. The folder of "train" is called train or training, that of
        "valid" valid, val, validation, dev or eval, that of "test" test or testing, in any case.
        Classes are numbered alike in all parts. None is a folder of classes.
    target_as : {"number", "name"}, default="number"
        What `target` holds: numbers of classes, or their names, which a classifier that is fitted
        to them predicts as well.
    categories : list of str or None, default=None
        The classes to load, None is all. A test set is numbered as its training set with
        ``categories=train.target_names``, also where it lacks some of the classes. Folders of
        other names are left out; `skipped` lists them.
    extensions : list of str or None, default=None
        What the names of images end in, such as ``[".jpg", ".png"]``, in upper or lower case.
        None is every format that the installed Pillow reads, and those of its plugins that are
        registered (pillow-heif for ``.heic``), except video, PostScript and Windows metafiles.
    verify : bool, default=False
        Read and decode every image (as :class:`~sktransfer.CNNCodes` will), and skip those that
        are damaged.
    shuffle : bool, default=False
        Mix the images. Otherwise they are sorted: by class, then by path.
    random_state : int, RandomState instance or None, default=0
        Determines the order if `shuffle` is set.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object, shape (n_images,)
            The absolute path, a str, of each image.
        target : ndarray of int64 or str, shape (n_images,)
            The class of each image: its place in `target_names`, or its name.
        target_names : ndarray of str, shape (n_classes,)
            The names of the folders that hold images, or of all `categories`, sorted by code
            point (so capital letters come before small ones, and "10" before "9").
        filenames : ndarray of object, shape (n_images,)
            The same as `data`, for what was written for :func:`sklearn.datasets.load_files`.
        skipped : list of (str, str)
            Every path that was skipped, and why.
        DESCR : str
            What was found: the number of images in each class.

        With ``split="all"`` instead: `target_names`, `DESCR`, and under the name of each part
        that is there ("train", "valid", "test") such a Bunch.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above; with ``split="all"`` a Bunch of such tuples by part.

    Raises
    ------
    InputError
        A ValueError: `root` is not a folder, holds no folder of a class or no image, has no
        folder of a name in `categories` but one whose name differs by case or blanks only, or no
        folder, or two, of the part asked for.

    Warns
    -----
    SktransferWarning
        If anything but hidden files was skipped: files with another extension, empty files,
        files directly under `root`, folders without images or that may not be read, broken
        links. If a class of `categories` has no image. If the folders are named like parts of a
        data set (train, test), not classes; if names differ by case or blanks only; and if two
        are the same folder, by a link.

    See Also
    --------
    sklearn.datasets.load_files : The same for text.
    load_cifar10_sample : Images that ship with the package.

    Notes
    -----
    Hidden are names that begin with a dot, ``Thumbs.db``, ``desktop.ini`` and ``__MACOSX``. One
    class alone is no error, as its images can be encoded and clustered.

    Examples
    --------
    >>> from sktransfer.datasets import load_image_folder
    >>> photos = load_image_folder("photos/")  # doctest: +SKIP
    >>> photos.target_names[photos.target[0]]  # doctest: +SKIP
    >>> parts = load_image_folder("photos/", split="all", target_as="name")  # doctest: +SKIP
    >>> model.fit(parts.train.data, parts.train.target)  # doctest: +SKIP
    """
    folder = check_root(root)
    for name, value, valid in (("split", split, (None, *PARTS, ALL)),
                               ("target_as", target_as, ("number", "name"))):  # fmt: skip
        if value not in valid:
            raise InputError(f"{name} must be one of {valid}, got {shown(repr(value))}")
    chosen = check_extensions(extensions)
    names = None if categories is None else _check_list("categories", categories)
    folders = {"": folder} if split is None else part_folders(folder)
    if split not in (None, ALL) and split not in folders:
        raise InputError(
            f"split={split!r} needs a folder called {' or '.join(PARTS[split])} in {shown(folder)}"
            f", which has the parts {shown(list(folders))}"
        )
    if split is not None and names is None:
        names = _classes_of_all(folders.values(), chosen)
    rng = check_random_state(random_state)
    found = {}
    for part, path in folders.items():
        if split in (None, ALL, part):
            bunch = _load(path, names, chosen, verify=verify, named=target_as == "name")
            if shuffle:
                order = rng.permutation(len(bunch.data))
                bunch.data, bunch.target = bunch.data[order], bunch.target[order]
                bunch.filenames = bunch.data
            found[part] = bunch
    results = {k: (one.data, one.target) if return_X_y else one for k, one in found.items()}
    if split != ALL:
        return next(iter(results.values()))
    told = [f"{part}: {one.DESCR}" for part, one in found.items()]
    return Bunch(**results, target_names=next(iter(found.values())).target_names,
                 DESCR="\n".join(told))  # fmt: skip


def _load(
    folder: str, names: list[str] | None, extensions: frozenset[str], *, verify: bool, named: bool
) -> Bunch:
    """The images of one folder of classes; of these names, if they are known before."""
    walk = FolderWalk(folder, extensions=extensions, verify=verify)
    folders = walk.class_folders()
    chosen_folders = folders if names is None else _choose(walk, folders, names)
    found = {os.path.basename(path): walk.images(path) for path in chosen_folders}
    images = {name: paths for name, paths in found.items() if paths}
    if not images:
        raise InputError(nothing_found(walk, folders))
    warn_of_parts(folder, images)
    warn_of_likeness(folder, images)
    if names is not None:
        warn_of_absent(walk, images, names)
        images = {name: images.get(name, []) for name in sorted({*names})}
    warn_of_skipped(walk, sum(map(len, images.values())))
    bunch = _bunch(walk, images)
    if named:
        bunch.target = bunch.target_names[bunch.target]
    return bunch


def list_images(
    folder: str | os.PathLike[str], *, extensions: Sequence[str] | None = None
) -> list[str]:
    """List the images in a folder and in all folders in it: images without classes.

    Parameters
    ----------
    folder : str or path-like
        Hidden files and folders are left out.
    extensions : list of str or None, default=None
        What the names of images end in; None is every format that is read.

    Returns
    -------
    paths : list of str
        Absolute, sorted by folder and name.

    Raises
    ------
    InputError
        A ValueError: it is no folder.

    See Also
    --------
    load_image_folder : The same with a class for each folder.

    Examples
    --------
    >>> from sktransfer.datasets import list_images
    >>> codes.transform(list_images("photos/"))  # doctest: +SKIP
    """
    walk = FolderWalk(
        check_root(folder, "folder"), extensions=check_extensions(extensions), verify=False
    )
    return walk.all_images()


# Parts of a data set, and the names that their folders have.
PARTS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
ALL = "all"


def part_named(name: Any) -> str | None:
    """The part of a data set that a name in use means.

    Parameters
    ----------
    name : str
        In any case.

    Returns
    -------
    part : {"train", "valid", "test"} or None
        None is no part.

    Examples
    --------
    >>> from sktransfer.datasets import part_named
    >>> part_named("Validation")
    'valid'
    """
    word = str(name).strip().casefold()
    return next((part for part, words in PARTS.items() if word in words), None)


def part_folders(folder: str) -> dict[str, str]:
    """The folders of the parts of a data set, in the order of `PARTS`.

    Raises
    ------
    InputError
        If there is none, or two of one part.
    """
    found: dict[str, str] = {}
    inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for name in inside:
        if (part := part_named(name)) is not None:
            if part in found:
                raise InputError(
                    f"the folders {shown(os.path.basename(found[part]))} and {shown(name)} of "
                    f"{shown(folder)} are both called like the part {part!r}; rename one"
                )
            found[part] = os.path.join(folder, name)
    if not found:
        raise InputError(
            f"split= needs folders such as train, valid and test in {shown(folder)}, which has "
            f"{shown(inside)}; leave split= out if these are classes"
        )
    return {part: found[part] for part in PARTS if part in found}


def _classes_of_all(folders: Iterable[str], extensions: frozenset[str]) -> list[str] | None:
    """Names of the folders that hold images, in all parts together."""
    names: set[str] = set()
    for folder in folders:
        walk = FolderWalk(folder, extensions=extensions, verify=False)
        paths = {os.path.basename(path): path for path in walk.class_folders()}
        names |= {name for name, path in paths.items() if name in names or walk.any_image(path)}
    return sorted(names) or None


def check_root(root: str | os.PathLike[str], name: str = "root") -> str:
    """The absolute path of a folder, or an error that says what is there instead."""
    try:
        path = os.fsdecode(root)
    except TypeError as error:
        raise InputError(f"{name} must be the path of a folder, got {shown(repr(root))}") from error
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(folder):
        if re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/", path):  # longer than a drive of Windows
            raise InputError(
                f"{name} must be the path of a folder, {shown(repr(path))} is a URL, and nothing "
                "is downloaded here. Download it first, unpack it, and pass the folder"
            )
        raise InputError(f"{name} must be a folder; there is nothing at {shown(folder)}")
    if not os.path.isdir(folder):
        raise InputError(
            f"{name} must be a folder, {shown(folder)} is a file; unpack it if it is an archive, "
            "and pass paths of single images in a list to CNNCodes itself"
        )
    return folder


def check_extensions(extensions: Sequence[str] | None) -> frozenset[str]:
    """The extensions asked for, in lower case with the dot; None is all that are read."""
    if extensions is None:
        return readable_extensions()
    names = _check_list("extensions", extensions)
    return frozenset("." + name.lower().removeprefix(".") for name in names)


def _check_list(name: str, values: Any) -> list[str]:
    is_list = isinstance(values, Iterable) and not isinstance(values, (str, bytes))
    found = list(values) if is_list else []
    if not found or not all(isinstance(value, str) for value in found):
        raise InputError(
            f"{name} must be a list of one or more str, or None; got {shown(repr(values))}"
        )
    return [str(value) for value in found]  # numpy's own strings print otherwise


def _choose(walk: FolderWalk, folders: list[str], categories: list[str]) -> list[str]:
    """The folders of some classes; those that have none may be absent, but not misspelt."""
    names = [os.path.basename(path) for path in folders]
    absent = sorted(set(categories) - set(names))
    alike = {likeness(name) for name in names}
    misspelt = [name for name in absent if likeness(name) in alike]
    if misspelt or len(absent) == len(set(categories)):
        raise InputError(
            f"categories must be among the folders {shown(names)} of {shown(walk.root)}, which "
            f"has none of {shown(misspelt or absent)}"
        )
    return [path for path in folders if walk.is_asked_for(path, categories)]


def _bunch(walk: FolderWalk, images: dict[str, list[str]]) -> Bunch:
    sizes = [len(paths) for paths in images.values()]
    data = np.array([path for paths in images.values() for path in paths], dtype=object)
    lines = [f"{name}: {size}" for name, size in zip(images, sizes, strict=True)]
    return ImageBunch(
        data=data,
        target=np.repeat(np.arange(len(images), dtype=np.int64), sizes),
        target_names=np.array(list(images)),
        filenames=data,
        skipped=walk.skipped,
        DESCR="\n".join([f"{len(data)} images of {len(images)} classes in {walk.root}", *lines]),
    )


# Which files under a folder are images, and why the others are skipped.


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

    def all_images(self) -> list[str]:
        """List the images in the root and in all folders within it."""
        paths = list(self._images(self.root, set()))
        return self._decodable(paths) if self._verify else paths

    def images(self, folder: str) -> list[str]:
        """List the images of a class, also those in folders within its folder."""
        # The root is no part of a class: a link back to it would bring in all the others.
        paths = list(self._images(folder, {os.path.realpath(self.root)}))
        if self._verify:
            paths = self._decodable(paths)
        if not paths:
            self._skip(folder, NO_IMAGES)
        return paths

    def any_image(self, folder: str) -> bool:
        """Tell whether a class has an image, by its name."""
        return next(self._images(folder, {os.path.realpath(self.root)}), None) is not None

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
        causes = damaged(paths)
        for path, cause in zip(paths, causes, strict=True):
            if cause is not None:
                self._skip(path, cause)
        return [path for path, cause in zip(paths, causes, strict=True) if cause is None]

    def _skip(self, path: str, reason: str) -> None:
        self.skipped.append((path, reason))


def damaged(paths: Sequence[str]) -> list[str | None]:
    """Why each of some images cannot be decoded; None where it can."""
    if not len(paths):
        return []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        # What black and white are is no question of damage.
        images = as_images(list(paths), value_range=(0, 1))
        return list(threads.map(partial(_damage, images), range(len(paths))))


def _damage(images: Images, index: int) -> str | None:
    try:
        images.open(index).picture()
    except ImageError as error:
        return error.cause
    return None


# What `load_image_folder` says about what it skipped, and about classes that look odd.


_LAYOUT = "a folder for each class is expected: root/<class>/<file>"
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
            stacklevel=4,  # the caller of load_image_folder
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
            stacklevel=4,  # the caller of load_image_folder
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
            stacklevel=4,  # the caller of load_image_folder
        )


def warn_of_parts(root: str, images: dict[str, list[str]]) -> None:
    """Warn if the folders are called train, test and the like, with more folders inside."""
    nested = any(
        os.path.dirname(path) != os.path.join(root, name)
        for name, paths in images.items()
        for path in paths
    )
    if nested and all(part_named(name) for name in images):
        names = list(images)
        warnings.warn(
            f"the classes found in {root} are {names}, which look like parts of a data set with "
            'the folders of classes inside; split="all" loads the parts, '
            f"split={part_named(names[0])!r} one of them",
            SktransferWarning,
            stacklevel=4,  # the caller of load_image_folder
        )
