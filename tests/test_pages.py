"""Links of pages lead to files and headings; every page is two clicks from the first."""

import re
from pathlib import Path

import pytest
from test_help import ROOMS, public

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What the documentation's build writes is checked by that build, whose warnings are errors.
WRITTEN = ("auto_gallery", "studies", "_build", "jupyter_execute", "gallery")
PAGES = [p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in WRITTEN]
TEXTS = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "studies").glob("*/README.md")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```+).*?^\1\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """Targets of links and images outside of code."""
    return [a or b for a, b in LINK.findall(CODE.sub("", text))]


def anchors(text: str) -> set[str]:
    """What GitHub and MyST call the headings."""
    heads = re.findall(
        r"^#+ (.+)$", CODE.sub(lambda m: m[0] if "\n" not in m[0] else "", text), re.M
    )
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere in this repository; those to the network are left alone."""
    found = []
    for target in links(page.read_text()):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path)
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            found.append(target)
    return found


def listed(page: Path) -> set[Path]:
    """Pages that the tables of contents of a page name."""
    entries = [
        line
        for block in TOCTREE.findall(page.read_text())
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    return {page.parent / f"{entry}.md" for entry in entries}


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_link_is_broken(page):
    assert broken(page) == []


def test_every_page_is_two_clicks_from_the_first():
    first = DOCS / "index.md"
    one = listed(first)
    two = set().union(*(listed(page) for page in one if page.is_file()))
    # The two pages that are written list what they write.
    made = {DOCS / "auto_gallery" / "index.md", DOCS / "studies" / "index.md"}
    assert made <= one
    assert {first} | one | two - made >= set(PAGES)
    assert all(page.is_file() for page in (one | two) - made)


def test_every_public_object_is_in_the_reference():
    named = re.findall(r"automodule:: (\S+)", "".join(p.read_text() for p in DOCS.glob("api/*.md")))
    assert len(set(named)) == len(named)
    for room in ROOMS:
        for name, found in public(room):
            home = getattr(found, "__module__", "")
            # Constants and aliases have no home of their own.
            if isinstance(home, str) and home.startswith("flowlift.") and callable(found):
                assert home in named, f"{room}.{name}"


def test_the_finders_find(tmp_path):
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# A head, with `code`!\n")
    page.write_text(
        "[x](b.md) [y](b.md#a-head-with-code) [z](b.md#none) ![i](no.png) [w](https://x.y)\n"
        "`[c](d.md)`\n```\n[e](f.md)\n```\n```{toctree}\n:maxdepth: 1\n\nb\nsub/c\n```\n"
    )
    assert broken(page) == ["b.md#none", "no.png"]
    assert listed(page) == {other, tmp_path / "sub" / "c.md"}
