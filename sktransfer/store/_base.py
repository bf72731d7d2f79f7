"""What every store promises."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

KEY_BYTES = 16


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Parameters
    ----------
    rows : int
        Number of rows.
    bytes : int
        Memory or disk space they take, bookkeeping included.
    spaces : dict of str to int
        Rows of each space.
    max_bytes : int or None
        The bound, where there is one.
    """

    rows: int
    bytes: int
    spaces: dict[str, int] = field(default_factory=dict)
    max_bytes: int | None = None


class Store(ABC):
    """Rows (arrays of numbers) by space and key.

    A space is a string, the fingerprint of everything but the image that decides a row:
    weights, layer, preprocessing, precision. A key is the 16-byte digest of an image.
    A store may forget a row at any time; it never gives back a wrong one.

    Claims keep two threads or processes from computing the same row. Whoever needs rows does,
    batch by batch so that others find something to do as well::

        mine = [k for k, free in zip(batch, store.claim(space, batch)) if free]
        store.put_many(space, mine, compute(mine))        # drops the claims; or release()
        ...
        store.wait(space, not_mine, timeout)              # after everything else is done
        rows = store.get_many(space, not_mine)            # still None: start again with these
    """

    @abstractmethod
    def get_many(self, space: str, keys: Sequence[bytes]) -> list[np.ndarray | None]:
        """Look rows up.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each.

        Returns
        -------
        list of ndarray or None
            In the order of ``keys``; read-only arrays; ``None`` where there is no row.
        """

    @abstractmethod
    def put_many(self, space: str, keys: Sequence[bytes], rows: Sequence[np.ndarray]) -> None:
        """Keep rows. A row that is already there stays as it is; claims on the keys end.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each.
        rows : sequence of ndarray
            One per key, of any shape and any boolean, integer, real or complex dtype.

        Raises
        ------
        TypeError
            A row does not hold numbers.
        ValueError
            A key is not 16 bytes long, or there are more keys than rows or fewer.

        Warns
        -----
        StoreWarning
            Once per store and process, when the rows could not be kept.
        """

    @abstractmethod
    def claim(self, space: str, keys: Sequence[bytes]) -> list[bool]:
        """Ask which keys the caller should compute, and take these.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each.

        Returns
        -------
        list of bool
            True: compute it; it is claimed for the calling thread until `put_many`,
            `release` or the end of the thread; and if the process is killed, for a lease more.
            False: another live thread or process is at it, or the row is there by now.
        """

    @abstractmethod
    def release(self, space: str, keys: Sequence[bytes]) -> None:
        """Give up the calling thread's claims on keys that it will not compute.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each; claims of others are left alone.
        """

    @abstractmethod
    def wait(self, space: str, keys: Sequence[bytes], timeout: float | None = None) -> bool:
        """Wait until nobody else claims any of the keys.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each.
        timeout : float or None
            Seconds; ``None`` waits as long as the others are alive and at work.

        Returns
        -------
        bool
            False if the time ran out first. True does not mean that the rows are there: their
            claimer may have failed, so look, and claim what is missing.
        """

    def knows(self, spaces: Sequence[str], keys: Sequence[bytes]) -> list[bool]:
        """Tell which keys have a row in one space or another, without reading it if possible.

        Parameters
        ----------
        spaces : sequence of str
            Fingerprints of the spaces.
        keys : sequence of bytes
            16 bytes each.

        Returns
        -------
        list of bool
        """
        known = [False] * len(keys)
        for space in spaces:
            rows = self.get_many(space, keys)
            known = [was or row is not None for was, row in zip(known, rows, strict=True)]
        return known

    def discard(self, space: str, keys: Sequence[bytes]) -> None:  # noqa: B027 (not a must)
        """Forget rows that whoever asked for them cannot use, so that others can be put.

        Parameters
        ----------
        space : str
            Fingerprint of the space.
        keys : sequence of bytes
            16 bytes each.
        """

    @abstractmethod
    def clear(self, space: str | None = None) -> None:
        """Forget the rows of one space, or all rows.

        Parameters
        ----------
        space : str or None
            Fingerprint of the space; ``None`` means every space.
        """

    @abstractmethod
    def info(self) -> StoreInfo:
        """Count what the store holds.

        Returns
        -------
        StoreInfo
        """


def check_keys(keys: Sequence[bytes], rows: Sequence[np.ndarray] | None = None) -> None:
    """Refuse keys that are not digests: a wrong key would never be found again."""
    for i, key in enumerate(keys):
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ValueError(f"A key must be {KEY_BYTES} bytes, got {key!r} at position {i}.")
    if rows is not None and len(rows) != len(keys):
        raise ValueError(f"Keys and rows must be equally many, got {len(keys)} and {len(rows)}.")


# A row as bytes and back, with what it takes to notice damage.


# Object, string, date and structured dtypes do not survive as plain bytes.
NUMBER_KINDS = "biufc"


class Record(NamedTuple):
    """A row as it is written down."""

    dtype: str  # numpy's, byte order included: "<f4"
    shape: str  # "1280" or "512,7,7", "" for a single number
    checksum: bytes  # of its space, its key and all the other fields
    data: bytes


def freeze(row: np.ndarray) -> np.ndarray:
    """Copy a row so that nobody can change it any more."""
    row = np.asarray(row)
    if row.dtype.kind not in NUMBER_KINDS:
        raise TypeError(f"A row must hold numbers, got dtype {row.dtype}.")
    return np.ndarray(row.shape, row.dtype, buffer=row.tobytes())


def encode(space: str, key: bytes, row: np.ndarray) -> Record:
    """Write a row down; its checksum covers space and key, so it cannot turn up elsewhere."""
    row = np.asarray(row)
    if row.dtype.kind not in NUMBER_KINDS:
        raise TypeError(f"A row must hold numbers, got dtype {row.dtype}.")
    dtype, shape, data = row.dtype.str, ",".join(map(str, row.shape)), row.tobytes()
    return Record(dtype, shape, _checksum(space, key, dtype, shape, data), data)


def decode(space: str, key: bytes, record: Record) -> np.ndarray | None:
    """Read a row; None if it is damaged, be it in the types of its fields."""
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
