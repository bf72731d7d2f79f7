"""Packages that come with an extra."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["import_optional", "import_pyplot"]


def import_optional(module: str, what: str, extra: str) -> Any:
    """Import a module, or say what needs it and what brings it.

    Raises
    ------
    ImportError
        If its package is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(
            f'{what} needs the package {package}: pip install "sktransfer[{extra}]".'
        ) from error


def import_pyplot(what: str) -> Any:
    """`matplotlib.pyplot`, for figures."""
    return import_optional("matplotlib.pyplot", what, "plot")
