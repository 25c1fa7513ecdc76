"""Counts of a flow: true for every solver, kept in the solution, and what a budget is spent on."""

import math
import pickle
import subprocess
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from flowlift.flow import LossBelow, resume, solve
from flowlift.solvers import BDF

TALLY: list[int] = []
SCALES = jnp.geomspace(0.05, 20.0, 4)
START = jnp.arange(1.0, 5.0) / 3


def loss(theta):
    """Sum of log cosh(a_i theta_i); counts its evaluations on the host."""
    jax.debug.callback(TALLY.append, 1)
    return jnp.sum(jnp.log(jnp.cosh(SCALES * theta)))


def flow(solver, horizon=1.0, **options):
    TALLY.clear()
    stops = [LossBelow(1e-9)]
    done = solve(START, loss, horizon, solver=solver, rtol=1e-4, stops=stops, **options)
    jax.effects_barrier()
    return done


SLOW = pytest.mark.slow
# What one attempted step may evaluate at most: stages times iterations, start included.
ATTEMPT = {"tsit5": 7, "euler": 16, "kvaerno5": 7 * 12, "half": 3 * 16, "dopri8": 14}
SOLVERS = {
    "euler": diffrax.ImplicitEuler(),
    "half": diffrax.HalfSolver(diffrax.Tsit5()),
}


def counted(stats, name):
    """Whether gradients and observations are those of the host."""
    surplus = stats.gradients + stats.observation_gradients - len(TALLY)
    # Save times are met by shorter steps: their products are two each, and no gradient.
    return surplus == 0 or (name == "kvaerno5" and surplus > 0 and surplus % 2 == 0)


# The others are compiled whole in the graph, or are of the same kind as tsit5.
@pytest.mark.parametrize(
    "name", [name if name == "tsit5" else pytest.param(name, marks=SLOW) for name in ATTEMPT]
)
def test_counts_are_those_of_the_host_and_budgets_hold(name):
    """Gradients and observations are all there is; a second solution counts from zero."""
    solver = SOLVERS.get(name, name)
    whole = flow(solver)
    assert whole.success
    assert counted(whole.stats, name)
    assert flow(solver).stats.gradients == whole.stats.gradients
    part = flow(solver, max_gradients=40)
    assert counted(part.stats, name)
    assert part.result == "budget"
    assert 40 <= part.stats.cost < 40 + ATTEMPT[name]
    # The steps of both are the same, so that one goes on where the other stopped.
    again = flow(solver, 0.01)
    copy = pickle.loads(pickle.dumps(again))
    ends = [resume(s, 0.02).stats for s in (again, again, copy)]
    assert len({(end.gradients, end.hvps, end.observation_gradients) for end in ends}) == 1
    assert again.stats.gradients < ends[0].gradients


@pytest.mark.parametrize(
    "solver", ["bdf", *(pytest.param(name, marks=SLOW) for name in ("auto", "rkc2", "exprb"))]
)
def test_products_count_in_the_budget(solver):
    """A step takes a few products of 12 parameters; without a count of them 40 gradients take more.

    Nothing else changes: a budget of the whole cost gives the same flow.
    """
    scales = jnp.logspace(0, 2, 12)
    loss = lambda theta: jnp.sum(jnp.log(jnp.cosh(scales * theta))) / 10
    solved = lambda **more: solve(jnp.ones(12), loss, 30.0, solver=solver, rtol=1e-4, **more)
    whole = solved()
    assert whole.stats.hvps > 10
    part = solved(max_gradients=60)
    assert part.result == "budget"
    # One attempt: at most a basis of all 12, twice, and conjugate gradients.
    assert 60 <= part.stats.cost < 60 + 120
    assert solved(max_gradients=whole.stats.cost).loss.tolist() == whole.loss.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bdf", "dense-bdf", "rkc2", "exprb"])
def test_counts_of_solvers_with_products(name):
    """A product with the Hessian evaluates the gradient along with it, unless kept from before."""
    done = flow(name)
    others = len(TALLY) - done.stats.observation_gradients
    assert done.stats.gradients <= others <= done.stats.gradients + done.stats.hvps


ELSEWHERE = """
import pickle, sys, jax
jax.config.update("jax_enable_x64", True)
from flowlift.flow import resume
with open(sys.argv[1], "rb") as file:
    solution = pickle.load(file)
stats = resume(solution, 0.02).stats
print("COUNTS", stats.gradients, stats.hvps, stats.observation_gradients)
"""


@pytest.mark.slow
def test_a_solution_goes_on_in_another_process(tmp_path):
    here = solve(jnp.ones(3), optx.two_norm, 0.01, solver="kvaerno5", rtol=1e-4)
    (tmp_path / "solution").write_bytes(pickle.dumps(here))
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "solution")]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stats = resume(here, 0.02).stats
    counts = [int(word) for word in there.rpartition("COUNTS")[2].split()]
    assert counts == [stats.gradients, stats.hvps, stats.observation_gradients]


@pytest.mark.parametrize("solver", [diffrax.KenCarp5(), diffrax.Sil3()])
def test_solvers_of_several_terms_are_refused(solver):
    with pytest.raises(ValueError, match="`solver` must take one field, but"):
        solve(START, loss, 1.0, solver=solver)


@pytest.mark.slow
@pytest.mark.parametrize("inner", [diffrax.ImplicitEuler(), diffrax.Kvaerno3()])
def test_a_wrapped_implicit_solver_has_its_root_finder_filled(inner):
    """theta(t) = theta(0) e^(-a t)."""
    quadratic = lambda theta: 0.5 * jnp.sum(SCALES * theta**2)
    done = solve(START, quadratic, 1.0, solver=diffrax.HalfSolver(inner), rtol=1e-4)
    exact = START * np.exp(-SCALES)
    # Of first order, the errors of some dozens of steps add up to several times that of one.
    np.testing.assert_allclose(done.model, exact, atol=10 * 1e-4)


def test_our_own_solvers_are_not_wrapped():
    with pytest.raises(ValueError, match="must not wrap one of flowlift's own solvers"):
        solve(START, loss, 1.0, solver=diffrax.HalfSolver(BDF()))


@pytest.mark.slow
def test_a_comparison_spends_the_same_budget_on_everyone():
    from flowlift.compare import compare

    solvers = ["tsit5", "kvaerno5", diffrax.ImplicitEuler(), "scipy:Radau", "bdf"]
    table = compare(
        START,
        lambda theta: jnp.sum(jnp.log(jnp.cosh(SCALES * theta))),
        30.0,
        solvers=solvers,
        rtols=[1e-5],
        reference=["exprb"],
        max_gradients=60,
        repeats=0,
    )
    assert (table.result == "budget").all()
    assert np.all(table.gradients.values <= 60 + max(ATTEMPT.values()))
    # A step of the BDF takes a basis of all three parameters at most a few times.
    assert np.all(table.cost.values <= 60 + max(ATTEMPT.values()) + 24)
    assert math.isfinite(float(table.gradients.max()))


def test_spectra_on_the_way_count_in_the_budget():
    """The solver stops so much earlier, in this call and in one that goes on."""
    scales = jnp.linspace(0.1, 1.0, 20)
    # Not stiff for the first horizon. On the way to the second stability holds steps down, of which
    # many are left: then the sharpness is asked for.
    first = solve(jnp.ones(20), lambda w: jnp.sum(scales * w**2) / 2, 40.0, rtol=1e-3)
    again = resume(first, 200.0, max_gradients=400)
    (before, begun), (after, ended) = (
        (s.checkpoint.position.controller, s.checkpoint.settings.choice.products)
        for s in (first, again)
    )
    assert ended > begun
    assert after.max_gradients == before.work.cost + 400 - 2 * (ended - begun)
    assert again.stats.cost == after.work.cost + 2 * ended
