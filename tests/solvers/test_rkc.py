"""RKC2 against its stability polynomial, closed-form flows and the published heat equation."""

import functools

import diffrax
import fixed
import heat
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from numpy.polynomial.chebyshev import Chebyshev

from flowlift import flow
from flowlift.flow import LogTimes, Outcome
from flowlift.solvers import RKC2, Halt, PredictiveController, WorkController
from flowlift.solvers.chebyshev import chebyshev_step, longest_step, stages_needed

STAGES = (2, 3, 10, 100)


def shifted_chebyshev(s, z):
    """a_s + b_s T_s(w_0 + w_1 z), by the definitions of the paper, (2.3)-(2.7)."""
    w0 = 1 + 2 / (13 * s**2)
    t = Chebyshev.basis(s)
    first, second = t.deriv()(w0), t.deriv(2)(w0)
    b, w1 = second / first**2, first / second
    return 1 - b * t(w0) + b * t(w0 + w1 * z)


@functools.cache
def amplification(dtype="float64"):
    @jax.jit
    def step(z, stages):
        one = jnp.ones_like(z)
        increment, rate = chebyshev_step(
            lambda t, y: z * y, 0.0, jnp.asarray(1.0, dtype), one, z * one, stages
        )
        return one + increment, rate

    return step


@pytest.mark.parametrize("s", STAGES)
def test_stability_polynomial_is_the_shifted_chebyshev_polynomial(s):
    z = np.linspace(-0.65 * s**2, 2.0, 97)
    y1, rate = amplification()(jnp.asarray(z), jnp.asarray(s))
    np.testing.assert_allclose(y1, shifted_chebyshev(s, z), rtol=0, atol=1e-14 * s**2)
    np.testing.assert_allclose(rate, z * y1, rtol=1e-13)


@pytest.mark.parametrize("s", [*STAGES, 1000])
def test_stability_interval_and_damping(s):
    """|R| <= 1 on [-0.653 (s^2 - 1), 0], 2/3 +- (1/3 - eps/3) away from 0; R = e^z + O(z^3)."""
    z = -jnp.linspace(0, float(0.653 * (s**2 - 1)), 2001)
    r = np.asarray(amplification()(z, jnp.asarray(s))[0])
    assert np.abs(r).max() <= 1 + 1e-10
    if s >= 10:
        assert 0.9 < np.abs(r[200:]).max() < 0.96
        assert 0.3 < r[200:].min() < 0.4
    small = jnp.array([-1e-2, 1e-2])
    growth = np.asarray(amplification()(small, jnp.asarray(s))[0])
    np.testing.assert_allclose(growth, np.exp(small), atol=3e-7)
    assert np.abs(growth - np.exp(small)).min() > 1e-9
    beyond = jnp.asarray([-0.70 * (s**2 - 1) - 2])
    assert np.abs(amplification()(beyond, jnp.asarray(s))[0]) > 1


def test_coefficients_in_single_precision_are_as_accurate_as_it_is():
    """The rounding of w_0 + w_1 z alone moves T_s by s / sin(arccos) of it inside."""
    for s in (10, 100, 1000):
        z = np.linspace(-0.5 * s**2, 1.0, 50).astype("float32")
        y1 = amplification("float32")(jnp.asarray(z), jnp.asarray(s))[0]
        assert y1.dtype == jnp.float32
        exact = amplification()(jnp.asarray(z, "float64"), jnp.asarray(s))[0]
        assert np.abs(y1 - exact).max() < 5e-7 * s


def test_number_of_stages_is_just_enough():
    z = jnp.asarray(np.geomspace(1e-3, 1e7, 500))
    s = np.asarray(stages_needed(z))
    assert s.min() == 2
    assert np.all(z <= 0.6495 * (s**2 - 1))
    crowded = s > 2
    assert np.all(0.653 * ((s - 1) ** 2 - 1) <= 1.02 * z + 1, where=crowded)
    for cap in (2, 7, 300):
        assert float(stages_needed(0.999 * longest_step(cap, jnp.asarray(3.0)) * 3.0)) <= cap
    assert np.isfinite(float(longest_step(7, jnp.asarray(0.0))))


@pytest.fixture(scope="module")
def flows():
    return {name: make() for name, make in fixed.FLOWS.items()}


@pytest.mark.parametrize("name", fixed.FLOWS)
def test_order_is_two_with_forced_stages(flows, name):
    gradient, start, end, exact = flows[name]

    @jax.jit
    def integrate(count, stages):
        h = end / count

        def step(i, carry):
            y, rate = carry
            increment, rate = chebyshev_step(lambda t, y: -gradient(y), i * h, h, y, rate, stages)
            return y + increment, rate

        return jax.lax.fori_loop(0, count, step, (start, -gradient(start)))[0]

    for s in STAGES:
        errors = [
            np.abs(integrate(jnp.asarray(n), jnp.asarray(s)) - exact).max()
            for n in (32, 64, 128, 256)
        ]
        observed = fixed.slopes(errors)
        assert np.all((observed > 1.8) & (observed < 2.35)), (s, errors)


def test_time_dependent_fields_keep_the_order():
    """y' = -r (y - sin t) + cos t: the stages stand at their own times."""
    rates = jnp.array([0.5, 2.0, 5.0])
    field = lambda t, y: -rates * (y - jnp.sin(t)) + jnp.cos(t)

    @jax.jit
    def integrate(count, stages):
        h = 2.0 / count

        def step(i, y):
            return y + chebyshev_step(field, i * h, h, y, field(i * h, y), stages)[0]

        return jax.lax.fori_loop(0, count, step, jnp.ones(3))

    exact = np.sin(2.0) + np.exp(-2.0 * rates)
    for s in (2, 5, 40):
        errors = [
            np.abs(integrate(jnp.asarray(n), jnp.asarray(s)) - exact).max() for n in (40, 80, 160)
        ]
        assert np.all(np.abs(fixed.slopes(errors) - 2) < 0.3)


def solve(field, y0, end, rtol, solver=None, atol=None, args=None, dt0=None):
    startup = 2 if dt0 is None else 0
    controller = WorkController(PredictiveController(rtol, atol or rtol), startup=startup)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver or RKC2(),
        0.0,
        end,
        dt0,
        y0,
        args=args,
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True, controller_state=True, solver_state=True),
        adjoint=diffrax.ForwardMode(),
        max_steps=100_000,
        throw=False,
    )


@pytest.mark.slow
def test_heat_equation_of_the_paper():
    """Errors within a factor of two of the published ones, evaluations within 1.2."""
    np.testing.assert_allclose(heat.solution(30, 5), reference := heat.solution(), atol=1e-9)
    field = jax.jit(heat.field)
    check = np.asarray(field(0.3, jnp.asarray(heat.exact(0.3)[1:-1, 1:-1, 1:-1])))
    rate = -5 * (1 - heat.exact(0.3)[1:-1, 1:-1, 1:-1] ** 2)
    # Consistency: the fourth derivative of tanh is at most 4.09, so that
    # h^2 / 12 x 5^4 (1 + 2^4 + 1.5^4) x 4.09 = 2.94 bounds the truncation error.
    assert 1e-3 < np.abs(check - rate).max() < 2.94
    for tolerance, (error, evaluations) in heat.PUBLISHED.items():
        solution = solve(
            heat.field,
            jnp.asarray(heat.start()),
            heat.END,
            tolerance,
            RKC2(radius=lambda t, y, args: heat.RADIUS),
        )
        found = np.abs(np.asarray(solution.ys[0]) - reference).max()
        assert error / 2.5 < found < 2 * error, tolerance
        work = solution.controller_state.work
        assert 0.8 * evaluations < int(work.gradients) < 1.2 * evaluations
        assert int(work.hvps) == 0


def counting_quadratic(eigenvalues):
    """A field that counts its evaluations on the host, products (which trace it anew) apart."""
    calls = []

    @jax.custom_jvp
    def field(y):
        jax.debug.callback(lambda: calls.append("gradient"))
        return -eigenvalues * y - 0.1 * y**3

    @field.defjvp
    def tangent(primals, tangents):
        (y,), (v,) = primals, tangents
        jax.debug.callback(lambda: calls.append("product"))
        return -eigenvalues * y - 0.1 * y**3, -(eigenvalues + 0.3 * y**2) * v

    return (lambda t, y, args: field(y)), calls


def test_counts_are_true_counts():
    field, calls = counting_quadratic(jnp.array([1.0, 30.0, 2000.0]))
    solution = solve(field, jnp.ones(3), 2.0, 1e-4, dt0=1e-3)
    jax.effects_barrier()
    work = solution.controller_state.work
    assert int(work.gradients) == calls.count("gradient")
    assert int(work.hvps) == calls.count("product") > 0


def test_work_grows_like_the_root_of_the_spectral_radius():
    """Hundredfold stiffness costs about tenfold, not hundredfold."""
    field = lambda t, y, stiff: -stiff * y
    costs = []
    for radius in (1e3, 1e5, 1e7):
        stiff = jnp.asarray(np.geomspace(0.1, radius, 8))
        solution = solve(field, jnp.ones(8), 10.0, 1e-4, args=stiff)
        exact = np.exp(-10 * np.asarray(stiff))
        np.testing.assert_allclose(solution.ys[0], exact, atol=1e-3)
        costs.append(int(solution.controller_state.work.cost))
    assert 2 < costs[1] / costs[0] < 14
    assert 2 < costs[2] / costs[1] < 14


@pytest.mark.slow
def test_stage_cap_shortens_the_step_instead_of_clipping_the_stages():
    stiff = jnp.array([0.1, 1e4])
    field = lambda t, y, args: -stiff * y
    capped = solve(field, jnp.ones(2), 10.0, 1e-3, RKC2(max_stages=20))
    free = solve(field, jnp.ones(2), 10.0, 1e-3)
    for solution in (capped, free):
        np.testing.assert_allclose(solution.ys[0], np.exp(-10 * stiff), atol=3e-3)
    steps = int(capped.controller_state.accepted)
    # 20 stages are stable for h rho = 0.65 x 399.
    assert steps > 10 * 1e4 / (0.66 * 399)
    assert steps < 2 * 10 * 1e4 / (0.65 * 399)
    assert (
        int(capped.controller_state.work.gradients)
        <= 20 * int(capped.controller_state.attempts) + 3
    )
    assert int(free.controller_state.accepted) < steps / 5


@pytest.mark.slow  # compiles the solver for a field of its own
def test_curvature_that_sharpens_under_way_is_seen_at_once():
    """The stiff rate rises from 1 to 1e4 as the slow mode decays: no estimate ages well."""

    def field(t, y, args):
        rate = 1e4 / (1 + jnp.exp(20 * (y[0] - 0.5)))
        potential_slope = 1e4 * jax.grad(lambda u: 1 / (1 + jnp.exp(20 * (u - 0.5))))(y[0])
        return -jnp.stack([y[0] + 0.5 * potential_slope * y[1] ** 2, (1 + rate) * y[1]])

    solution = solve(field, jnp.array([1.0, 1e-3]), 3.0, 1e-5)
    assert solution.result == diffrax.RESULTS.successful
    np.testing.assert_allclose(solution.ys[0], [np.exp(-3.0), 0.0], atol=3e-4)
    state = solution.controller_state
    assert int(state.attempts) - int(state.accepted) < 0.2 * int(state.attempts)


@pytest.mark.slow  # compiles the solver for a field of its own
def test_negative_curvature_is_growth():
    rates = jnp.array([0.7, -3.0, -500.0])
    solution = solve(
        lambda t, y, args: rates * y, jnp.array([1e-3, 1.0, 1.0]), 10.0, 1e-6, atol=1e-10
    )
    np.testing.assert_allclose(solution.ys[0][0], 1e-3 * np.exp(7.0), rtol=2e-3)
    np.testing.assert_allclose(solution.ys[0][1:], 0, atol=1e-6)


@pytest.mark.slow  # compiles the solver for a field of its own
def test_growth_is_no_larger_radius():
    """H = -diag(1, ..., 100): the largest eigenvalue is that of no step, known once in a while."""
    rates = jnp.asarray(np.geomspace(1.0, 100.0, 30))
    solution = solve(lambda t, y, args: rates * y, jnp.ones(30), 0.3, 1e-5)
    # Some 200 steps, each off by up to sqrt(30) 1e-5 of the largest: all in one direction, 1.1e-2.
    np.testing.assert_allclose(solution.ys[0], np.exp(0.3 * rates), rtol=2e-2)
    work, steps = solution.controller_state.work, int(solution.controller_state.attempts)
    # Two stages a step, each step tried once; products at the start and every 100 evaluations.
    assert 150 < steps <= int(work.gradients) / 2
    assert int(work.gradients) < 2.1 * steps
    assert int(work.hvps) <= 16 * (1 + int(work.gradients) // 100)


@pytest.mark.slow
def test_any_pytree_and_dense_output():
    """Complete trees as states; the interpolant is third-order accurate between steps."""
    times = jnp.linspace(0.1, 2.9, 15)
    controller = WorkController(PredictiveController(1e-6, 1e-8), startup=2)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: {"a": -y["a"], "b": (-200 * y["b"][0],)}),
        RKC2(),
        0.0,
        3.0,
        None,
        {"a": jnp.ones((2, 2)), "b": (jnp.ones(3),)},
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(ts=times),
    )
    exact = np.exp(-np.asarray(times))[:, None, None] * np.ones((2, 2))
    np.testing.assert_allclose(solution.ys["a"], exact, atol=3e-5)
    np.testing.assert_allclose(solution.ys["b"][0], 0, atol=2e-6)


def test_a_field_without_symmetry_is_a_result():
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    solution = solve(lambda t, y, args: rotation @ y, jnp.ones(2), 5.0, 1e-4)
    assert int(solution.controller_state.halt) == Halt.NOT_SYMMETRIC
    assert np.isfinite(solution.ys[0]).all()


@pytest.mark.slow
def test_ensembles_under_vmap_equal_single_runs():
    field = lambda t, y, stiff: -stiff * y - 0.1 * y**3

    def run(stiff):
        solution = solve(field, jnp.ones(3), 1.0, 1e-5, args=stiff)
        return solution.ys[0], solution.controller_state.work.cost

    ensemble = jnp.asarray([[1.0, 2.0, 3.0], [1.0, 50.0, 1000.0], [0.1, 7.0, 300.0]])
    together = jax.jit(jax.vmap(run))(ensemble)
    alone = [jax.jit(run)(stiff) for stiff in ensemble]
    for i, (y, cost) in enumerate(alone):
        np.testing.assert_allclose(together[0][i], y, rtol=1e-10, atol=1e-12)
        assert int(together[1][i]) == int(cost)


def vector_flow(size=5, condition=1e4, **kwargs):
    problem = problems.Quadratic.draw(size, condition)
    model = problems.Vector(jnp.asarray(problem.start))
    horizon = 0.3 * condition
    return problem, flow.solve(model, problem, horizon, **{"solver": "rkc2"} | kwargs)


@pytest.mark.slow
def test_flow_by_name():
    problem, solution = vector_flow(rtol=1e-6, atol=1e-9)
    assert solution.result == Outcome.HORIZON
    np.testing.assert_allclose(solution.model.theta, problem.theta(3e3), atol=2e-4)
    np.testing.assert_allclose(solution.loss, problem.loss_at(solution.times), rtol=2e-3)
    np.testing.assert_allclose(solution.loss[0] - solution.loss, solution.energy, rtol=1e-3)
    np.testing.assert_allclose(solution.arc_length[-1], problem.arc_length_at(3e3), rtol=2e-3)
    assert solution.stats.hvps > 0


@pytest.mark.slow
def test_resumed_flow_equals_the_direct_one():
    save = LogTimes(2, start=1.0)
    _, direct = vector_flow(save=save)
    problem = problems.Quadratic.draw(5, 1e4)
    model = problems.Vector(jnp.asarray(problem.start))
    first = flow.solve(model, problem, 1e2, solver="rkc2", save=save)
    both = flow.resume(first, 3e3, save=save)
    assert both.loss[-1] == pytest.approx(direct.loss[-1], rel=1e-4)
    assert both.stats.cost < 1.1 * direct.stats.cost + 60


@pytest.mark.slow
def test_single_precision_follows_double():
    _, double = vector_flow(rtol=1e-3, atol=1e-5)
    _, single = vector_flow(rtol=1e-3, atol=1e-5, precision="float32")
    assert single.success
    assert single.model.theta.dtype == jnp.float32
    np.testing.assert_allclose(single.loss, double.loss, rtol=5e-3)
    assert single.stats.cost < 1.3 * double.stats.cost


@pytest.mark.slow
def test_failures_are_results():
    nan = flow.solve(
        problems.Vector(jnp.array([2.0])),
        lambda m: jnp.sum(jnp.sqrt(m.theta - 1.0)),
        100.0,
        solver="rkc2",
    )
    assert nan.result in (Outcome.NON_FINITE, Outcome.TIME_UNDERFLOW)
    assert 1.2 < nan.time < 4 / 3 * 1.001
    explosion = flow.solve(
        problems.Vector(jnp.array([1.0])), lambda m: -jnp.sum(m.theta**4) / 4, 10.0, solver="rkc2"
    )
    assert explosion.result.failed
    assert explosion.time == pytest.approx(0.5, rel=1e-2)

    @jax.custom_jvp
    def product(a, b):
        return a * b

    # No differential of anything: the derivative in b is left out.
    product.defjvp(lambda primals, tangents: (product(*primals), primals[1] * tangents[0]))

    def halved(m):
        return jnp.sum(product(m.theta[0], m.theta[1:])) + jnp.sum(m.theta**2)

    skewed = flow.solve(problems.Vector(jnp.ones(4)), halved, 1.0, solver="rkc2")
    assert skewed.result == Outcome.NOT_SYMMETRIC
    assert "custom derivative" in skewed.message


@pytest.mark.slow
@pytest.mark.parametrize(("name", "horizon", "most"), [("A_tanh", 10.0, 500), ("C", 1.0, 250)])
def test_reference_flows(name, horizon, most):
    reference = problems.reference(name)
    solution = flow.solve(
        problems.Vector(jnp.asarray(reference.theta0)),
        lambda m: reference.loss(m.theta),
        horizon,
        save=reference.reached([horizon]),
        solver="rkc2",
        rtol=1e-4,
        atol=1e-7,
    )
    assert reference.error(solution.times, solution.loss) < 2e-3
    assert solution.stats.cost < most
