"""Bursts keep the states at the save times that they pass: those of the host, and exact ones."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift.flow import LossBelow, march, solve
from flowlift.solvers.host import bursts

PROBLEM = problems.Quadratic.draw(4, 50.0)
MODEL = problems.Vector(jnp.asarray(PROBLEM.start))
SLOW = pytest.mark.slow
SOLVERS = [
    ("tsit5", "host"),
    ("rkc2", "host"),
    ("tsit5", "graph"),
    pytest.param("bdf", "graph", marks=SLOW),
    pytest.param("rkc2", "graph", marks=SLOW),
]


def flow(solver, engine, **options):
    return solve(MODEL, PROBLEM, 3.0, **{"solver": solver, "engine": engine} | options)


@pytest.mark.slow  # compiles each solver twice
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=SLOW)])
@pytest.mark.parametrize(("solver", "engine"), SOLVERS)
def test_kept_states_are_those_of_the_host(solver, engine, precision, monkeypatch):
    """More save times than one burst passes, several within one step, one at a rule's end."""
    times = np.r_[np.linspace(1e-3, 2e-3, 150), np.linspace(0.1, 3.0, 100)]
    given = {"save": times, "precision": precision, "rtol": 1e-5}
    whole = flow(solver, engine, **given)
    given["stops"] = [LossBelow(float(whole.loss[200] + whole.loss[201]) / 2)]
    kept = flow(solver, engine, **given, snapshots=[float(times[120])])
    monkeypatch.setattr(march, "rows_at_most", lambda size, wanted: 0)
    read = flow(solver, engine, **given, snapshots=[float(times[120])])
    assert kept.result == read.result == "loss below"
    assert 0.1 < kept.time < 3.0
    # The end of a step is a sum of steps from the start of a burst, of which there are fewer.
    exact = 1e-13 if precision == "float64" else 1e-6
    np.testing.assert_allclose(kept.times, read.times, rtol=exact)
    counts = dataclasses.replace(kept.stats, seconds=0, legs=0, observation_gradients=0)
    assert counts == dataclasses.replace(read.stats, seconds=0, legs=0, observation_gradients=0)
    assert kept.stats.legs < read.stats.legs
    close = 1e-11 if precision == "float64" else 2e-4
    for name in ("loss", "gradient_norm", "arc_length", "energy", "distance"):
        ours, theirs = getattr(kept, name), getattr(read, name)
        np.testing.assert_allclose(ours, theirs, rtol=close, atol=close, err_msg=name)
    one, other = (s.snapshots[float(times[120])].theta for s in (kept, read))
    np.testing.assert_allclose(one, other, rtol=close, atol=close)


def test_large_states_are_left_to_the_host():
    assert bursts.rows_at_most(300, 60) == 64
    assert bursts.rows_at_most(10_000_000, 60) == 0
    assert bursts.rows_at_most(300, 1) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_time_that_a_burst_passes_has_passed(dtype):
    """base + time >= save, in double precision, whatever rounding the burst's own times have."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1e4, 1000)
    saves = base * (1 + 10.0 ** rng.uniform(-12, 1, 1000))
    for start, save in zip(base, saves, strict=True):
        given = bursts.relative(np.array([save - start]), 2, dtype)
        assert start + float(given[0]) >= save
        assert np.isinf(given[1])
