"""The host and the graph are two drivers of the same methods; save times are only looked at."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest

from flowlift import solve
from flowlift.flow import GradientNormBelow, LossBelow, Stagnation, resume
from flowlift.flow.outcome import Outcome

SOLVERS = ["tsit5", "dopri8", "bdf", "rkc2", "exprb"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dopri8", "rkc2", "exprb")]
START = problems.Vector(jnp.array([1.5, -0.7, 0.4]))


def valley(m):
    """Stiff, with curvature that changes along the flow."""
    x = m.theta
    return jnp.mean((jnp.tanh(jnp.array([[1.0, 2.0, 0.5], [9.0, -4.0, 30.0]]) @ x) - 0.3) ** 2)


def flow(solver, **options):
    return solve(START, valley, 10.0, solver=solver, rtol=1e-5, **({"save": [10.0]} | options))


def numbers(solution):
    stats = solution.stats
    return stats.gradients, stats.hvps, stats.steps, stats.rejected


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "solver",
    [
        "tsit5",
        "bdf",
        *[pytest.param(s, marks=pytest.mark.slow) for s in ("dopri8", "rkc2", "exprb")],
    ],
)
def test_the_engines_take_the_same_steps(solver, precision):
    host, graph = (
        flow(solver, engine=engine, precision=precision, atol=1e-7) for engine in ("host", "graph")
    )
    assert (host.engine, graph.engine) == ("host", "graph")
    assert host.result == graph.result == Outcome.HORIZON
    rounding = 0 if precision == "float64" else 0.05
    # An explicit pair of the host has the first stage of the first step from the choice of its
    # length, where the graph evaluates it again until a step is accepted. Where the two texts sum
    # in another order, a product more or less may be asked for.
    for one, other in zip(numbers(host), numbers(graph), strict=True):
        assert abs(one - other) <= 3 + rounding * other, (numbers(host), numbers(graph))
    tolerance = 1e-9 if precision == "float64" else 1e-3
    np.testing.assert_allclose(host.model.theta, graph.model.theta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
def test_save_times_never_change_the_steps(solver):
    times = np.linspace(0.0, 10.0, 101)[1:]
    few, many = flow(solver), flow(solver, save=times)
    assert numbers(few) == numbers(many)
    np.testing.assert_array_equal(few.model.theta, many.model.theta)
    assert many.times.tolist() == [0.0, *times]


# In each run a method of each kind: explicit, multistep, exponential.
@pytest.mark.parametrize("solver", ["tsit5", "bdf", "exprb", *SLOW[:2]])
def test_values_at_save_times_are_as_accurate_as_at_steps(solver):
    """L = sum h w^2 / 2 has the flow w e^(-h t): at save times the error is that of the steps."""
    h = jnp.array([1.0, 5.0, 40.0])

    def error(rtol, save):
        found = solve(
            problems.Vector(jnp.ones(3)),
            lambda m: 0.5 * jnp.sum(h * m.theta**2),
            2.0,
            solver=solver,
            rtol=rtol,
            atol=rtol * 1e-2,
            save=save,
            observers={"theta": lambda m: m.theta},
        )
        exact = np.exp(-np.asarray(h) * found.times[:, None])
        return np.abs(found.observations["theta"] - exact).max()

    times = np.linspace(0.0, 2.0, 41)[1:]
    for rtol in (1e-4, 1e-6):
        assert error(rtol, times) <= 30 * rtol


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_resumed_flow_takes_the_steps_of_the_undisturbed_one(solver):
    whole = flow(solver, save=[1.0, 3.7, 10.0])
    first = solve(START, valley, 3.7, solver=solver, rtol=1e-5, save=[1.0])
    again = resume(first, 10.0, save=[1.0, 3.7, 10.0])
    np.testing.assert_array_equal(again.model.theta, whole.model.theta)
    np.testing.assert_array_equal(again.loss[1], whole.loss[1])
    # What the first call had to cut, so that it ended at its end, comes on top.
    extra = again.stats.steps - whole.stats.steps
    assert 1 <= extra <= 12


def test_two_resumptions_of_one_solution_are_the_same():
    first = flow("bdf")
    one, other = (resume(first, 100.0, save=[]) for _ in range(2))
    np.testing.assert_array_equal(one.model.theta, other.model.theta)
    assert numbers(one) == numbers(other)


@pytest.mark.parametrize("solver", ["tsit5", "bdf"])
def test_many_records_in_batches_are_those_of_few(solver):
    times = np.linspace(0.0, 10.0, 4097)[1:]
    many = flow(solver, save=times, snapshots=[float(times[1000])])
    few = flow(solver, save=times[:: 2**8])
    assert numbers(many) == numbers(few)
    shared = np.isin(many.times, few.times)
    np.testing.assert_allclose(many.loss[shared], few.loss, rtol=1e-13)
    np.testing.assert_allclose(many.gradient_norm[shared], few.gradient_norm, rtol=1e-11)
    np.testing.assert_array_equal(many.energy[shared], few.energy)
    kept = valley(many.snapshots[float(times[1000])])
    np.testing.assert_allclose(kept, many.loss[1001], rtol=1e-13)


@pytest.mark.parametrize("solver", ["tsit5", "bdf"])
def test_rules_hold_at_the_first_save_time_that_shows_them(solver):
    times = np.linspace(0.0, 10.0, 101)[1:]
    whole = flow(solver, save=times)
    for stops in ([LossBelow(float(whole.loss[40]))], [GradientNormBelow(1e-3)], [Stagnation(0.2)]):
        solution = flow(solver, save=times, stops=stops)
        assert solution.success
        assert solution.result != Outcome.HORIZON
        np.testing.assert_array_equal(solution.loss[:-1], whole.loss[: len(solution.loss) - 1])
        if isinstance(stops[0], LossBelow):
            assert solution.loss[-1] <= stops[0].threshold < solution.loss[-2]
        on = resume(solution, 10.0, save=times)
        np.testing.assert_allclose(on.loss[-1], whole.loss[-1], rtol=1e-9)


def test_a_flow_compiles_two_programs_and_an_explicit_one_two():
    compiled = []

    def listen(event, duration, **_):
        compiled.extend([event] * (event == "/jax/core/compile/backend_compile_duration"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for solver, most in (("bdf", 2), ("tsit5", 2), ("rkc2", 3)):
            start, seen = problems.Vector(jax.device_put(np.ones(5 + most))), len(compiled)
            solve(start, lambda m: jnp.sum(jnp.cos(m.theta)), 5.0, solver=solver)
            assert len(compiled) - seen <= most, solver
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_engines_are_named():
    with pytest.raises(
        ValueError, match="Argument `engine` must be one of host, graph, but is 'gpu'"
    ):
        flow("tsit5", engine="gpu")
    with pytest.raises(ValueError, match="must be 'graph' for the solver kvaerno5"):
        flow("kvaerno5", engine="host")


class Powers(eqx.Module):
    theta: jax.Array
    power: object
    fixed: object = eqx.field(static=True, default=2)


def powers(m):
    exponent = 3 if m.power is True else m.power
    return jnp.sum(m.theta**exponent) + jnp.sum(m.theta ** (4 if m.fixed is True else m.fixed))


# In the graph the same four keys, with a leg of diffrax compiled for each.
@pytest.mark.parametrize("engine", ["host", pytest.param("graph", marks=pytest.mark.slow)])
def test_numbers_that_python_takes_for_equal_are_other_models(engine):
    """1 == 1.0 == True, and what was compiled for one of them must not serve the others."""
    start = jnp.array([1.5, 0.7])
    for power, fixed in [(1, 1), (True, 1), (1, True), (1.0, 1)]:
        model = Powers(start, power, fixed)
        solution = solve(model, powers, 0.01, solver="tsit5", save=[0.01], engine=engine)
        assert solution.loss[0] == pytest.approx(float(powers(model)), rel=1e-14)


class Unhashable:
    __hash__ = None


def test_what_programs_cannot_be_known_by_is_refused():
    model = Powers(jnp.ones(2), Unhashable())
    with pytest.raises(ValueError, match=r"`model` must hold arrays and hashable .*part \.power"):
        solve(model, lambda m: jnp.sum(m.theta**2), 1.0)
