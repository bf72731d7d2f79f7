"""The whole of CIFAR-10, through torchvision."""

from __future__ import annotations

import os
import tarfile
import warnings
import zlib
from http.client import HTTPException
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sktransfer.datasets._bunch import ImageBunch
from sktransfer.exceptions import DatasetUnavailableError

# What torchvision lets through when a server, a disk or an archive fails.
_FAILURES = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)


def fetch_cifar10(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load all 60,000 images of CIFAR-10, downloading them once (163 MiB).

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder for data sets; CIFAR-10 is kept in its subfolder ``cifar10``. None is
        scikit-learn's (:func:`sklearn.datasets.get_data_home`): the environment variable
        ``SCIKIT_LEARN_DATA``, or ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an error instead of downloading.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of uint8, shape (60000, 32, 32, 3)
            The images, RGB, 0 to 255: the training part in rows 0 to 49999, the test part
            in rows 50000 to 59999, each in its original order.
        target : ndarray of int64, shape (60000,)
            The class of each image, 0 to 9.
        target_names : ndarray of str, shape (10,)
            The names of the classes.
        train_indices, test_indices : ndarray of int64, shapes (50000,) and (10000,)
            The rows of each part.
        filename : str
            The folder the images are read from.
        DESCR : str
            The full description.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    Raises
    ------
    DatasetUnavailableError
        An OSError: the data are not there and may not or cannot be downloaded. It names the
        address, and where a file that was got in another way belongs.

    See Also
    --------
    load_cifar10_sample : 2,000 of them, which need no download.

    Notes
    -----
    Every file is checked by its MD5 hash before it is read, and becomes visible under its name
    only when whole. The licence note of :func:`load_cifar10_sample` holds here too.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", technical
       report, University of Toronto, 2009.
       https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf

    Examples
    --------
    >>> from sktransfer.datasets import fetch_cifar10
    >>> cifar = fetch_cifar10()  # doctest: +SKIP
    >>> cifar.data[cifar.train_indices].shape  # doctest: +SKIP
    (50000, 32, 32, 3)
    """
    wanted = data_home or os.environ.get("SCIKIT_LEARN_DATA") or "~"
    if os.path.expanduser(os.fsdecode(wanted)).startswith("~"):
        raise DatasetUnavailableError(
            "CIFAR-10 has no folder to be kept in, since this user has no home folder. Pass "
            "data_home= with a whole path."
        )
    folder = Path(get_data_home(data_home)) / "cifar10"
    bunch = _load(folder, download_if_missing=download_if_missing)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _load(folder: Path, *, download_if_missing: bool) -> Bunch:
    try:
        return _read(folder)
    except RuntimeError:  # torchvision's: a file is missing or its hash is wrong
        pass
    try:
        _install(folder, download_if_missing=download_if_missing)
        return _read(folder)
    except DatasetUnavailableError:
        raise
    except _FAILURES as error:
        cause = error or type(error).__name__
        raise _unavailable(folder, f"could not be loaded: {cause}") from error


def _read(folder: Path) -> Bunch:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The pickles are of Python 2 and spell a dtype in a way that numpy 2.4.0 deprecates.
        warnings.filterwarnings("ignore", "dtype.*align", np.exceptions.VisibleDeprecationWarning)
        train, test = (CIFAR10(str(folder), train=part) for part in (True, False))
    rows = np.arange(len(train) + len(test))
    return ImageBunch(
        data=np.ascontiguousarray(np.concatenate([train.data, test.data])),
        target=np.array([*train.targets, *test.targets], dtype=np.int64),
        target_names=np.array(train.classes),
        train_indices=rows[: len(train)],
        test_indices=rows[len(train) :],
        filename=str(folder / CIFAR10.base_folder),
        DESCR=read_descr("cifar10"),
    )


def _install(folder: Path, *, download_if_missing: bool) -> None:
    """Download and unpack beside the final place, then move the whole files there."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    put_by_hand = check_integrity(str(folder / CIFAR10.filename), CIFAR10.tgz_md5)
    if not put_by_hand and not download_if_missing:
        raise _unavailable(folder, "is not there, and download_if_missing is False")
    final = folder / CIFAR10.base_folder
    final.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="incoming-", dir=folder) as incoming:
        download_and_extract_archive(
            CIFAR10.url,
            download_root=str(folder) if put_by_hand else incoming,
            extract_root=incoming,
            filename=CIFAR10.filename,
            md5=CIFAR10.tgz_md5,
        )
        for file in (Path(incoming) / CIFAR10.base_folder).iterdir():
            file.replace(final / file.name)


def _unavailable(folder: Path, what: str) -> DatasetUnavailableError:
    from torchvision.datasets import CIFAR10

    archive = folder / CIFAR10.filename
    message = f"CIFAR-10 {what}. Looked for in {folder}, to be downloaded from {CIFAR10.url}. "
    if archive.exists():
        message += f"{archive} is there, but its MD5 is not {CIFAR10.tgz_md5}: it is not whole. "
    return DatasetUnavailableError(
        f"{message}Without a network, get {CIFAR10.filename} (MD5 {CIFAR10.tgz_md5}) elsewhere and "
        f"put it, unopened, at {archive}. load_cifar10_sample() needs no download."
    )


# Two thousand images of CIFAR-10 that ship with the package.


CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
COLUMNS = 50  # of the contact sheet
SIDE = 32  # of an image, in pixels


def load_cifar10_sample(*, return_X_y: bool = False) -> Any:
    """Load 2,000 images of CIFAR-10, in colour, 32 by 32 pixels; nothing is downloaded.

    1,000 come from the training part and 1,000 from the test part of CIFAR-10, 100 of each of
    the ten classes in each part, drawn without replacement with a fixed seed. The pixels are the
    original ones, bit for bit.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of uint8, shape (2000, 32, 32, 3)
            The images, RGB, 0 to 255. Rows 0 to 999 are training images, rows 1000 to
            1999 test images; within each part the classes are mixed, always in the same
            order.
        target : ndarray of int64, shape (2000,)
            The class of each image, 0 to 9.
        target_names : ndarray of str, shape (10,)
            The names of the classes.
        train_indices, test_indices : ndarray of int64, shape (1000,)
            The rows of each part.
        source_indices : ndarray of int64, shape (2000,)
            The place of each image in the original part: 0 to 49999 for the training rows,
            0 to 9999 for the test rows.
        filename : str
            The contact sheet the images are read from.
        DESCR : str
            The full description.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    See Also
    --------
    fetch_cifar10 : All 60,000 images.
    load_image_folder : Images of your own.

    Notes
    -----
    Provenance: CIFAR-10 was collected by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton [1]_
    from the 80 Million Tiny Images data set, which gathered images from the web.

    Licence: its authors state none. They have it freely downloadable for research and ask that
    the report below be cited. The rights in single images stay with whoever took them; the
    licence of sktransfer covers its code, not these images.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", technical
       report, University of Toronto, 2009.
       https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf

    Examples
    --------
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> cifar = load_cifar10_sample()
    >>> cifar.data.shape
    (2000, 32, 32, 3)
    >>> X_train, y_train = cifar.data[cifar.train_indices], cifar.target[cifar.train_indices]
    >>> [str(cifar.target_names[label]) for label in y_train[:3]]
    ['cat', 'bird', 'ship']
    """
    sheet = shipped("data/cifar10_sample.png")
    data = decode_sheet(sheet.read_bytes())
    table = shipped("data/cifar10_sample.csv").read_text(encoding="ascii")
    # The columns are part, source_index, target.
    numbers = np.loadtxt(StringIO(table), delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64)
    source_indices, target = numbers.T.copy()
    if return_X_y:
        return data, target
    return ImageBunch(
        data=data,
        target=target,
        target_names=np.array(CLASSES),
        train_indices=np.arange(1000),
        test_indices=np.arange(1000, 2000),
        source_indices=source_indices,
        filename=str(sheet),
        DESCR=read_descr("cifar10_sample"),
    )


def decode_sheet(png: bytes) -> np.ndarray:
    """Give the images (n, 32, 32, 3) of a contact sheet made by `encode_sheet`."""
    with Image.open(BytesIO(png)) as image:
        sheet = np.array(image)
    sheet[..., ::2] += sheet[..., 1:2]  # wraps around, as the subtraction did
    tiles = sheet.reshape(-1, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIDE, SIDE, 3)


def encode_sheet(images: np.ndarray) -> bytes:
    """Pack images (n, 32, 32, 3) into one lossless PNG, n being a multiple of 50.

    Green is subtracted from red and blue, which follow it closely: 17% less than a plain sheet.
    """
    sheet = images.reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    sheet = sheet.reshape(-1, COLUMNS * SIDE, 3).copy()
    sheet[..., ::2] -= sheet[..., 1:2]
    file = BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()


# The files that ship with this package.


def shipped(name: str) -> Traversable:
    """Find a file that ships in ``data/`` or ``descr/`` beside this module."""
    return files("sktransfer.datasets").joinpath(name)


def read_descr(name: str) -> str:
    """Read the description of a data set."""
    return shipped(f"descr/{name}.rst").read_text(encoding="utf-8")
