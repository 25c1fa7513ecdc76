"""One open table per kind: names, collisions, what `flowlift list` shows."""

import importlib.metadata
import types

import pytest

from flowlift import registry
from flowlift.cli.listing import listing

POINTS = importlib.metadata.EntryPoints(
    importlib.metadata.EntryPoint(name, value, "flowlift.task")
    for name, value in [
        ("moons", "own_tasks:moons"),
        ("moons", "other_tasks:moons"),
        ("rings", "own_tasks:rings"),
        ("digits", "own_tasks:digits"),
    ]
)


@pytest.fixture
def clean(monkeypatch):
    for kind in registry.KINDS:
        registry.known(kind)
    tables = {kind: dict(table) for kind, table in registry._TABLES.items()}
    monkeypatch.setattr(registry, "_TABLES", tables)
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


@pytest.fixture
def packages(clean, monkeypatch):
    select = lambda group: POINTS.select(group=group)
    monkeypatch.setattr(importlib.metadata, "entry_points", select)


def named(name: str, module: str):
    function = types.FunctionType(compile("0", "x", "eval"), {})
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function


def test_a_name_belongs_to_one_function(clean):
    registry.register("task")(named("rings", "one"))
    # A cell of a notebook that is run again registers the same function anew.
    again = registry.register("task")(named("rings", "one"))
    assert registry.find("task", "rings").function is again
    with pytest.raises(ValueError, match="'rings' is registered by module one; choose another"):
        registry.register("task")(named("rings", "two"))
    with pytest.raises(ValueError, match="'digits' is registered by built in"):
        registry.register("task", "digits")(named("rings", "two"))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("taks", "rings", "`kind` must be one of module, model, task"),
        ("task", "2 rings", "must be a word of letters"),
    ],
)
def test_what_is_no_kind_or_name_is_refused(clean, kind, name, message):
    with pytest.raises(ValueError, match=message):
        registry.register(kind, name)(named("f", "one"))


def test_two_packages_of_one_name_are_refused_where_it_is_used_and_nowhere_else(packages):
    assert registry.find("task", "rings").target == "own_tasks:rings"
    assert registry.find("task", "periodic").origin == "built in"
    for name in ("moons", "digits"):
        with pytest.raises(ValueError, match=f"must be registered once, but '{name}' is"):
            registry.find("task", name)
    shown = listing("tasks")
    assert "moons  [package ? ? and package ? ?: registered twice]" in shown
    assert "rings  [package ? ?: cannot be imported here]" in shown


def test_an_unknown_name_is_answered_with_the_nearest(clean):
    with pytest.raises(ValueError, match=r"must be one of .*digits.* nearest known is 'digits'"):
        registry.find("task", "digit")


@pytest.mark.parametrize("plural", registry.PLURALS)
def test_every_built_in_is_listed_with_its_documentation_and_origin(plural):
    kind = registry.PLURALS[plural]
    text = listing(plural)
    assert text.startswith(f"{plural}:")
    built_in = [e for e in registry.known(kind).values() if e.origin == "built in"]
    assert len(built_in) >= 1
    lines = text.splitlines()
    for entry in built_in:
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {entry.name}(")]
        assert lines[at].endswith("[built in]")
        assert len(lines[at + 1].strip()) > 10


def test_an_unknown_kind_cannot_be_listed():
    with pytest.raises(ValueError, match="`kind` must be one of all, modules, models"):
        listing("gadgets")
