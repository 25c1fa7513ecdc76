"""Examples of the gallery: short, of public names alone, one figure each."""

import ast
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = sorted(GALLERY.glob("*/plot_*.py"))
# Imports and what tells JAX of double precision aside, as a reader counts.
MOST_LINES = 30


def statements(text: str) -> list[ast.stmt]:
    """What an example does: without its title, imports and the setting of JAX's precision."""
    body = ast.parse(text).body[1:]
    kept = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return [node for node in kept if "jax_enable_x64" not in ast.unparse(node)]


def code_lines(text: str) -> int:
    """Lines of statements that hold more than blanks."""
    lines = text.splitlines()
    spans = [(node.lineno, node.end_lineno) for node in statements(text)]
    numbers = {n for first, last in spans for n in range(first, (last or first) + 1)}
    return sum(bool(lines[n - 1].strip()) for n in numbers)


def names_used(text: str) -> set[tuple[str, str]]:
    """(module, name) for all that an example takes from flowlift, by import or by a dot."""
    tree, found, rooms = ast.parse(text), set(), {"flowlift": "flowlift"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowlift"):
            found |= {(node.module, alias.name) for alias in node.names}
            rooms |= {
                a.name: f"{node.module}.{a.name}" for a in node.names if node.module == "flowlift"
            }
    for node in ast.walk(tree):
        of_a_name = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if of_a_name and node.value.id in rooms:
            found.add((rooms[node.value.id], node.attr))
    return found


def test_there_is_one_for_each_question():
    assert len(EXAMPLES) >= 15
    for folder in {path.parent for path in EXAMPLES}:
        assert (folder / "GALLERY_HEADER.rst").is_file()
        assert len([path for path in EXAMPLES if path.parent == folder]) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_of_public_names(path):
    text = path.read_text()
    assert re.match(r'"""\n.+\n=+\n\n', text)
    assert 0 < code_lines(text) <= MOST_LINES
    for module, name in names_used(text):
        assert name in importlib.import_module(module).__all__, f"{module}.{name} is not public"


def test_the_counter_counts_and_the_finder_finds():
    head = '"""Title."""\nimport jax\njax.config.update("jax_enable_x64", True)\n\n'
    text = head + "x = [\n    1,\n\n]\n"
    text += "from flowlift import flow\ny = flow.solve(x)\n"
    assert code_lines(text) == 4
    assert names_used(text) == {("flowlift", "flow"), ("flowlift.flow", "solve")}


# A flow or more each: `make docs` runs them too.
@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_draws_one_figure(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    plt.close("all")
    # As a script: a function of `__main__` is written down, one of a module is imported again.
    runpy.run_path(str(path), run_name="__main__")
    assert len(plt.get_fignums()) == 1
    plt.close("all")


def test_every_study_is_a_page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import study_pages

    monkeypatch.setattr(study_pages, "PAGES", tmp_path / "docs" / "studies")
    study_pages.PAGES.parent.mkdir()
    study_pages.write_pages()
    pages = {path.stem for path in study_pages.PAGES.glob("*.md")}
    assert pages == {folder.name for folder in (ROOT / "studies").iterdir() if folder.is_dir()} | {
        "index"
    }
    listed = subprocess.check_output(["git", "ls-files", "studies"], cwd=ROOT, text=True).split()
    for name in pages - {"index"}:
        text = (study_pages.PAGES / f"{name}.md").read_text()
        figures = re.findall(r"\]\(\.\./\.\./(studies/[^)]+)\)", text)
        assert set(figures) <= set(listed)
    sys.modules.pop("study_pages")
