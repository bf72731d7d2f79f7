"""Packages that only tables and figures need."""

from __future__ import annotations

from typing import Any

__all__ = ["import_pandas", "import_pyplot"]


def import_pandas(what: str) -> Any:
    """Import pandas, or say what brings it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f'{what} needs pandas: pip install "sktransfer[plot]".') from error
    return pandas


def import_pyplot(what: str) -> Any:
    """Import matplotlib.pyplot, or say what brings it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f'{what} needs matplotlib: pip install "sktransfer[plot]".') from error
    return pyplot
