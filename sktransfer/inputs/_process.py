"""What Pillow was told in this process, on its way to the workers that work for it.

``Image.MAX_IMAGE_PIXELS``, ``ImageFile.LOAD_TRUNCATED_IMAGES`` and the formats of plugins hold for
one process. Workers that joblib or multiprocessing start know nothing of them, and so would refuse
files that the main process reads. Estimators take them along in their pickles; only workers take
them from there, never who loads a pickle from a file.
"""

from __future__ import annotations

import importlib
import multiprocessing
from typing import Any

from PIL import Image, ImageFile

__all__ = ["pack_settings", "take_settings"]


_SWITCHES: tuple[tuple[Any, str], ...] = (
    (Image, "MAX_IMAGE_PIXELS"),
    (ImageFile, "LOAD_TRUNCATED_IMAGES"),
)
_DEFAULTS = {"MAX_IMAGE_PIXELS": 1024**3 // 4 // 3, "LOAD_TRUNCATED_IMAGES": False}
_FORMATS = "formats"
_KEY = "_settings_of_pillow"

_before: dict[str, Any] = {}  # what a worker had before it took over another value


def pack_settings(state: dict[str, Any]) -> dict[str, Any]:
    """Add to the state of an estimator what Pillow was told in this process, if anything."""
    settings = _settings()
    return {**state, _KEY: _Travelling(settings)} if settings else state


def take_settings(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `pack_settings`; without settings, a worker is as it was before it took over any."""
    if _KEY not in state:
        _arrive({})
    return {name: value for name, value in state.items() if name != _KEY}


class _Travelling:
    """Settings that a pickle takes along, and what is no pickle does not.

    Other formats are looked through before they are loaded, and names of functions in plain
    values would not be seen.
    """

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _arrive, (self._settings,)


def _arrive(settings: dict[str, Any]) -> None:
    """If this is a worker, the settings hold in it from here on."""
    if multiprocessing.parent_process() is not None:
        _adopt(settings)


def _settings() -> dict[str, Any]:
    """Give what is not as Pillow has it from the start: plain values, and names of functions."""
    settings = {
        name: value
        for module, name in _SWITCHES
        if (value := getattr(module, name)) != _DEFAULTS[name]
    }
    formats = [found for name in Image.ID if (found := _named(name)) is not None]
    return {**settings, _FORMATS: formats} if formats else settings


def _named(name: str) -> dict[str, Any] | None:
    """A format of another package by the names of what opens it; None for others."""
    factory, accept = Image.OPEN[name]
    if factory.__module__.startswith("PIL."):
        return None
    names = [_name_of(thing) for thing in (factory, accept) if thing is not None]
    if None in names:
        return None  # made on the spot: cannot be found again
    extensions = [key for key, value in Image.EXTENSION.items() if value == name]
    return {"name": name, "opens": names, "extensions": extensions}


def _name_of(thing: Any) -> str | None:
    name = f"{thing.__module__}:{thing.__qualname__}"
    try:
        return name if thing.__module__ != "__main__" and _found(name) is thing else None
    except (ImportError, AttributeError):
        return None


def _found(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _adopt(settings: dict[str, Any]) -> None:
    for module, name in _SWITCHES:
        if name in settings:
            _before.setdefault(name, getattr(module, name))
            setattr(module, name, settings[name])
        elif name in _before:
            setattr(module, name, _before.pop(name))
    for found in settings.get(_FORMATS, ()):
        if found["name"] not in Image.OPEN:
            _register(**found)


def _register(name: str, opens: list[str], extensions: list[str]) -> None:
    try:
        factory, *accept = (_found(each) for each in opens)
    except (ImportError, AttributeError):
        return  # is not installed here: its files will be refused, which says so
    if isinstance(factory, type) and issubclass(factory, ImageFile.ImageFile):
        Image.register_open(name, factory, *accept)
        Image.register_extensions(name, extensions)
