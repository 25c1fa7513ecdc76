"""Bad input and bad luck: every solver ends with a code and a sentence, and keeps what it had.

All cases are one loss with a switch, so that a solver is compiled once.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowlift import flow, tasks
from flowlift.flow import Outcome

SINGULAR, EXPLODING, OVERFLOWING, LYING, SOUND, CLIFF, ROOT, SATURATED = range(8)
SOLVERS = [
    "bdf",
    pytest.param("rkc2", marks=pytest.mark.slow),
    pytest.param("exprb", marks=pytest.mark.slow),
    pytest.param("dense-bdf", marks=pytest.mark.slow),
]


class Case(eqx.Module):
    """Parameters, and which of the losses."""

    theta: jax.Array
    kind: jax.Array


@jax.custom_jvp
def lie(theta):
    return jnp.sum(theta**2)


@lie.defjvp
def _lie_jvp(primals, tangents):
    """Its "gradient" (5 b, -5 a) is none: the Jacobian is antisymmetric."""
    theta = primals[0]
    return lie(theta), jnp.sum(theta[::-1] * jnp.array([5.0, -5.0]) * tangents[0])


def loss(m):
    return jax.lax.switch(
        m.kind,
        [
            lambda theta: jnp.sum(jnp.sqrt(theta - 1.0)),
            lambda theta: -jnp.sum(theta**4) / 4,
            lambda theta: jnp.sum(theta**400),
            lie,
            lambda theta: jnp.sum(theta**2),
            lambda theta: -jnp.sum(theta) + jnp.where(jnp.sum(theta) > 4, jnp.nan, 0.0),
            lambda theta: jnp.sum(jnp.sqrt(theta)),
            lambda theta: jnp.sum(jnp.log(jnp.cosh(20 * theta))) / 20,
        ],
        m.theta,
    )


def run(solver, kind, start=1.0, **kwargs):
    case = Case(jnp.full(2, start), jnp.asarray(kind))
    return flow.solve(case, loss, 10.0, solver=solver, **kwargs)


def kept(solution):
    """The trajectory so far: finite records at increasing times, but for the end itself."""
    assert solution.times[0] == 0
    assert np.all(np.diff(solution.times) > 0)
    assert solution.times[-1] == solution.time
    assert np.isfinite(solution.loss[:-1]).all()
    assert np.isfinite(solution.loss[-1]) or solution.result == Outcome.NON_FINITE
    assert np.isfinite(solution.model.theta).all()
    return len(solution.times)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gradient_that_ceases_to_be_a_number(solver):
    """L = sqrt(theta - 1) drops to theta = 1 at t = 4/3, and is not a number beyond."""
    solution = run(solver, SINGULAR, 2.0)
    assert solution.result in (Outcome.NON_FINITE, Outcome.TIME_UNDERFLOW)
    assert 1.2 < solution.time < 4 / 3 * 1.001
    assert kept(solution) > 10
    assert "Reached t = 1.3" in solution.message
    with pytest.raises(ValueError, match="must not have failed"):
        flow.resume(solution, 20.0)


@pytest.mark.parametrize("solver", ["tsit5", *SOLVERS])
def test_a_loss_that_is_no_number_beyond_an_edge(solver):
    """theta = 1 + t up to a sum of 4 at t = 1; the gradient is finite on both sides."""
    solution = run(solver, CLIFF, save=[0.5, 2.0, 5.0])
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(1.0, rel=1e-3)
    assert kept(solution) == 3
    # A rule is met before the edge, however long a step would be.
    stop = [flow.LossBelow(-3.5)]
    solution = run(solver, CLIFF, save=[0.5, 2.0, 5.0], stops=stop)
    assert solution.result == Outcome.LOSS_BELOW
    assert 0.75 <= solution.time <= 1.0


@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", [1.0, 1.97])
def test_steps_that_leave_theta_as_it_is_do_not_keep_a_flow_at_an_edge(engine, start):
    """In single precision a step accepted at a cliff, too short to move theta, said all is well.

    Each was followed by a few longer ones that were no numbers: 12,290 gradients, a step at a
    time, until no progress was seen. Halving 24 times takes some 60 attempts.
    """
    cliff = lambda w: -jnp.sum(w) + jnp.where(jnp.sum(w) > 4, jnp.nan, 0.0)
    settings = {"solver": "tsit5", "precision": "float32", "rtol": 4e-5, "atol": 1e-7}
    solution = flow.solve(jnp.full(2, start), cliff, 10.0, engine=engine, **settings)
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(2 - start, rel=1e-4)
    assert solution.stats.gradients < 1000


@pytest.mark.parametrize("solver", ["tsit5", *SOLVERS])
def test_an_edge_at_zero_has_the_same_name_and_keeps_every_record(solver):
    """theta^1.5 = 1 - t / 4 * 3 comes to zero, where a part of |theta| does not lead beyond."""
    solution = run(solver, ROOT, save=[0.5])
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(4 / 3, rel=1e-2)
    assert solution.times.tolist() == [0.0, 0.5, solution.time]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_flow_that_explodes(solver):
    """theta' = theta^3 is at infinity at t = 1/2."""
    solution = run(solver, EXPLODING)
    # L is a number as far as steps come, but infinite before the next bit of time.
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == pytest.approx(0.5, rel=1e-2)
    assert kept(solution) > 10
    assert solution.loss[-1] < -10


@pytest.mark.slow  # Compiles two dynamics in the graph or over the host for each solver.
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "dopri8"])
@pytest.mark.parametrize("dynamics", [flow.HeavyBall(3.0), flow.Nesterov(3.0)], ids=["b", "n"])
def test_a_flow_of_second_order_that_explodes(solver, dynamics):
    """One name, whichever field carries it to infinity."""
    loss = lambda w: -jnp.sum(w**4)
    start = jnp.array([0.5, 1.0])
    solution = flow.solve(start, loss, 100.0, solver=solver, dynamics=dynamics)
    assert solution.result == Outcome.NON_FINITE
    assert solution.time < 2.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_loss_that_overflows(solver):
    solution = run(solver, OVERFLOWING, 10.0)
    assert solution.result == Outcome.NON_FINITE
    assert solution.time == 0.0
    assert solution.stats.steps == 0
    assert "not finite" in solution.message


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_derivative_that_is_none(solver):
    solution = run(solver, LYING)
    assert solution.result == Outcome.NOT_SYMMETRIC
    assert "custom derivative" in solution.message
    kept(solution)
    # Two products show it; the exponential method makes them once a step is no trifle.
    assert solution.stats.steps <= (2 if solver != "exprb" else 20)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_tolerances_below_rounding_are_refused_and_those_at_it_end(solver, precision):
    """What `solve` accepts is reached in a bounded number of steps; what is below is refused."""
    eps = float(np.finfo(precision).eps)
    with pytest.raises(ValueError, match=f"`rtol` must be .* in {precision}"):
        run(solver, SOUND, rtol=eps, precision=precision)
    with pytest.raises(ValueError, match="`atol` must be positive where parameters start at zero"):
        run(solver, SOUND, 0.0, atol=0.0, precision=precision)


DEAD = {
    "plain": lambda m: m,
    "some units dead": lambda m: eqx.tree_at(lambda m: m.layers[0].bias, m, jnp.full(6, -50.0)),
    "all units dead": lambda m: eqx.tree_at(lambda m: m.layers[1].bias, m, jnp.full(6, -50.0)),
    "a layer of zeros": lambda m: eqx.tree_at(lambda m: m.layers[1].weight, m, jnp.zeros((6, 6))),
    "nothing but zeros": lambda m: jax.tree.map(lambda a: 0 * a if eqx.is_array(a) else a, m),
}


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["rkc2", "bdf", "exprb"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_dead_units_are_no_asymmetry(solver, precision):
    """Where H is zero in most directions, products are rounding; a ReLU's gradient is one still."""
    rng = np.random.default_rng(0)
    task = tasks.supervised(rng.standard_normal((12, 3)), rng.standard_normal((12, 2)))
    settings = {"solver": solver, "precision": precision, "rtol": 1e-3, "max_steps": 150}
    for seed in range(2):
        model = eqx.nn.MLP(3, 2, 6, 2, jax.nn.relu, key=jax.random.key(seed))
        for kind, change in DEAD.items():
            solution = flow.solve(change(model), task, 10.0, **settings)
            assert solution.success or solution.result == Outcome.STEP_LIMIT, kind
            assert np.isfinite(solution.loss).all(), kind
            assert np.diff(solution.loss).max(initial=0) < 1e-3 * solution.loss[0], kind


@pytest.mark.parametrize("solver", SOLVERS)
def test_saturated_units_are_symmetric(solver):
    """sinh(20 theta) falls like e^(-20 t); at theta = 1 products with H are rounding, 1e-15."""
    case = Case(jnp.array([1.0, 1.3]), jnp.asarray(SATURATED))
    solution = flow.solve(case, loss, 0.8, solver=solver, rtol=1e-4, save=[0.8])
    assert solution.result == Outcome.HORIZON
    exact = np.arcsinh(np.sinh(20 * np.array([1.0, 1.3])) * np.exp(-16.0)) / 20
    np.testing.assert_allclose(solution.model.theta, exact, rtol=1e-2)


WALL = [diffrax.Ralston(), diffrax.Midpoint(), pytest.param(diffrax.Heun(), marks=pytest.mark.slow)]


@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
@pytest.mark.parametrize("solver", WALL)
def test_a_step_that_ends_outside_is_rejected_though_its_stages_are_inside(solver, engine):
    """theta' = -1 nearly down to 0, beyond which L is no number; a long step shows no error."""
    wall = lambda m: jnp.sum(jnp.log(jnp.cosh(20 * m.theta))) / 20 + jnp.sum(1e-12 * m.theta**0.5)
    for start in (2.128, 3.0, 4.5):
        case = Case(jnp.array([start, start + 0.3]), jnp.asarray(0))
        settings = {"solver": solver, "rtol": 1e-3, "save": [start + 0.5], "engine": engine}
        solution = flow.solve(case, wall, start + 0.5, **settings)
        assert solution.result == Outcome.HORIZON
        assert np.isfinite(solution.loss).all()
        # sinh(20 theta) falls like e^(-20 t).
        exact = np.exp(-20 * np.array([0.5, 0.2])) / 20
        np.testing.assert_allclose(solution.model.theta, exact, atol=2e-3)
        # Two evaluations a step and two at the start, one of which serves the first step.
        assert solution.stats.gradients <= 2 * solution.stats.steps + 3
