"""The files that ship with this package."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def shipped(name: str) -> Traversable:
    """Find a file that ships in ``data/`` or ``descr/`` beside this module."""
    return files("sktransfer.datasets").joinpath(name)


def read_descr(name: str) -> str:
    """Read the description of a data set."""
    return shipped(f"descr/{name}.rst").read_text(encoding="utf-8")
