"""The shape of the code: which room may import which, and what an import costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sktransfer

ROOT = Path(sktransfer.__file__).parent
# Each room may import itself and the rooms before it.
ORDER = ["exceptions", "config", "_files", "_lru", "_lazy", "_sklearn", "_optional", "_content",
         "_parameters", "inputs", "metrics", "datasets", "networks", "store", "compute", "codes",
         "finetune", "selection", "deploy", "inspection", "cli", "__main__",
         "testing"]  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> list[str]:
    """Absolute names of the modules a file imports, wherever in the file."""
    package = ["sktransfer", *path.relative_to(ROOT).parent.parts]
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            found += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return found


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "sktransfer" and len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imports(path):
        other = room(name)
        if other in ORDER and other != own:
            assert ORDER.index(other) < ORDER.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_known_by_what_they_export(path):
    own = path.relative_to(ROOT).parts[0]
    rooms = {"inputs", "networks", "store", "compute", "codes", "finetune"} - {own}
    for name in imports(path):
        parts = name.split(".")
        hidden = parts[0] == "sktransfer" and len(parts) > 2 and parts[2].startswith("_")
        assert not (hidden and parts[1] in rooms), f"{own} imports {name}"


def test_the_graph_of_a_network_is_known_in_one_room():
    """Others freeze, train and choose by what `networks` says that it can be cut at."""
    of_graphs = {"all_input_nodes", "graph", "node_copy", "nodes", "recompile", "users"}
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == "networks":
            continue
        assert not any(f"{name}.".startswith("torch.fx.") for name in imports(path)), path
        used = {one.attr for one in ast.walk(tree_of(path))
                if isinstance(one, ast.Attribute)}  # fmt: skip
        assert not used & of_graphs, f"{path}: {used & of_graphs}"


def names_in(*nodes: ast.AST | None) -> set[str]:
    parts = [part for node in nodes if node is not None for part in ast.walk(node)]
    return {part.id for part in parts if isinstance(part, ast.Name)}


@pytest.mark.parametrize("room", sorted({path.parent for path in FILES}), ids=lambda one: one.name)
def test_functions_take_values_and_no_estimator_of_their_own_room(room):
    """A class owns its methods; what is below them takes groups of parameters, or values."""
    trees = [tree_of(path) for path in FILES if path.parent == room]
    classes = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    estimators = {"BaseEstimator"}
    for one in classes * 2:  # those that derive from others as well
        estimators |= {one.name} if names_in(*one.bases) & estimators else set()
    methods = {part for one in classes for part in ast.walk(one)}
    for node in {n for tree in trees for n in ast.walk(tree)} - methods:
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            taken = names_in(*(one.annotation for one in arguments)) & estimators
            assert not taken, f"{node.name} takes a {taken}"


def module_of(path: Path) -> str:
    return ".".join(["sktransfer", *path.relative_to(ROOT).with_suffix("").parts])


def test_modules_of_a_room_import_each_other_without_circles():
    """Imports for static readers alone count as well."""
    modules = {module_of(path): path for path in FILES if path.name != "__init__.py"}
    needs = {name: set(imports(path)) & set(modules) for name, path in modules.items()}
    while free := {name for name, others in needs.items() if not others}:
        needs = {name: others - free for name, others in needs.items() if name not in free}
    assert not needs, "in a circle, or behind one"


def test_private_parts_of_scikit_learn_are_imported_in_one_file():
    for path in FILES:
        private = [
            name
            for name in imports(path)
            if name.startswith("sklearn.") and any(p.startswith("_") for p in name.split("."))
        ]
        assert not private or path.name == "_sklearn.py", f"{path}: {private}"


def test_openvino_is_imported_through_one_door():
    """Which keeps its telemetry out; what is within it is imported behind that."""
    for path in FILES:
        names = [name for name in imports(path) if name.split(".")[0] == "openvino"]
        assert "openvino" not in names or path.name in ("_optional.py", "_convert.py"), path


def test_import_is_light():
    """`import sktransfer` and the names of its parts do not import torch."""
    script = (
        "import sys, sktransfer; dir(sktransfer); sktransfer.load_image_folder; "
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_parts_are_imported_when_they_are_used():
    script = (
        "import sktransfer; assert 'inspection' in dir(sktransfer); "
        "sktransfer.inspection.find_issues; sktransfer.exceptions.ItemError; "
        "[getattr(sktransfer, name) for name in sktransfer._ROOMS]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_public_names_exist():
    for name in sktransfer.__all__:
        assert getattr(sktransfer, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = sktransfer.nothing_of_the_kind


def test_packages_that_import_late_name_all_that_they_have():
    """Each name in its module, whether or not anything was imported before."""
    for room in ("codes", "compute", "deploy", "networks"):
        package = importlib.import_module(f"sktransfer.{room}")
        assert {*package.__all__} <= {*dir(package)}
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="nothing_of_the_kind"):
            _ = package.nothing_of_the_kind
        # What static readers are told is where it is.
        tree = ast.parse((ROOT / room / "__init__.py").read_text())
        late = [node for node in tree.body if isinstance(node, ast.If)]
        told = [(one.module, name.name) for node in late for one in node.body for name in one.names]
        assert told
        for module, name in told:
            home = importlib.import_module(f"sktransfer.{room}.{module}")
            assert getattr(package, name) is getattr(home, name)
