"""What is imported when it is first used: torch takes two seconds, and a prediction whose network
was converted before does without it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, cast

__all__ = ["lazily", "loaded_torch", "torch_build"]


def lazily(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose modules are imported with their first name.

    Parameters
    ----------
    package : str
        Its `__name__`.
    homes : dict of str to sequence of str
        The names that each of its modules gives.
    modules : sequence of str
        Modules that are names themselves.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f".{name}", package)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{home_of[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *modules})

    return get, names


def loaded_torch() -> Any:
    """torch, if something has imported it; else None, and no object is one of torch's."""
    module = sys.modules.get("torch")
    # Not one that another thread is still importing.
    return module if hasattr(module, "set_num_threads") else None


@cache
def torch_build() -> ModuleType:
    """What torch says of itself, without importing it: `__version__`, `cuda` and others."""
    if (torch := loaded_torch()) is not None:
        return cast(ModuleType, torch.version)
    found = find_spec("torch")
    if found is not None and found.origin is not None:
        path = Path(found.origin).with_name("version.py")
        spec = spec_from_file_location("sktransfer._torch_build", path)
        if spec is not None and spec.loader is not None and path.is_file():
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("torch.version")
