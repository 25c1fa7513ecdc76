"""The host and the graph are two drivers of the same methods; save times are only looked at."""

import diffrax
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
STOCK = {
    "implicit-euler": diffrax.ImplicitEuler(),
    "kvaerno3": diffrax.Kvaerno3(),
    "kvaerno4": diffrax.Kvaerno4(),
    "bosh3": diffrax.Bosh3(),
}
TSIT5 = diffrax.Tsit5()
# Slow are those that compile for seconds, of the same kind as another one.
DRIVEN = [
    *[(solver, "host") for solver in SOLVERS],
    *[("tsit5", "graph"), ("bosh3", "graph")],
    *(pytest.param(s, "graph", marks=pytest.mark.slow) for s in ("kvaerno5", "implicit-euler")),
    *[
        pytest.param(solver, "graph", marks=pytest.mark.slow)
        for solver in ("bdf", "rkc2", "exprb", "dopri8", "kvaerno3", "kvaerno4")
    ],
]
START = problems.Vector(jnp.array([1.5, -0.7, 0.4]))


def valley(m):
    """Stiff, with curvature that changes along the flow."""
    x = m.theta
    return jnp.mean((jnp.tanh(jnp.array([[1.0, 2.0, 0.5], [9.0, -4.0, 30.0]]) @ x) - 0.3) ** 2)


def flow(solver, **options):
    # Order 1 takes a thousand steps at a hundredth of this tolerance.
    rtol = 1e-3 if solver == "implicit-euler" else 1e-5
    options = {"save": [10.0], "horizon": 10.0, "rtol": rtol} | options
    return solve(START, valley, solver=STOCK.get(solver, solver), **options)


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
    # In single precision, one attempt in twenty is decided by rounding.
    for one, other in zip(numbers(host), numbers(graph), strict=True):
        decided = rounding * max(other, graph.stats.steps)
        assert abs(one - other) <= 3 + decided, (numbers(host), numbers(graph))
    tolerance = 1e-9 if precision == "float64" else 1e-3
    np.testing.assert_allclose(host.model.theta, graph.model.theta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("solver", "engine"), DRIVEN)
def test_save_times_never_change_the_steps(solver, engine):
    times = np.linspace(0.0, 10.0, 101)[1:]
    few, many = flow(solver, engine=engine), flow(solver, engine=engine, save=times)
    assert few.engine == many.engine == engine
    assert numbers(few) == numbers(many)
    # The time of the last step is a sum, in another order.
    np.testing.assert_allclose(few.model.theta, many.model.theta, rtol=1e-15, atol=1e-17)
    assert many.times.tolist() == [0.0, *times]
    assert many.time == 10.0


@pytest.mark.parametrize("solver", ["kvaerno5", "tsit5", "implicit-euler", "exprb"])
def test_ten_thousand_save_times_cost_the_steps_of_ten(solver):
    """Where a step passes many save times, what is spent on them is bounded by the steps."""
    engine = "host" if solver == "exprb" else "graph"
    few, many = (
        flow(solver, engine=engine, save=np.linspace(0.0, 10.0, n + 1)[1:]) for n in (10, 10_000)
    )
    assert numbers(few) == numbers(many)
    assert len(many.times) == 10_001
    # Kvaerno's interpolant is of a lower order: each step is looked into by four shorter ones.
    assert (many.stats.observation_gradients > 10_001) == (solver == "kvaerno5")
    spent = many.stats.observation_gradients - 10_001
    assert spent <= 6 * many.stats.cost
    shared = np.isin(many.times, few.times)
    tolerance = {"implicit-euler": 1e-3}.get(solver, 1e-5)
    np.testing.assert_allclose(many.loss[shared], few.loss, rtol=tolerance)


@pytest.mark.parametrize(("solver", "engine"), DRIVEN)
def test_values_at_save_times_are_as_accurate_as_at_steps(solver, engine):
    """L = sum h w^2 / 2 has the flow w e^(-h t): at save times the error is that of the steps."""
    h = jnp.array([1.0, 5.0, 40.0])

    def error(rtol, save):
        found = solve(
            problems.Vector(jnp.ones(3)),
            lambda m: 0.5 * jnp.sum(h * m.theta**2),
            2.0,
            solver=STOCK.get(solver, solver),
            engine=engine,
            rtol=rtol,
            atol=rtol * 1e-2,
            save=save,
            observers={"theta": lambda m: m.theta},
        )
        exact = np.exp(-np.asarray(h) * found.times[:, None])
        return np.abs(found.observations["theta"] - exact).max()

    times = np.linspace(0.0, 2.0, 41)[1:]
    # The errors of rtol^(-1/2) steps of order 1 add up.
    bounds = {1e-2: 0.05, 1e-4: 0.005} if solver == "implicit-euler" else {1e-4: 3e-3, 1e-6: 3e-5}
    for rtol, most in bounds.items():
        assert error(rtol, times) <= most


# A sibling: the polynomial is one text, and Kvaerno's program takes seconds to compile.
@pytest.mark.parametrize("solver", [pytest.param("kvaerno5", marks=pytest.mark.slow), "dopri8"])
def test_polynomials_through_shorter_steps_are_as_accurate_as_those(solver):
    """One save time in a step is met by a shorter step, many by a polynomial through a few."""

    def error(count):
        found = solve(
            problems.Vector(jnp.ones(2)),
            lambda m: jnp.sum(jnp.array([0.5, 4.0]) * m.theta**2),
            4.0,
            solver=solver,
            engine="graph",
            rtol=1e-8,
            atol=1e-10,
            save=np.linspace(0.0, 4.0, count + 1)[1:],
            observers={"theta": lambda m: m.theta},
        )
        exact = np.exp(-np.array([1.0, 8.0]) * found.times[:, None])
        return np.abs(found.observations["theta"] - exact).max()

    assert error(2_000) <= 4 * max(error(20), 1e-9)


@pytest.mark.parametrize(("solver", "engine"), DRIVEN)
def test_a_resumed_flow_takes_the_steps_of_the_undisturbed_one(solver, engine):
    options = {"save": [1.0, 3.7, 10.0], "engine": engine}
    whole = flow(solver, **options)
    first = flow(solver, **options | {"save": [1.0], "horizon": 3.7})
    again = resume(first, 10.0, save=[1.0, 3.7, 10.0])
    np.testing.assert_allclose(again.model.theta, whole.model.theta, rtol=1e-15, atol=1e-17)
    np.testing.assert_array_equal(again.loss[1], whole.loss[1])
    # What the first call had to cut, so that it ended at its end, comes on top.
    extra = again.stats.steps - whole.stats.steps
    assert 1 <= extra <= 12


# Implicit Euler is the implicit one that compiles in a second.
@pytest.mark.parametrize(
    "solver", ["tsit5", pytest.param("kvaerno3", marks=pytest.mark.slow), "implicit-euler"]
)
def test_the_graph_takes_the_steps_of_diffeqsolve(solver):
    """The loop is ours; solver and controller are diffrax's, and so are the steps."""
    found = flow(solver, engine="graph", atol=1e-7)
    # Root mean square over theta alone; the root finder takes the controller's norm.
    control = diffrax.PIDController(rtol=1e-3 if solver == "implicit-euler" else 1e-5, atol=1e-7)
    gradient = jax.grad(lambda x: valley(problems.Vector(x)))
    term, method = diffrax.ODETerm(lambda t, x, args: -gradient(x)), STOCK.get(solver, TSIT5)
    # Within diffeqsolve the controller does not know the term, and takes 0.01.
    order = method.error_order(term)
    first, _ = control.init(term, 0.0, 10.0, START.theta, None, None, method.func, order)
    direct = diffrax.diffeqsolve(
        term,
        method,
        0.0,
        10.0,
        first,
        START.theta,
        stepsize_controller=control,
        max_steps=100_000,
    )
    steps = int(direct.stats["num_steps"]), int(direct.stats["num_rejected_steps"])
    assert (found.stats.steps, found.stats.rejected) == steps
    # Its root finder solves for theta alone, ours for the integrals too.
    tolerance = 1e-12 if solver == "tsit5" else 1e-6
    np.testing.assert_allclose(found.model.theta, direct.ys[-1], rtol=tolerance)


def test_two_resumptions_of_one_solution_are_the_same():
    first = flow("bdf")
    one, other = (resume(first, 100.0, save=[]) for _ in range(2))
    np.testing.assert_array_equal(one.model.theta, other.model.theta)
    assert numbers(one) == numbers(other)


@pytest.mark.parametrize(
    ("solver", "engine"), [("tsit5", "host"), ("bdf", "host"), ("tsit5", "graph")]
)
def test_many_records_in_batches_are_those_of_few(solver, engine):
    times = np.linspace(0.0, 10.0, 4097)[1:]
    many = flow(solver, engine=engine, save=times, snapshots=[float(times[1000])])
    few = flow(solver, engine=engine, save=times[:: 2**8])
    assert numbers(many) == numbers(few)
    shared = np.isin(many.times, few.times)
    np.testing.assert_allclose(many.loss[shared], few.loss, rtol=1e-13)
    np.testing.assert_allclose(many.gradient_norm[shared], few.gradient_norm, rtol=1e-11)
    # A burst counts the times of its records from its own start: a unit or two in the last place.
    np.testing.assert_allclose(many.energy[shared], few.energy, rtol=1e-13)
    kept = valley(many.snapshots[float(times[1000])])
    np.testing.assert_allclose(kept, many.loss[1001], rtol=1e-13)


RULED = [("tsit5", "host"), ("bdf", "host"), ("tsit5", "graph")]
# The march asks rules in one place, whatever the solver: a sibling of the row before.
RULED += [pytest.param("kvaerno5", "graph", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("solver", "engine"), RULED)
def test_rules_hold_at_the_first_save_time_that_shows_them(solver, engine):
    times = np.linspace(0.0, 10.0, 101)[1:]
    whole = flow(solver, save=times, engine=engine)
    for stops in ([LossBelow(float(whole.loss[40]))], [GradientNormBelow(1e-3)], [Stagnation(0.2)]):
        solution = flow(solver, save=times, stops=stops, engine=engine)
        assert solution.success
        assert solution.result != Outcome.HORIZON
        np.testing.assert_array_equal(solution.loss[:-1], whole.loss[: len(solution.loss) - 1])
        if isinstance(stops[0], LossBelow):
            assert solution.loss[-1] <= stops[0].threshold < solution.loss[-2]
        on = resume(solution, 10.0, save=times)
        np.testing.assert_allclose(on.loss[-1], whole.loss[-1], rtol=1e-9)


HOST = [("bdf", 2), ("tsit5", 2), ("rkc2", 3)]


def test_a_flow_compiles_two_programs_and_an_explicit_one_two():
    compiled = []

    def listen(event, duration, **_):
        compiled.extend([event] * (event == "/jax/core/compile/backend_compile_duration"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        # In the graph: the start, the leg, the record and, if it is used, the interpolant.
        graph = [("kvaerno5", "graph", 3), ("tsit5", "graph", 4)]
        for solver, engine, most in [*[(s, "host", n) for s, n in HOST], *graph]:
            start, seen = problems.Vector(jax.device_put(np.ones(5 + most))), len(compiled)
            solve(start, lambda m: jnp.sum(jnp.cos(m.theta)), 5.0, solver=solver, engine=engine)
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


# In the graph the same four keys, with a leg compiled for each.
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
