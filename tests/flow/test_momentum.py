"""Second-order flows: closed forms, the energy identity, and the velocity's elimination."""

import jax.numpy as jnp
import numpy as np
import problems
import pytest
import scipy.integrate
import scipy.special

from flowlift.flow import LogTimes, LossBelow, Outcome, resume, solve
from flowlift.flow.dynamics import HeavyBall, Nesterov

CURVATURES = np.array([1.0, 4.0, 25.0])
START = problems.Vector(jnp.array([1.0, -2.0, 0.5]))
SEEN = {"theta": lambda m: m.theta}


def quadratic(m):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES, m.theta.dtype) * m.theta**2)


def quartic(m):
    x, y = m.theta
    return 0.25 * (x * y - 1) ** 2 + 0.5 * (x - y) ** 2


def bessel(times):
    """From rest with friction 3 / t: theta_0 2 J_1(w t) / (w t), w^2 the curvature."""
    x = np.sqrt(CURVATURES) * times[:, None]
    safe = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, 2 * scipy.special.j1(safe) / safe) * np.asarray(START.theta)


def errors(solver, rtol, **settings):
    solution = solve(
        START, quadratic, 10.0, dynamics=Nesterov(), solver=solver, rtol=rtol, atol=1e-3 * rtol,
        observers=SEEN, save=LogTimes(4, 0.1), **settings
    )  # fmt: skip
    assert solution.success
    return np.abs(solution.observations["theta"] - bessel(solution.times)).max(), solution


@pytest.mark.parametrize(
    ("solver", "engine", "bound"),
    [("tsit5", "host", 1e-7), ("tsit5", "graph", 1e-7), ("bdf", "host", 1e-5)],
)
def test_nesterovs_flow_of_a_quadratic_is_a_bessel_function(solver, engine, bound):
    error, solution = errors(solver, 1e-7, engine=engine)
    assert error < bound
    mechanical = solution.loss + solution.observations["kinetic"]
    lost = solution.observations["dissipated"]
    np.testing.assert_allclose(mechanical + lost, mechanical[0], rtol=1e-5)
    assert (np.diff(mechanical) < 1e-5).all()
    np.testing.assert_allclose(solution.energy, solution.loss[0] - solution.loss, atol=1e-3)


@pytest.mark.slow  # Thousands of evaluations on the host.
def test_weak_damping_does_not_let_unresolved_oscillations_grow():
    # Formulas of order 3 and more would: where they may be taken, 20,000 do not reach t = 600.
    turn = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0])
    curvatures = jnp.geomspace(1e-3, 100.0, 6)
    loss = lambda m: 0.5 * jnp.sum(curvatures * (turn @ (m.theta - 1)) ** 2)
    solution = solve(
        problems.Vector(jnp.zeros(6)), loss, 1000.0, dynamics=HeavyBall(0.2), solver="bdf",
        rtol=1e-3, atol=1e-6, max_gradients=6000,
    )  # fmt: skip
    assert solution.success


# The BDF's velocity is made for these flows; explicit methods know them as any other.
@pytest.mark.slow  # flows at three tolerances
@pytest.mark.parametrize("solver", [pytest.param("tsit5", marks=pytest.mark.slow), "bdf"])
def test_the_error_follows_the_tolerance_from_both_sides(solver):
    found = [errors(solver, rtol)[0] for rtol in (1e-4, 1e-6, 1e-8)]
    # Ten times less for ten times the tolerance, within factors of three a decade.
    slopes = np.diff(np.log10(found)) / -2
    assert (slopes > 0.5).all()
    assert (slopes < 1.5).all()


@pytest.mark.parametrize("friction", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("solver", ["dopri8", "bdf"])
def test_the_heavy_ball_agrees_with_scipy(solver, friction):
    start = np.array([1.5, -0.3])

    def rates(_, y):
        gap, apart = y[0] * y[1] - 1, y[0] - y[1]
        gradient = 0.5 * gap * y[1::-1] + np.array([apart, -apart])
        return np.concatenate([y[2:], -friction * y[2:] - gradient])

    times = [1.0, 3.0, 10.0]
    exact = scipy.integrate.solve_ivp(
        rates, (0, 10), np.r_[start, 0, 0], "DOP853", t_eval=times, rtol=1e-11, atol=1e-13
    ).y[:2].T  # fmt: skip
    solution = solve(
        problems.Vector(jnp.asarray(start)), quartic, 10.0, dynamics=HeavyBall(friction),
        solver=solver, rtol=1e-8, atol=1e-10, save=[0.0, *times], observers=SEEN,
    )  # fmt: skip
    bound = 1e-7 if solver == "dopri8" else 1e-5
    np.testing.assert_allclose(solution.observations["theta"][1:], exact, atol=bound)


def test_strong_friction_is_the_plain_flow_in_a_slower_time():
    # theta' = -grad L / g once the velocity has forgotten its start: t / g of the plain flow.
    friction, start = 300.0, problems.Vector(jnp.array([1.5, 0.3]))
    slow = solve(start, quartic, 900.0, dynamics=HeavyBall(friction), solver="bdf", rtol=1e-8)
    plain = solve(start, quartic, 3.0, solver="bdf", rtol=1e-8)
    np.testing.assert_allclose(slow.model.theta, plain.model.theta, atol=2e-4)


def test_a_flow_gone_on_with_is_the_flow_at_once():
    settings = {"dynamics": HeavyBall(0.5), "solver": "bdf"}
    once = solve(START, quadratic, 8.0, **settings)
    twice = resume(solve(START, quadratic, 3.0, **settings), 8.0)
    np.testing.assert_allclose(twice.model.theta, once.model.theta, rtol=1e-13, atol=1e-15)
    assert twice.observations["kinetic"][-1] == pytest.approx(once.observations["kinetic"][-1])


# What the graph costs to compile is what these tests cost: 7 to 15 seconds a solver.
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("solver", ["bdf", "dense-bdf"])
@pytest.mark.parametrize("dynamics", [HeavyBall(0.5), Nesterov()])
def test_the_graph_takes_the_steps_of_the_host(solver, dynamics, precision):
    rtol = {"float64": 1e-6, "float32": 1e-3}[precision]
    host, graph = (
        solve(
            START, quadratic, 10.0, dynamics=dynamics, solver=solver, rtol=rtol, atol=1e-3 * rtol,
            engine=engine, precision=precision, observers=SEEN, save=LogTimes(4, 0.1),
        )
        for engine in ("host", "graph")
    )  # fmt: skip
    assert graph.engine == "graph"
    # In single precision rounding decides how many secants and trials there are.
    assert graph.stats.cost == pytest.approx(host.stats.cost, rel=0.04 if rtol < 1e-3 else 0.25)
    for record in ("theta", "kinetic", "dissipated"):
        ours, theirs = (run.observations[record] for run in (host, graph))
        # An integral that is not resolved is NaN, in both.
        np.testing.assert_allclose(ours, theirs, atol=10 * rtol * np.nanmax(np.abs(theirs)))
    if precision == "float64":
        lost = graph.observations["dissipated"]
        mechanical = graph.loss + graph.observations["kinetic"] + lost
        np.testing.assert_allclose(mechanical, mechanical[0], rtol=300 * rtol)


@pytest.mark.slow  # The same compilation.
def test_in_the_graph_flows_stop_end_by_a_budget_and_go_on():
    settings = {"dynamics": Nesterov(), "solver": "bdf", "engine": "graph", "rtol": 1e-6}
    once = solve(START, quadratic, 8.0, snapshots=[2.0, 8.0], **settings)
    twice = resume(solve(START, quadratic, 3.0, snapshots=[2.0], **settings), 8.0)
    np.testing.assert_allclose(twice.model.theta, once.model.theta, rtol=1e-13, atol=1e-15)
    assert set(once.snapshots) == {2.0, 8.0}
    on_host = solve(
        START, quadratic, 8.0, stops=[LossBelow(0.1)], **(settings | {"engine": "host"})
    )
    stopped = solve(START, quadratic, 8.0, stops=[LossBelow(0.1)], **settings)
    assert str(stopped.result) == str(on_host.result) == "loss below"
    assert stopped.time == pytest.approx(on_host.time, rel=1e-6)
    spent = solve(START, quadratic, 8.0, max_gradients=100, **settings)
    assert spent.result == Outcome.BUDGET
    assert 70 <= spent.stats.cost <= 130
    automatic = solve(START, quadratic, 100.0, dynamics=HeavyBall(1.0), engine="graph")
    assert automatic.solvers[0] == "bdf"


def test_another_friction_compiles_nothing():
    solve(START, quadratic, 1.0, dynamics=HeavyBall(0.5), solver="tsit5")
    from jax._src import test_util

    with test_util.count_jit_and_pmap_lowerings() as count:
        solve(START, quadratic, 1.0, dynamics=HeavyBall(0.7), solver="tsit5")
    assert count() == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"solver": "rkc2"}, "explicit or stock implicit one for HeavyBall"),
        ({"solver": "exprb"}, "explicit or stock implicit one for HeavyBall"),
        ({"atol": 0.0}, "starts from rest"),
        ({"observers": {"kinetic": lambda m: m.theta[0]}}, "rename it"),
        ({"dynamics": "heavy ball"}, "must be a dynamics"),
    ],
)
def test_what_has_no_meaning_is_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        solve(START, quadratic, 1.0, **({"dynamics": HeavyBall(1.0)} | settings))


def test_frictions_are_refused_that_give_energy():
    with pytest.raises(ValueError, match="at least 0"):
        HeavyBall(-1.0)
    with pytest.raises(ValueError, match="positive number"):
        Nesterov(0.0)
    with pytest.raises(ValueError, match="finite"):
        HeavyBall(np.inf)
