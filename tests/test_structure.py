"""The rules of the house, held by a test: where imports may point, how large things may be."""

import ast
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

import flowlift

PACKAGE = Path(flowlift.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# A room may import from the rooms before it; tasks need modules and lifts for teachers.
ORDER = ["modules", "kernels", "lift", "tasks", "flow", "diagnostics"]
ORDER += ["studies", "store", "answers", "sweep", "compare", "plot", "cli"]
# Files on the ground, and a whole room, that know nothing of the others.
GROUND = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
APART = GROUND | {"solvers"}
ALLOWED = {room: set(ORDER[:i]) | APART for i, room in enumerate(ORDER)} | {
    "solvers": {"registry", "numbers", "showing"},
    "tasks": {"modules", "lift"} | GROUND,
}
FILE_LINES, BODY_LINES = 400, 40


def rooms_imported(file: Path) -> set[str]:
    """Rooms of the package that a file imports from, relative or absolute, at any depth."""
    found = set()
    depth = len(file.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.split(".")[0] for name in names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowlift"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_one_way(room):
    for file in (PACKAGE / room).rglob("*.py"):
        outside = rooms_imported(file) - {room}
        assert outside <= ALLOWED[room], f"{file} imports {outside - ALLOWED[room]}"


def files_imported(file: Path) -> set[Path]:
    """Files of the package that a file imports from, at any depth, `__init__` files aside."""
    parts, found = file.relative_to(PACKAGE.parent).with_suffix("").parts, set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = parts[: -node.level] if node.level else ()
            base = (*base, *(node.module or "").split(".")) if node.module else base
            named = [(*base, alias.name) for alias in node.names]
            found |= {PACKAGE.parent.joinpath(*p).with_suffix(".py") for p in [base, *named] if p}
        elif isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
            found |= {PACKAGE.parent.joinpath(*p).with_suffix(".py") for p in named}
    return {path for path in found if path.is_file()} - {file}


def cycles(imports: dict[Path, set[Path]]) -> set[Path]:
    """Files on a circle of imports: chains taken away, those are left."""
    left = dict(imports)
    while True:
        used = {other for f in left for other in left[f]}
        chains = [f for f, others in left.items() if not others & set(left) or f not in used]
        if not chains:
            return set(left)
        for file in chains:
            del left[file]


def test_no_files_import_each_other_in_a_circle():
    assert cycles({file: files_imported(file) for file in FILES}) == set()


def test_the_cycle_finder_sees_a_cycle(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "p")
    texts = {"a": "from . import b", "b": "def f():\n    from .r.c import x", "r/c": "import p.a"}
    texts["d"] = "from .a import y"
    for name, text in texts.items():
        file = tmp_path / "p" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    files = {file: files_imported(file) for file in (tmp_path / "p").rglob("*.py")}
    found = {str(file.relative_to(tmp_path / "p")) for file in cycles(files)}
    assert found == {"a.py", "b.py", "r/c.py"}
    del files[tmp_path / "p" / "a.py"]
    assert cycles(files) == set()


def test_the_import_finder_sees_an_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "lift").mkdir()
    file = tmp_path / "lift" / "x.py"
    file.write_text("from ..flow import solve\nfrom .y import z\nfrom flowlift.plot import a\n")
    assert rooms_imported(file) == {"flow", "plot"}


def bodies(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            statements = [s for s in node.body if not _is_docstring(s)]
            if statements:
                yield node.name, (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_files_and_functions_stay_small():
    for file in FILES:
        text = file.read_text()
        name = str(file.relative_to(PACKAGE))
        assert text.count("\n") <= FILE_LINES, name
        for function, lines in bodies(ast.parse(text)):
            assert lines <= BODY_LINES, f"{name}:{function} has {lines} lines"


def futures(text: str) -> set[str]:
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
    return {alias.name for n in nodes if n.module == "__future__" for alias in n.names}


def test_no_annotations_become_strings():
    """Postponed annotations turn equinox's AbstractVar into an ordinary field."""
    assert futures("from __future__ import (division, annotations)") == {"division", "annotations"}
    for file in FILES:
        assert "annotations" not in futures(file.read_text()), file


def all_classes():
    for info in pkgutil.walk_packages([str(PACKAGE)], "flowlift."):
        module = importlib.import_module(info.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == info.name:
                yield cls


def test_classes_are_abstract_or_final():
    ours = set(all_classes())
    assert len(ours) > 40
    for cls in ours:
        for base in cls.__bases__:
            assert base not in ours or base.__name__.startswith("Abstract"), (cls, base)


def test_every_public_name_is_there():
    for name in flowlift.__all__:
        assert getattr(flowlift, name) is not None
    for room in [*ORDER, "solvers"]:
        module = importlib.import_module(f"flowlift.{room}")
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{room}.{name}"
