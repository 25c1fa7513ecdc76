"""Every snippet of README and docs is run, each page in a fresh folder and namespace."""

import linecache
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?:\{code-cell\} )?(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


WITH_CODE = [page for page in PAGES if snippets(page, "python")]
# The documentation's build executes notebooks as well; the tutorial is short enough for both.
NOTEBOOKS = [p for p in WITH_CODE if "mystnb" in p.read_text() and p.name != "tutorial.md"]
# One engine, peer, way of differentiating and flow after the other, each compiled for its own
# example: as long as all other pages together. The tests of flow, solvers and compare run the same.
# Recipes are a flow or two each of networks of their own.
_MANY_FLOWS = ("solvers.md", "flows.md", "recipes.md")
SLOW = [*NOTEBOOKS, *(ROOT / "docs" / name for name in _MANY_FLOWS)]
CASES = [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW), id=p.name) for p in WITH_CODE]


def test_the_finder_finds_both_kinds_of_fences(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n```python\nx = 1\n```\nb\n```{code-cell} python\ny = 2\n```\n```toml\n```\n"
    )
    assert snippets(page, "python") == ["x = 1\n", "y = 2\n"]
    assert ROOT / "README.md" in WITH_CODE
    assert ROOT / "docs" / "tutorial.md" in WITH_CODE


def test_cells_are_python_files_or_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    run_cell("%%writefile a.txt\nx = 1\n", "<page 0>", namespace)
    run_cell("%%bash\ncp a.txt b.txt\n", "<page 1>", namespace)
    run_cell("import inspect\ndef f():\n    return 3\n", "<page 2>", namespace)
    run_cell("source = inspect.getsource(f)\n", "<page 3>", namespace)
    assert (tmp_path / "b.txt").read_text() == "x = 1\n"
    assert namespace["source"] == "def f():\n    return 3\n"
    with pytest.raises(subprocess.CalledProcessError):
        run_cell("%%bash\nfalse\ntrue\n", "<page 4>", namespace)


@pytest.mark.parametrize("page", CASES)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in snippets(page, "toml"):
        name = re.search(r'^name = "(\w+)"', text, re.MULTILINE)
        # A table alone, without the name of a study, is no file.
        if name or not text.startswith("["):
            (tmp_path / f"{name[1]}.toml").write_text(text)
    # Files that a page writes can be imported, and are forgotten with it.
    monkeypatch.syspath_prepend(tmp_path)
    namespace = {"__name__": f"snippets_of_{page.stem}"}
    monkeypatch.setitem(sys.modules, namespace["__name__"], types.ModuleType(namespace["__name__"]))
    for number, text in enumerate(snippets(page, "python")):
        run_cell(text, f"<{page.name} {number}>", namespace)
    plt.close("all")
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)
    assert "flowlift" in namespace


def run_cell(text, name, namespace):
    """A cell as IPython runs it: Python, or by its first line a file or commands."""
    first, _, rest = text.partition("\n")
    if first.startswith("%%writefile "):
        Path(first.split()[1]).write_text(rest)
    elif first == "%%bash":
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["bash", "-ec", rest], check=True, env=os.environ | {"PATH": beside})
    else:
        # Sources of functions are read from here, as in a notebook.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), namespace)
