"""A row as bytes and back, with what it takes to notice damage."""

from __future__ import annotations

import zlib
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

# Object, string, date and structured dtypes do not survive as plain bytes.
NUMBER_KINDS = "biufc"


class Record(NamedTuple):
    """A row as it is written down."""

    dtype: str  # numpy's, byte order included: "<f4"
    shape: str  # "1280" or "512,7,7", "" for a single number
    checksum: bytes  # of its space, its key and all the other fields
    data: bytes


def freeze(row: np.ndarray) -> np.ndarray:
    """Copy a row so that nobody can change it any more.

    Parameters
    ----------
    row : ndarray
        Any shape, memory layout and dtype of numbers.

    Returns
    -------
    ndarray
        Same values, shape and dtype, over immutable bytes.

    Raises
    ------
    TypeError
        The dtype is not one of numbers.
    """
    row = np.asarray(row)
    if row.dtype.kind not in NUMBER_KINDS:
        raise TypeError(f"a row must hold numbers, got dtype {row.dtype}")
    return np.ndarray(row.shape, row.dtype, buffer=row.tobytes())


def encode(space: str, key: bytes, row: np.ndarray) -> Record:
    """Write a row down.

    Parameters
    ----------
    space : str
        Fingerprint of its space.
    key : bytes
        Its key. The checksum covers both, so a row cannot turn up in another place.
    row : ndarray
        Any shape and dtype of numbers.

    Returns
    -------
    Record

    Raises
    ------
    TypeError
        The dtype is not one of numbers.
    """
    row = np.asarray(row)
    if row.dtype.kind not in NUMBER_KINDS:
        raise TypeError(f"a row must hold numbers, got dtype {row.dtype}")
    dtype, shape, data = row.dtype.str, ",".join(map(str, row.shape)), row.tobytes()
    return Record(dtype, shape, _checksum(space, key, dtype, shape, data), data)


def decode(space: str, key: bytes, record: Record) -> np.ndarray | None:
    """Read a row, or notice that it is damaged.

    Parameters
    ----------
    space : str
        Fingerprint of the space it was found in.
    key : bytes
        The key it was found under.
    record : Record
        Fields as they were found; damage may have changed their types too.

    Returns
    -------
    ndarray or None
        Read-only; ``None`` if anything does not fit.
    """
    try:
        if record.checksum != _checksum(space, key, record.dtype, record.shape, record.data):
            return None
        dtype, shape = _layout(record.dtype, record.shape)
        return np.ndarray(shape, dtype, buffer=record.data)
    except (TypeError, ValueError, AttributeError):
        return None


def _checksum(space: str, key: bytes, dtype: str, shape: str, data: bytes) -> bytes:
    """Tell accidents, not forgery: the numbers by a CRC, five times as fast as a digest."""
    digest = _of_space(space).copy()
    digest.update(key + f"|{dtype}|{shape}|{len(data)}|{zlib.crc32(data)}".encode())
    return digest.digest()


@lru_cache(maxsize=256)
def _of_space(space: str) -> blake2b:
    return blake2b(space.encode(errors="surrogatepass") + b"\0", digest_size=8)


@lru_cache(maxsize=256)  # a store holds many rows of few shapes
def _layout(dtype: str, shape: str) -> tuple[np.dtype, tuple[int, ...]]:
    found = np.dtype(dtype)
    if found.kind not in NUMBER_KINDS:
        raise TypeError(dtype)
    return found, tuple(int(n) for n in shape.split(",")) if shape else ()
