"""BibTeX of results: what was used is cited, and every entry is a source of the documentation."""

import re
from pathlib import Path

import pytest
import xarray

import flowlift
from flowlift import registry, store
from flowlift.cli import cite

PACKAGE = Path(flowlift.__file__).parent
STUDY = """
name = "made up"
sizes = [4]
[module]
kind = "mlp"
[lift]
parametrisation = "mup"
[task]
kind = "modular_addition"
[flow]
solver = "auto"
dynamics = { kind = "log-loss", homogeneity = 2 }
[vary]
"flow.solver" = ["bdf", "tsit5"]
"""


def entries(text):
    return re.findall(r"^@\w+\{([\w-]+),", text, re.MULTILINE)


def cited(monkeypatch, study=STUDY, solvers=("bdf, then rkc2 (auto: stiff)", "tsit5", "")):
    data = xarray.Dataset({"solver_used": ("seed", list(solvers))})
    data.attrs |= {"study": study, "version_flowlift": "9.9"}
    monkeypatch.setattr(store, "load", lambda folder, variables: data)
    return cite.citations(Path("nowhere"))


def test_what_runs_used_is_cited_once(monkeypatch):
    text = cited(monkeypatch)
    found = entries(text)
    assert len(set(found)) == len(found)
    expected = {"robin2024random", "yang2020feature", "power2022grokking", "gromov2023grokking"}
    expected |= {"shampine1997matlab", "sommeijer1998rkc", "tsitouras2011runge", "lyu2020gradient"}
    expected |= {"kidger2021on", "kidger2021equinox", "jax2018github", "flowlift"}
    assert expected <= set(found)
    assert not {"luan2016parallel", "safran2018spurious", "prince1981high"} & set(found)
    assert "version = {9.9}" in text
    assert "usedby" not in text
    assert "Without an entry" not in text


def test_functions_of_ones_own_are_named(monkeypatch):
    text = cited(monkeypatch, STUDY.replace("modular_addition", "mine.py:task"))
    assert text.endswith("% Without an entry here: mine.py:task\n")


def test_braces_are_balanced_and_fields_are_there(monkeypatch):
    for entry in cite.references().values():
        assert entry.count("{") == entry.count("}")
        assert {"title", "author", "year", "usedby"} <= set(
            re.findall(r"^  (\w+) = ", entry, re.MULTILINE)
        )
    text = cited(monkeypatch)
    assert text.count("{") == text.count("}")


def test_every_word_is_a_name_of_studies():
    known = {name for kind in registry.KINDS for name in registry.known(kind)}
    known |= set(flowlift.lift.PARAMETRISATIONS) | set(flowlift.flow.SOLVERS)
    known |= {"central-flow", "central-rmsprop", "log-loss", "lift", "matrix_product"}
    used = set().union(*map(cite.used_by, cite.references().values()))
    assert used <= known


@pytest.mark.parametrize("key", sorted(cite.references()))
def test_every_source_is_one_of_the_documentation_s(key):
    """An entry has its arXiv number, or first author and year, in a docstring or a page."""
    entry = cite.references()[key]
    number = re.search(r"eprint = \{([\d.]+)\}", entry)
    author = re.search(r"author = \{(?:\w+ )?([\w-]+)", entry)[1]
    year = re.search(r"year = \{(\d+)\}", entry)[1]
    texts = [
        path.read_text()
        for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "docs").glob("*.md")]
    ]
    by_number = number is not None and any(number[1] in text for text in texts)
    by_name = any(re.search(rf"{author}(?s:.{{0,160}}?){year}", text) for text in texts)
    assert by_number or by_name or author == "Pedregosa"
