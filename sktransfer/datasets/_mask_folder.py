"""Images in one folder, and their masks in another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer.datasets._folder import FolderWalk, check_extensions, check_root
from sktransfer.exceptions import ImageError, InputError, SktransferWarning, shown
from sktransfer.inputs import as_images, as_masks, check_fits


def load_mask_folder(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    suffix: str = "",
    extensions: Sequence[str] | None = None,
    on_bad: str = "raise",
    verify: bool = False,
    return_X_y: bool = False,
) -> Any:
    """List images with the mask of each, which has the same name in a second folder.

    No file is read, unless `verify` is set: `data` and `target` hold paths, which
    :class:`~sktransfer.PixelClassifier` and :class:`~sktransfer.FineTuneSegmenter` open.

    Parameters
    ----------
    images : str or path-like
        The folder of images, at any depth.
    masks : str or path-like
        The folder of masks: PNG, TIFF, BMP or GIF files of whole numbers, at any depth. The mask of
        ``a/1.jpg`` is ``a/1.png``, or ``1.png`` in any folder if there is one image and one mask of
        this name. It may be the folder of the images if there is a `suffix`.
    suffix : str, default=""
        What names of masks have more before the extension, such as ``"_mask"`` in ``1_mask.png``.
    extensions : list of str or None, default=None
        What the names of images and masks end in; None is every format that is read.
    on_bad : {"raise", "drop"}, default="raise"
        What to do with images without a mask, and masks without an image: an error that names the
        first, or they are left out with a warning.
    verify : bool, default=False
        Read every mask, and the size of every image, and look whether they fit; those that do not
        are bad as well.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object, shape (n_images,)
            The absolute path, a str, of each image, sorted.
        target : ndarray of object, shape (n_images,)
            The absolute path, a str, of each mask.
        filenames : ndarray of object, shape (n_images,)
            The same as `data`.
        skipped : list of (str, str)
            Every path that was skipped, and why.
        DESCR : str
            What was found.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    Raises
    ------
    InputError
        A ValueError: a folder is not there, no pair was found, an image has no mask or several, a
        mask has no image, a mask is a JPEG file, or, with `verify`, does not fit.

    Warns
    -----
    SktransferWarning
        With ``on_bad="drop"``: how many files were left out, and the first.

    See Also
    --------
    load_image_folder : Images with a label each.

    Examples
    --------
    >>> from sktransfer import load_mask_folder
    >>> streets = load_mask_folder("images/", "masks/", suffix="_mask")  # doctest: +SKIP
    >>> model.fit(streets.data, streets.target)  # doctest: +SKIP
    """
    if on_bad not in ("raise", "drop"):
        raise InputError(f'on_bad must be "raise" or "drop", got {shown(repr(on_bad))}.')
    folders = check_root(images, "images"), check_root(masks, "masks")
    ending = check_extensions(extensions)
    walks = [FolderWalk(one, extensions=ending, verify=False) for one in folders]
    files = [walk.all_images() for walk in walks]
    if os.path.realpath(folders[0]) == os.path.realpath(folders[1]):
        files = _apart(files[0], suffix, folders[0])
    for name, found, folder in zip(("images", "masks"), files, folders, strict=True):
        if not found:
            raise InputError(f"The folder of {name}, {shown(folder)}, must hold images, got none.")
    pairs, bad = _paired(files[0], files[1], folders, suffix)
    if verify:
        bad += _that_do_not_fit(pairs)
        wrong = {path for path, _ in bad}
        pairs = [(one, two) for one, two in pairs if two not in wrong]
    if bad and (on_bad == "raise" or not pairs):
        raise InputError(_told(bad, files[0], files[1], suffix))
    if bad:
        warnings.warn(
            f"{len(bad)} files were left out, {len(pairs)} images with masks are left; the first: "
            f"{shown(bad[0][0])} {bad[0][1]}. The attribute `skipped` of the Bunch lists them all.",
            SktransferWarning,
            stacklevel=2,
        )
    data, target = (np.array(one, object) for one in zip(*pairs, strict=True))
    if return_X_y:
        return data, target
    return Bunch(
        data=data, target=target, filenames=data,
        skipped=[one for walk in walks for one in walk.skipped] + bad,
        DESCR=f"{len(data)} images in {folders[0]} with masks in {folders[1]}",
    )  # fmt: skip


def _apart(files: list[str], suffix: str, folder: str) -> list[list[str]]:
    """Images and masks that lie in one folder."""
    if not suffix:
        raise InputError(
            f"images and masks must be two folders, got {shown(folder)} for both; or name what "
            'masks have more in their names, such as suffix="_mask"'
        )
    masks = [one for one in files if _stem(one).endswith(suffix)]
    return [[one for one in files if not _stem(one).endswith(suffix)], masks]


def _paired(
    images: list[str], masks: list[str], folders: tuple[str, str], suffix: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Images with their masks, and what has no partner or several, with the reason."""
    by_place, by_name = _grouped(masks, folders[1])
    alone = {name for name, own in _grouped(images, "")[1].items() if len(own) == 1}
    pairs: list[tuple[str, str]] = []
    bad: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for image in images:
        place = os.path.splitext(os.path.relpath(image, folders[0]))[0] + suffix
        found = by_place.get(place, [])
        if not found and _stem(image) in alone:
            found = by_name.get(_stem(image) + suffix, [])
        if not found:
            bad.append((image, f"has no mask {shown(repr(place + '.png'))} in {shown(folders[1])}"))
        elif len(found) > 1:
            bad.append((image, f"may have the mask {shown(found[0])} or {shown(found[1])}"))
        elif found[0] in taken:
            bad.append((image, f"has the mask {shown(found[0])}, as {taken[found[0]]} has"))
        elif found[0].lower().endswith((".jpg", ".jpeg")):
            bad.append((image, f"has the mask {shown(found[0])}, a JPEG file, which changes labels "
                               "at every edge; save masks as PNG files"))  # fmt: skip
            taken[found[0]] = image
        else:
            taken[found[0]] = image
            pairs.append((image, found[0]))
    told = {mask for image, _ in bad for mask in by_name.get(_stem(image) + suffix, [])}
    bad += [(mask, f"is the mask of no image in {shown(folders[0])}")
            for mask in masks if mask not in taken and mask not in told]  # fmt: skip
    return pairs, bad


def _grouped(files: list[str], folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Files by their place in a folder, and by their name, without extension."""
    by_place: dict[str, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for one in files:
        place = os.path.relpath(one, folder) if folder else one
        by_place.setdefault(os.path.splitext(place)[0], []).append(one)
        by_name.setdefault(_stem(one), []).append(one)
    return by_place, by_name


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _that_do_not_fit(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Masks that cannot be read or have another size than their image, and why."""
    if not pairs:
        return []
    # What black and white are is no question of size.
    images = as_images([one for one, _ in pairs], value_range=(0, 1))
    masks = as_masks([one for _, one in pairs], name="masks")

    def trouble(index: int) -> str | None:
        try:
            check_fits(masks, index, masks.open(index), images)
        except (InputError, ImageError) as error:
            return f"does not fit: {str(error).rstrip('.')}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        causes = list(threads.map(trouble, range(len(pairs))))
    return [(pair[1], cause) for pair, cause in zip(pairs, causes, strict=True) if cause]


def _told(
    bad: list[tuple[str, str]], images: list[str], masks: list[str], suffix: str
) -> str:
    """The first, how many more, and what may be meant."""
    more = f", and {len(bad) - 1} more files have no partner or do not fit" if len(bad) > 1 else ""
    path, why = bad[0]
    message = f"Every image must have a mask of its name and size: {shown(path)} {why}{more}."
    stems, names = {_stem(one) for one in images}, {_stem(one) for one in masks}
    example = min(stems)
    for rest in sorted(one.removeprefix(example) for one in names if one.startswith(example)):
        if rest != suffix and all(stem + rest in names for stem in stems):
            return f"{message} Masks are called like {shown(masks[0])}: pass suffix={rest!r}."
    return f'{message} Add or remove files, or leave them out with on_bad="drop".'
