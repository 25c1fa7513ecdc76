"""Forecasts of what going on would cost, against sums and against what it cost."""

import math

import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import flow
from flowlift.flow.forecast import (
    Mark,
    Outlook,
    Spell,
    logarithmic_cost,
    outlook,
    stabilised_cost,
    steps_left,
)
from flowlift.solvers.host.chebyshev import stages_needed


@pytest.mark.parametrize("growth", [1.0, 1.01, 1.3])
def test_steps_that_grow_geometrically_are_counted(growth):
    """As many steps as a loop takes from here to the horizon."""
    h = 0.01
    spell = Spell(Mark(0, 0, 0, 1.0, h / growth**16), Mark(16, 16, 96, 2.0, h))
    time, steps, step = 2.0, 0, h
    while time < 30.0 - 1e-9:
        time, steps, step = time + step, steps + 1, step * growth
    assert steps - 1 <= steps_left(spell, 30.0) <= steps + 1


def test_steps_that_shrink_are_not_expected_to_shrink_on():
    spell = Spell(Mark(step=0.1), Mark(16, 8, 96, 2.0, 0.01))
    assert steps_left(spell, 3.0) == pytest.approx(100)
    first = Spell(Mark(), Mark(16, 16, 96, 2.0, 0.01))
    assert steps_left(first, 3.0) == pytest.approx(100)


def test_a_cost_by_the_logarithm_of_time_is_the_same_for_each_decade():
    spell = Spell(Mark(cost=100, time=1.0), Mark(32, 32, 150, 10.0, 1.0))
    assert logarithmic_cost(spell, 1e4) == pytest.approx(150)
    still = Spell(Mark(cost=100, time=1.0), Mark(32, 32, 150, 1.0, 1.0))
    assert logarithmic_cost(still, 1e4) == math.inf


def test_the_cost_of_rkc2_adds_up_and_is_that_of_its_steps():
    seen = Outlook(radius=50.0, third=1.0, step=0.2)
    parts = stabilised_cost(seen, 4.0, 1.0, 9.0) + stabilised_cost(seen, 4.0, 9.0, 16.0)
    assert parts == pytest.approx(stabilised_cost(seen, 4.0, 1.0, 16.0))
    # Steps h = a t of s^2 = 1.54 h rho stages each, with a step of 0.8 (15 / third)^(1/3) h at t.
    time, cost, a = 1.0, 0, 0.8 * 15 ** (1 / 3) * 0.2 / 4.0
    while time < 1e4:
        cost += stages_needed(a * time * 50.0)
        time *= 1 + a
    assert cost < stabilised_cost(seen, 4.0, 1.0, 1e4) < 1.3 * cost


def test_a_third_derivative_is_read_off_the_differences_of_a_bdf():
    """y = e^-t: h^3 |y'''| is h^3 e^-t, in units of the tolerance."""
    loss = lambda m: 0.5 * jnp.sum(m.theta**2)
    start = problems.Vector(jnp.ones(3))
    solution = flow.solve(start, loss, 1.0, solver="bdf", rtol=1e-5, atol=1e-5, save=[1.0])
    place = solution.checkpoint.position.here
    seen = outlook(place.memory, 3, 1e-5, 1e-5)
    y = float(place.y[0])
    # The differences are those of the steps behind.
    expected = seen.step**3 * y / (1e-5 * (1 + y))
    assert expected < seen.third < 3 * expected
    assert seen.radius == pytest.approx(1.0)
    assert outlook(None, 3, 1e-5, 1e-5) is None


def test_what_rkc2_costs_is_forecast_from_a_bdf_on_the_way():
    """A quadratic with a spectrum from 0.01 to 30, halfway in log t."""
    values = jnp.linspace(0.01, 30.0, 300)
    start = problems.Vector(jnp.asarray(np.random.default_rng(0).standard_normal(300)))
    loss = lambda m: 0.5 * jnp.sum(values * m.theta**2)
    run = lambda solver, end: flow.solve(start, loss, end, solver=solver, rtol=1e-3, atol=1e-6)
    place = run("bdf", 3.0).checkpoint.position.here
    seen = outlook(place.memory, 300, 1e-3, 1e-6)
    spent = run("rkc2", 50.0).stats.cost - run("rkc2", 3.0).stats.cost
    assert 0.5 < stabilised_cost(seen, place.time, 3.0, 50.0) / spent < 2
