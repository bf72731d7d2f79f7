"""The whole of CIFAR-10, through torchvision."""

from __future__ import annotations

import os
import tarfile
import warnings
import zlib
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sktransfer.datasets._files import read_descr
from sktransfer.exceptions import DatasetUnavailableError

# What torchvision lets through when a server, a disk or an archive fails.
_FAILURES = (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error)


def fetch_cifar10(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load all 60,000 photographs of CIFAR-10, downloading them once (163 MiB).

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
            The photographs, RGB, 0 to 255: the training part in rows 0 to 49999, the test part
            in rows 50000 to 59999, each in its original order.
        target : ndarray of int64, shape (60000,)
            The class of each photograph, 0 to 9.
        target_names : ndarray of str, shape (10,)
            The names of the classes.
        train_indices, test_indices : ndarray of int64, shapes (50000,) and (10000,)
            The rows of each part.
        filename : str
            The folder the photographs are read from.
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
        raise _unavailable(folder, f"could not be had: {error or type(error).__name__}") from error


def _read(folder: Path) -> Bunch:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The pickles are of Python 2 and spell a dtype in a way that numpy 2.4.0 deprecates.
        warnings.filterwarnings("ignore", "dtype.*align", np.exceptions.VisibleDeprecationWarning)
        train, test = (CIFAR10(str(folder), train=part) for part in (True, False))
    rows = np.arange(len(train) + len(test))
    return Bunch(
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
