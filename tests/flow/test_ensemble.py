"""Ensembles: each member at its own pace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import flow
from flowlift.flow import Outcome


def member(stiff):
    return {"theta": jnp.array([1.0, 1.0]), "stiff": jnp.array([1.0, stiff])}


TRAINABLE = {"theta": True, "stiff": False}


def loss(m):
    return 0.5 * jnp.sum(m["stiff"] * m["theta"] ** 2)


def test_an_ensemble_costs_what_its_members_cost_alone():
    """63 easy flows and one hard one: under vmap, 64 hard ones."""
    traces = []

    def counted(m):
        traces.append(1)
        return loss(m)

    stiffness = [*np.linspace(1.0, 2.0, 63), 1e3]
    arguments = {"rtol": 1e-4, "trainable": TRAINABLE, "save": [2.0], "solver": "tsit5"}
    members = (member(stiff) for stiff in stiffness)
    solutions = list(flow.solve_each(members, counted, 2.0, **arguments))
    # One compilation, and a check of shapes for each member.
    assert len(traces) < 64 + 30
    assert [s.result for s in solutions] == [Outcome.HORIZON] * 64
    for stiff, solution in zip(stiffness, solutions, strict=True):
        exact = np.exp(-2.0 * np.array([1.0, stiff]))
        np.testing.assert_allclose(solution.model["theta"], exact, atol=1e-3)
    costs = np.array([s.stats.cost for s in solutions])
    assert costs[-1] > 10 * costs[:-1].max()
    lock_step = 64 * costs.max()
    assert costs.sum() < lock_step / 10


@pytest.mark.slow
def test_a_member_that_fails_stops_nobody():
    def singular(m):
        return jnp.sum(jnp.sqrt(m["theta"] - 1.0))

    starts = [{"theta": jnp.full(2, start)} for start in (2.0, 1e4, 3.0)]
    solutions = list(flow.solve_each(starts, singular, 100.0, solver="rkc2"))
    assert [s.result.failed for s in solutions] == [True, False, True]


def test_it_is_lazy():
    """Nothing is computed, and no model drawn, before a solution is asked for."""

    def never():
        pytest.fail("a model was drawn")
        yield

    flow.solve_each(never(), loss, 1.0)
    with pytest.raises(ValueError, match="`task` must be"):
        flow.solve_each([], 3, 1.0)  # pyright: ignore[reportArgumentType]
    assert jax.tree.leaves(list(flow.solve_each([], loss, 1.0))) == []
