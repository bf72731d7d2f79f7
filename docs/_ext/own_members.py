"""What the pages of the reference list of a class or function: asked by ``_templates/autosummary``.

Methods that scikit-learn and torch define are documented there: a page has its own in full, and
names theirs.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
PAGES = [*sorted(DOCS.glob("tutorial/*.md")), *sorted(DOCS.glob("how_to/*.md"))]
FENCE = re.compile(r"^```py(?:thon)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _class(module: str, name: str) -> type:
    thing: type = getattr(importlib.import_module(module), name)
    return thing


def _home(owner: type, name: str) -> type:
    """The class that defines a member."""
    return next(one for one in owner.__mro__ if name in vars(one))


def _is_ours(owner: type, name: str) -> bool:
    return _home(owner, name).__module__.startswith("sktransfer")


def _public(owner: type, wanted: Callable[[object], bool]) -> list[str]:
    """Names of members, whose kind is asked without running properties."""
    return [
        name
        for name in sorted(dir(owner))
        if not name.startswith("_") and wanted(inspect.getattr_static(owner, name))
    ]


def _is_method(member: object) -> bool:
    """What can be called: functions, and the wrappers that hide them where they make no sense."""
    if isinstance(member, (classmethod, staticmethod)):
        return True
    return inspect.isfunction(member) or type(member).__name__ == "_AvailableIfDescriptor"


def own_methods(module: str, name: str) -> list[str]:
    """Public methods that sktransfer defines, also in a base class."""
    owner = _class(module, name)
    return [one for one in _public(owner, _is_method) if _is_ours(owner, one)]


def own_properties(module: str, name: str) -> list[str]:
    """Public properties of sktransfer that the docstring of the class does not describe already."""
    owner = _class(module, name)
    told = set(re.findall(r"^ *([\w, ]+) : ", inspect.getdoc(owner) or "", re.MULTILINE))
    told = {one.strip() for names in told for one in names.split(",")}
    properties = _public(owner, lambda member: isinstance(member, property))
    return [one for one in properties if _is_ours(owner, one) and one not in told]


def foreign_methods(module: str, name: str) -> dict[str, list[str]]:
    """Methods of other packages by package; those of tuples and torch's modules are no news."""
    owner = _class(module, name)
    found: dict[str, list[str]] = {}
    for one in _public(owner, _is_method):
        package = _home(owner, one).__module__.partition(".")[0]
        if package in ("sklearn", "skorch") and not re.fullmatch("on_.*|set_.*_request", one):
            found.setdefault(package, []).append(one)
    return found


@cache
def _code_of(page: Path) -> str:
    return "\n".join(FENCE.findall(page.read_text()))


def guides(name: str) -> list[str]:
    """Pages whose code uses it, as names of documents."""
    used = re.compile(rf"\b{re.escape(name.rpartition('.')[2])}\b")
    return [
        "/" + page.relative_to(DOCS).with_suffix("").as_posix()
        for page in PAGES
        if used.search(_code_of(page))
    ]


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    app.config.autosummary_context.update(
        own_methods=own_methods,
        own_properties=own_properties,
        foreign_methods=foreign_methods,
        guides=guides,
    )
    return {"version": "1", "parallel_read_safe": True}
