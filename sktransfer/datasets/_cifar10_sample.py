"""Two thousand photographs of CIFAR-10 that ship with the package."""

from __future__ import annotations

from io import BytesIO, StringIO
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from sktransfer.datasets._files import read_descr, shipped

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
SIDE = 32  # of a photograph, in pixels


def load_cifar10_sample(*, return_X_y: bool = False) -> Any:
    """Load 2,000 photographs of CIFAR-10, in colour, 32 by 32 pixels; nothing is downloaded.

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
            The photographs, RGB, 0 to 255. Rows 0 to 999 are training photographs, rows 1000 to
            1999 test photographs; within each part the classes are mixed, always in the same
            order.
        target : ndarray of int64, shape (2000,)
            The class of each photograph, 0 to 9.
        target_names : ndarray of str, shape (10,)
            The names of the classes.
        train_indices, test_indices : ndarray of int64, shape (1000,)
            The rows of each part.
        source_indices : ndarray of int64, shape (2000,)
            The place of each photograph in the original part: 0 to 49999 for the training rows,
            0 to 9999 for the test rows.
        filename : str
            The contact sheet the photographs are read from.
        DESCR : str
            The full description.

    (data, target) : tuple if ``return_X_y=True``
        The two arrays described above.

    See Also
    --------
    fetch_cifar10 : All 60,000 photographs.
    load_image_folder : Photographs of your own.

    Notes
    -----
    Provenance: CIFAR-10 was collected by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton [1]_
    from the 80 Million Tiny Images data set, which gathered photographs from the web.

    Licence: its authors state none. They have it freely downloadable for research and ask that
    the report below be cited. The rights in single photographs stay with whoever took them; the
    licence of sktransfer covers its code, not these pictures.

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
    return Bunch(
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
    """Give the photographs (n, 32, 32, 3) of a contact sheet made by `encode_sheet`."""
    with Image.open(BytesIO(png)) as image:
        sheet = np.array(image)
    sheet[..., ::2] += sheet[..., 1:2]  # wraps around, as the subtraction did
    tiles = sheet.reshape(-1, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(-1, SIDE, SIDE, 3)


def encode_sheet(photographs: np.ndarray) -> bytes:
    """Pack photographs (n, 32, 32, 3) into one lossless PNG, n being a multiple of 50.

    Green is subtracted from red and blue, which follow it closely: 17% less than a plain sheet.
    """
    sheet = photographs.reshape(-1, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    sheet = sheet.reshape(-1, COLUMNS * SIDE, 3).copy()
    sheet[..., ::2] -= sheet[..., 1:2]
    file = BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return file.getvalue()
