"""Wherever a number of Python is taken, one of NumPy or JAX is, and gives the same."""

import dataclasses
import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_calls import CALLS, turned

import flowlift
from flowlift import flow, numbers, solvers

KINDS = {
    "numpy": (np.int64, np.float64),
    "jax": (jnp.asarray, jnp.asarray),
    "arrays without axes": (np.asarray, np.asarray),
}
# What flowlift hands out, and what it asks of a solver inside its loop: nobody calls these.
RESULTS = {"FlowSolution", "FlowStats", "Lift", "Progress", "Rewired", "StepReport"}
RESULTS |= {"WorkController"}
# Their tolerances are arrays or numbers, as those of diffrax's controllers.
ARRAYS = {"PredictiveController", "ProposedSteps"}


def written(value) -> str:
    """A text that shows the type of each number: 0.5 and np.float64(0.5) differ."""
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(written, value))})"
    if isinstance(value, dict):
        return written(list(value.items()))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Those of flowlift show numbers rounded, whatever their type.
        names = [field.name for field in dataclasses.fields(value)]
        parts = (f"{name}={written(getattr(value, name, None))}" for name in names)
        return f"{type(value).__name__}({', '.join(parts)})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def test_the_text_shows_types_of_numbers_and_all_digits():
    halves = [flow.FlowStats(seconds=half) for half in (0.5, np.float64(0.5), 0.5 + 1e-12)]
    assert len({written({"stats": (each,)}) for each in halves}) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_a_number_of_another_library_is_the_number(name, kind):
    made, args, options = CALLS[name]
    arguments = turned(args, *KINDS[kind]), turned(options, *KINDS[kind])
    given = made(*arguments[0], **arguments[1])
    assert written(given) == written(made(*args, **options))


def test_every_public_constructor_that_takes_a_number_is_in_the_table():
    found = set()
    for room in ("modules", "lift", "flow", "solvers"):
        there = importlib.import_module(f"flowlift.{room}")
        for name in there.__all__:
            made = getattr(there, name)
            if inspect.isclass(made) and not issubclass(made, Exception) and name != "Shape":
                words = [str(p.annotation) for p in inspect.signature(made).parameters.values()]
                found |= {name} if any(re.search(r"\b(int|float)\b", w) for w in words) else set()
    assert len(found) > 30
    assert found - RESULTS - ARRAYS <= set(CALLS)


def test_a_traced_number_stays_what_it_is():
    sine = jax.jit(lambda x: jnp.asarray(numbers.plain((x, {"a": x}))[1]["a"]))
    assert sine(2.0) == 2.0
    assert numbers.plain(True) is True
    assert numbers.plain(1j) == 1j


def test_solutions_are_gathered_by_sizes_of_any_library():
    solution = flowlift.solve(jnp.ones(1), lambda w: jnp.sum(w**2), 0.1, solver="tsit5")
    for integer, real in KINDS.values():
        runs = [{"size": integer(4), "seed": integer(0), "eta": real(0.5), "solution": solution}]
        data = flowlift.gather(runs)
        assert (data["size"].values[0], data.eta.values[0]) == (4, 0.5)


@pytest.mark.slow  # Compiles a flow in the graph, whose stages depend on the number.
def test_a_solver_with_a_number_of_jax_runs_on_both_engines():
    found = []
    for engine in ("host", "graph"):
        for stages in (40, jnp.asarray(40)):
            done = flow.solve(
                jnp.ones(3),
                lambda w: jnp.sum(jnp.array([1.0, 10, 1000]) * w**2),
                1.0,
                solver=solvers.RKC2(max_stages=stages),
                engine=engine,
            )
            assert done.result is flow.Outcome.HORIZON
            found.append(done.stats.gradients)
    assert found[0] == found[1]
    assert found[2] == found[3]
