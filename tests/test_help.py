"""`help()` of every public object works, and says something."""

import importlib
import inspect
import pydoc

import pytest

import flowlift

ROOMS = ["answers", "compare", "diagnostics", "flow", "kernels", "lift", "modules", "plot"]
ROOMS += ["solvers", "store", "studies", "sweep", "tasks", "cli"]


def public(room):
    module = importlib.import_module(f"flowlift.{room}") if room else flowlift
    return [(name, getattr(module, name)) for name in module.__all__]


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_help_of_every_public_object_works(room):
    for name, found in public(room):
        if isinstance(found, str | tuple):
            # pydoc takes a word for the name of a topic.
            continue
        text = pydoc.render_doc(found, renderer=pydoc.plaintext)
        assert "Help on" in text or "Python Library Documentation" in text, name
        # Constants and aliases of types have the help of their own types.
        if callable(found) and not hasattr(found, "__args__"):
            assert inspect.getdoc(found), f"{room}.{name} has no docstring"


@pytest.mark.parametrize("room", ROOMS)
def test_help_of_a_room_names_its_public_objects(room):
    module = importlib.import_module(f"flowlift.{room}")
    assert pydoc.render_doc(module, renderer=pydoc.plaintext)
    assert set(module.__all__) <= set(dir(module))
