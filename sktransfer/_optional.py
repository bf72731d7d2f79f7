"""Packages that come with an extra."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

try:
    from joblib.externals import cloudpickle
except ImportError:  # joblib has it as a package of its own from 1.6 on
    import cloudpickle

__all__ = ["cloudpickle", "import_nncf", "import_openvino", "import_optional", "import_pyplot"]

_importing = threading.Lock()


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


def import_openvino() -> Any:
    """`openvino`, without its telemetry.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    return _without_telemetry("openvino")


def import_nncf(what: str) -> Any:
    """`nncf`, which converts networks to 8 bits, without the telemetry of openvino.

    Raises
    ------
    ImportError
        If it is not installed; says what needs it.
    """
    try:
        return _without_telemetry("nncf")
    except ImportError as error:
        raise ImportError(
            f'{what} needs the package nncf: pip install "sktransfer[int8]".'
        ) from error


def _without_telemetry(module: str) -> Any:
    """Import a module without `openvino_telemetry`.

    When it is imported, openvino starts `openvino_telemetry`, which writes to the home folder and
    sends to a server of its vendor, and so does nncf. Where that package is missing they take a
    stub of their own, so it is missing for as long as the import takes.
    """
    name = "openvino_telemetry"
    with _importing:
        if module in sys.modules:
            return importlib.import_module(module)
        real = sys.modules.get(name)
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            return importlib.import_module(module)
        finally:
            del sys.modules[name]
            if real is not None:
                sys.modules[name] = real
