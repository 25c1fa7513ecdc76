"""Every snippet of README and docs is run, each page in a fresh folder and namespace."""

import re
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
CASES = [pytest.param(p, marks=[pytest.mark.slow] * (p in NOTEBOOKS), id=p.name) for p in WITH_CODE]


def test_the_finder_finds_both_kinds_of_fences(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n```python\nx = 1\n```\nb\n```{code-cell} python\ny = 2\n```\n```toml\n```\n"
    )
    assert snippets(page, "python") == ["x = 1\n", "y = 2\n"]
    assert ROOT / "README.md" in WITH_CODE
    assert ROOT / "docs" / "tutorial.md" in WITH_CODE


@pytest.mark.parametrize("page", CASES)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in snippets(page, "toml"):
        name = re.search(r'^name = "(\w+)"', text, re.MULTILINE)
        (tmp_path / f"{name[1]}.toml").write_text(text)
    namespace = {}
    for text in snippets(page, "python"):
        exec(compile(text, str(page), "exec"), namespace)
    plt.close("all")
    assert "flowlift" in namespace
