"""The rules of the house, held by a test: where imports may point, how large things may be."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowlift

PACKAGE = Path(flowlift.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# A room may import from the rooms before it; tasks need modules and lifts for teachers.
ORDER = ["modules", "kernels", "lift", "tasks", "flow", "diagnostics"]
ORDER += ["experiments", "plot", "cli"]
# Whole files, and what a store knows of itself: of the standard library alone.
APART = {"solvers", "precision", "files", "ledger", "worker", "workers"}
# Figures know what a result means; nothing they draw flows back.
ALLOWED = {room: set(ORDER[:i]) | APART for i, room in enumerate(ORDER)} | {
    "solvers": set(),
    "tasks": {"modules", "lift", "precision"},
    "ledger": {"files"},
}
FILE_LINES, BODY_LINES = 400, 40
# The one loop with its checks may be longer; each exception has its reason.
LONGER_FILES = {"flow/solve.py": "the one loop, with the refusals of both its entrances"}


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
        assert text.count("\n") <= FILE_LINES or name in LONGER_FILES, name
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


HEAVY = ["jax", "xarray", "scipy", "matplotlib", "diffrax"]


def loaded_by(code: str, tmp_path) -> set[str]:
    report = f"{code}\nimport sys; print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def test_help_is_quick_because_it_imports_nothing_heavy(tmp_path):
    help_text = "from flowlift.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded_by(help_text, tmp_path) == set()
    assert "jax" in loaded_by("import flowlift; flowlift.solve", tmp_path)


def test_no_module_flips_x64(tmp_path):
    names = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "flowlift.")]
    code = f"import os; os.environ.pop('JAX_ENABLE_X64', None)\nimport {', '.join(names)}\n"
    code += "import jax; print(jax.config.jax_enable_x64)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there():
    for name in flowlift.__all__:
        assert getattr(flowlift, name) is not None
    for room in [*ORDER, "solvers"]:
        module = importlib.import_module(f"flowlift.{room}")
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{room}.{name}"
