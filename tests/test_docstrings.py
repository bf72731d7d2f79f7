"""Docstrings of public names follow numpydoc; their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.validate import validate

import sktransfer

# Codes of numpydoc that we do not ask for: multi-line summaries, examples and "See Also" on every
# small function, extended summaries, capital letters and full stops in one-word descriptions.
IGNORED = set(
    "GL01 GL02 GL03 SS03 SS05 SS06 ES01 SA01 SA04 EX01 PR06 PR08 PR09 RT02 RT03 RT05 YD01".split()
)


def public_names() -> list[str]:
    names = []
    parts = ["datasets", "deploy", "finetune", "inspection", "metrics", "selection", "testing"]
    for part in ["", *(f".{one}" for one in parts)]:
        home = f"sktransfer{part}"
        module = importlib.import_module(home)
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            names.append(f"{home}.{name}")
            if inspect.isclass(thing):
                names += [
                    f"{home}.{name}.{method}"
                    for method, value in vars(thing).items()
                    # What skorch calls is documented there.
                    if not method.startswith(("_", "on_")) and inspect.isfunction(value)
                ]
    return names


@pytest.mark.parametrize("name", public_names())
def test_numpydoc(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in IGNORED]
    assert not errors


MODULES = [module.name for module in pkgutil.walk_packages(sktransfer.__path__, "sktransfer.")]
# Their examples train networks.
LONG = {
    "codes._pixels",
    "deploy._files",
    "finetune._detector",
    "finetune._estimators",
    "finetune._segmenter",
    "finetune._text",
    "inspection._codes",
    "selection._auto",
}


def modules():
    for name in MODULES:
        marks = [pytest.mark.slow] if name.removeprefix("sktransfer.") in LONG else []
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", list(modules()))
def test_examples_in_docstrings(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
