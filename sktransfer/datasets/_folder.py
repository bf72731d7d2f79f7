"""Folders of images, one folder for each class."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sktransfer.datasets._report import (
    likeness,
    nothing_found,
    warn_of_absent,
    warn_of_likeness,
    warn_of_parts,
    warn_of_skipped,
)
from sktransfer.datasets._walk import FolderWalk, readable_extensions
from sktransfer.exceptions import InputError, shown


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    categories: Sequence[str] | None = None,
    extensions: Sequence[str] | None = None,
    verify: bool = False,
    shuffle: bool = False,
    random_state: int | np.random.RandomState | None = 0,
    return_X_y: bool = False,
) -> Any:
    """List the images in ``root/<class>/<file>``, with the class of each.

    No image is read, unless `verify` is set: `data` holds paths, which
    :class:`~sktransfer.CNNCodes` opens when it needs them.

    Parameters
    ----------
    root : str or path-like
        The folder with one folder for each class. Files in folders within the folder of a class
        belong to that class, at any depth. Symbolic links are followed, each folder being read
        once for a class.
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
        target : ndarray of int64, shape (n_images,)
            The class of each image: its place in `target_names`.
        target_names : ndarray of str, shape (n_classes,)
            The names of the folders that hold images, or of all `categories`, sorted by code
            point (so capital letters come before small ones, and "10" before "9").
        filenames : ndarray of object, shape (n_images,)
            The same as `data`, for what was written for :func:`sklearn.datasets.load_files`.
        skipped : list of (str, str)
            Every path that was skipped, and why.
        DESCR : str
            What was found: the number of images in each class.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    Raises
    ------
    InputError
        A ValueError: `root` is not a folder, holds no folder of a class or no image, or has no
        folder of a name in `categories` but one whose name differs by case or blanks only.

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
    """
    folder = _check_root(root)
    chosen = _readable(extensions)
    walk = FolderWalk(folder, extensions=chosen, verify=verify)
    names = None if categories is None else _check_list("categories", categories)
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
    if shuffle:
        order = check_random_state(random_state).permutation(len(bunch.data))
        bunch.data, bunch.target = bunch.data[order], bunch.target[order]
        bunch.filenames = bunch.data
    return (bunch.data, bunch.target) if return_X_y else bunch


def _check_root(root: str | os.PathLike[str]) -> str:
    try:
        path = os.fsdecode(root)
    except TypeError as error:
        raise InputError(f"root must be the path of a folder, got {shown(repr(root))}") from error
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(folder):
        if re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/", path):  # longer than a drive of Windows
            raise InputError(
                f"root must be the path of a folder, {shown(repr(path))} is a URL, and nothing is "
                "downloaded here. Download it first, unpack it, and pass the folder"
            )
        raise InputError(f"root must be a folder; there is nothing at {shown(folder)}")
    if not os.path.isdir(folder):
        raise InputError(
            f"root must be a folder, {shown(folder)} is a file; unpack it if it is an archive, and "
            "pass paths of single images in a list to CNNCodes itself"
        )
    return folder


def _readable(extensions: Sequence[str] | None) -> frozenset[str]:
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
    return Bunch(
        data=data,
        target=np.repeat(np.arange(len(images), dtype=np.int64), sizes),
        target_names=np.array(list(images)),
        filenames=data,
        skipped=walk.skipped,
        DESCR="\n".join([f"{len(data)} images of {len(images)} classes in {walk.root}", *lines]),
    )
