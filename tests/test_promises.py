"""The table of promises names tests that exist, and no promise twice."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "promises.md"


def rows(text: str) -> list[tuple[str, str]]:
    """(promise, test) pairs of all tables of a page."""
    return re.findall(r"^\| (.+?) \| `([\w/]+\.py::\w+)` \|$", text, re.MULTILINE)


def functions(file: Path) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}


def missing(text: str) -> list[str]:
    """Tests that a page names and that are not there."""
    named = [test.split("::") for _, test in rows(text)]
    lost = [(f, n) for f, n in named if not (TESTS / f).is_file() or n not in functions(TESTS / f)]
    return ["::".join(pair) for pair in lost]


def test_every_promise_names_a_test_that_exists():
    text = PAGE.read_text()
    assert missing(text) == []
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    heads = sum(line == "| promise | test |" for line in tables)
    # No row is passed over because it is written in another way.
    assert len(rows(text)) == len(tables) - heads > 80
    promises = [promise for promise, _ in rows(text)]
    assert len(set(promises)) == len(promises)


def test_a_test_that_is_gone_is_missed():
    here = "test_promises.py::test_a_test_that_is_gone_is_missed"
    text = f"| a | `{here}` |\n| b | `test_promises.py::test_none` |\n| c | `no.py::test_x` |\n"
    assert missing(text) == ["test_promises.py::test_none", "no.py::test_x"]


def test_the_page_is_in_the_table_of_contents():
    assert "\npromises\n" in (PAGE.parent / "index.md").read_text()
