"""Rows that were computed once are kept: in this process, or in a folder that many share."""

from __future__ import annotations

import os

from ..exceptions import did_you_mean, shown
from ._base import Store, StoreInfo
from ._disk import DiskStore
from ._memory import MemoryStore, memory_store

__all__ = [
    "DiskStore",
    "MemoryStore",
    "Store",
    "StoreInfo",
    "memory_store",
    "open_store",
]


# Words that are meant as switches, and would each make a folder of their name.
_SWITCHES = {
    **dict.fromkeys(("none", "null", "off", "no", "false", "disabled"), "None keeps nothing."),
    **dict.fromkeys(
        ("on", "yes", "true", "auto", "default", "mem", "ram"), "'memory' is the default."
    ),
    "disk": "To keep codes on disk, name a folder.",
}


def open_store(cache: str | os.PathLike[str] | Store | None) -> Store | None:
    """Turn what ``cache=`` of an estimator may be into a store.

    Parameters
    ----------
    cache : None, "memory", str, os.PathLike or Store
        ``None`` keeps nothing. ``"memory"`` is the one store of this process. Any other
        string, or a path, is a folder (for one that is called ``memory`` say ``"./memory"``).
        Words that are meant as switches, such as ``"off"``, are no folders.
        A store is passed through.

    Returns
    -------
    Store or None

    Raises
    ------
    StoreError
        The folder cannot be made, is a file, or cannot be written.
    TypeError
        ``cache`` is something else.
    ValueError
        ``cache`` is an empty string, a word that is meant as a switch, or a misspelt "memory".
    """
    if cache is None or isinstance(cache, Store):
        return cache
    if not isinstance(cache, str | os.PathLike):
        raise TypeError(
            "cache must be None, 'memory', the path of a folder or a Store, "
            f"got {type(cache).__name__}."
        )
    if cache == "memory":
        return memory_store()
    if os.fspath(cache) == "":
        raise ValueError("cache must name a folder, got an empty string; None turns it off.")
    if isinstance(cache, str):
        _refuse_switch(cache)
    return DiskStore(cache)


def _refuse_switch(cache: str) -> None:
    word = cache.casefold().strip()
    hint = _SWITCHES.get(word, "")
    if word.isalpha() and not hint:
        hint = did_you_mean(word, ["memory"], cutoff=0.82).rstrip()
    if hint:
        raise ValueError(
            "cache must be None, 'memory', the path of a folder or a Store, got "
            f"{shown(repr(cache))}. {hint} A folder of this name is './{shown(cache.strip())}'."
        )
