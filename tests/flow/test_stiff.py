"""Stiff flows: the BDF inside `flow.solve`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import flow
from flowlift.flow import GradientNormBelow, LogTimes, LossBelow, Outcome, Stagnation
from flowlift.solvers import BDF


@functools.cache
def reference(name):
    """The reference flow, and its loss as one object, so that solves share a compilation."""
    found = problems.reference(name)
    return found, lambda m: found.loss(m.theta)


def reference_solve(name, horizon, rtol=1e-5, solver="bdf", **kwargs):
    found, loss = reference(name)
    model = problems.Vector(jnp.asarray(found.theta0))
    save = found.reached([horizon])
    solution = flow.solve(
        model, loss, horizon, solver=solver, rtol=rtol, atol=1e-3 * rtol, save=save, **kwargs
    )
    return solution, found.error(solution.times, solution.loss)


def quadratic(condition=1e4, size=10, **kwargs):
    problem = problems.Quadratic.draw(size, condition)
    model = problems.Vector(jnp.asarray(problem.start))
    arguments = {"horizon": condition, "solver": "bdf", "rtol": 1e-7, "atol": 1e-10} | kwargs
    return problem, flow.solve(model, problem, **arguments)


@pytest.mark.slow
def test_a_quadratic_flow_its_integrals_and_snapshots():
    """Condition 1e6, to the end of the slowest mode, with everything that is recorded."""
    snapshots = [3.0, 1e3, 3e5]
    problem, solution = quadratic(
        1e6, horizon=3e6, save=LogTimes(2, start=1.0), snapshots=snapshots
    )
    assert solution.result == Outcome.HORIZON
    assert solution.time == solution.times[-1] == 3e6
    np.testing.assert_allclose(solution.model.theta, problem.theta(3e6), atol=1e-5)
    exact = problem.loss_at(solution.times)
    np.testing.assert_allclose(solution.loss, exact, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(
        solution.loss[0] - solution.loss, solution.energy, rtol=1e-4, atol=1e-9
    )
    length = problem.arc_length_at(3e6)
    np.testing.assert_allclose(solution.arc_length[-1], length, rtol=1e-4)
    assert list(solution.snapshots) == snapshots
    for t, model in solution.snapshots.items():
        np.testing.assert_allclose(model.theta, problem.theta(t), atol=2e-6)
    # Save times and snapshots cut no step short.
    _, bare = quadratic(1e6, horizon=3e6, save=[3e6])
    assert bare.stats.steps == solution.stats.steps
    assert bare.stats.gradients == solution.stats.gradients
    assert solution.stats.cost < 2_500


# Cost = gradients + 2 products, all included. Tsit5 takes 1,857 gradients to t = 100 on A_tanh.
SHORT = [
    ("A_tanh", 100.0, 2e-5, 1_200),
    pytest.param("C", 10.0, 2e-4, 500, marks=pytest.mark.slow),
    # A minute of compilation where the machine is busy.
    pytest.param("B", 10.0, 1e-3, 500, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "horizon", "error", "cost"), SHORT)
def test_reference_flows_are_reproduced_cheaply(name, horizon, error, cost):
    solution, achieved = reference_solve(name, horizon)
    assert achieved < error
    assert solution.stats.cost <= cost


# The goals of the project: horizon, rtol, largest error, largest cost.
GOALS = [
    ("A_tanh", 1e4, 1e-4, 1e-3, 4_600),
    ("A_tanh", 1e4, 1e-7, 2e-6, 4_600),
    ("A_tanh", 1e6, 1e-4, 1e-3, 12_000),
    ("A_tanh", 1e6, 1e-7, 1e-6, 20_000),
    ("A_soft", 1e6, 1e-4, 1e-3, 8_000),
    ("A_soft", 1e6, 1e-7, 1e-6, 12_000),
    ("B", 1e3, 1e-4, 1e-3, 600),
    ("B", 1e3, 3e-7, 5e-6, 1_400),
    ("C", 1e4, 1e-4, 1e-3, 1_400),
    ("C", 1e4, 1e-6, 1e-6, 3_000),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "horizon", "rtol", "error", "cost"), GOALS)
def test_the_goals_are_met(name, horizon, rtol, error, cost):
    solution, achieved = reference_solve(name, horizon, rtol)
    assert achieved <= error
    assert solution.stats.cost <= cost


def counting_loss(calls, stiff):
    def loss(m):
        jax.debug.callback(lambda: calls.append(1))
        return 0.5 * jnp.sum(stiff * m.theta**2) + 0.1 * jnp.sum(m.theta**4)

    return loss


@pytest.mark.slow
def test_every_evaluation_is_counted():
    """Gradients, products and observations, against a host callback in the loss itself."""
    calls = []
    model = problems.Vector(jnp.ones(6))
    solution = flow.solve(
        model,
        counting_loss(calls, jnp.geomspace(1.0, 1e4, 6)),
        3.0,
        solver="bdf",
        rtol=1e-4,
        save=[0.5],
    )
    jax.effects_barrier()
    stats = solution.stats
    assert stats.gradients + stats.hvps + stats.observation_gradients == len(calls)
    assert stats.hvps >= 6
    assert stats.observation_gradients == 3


@pytest.mark.slow
def test_a_budget_stops_the_flow_and_resuming_equals_going_on():
    """The memory of past steps goes on: the same steps, the same work, the same curve."""
    _, direct = quadratic()
    _, first = quadratic(max_gradients=60)
    assert first.result == Outcome.BUDGET
    # A step may take a basis of products, two gradients each.
    assert 60 <= first.stats.cost < 60 + 16 + 2 * 64
    both = flow.resume(first, 1e4)
    assert both.result == Outcome.HORIZON
    assert both.stats.cost == direct.stats.cost
    assert both.stats.steps == direct.stats.steps
    np.testing.assert_allclose(both.model.theta, direct.model.theta, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["rkc2", "exprb", "dense-bdf"])
def test_every_solver_goes_on_from_a_budget(solver):
    """Legs may end elsewhere after an interruption, which costs a few steps and no accuracy."""
    arguments = {"solver": solver, "rtol": 1e-5, "atol": 1e-8}
    problem, direct = quadratic(**arguments)
    _, first = quadratic(max_gradients=60, **arguments)
    assert first.result == Outcome.BUDGET
    assert 0 < first.time < 1e4
    both = flow.resume(first, 1e4)
    assert both.result == Outcome.HORIZON
    assert abs(both.stats.steps - direct.stats.steps) <= 8
    exact = problem.theta(1e4)
    own = np.abs(np.asarray(direct.model.theta) - exact).max()
    assert np.abs(np.asarray(both.model.theta) - exact).max() < 3 * own + 1e-7


def test_resuming_after_a_horizon_costs_a_few_steps():
    problem, direct = quadratic()
    _, first = quadratic(horizon=100.0)
    both = flow.resume(first, 1e4)
    np.testing.assert_allclose(both.model.theta, problem.theta(1e4), atol=2e-6)
    assert both.stats.cost < 1.3 * direct.stats.cost + 50


@pytest.mark.slow
def test_stopping_rules_hold():
    _, solution = quadratic(stops=[GradientNormBelow(1e-3)])
    assert solution.result == Outcome.GRADIENT_BELOW
    assert solution.gradient_norm[-1] <= 1e-3
    _, solution = quadratic(stops=[LossBelow(1e-4)])
    assert solution.result == Outcome.LOSS_BELOW
    assert solution.loss[-1] <= 1e-4 < solution.loss[-2]


@pytest.mark.slow
def test_stagnation_is_noticed_within_a_few_steps():
    problem = problems.Quadratic.draw(10, 1e2)
    model = problems.Vector(jnp.asarray(problem.start))
    solution = flow.solve(
        model, lambda m: problem(m) + 1.0, 1e9, solver="bdf", stops=[Stagnation(1e-6)]
    )
    assert solution.result == Outcome.STAGNATION
    assert solution.times[-1] == solution.time
    # The slowest mode, 1e-2, has decayed to 1e-6 of the loss at t = 700; steps grow fast here.
    assert solution.time < 1e6


@pytest.mark.slow
def test_a_stagnation_seen_at_a_time_run_past_ends_at_a_record():
    """Legs of a few steps end between save times; L = -w^2 / 2 grows as it did from the start."""
    start, times = np.array([0.3344]), [0.0122, *10 ** (np.arange(-10, -2) / 6), 0.461]
    for relative in (0.9, 0.93, 0.96, 0.99):
        rule = [Stagnation(relative, 2.0)]
        solution = flow.solve(
            start,
            lambda w: -0.5 * jnp.sum(w**2),
            0.461,
            solver="dense-bdf",
            save=times,
            stops=rule,
        )
        assert solution.times[-1] == solution.time
        assert len(solution.loss) == len(solution.times)
        assert (solution.result == Outcome.STAGNATION) == (solution.time < 0.461)
        w = start * np.exp(solution.time)
        np.testing.assert_allclose(solution.model, w, rtol=1e-4)
        np.testing.assert_allclose(solution.loss[-1], -0.5 * w @ w, rtol=1e-4)


@pytest.mark.slow
def test_an_exploding_flow_is_a_result():
    solution = flow.solve(
        problems.Vector(jnp.array([1.0])), lambda m: -jnp.sum(m.theta**4) / 4, 10.0, solver="bdf"
    )
    assert solution.result.failed
    assert solution.time == pytest.approx(0.5, rel=1e-3)
    assert solution.loss[-1] < -1e3


@jax.custom_jvp
def twisted(theta):
    return jnp.sum(theta**2)


@twisted.defjvp
def twisted_jvp(primals, tangents):
    theta = primals[0]
    return jnp.sum(theta**2), jnp.sum(theta[::-1] * jnp.array([5.0, -5.0]) * tangents[0])


def test_a_loss_whose_derivative_is_a_lie_is_found_out():
    """Its "gradient" (5 b, -5 a) is none: the Jacobian is antisymmetric."""
    solution = flow.solve(
        problems.Vector(jnp.ones(2)), lambda m: twisted(m.theta), 1.0, solver="bdf"
    )
    assert solution.result == Outcome.NOT_SYMMETRIC
    assert solution.result.failed
    assert "not symmetric" in solution.message
    assert solution.times[0] == 0.0
    assert np.isfinite(solution.loss).all()


@pytest.mark.slow
def test_float32_runs_to_late_times():
    problem, solution = quadratic(1e4, precision="float32", rtol=1e-5, atol=1e-6)
    assert solution.success
    assert solution.model.theta.dtype == jnp.float32
    np.testing.assert_allclose(solution.loss, problem.loss_at(solution.times), rtol=5e-3, atol=1e-5)


@pytest.mark.slow
def test_own_settings_of_the_solver_are_kept():
    problem, solution = quadratic(solver=BDF(capacity=5, secants=3))
    assert solution.checkpoint.position.here.memory.curvature.krylov.capacity == 5
    np.testing.assert_allclose(solution.model.theta, problem.theta(1e4), atol=2e-6)
