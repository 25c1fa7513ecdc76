"""The page on tasks names every built-in task, once, with the source that the code names."""

import inspect
import re
import sys
from pathlib import Path

from flowlift import registry

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
LINES = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
ROWS = [[cell.strip(" `") for cell in line.strip("|").split(" |")] for line in LINES]
PAPER = re.compile(r"\d{4}\.\d{5}")


def test_every_task_is_in_the_table_with_a_source():
    built_in = {n: e for n, e in registry.known("task").items() if e.origin == "built in"}
    assert sorted(name for name, *_ in ROWS) == sorted(built_in)
    for name, _, _, source in ROWS:
        code = inspect.getsource(sys.modules[built_in[name].function.__module__])
        papers = PAPER.findall(source)
        assert set(papers) <= set(PAPER.findall(code)), name
        assert not PAPER.findall(inspect.getdoc(built_in[name].function)) or papers, name


def test_every_fact_of_the_table_is_one_of_the_code():
    """ "least and linear loss" are the facts "least loss" and "linear loss"."""
    for name, _, facts, _ in ROWS:
        code = inspect.getsource(sys.modules[registry.find("task", name).function.__module__])
        for fact in filter(None, facts.split(", ")):
            first = re.sub(r"^(the|and the) ", "", fact).split()[0]
            assert first == "same" or first in code, (name, fact)
