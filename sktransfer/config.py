"""Settings that are no parameters of an estimator: memory of the cache, folder, progress bars.

:func:`set_config` holds for the whole process, as the store in memory and its worker threads do;
:func:`config_context` for a block of one thread, and for what our worker threads do for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from .exceptions import shown

__all__ = ["config_context", "get_config", "set_config"]

T = TypeVar("T")

_process: dict[str, Any] = {
    "cache_memory": 512 * 2**20,
    "cache_folder": None,  # see `cache_folder`
    "progress": "verbose",
}
_here: ContextVar[dict[str, Any]] = ContextVar("sktransfer_config", default={})  # noqa: B039
# Called after the memory of the cache has changed: the store gives back what is too much.
on_cache_memory: list[Callable[[], None]] = []


def get_config() -> dict[str, Any]:
    """Settings in force, see :func:`set_config`.

    Returns
    -------
    config : dict of str to object
        A copy. ``cache_folder`` is the folder that is used, None where there is none.
    """
    return {**_process, **_here.get(), "cache_folder": cache_folder()}


def set_config(
    *,
    cache_memory: int | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    progress: bool | str | None = None,
) -> None:
    """Change settings for this process. What is None stays as it is.

    Worker processes have settings of their own.

    Parameters
    ----------
    cache_memory : int or None, default=None
        Bytes that ``cache="memory"`` may take, 512 MB (``512 * 2**20``) unless set. What is too
        much goes at once, the least recently used rows first; 0 keeps nothing.
    cache_folder : str, os.PathLike or None, default=None
        Folder for converted networks. Unless set, it is the one that the environment variable
        ``SKTRANSFER_CACHE`` names, else ``sktransfer`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
    progress : bool, "verbose", "lines" or None, default=None
        Whether progress bars are shown: always, never, or, unless set, where ``verbose`` of an
        estimator says so (``"verbose"``). ``"lines"`` prints a line a minute instead, for logs.

    Raises
    ------
    ValueError
        If a value is not valid; nothing has changed then.

    Examples
    --------
    >>> import sktransfer
    >>> before = sktransfer.get_config()["cache_memory"]
    >>> sktransfer.set_config(cache_memory=2 * 2**30)
    >>> sktransfer.set_config(cache_memory=before)
    """
    _process.update(
        _checked(cache_memory=cache_memory, cache_folder=cache_folder, progress=progress)
    )
    if cache_memory is not None:
        _memory_changed()


@contextmanager
def config_context(
    *,
    cache_memory: int | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    progress: bool | str | None = None,
) -> Iterator[None]:
    """Settings for a block, in this thread alone; afterwards they are what they were.

    Parameters
    ----------
    cache_memory : int or None, default=None
        See :func:`set_config`. The store in memory is one for all threads: what goes because
        of a smaller bound is gone afterwards, too.
    cache_folder : str, os.PathLike or None, default=None
        See :func:`set_config`.
    progress : bool, "verbose" or None, default=None
        See :func:`set_config`.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        If a value is not valid.

    Examples
    --------
    >>> import sktransfer
    >>> with sktransfer.config_context(progress=False):
    ...     sktransfer.get_config()["progress"]
    False
    """
    new = _checked(cache_memory=cache_memory, cache_folder=cache_folder, progress=progress)
    token = _here.set({**_here.get(), **new})
    try:
        if cache_memory is not None:
            _memory_changed()
        yield
    finally:
        _here.reset(token)


def _checked(**changes: Any) -> dict[str, Any]:
    """What is not None, if it is valid."""
    new = {name: value for name, value in changes.items() if value is not None}
    if "cache_memory" in new:
        new["cache_memory"] = whole_bytes("cache_memory", new["cache_memory"], 0)
    if "cache_folder" in new:
        folder = new["cache_folder"]
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise ValueError(f"cache_folder must be the path of a folder, got {shown(folder)!r}.")
        path = Path(os.path.expanduser(os.fsdecode(folder)))
        there = next((one for one in (path, *path.parents) if os.path.exists(one)), None)
        if there is not None and not there.is_dir():
            raise ValueError(
                f"cache_folder must be the path of a folder, got {shown(folder)!r}, but "
                f"{shown(there)!r} is a file."
            )
    if "progress" in new and new["progress"] not in (True, False, "verbose", "lines"):
        raise ValueError(
            f'progress must be True, False, "verbose" or "lines", got {shown(new["progress"])!r}.'
        )
    return new


def whole_bytes(name: str, value: Any, least: int) -> int:
    """A bound on memory or disk space, or an error that names the parameter."""
    try:
        if value == int(value) and value >= least:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"{name} must be a whole number of bytes, at least {least}, got {shown(value)}."
    )


def _memory_changed() -> None:
    for call in on_cache_memory:
        call()


def cache_memory() -> int:
    """Bytes that the store in memory may take."""
    return int(_here.get().get("cache_memory", _process["cache_memory"]))


def cache_folder() -> Path | None:
    """Folder for what outlives the process; None for a user without a home, as in containers."""
    own = _here.get().get("cache_folder") or _process["cache_folder"]
    if own := own or os.environ.get("SKTRANSFER_CACHE"):
        folder = os.path.expanduser(os.fsdecode(own))
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = os.path.join(os.path.expanduser(base), "sktransfer")
        if not os.path.isabs(folder):
            return None
    return None if folder.startswith("~") else Path(folder)


def as_lines() -> bool:
    """Whether progress is told in lines of a log."""
    return bool(_here.get().get("progress", _process["progress"]) == "lines")


def shows_progress(verbose: int = 0) -> bool:
    """Whether to show a bar to a user who has set `verbose`."""
    setting = _here.get().get("progress", _process["progress"])
    return verbose > 0 if setting == "verbose" else bool(setting)


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """A function as another thread can call it, under the settings of this one."""
    here = _here.get()
    if not here:
        return function

    def call(*args: Any, **kwargs: Any) -> T:
        token = _here.set(here)
        try:
            return function(*args, **kwargs)
        finally:
            _here.reset(token)

    return call
