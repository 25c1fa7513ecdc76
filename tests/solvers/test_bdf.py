"""The BDF: orders of convergence, closed forms, true counts, memory, bad luck."""

import dataclasses
import functools
import io
import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
import scipy.integrate

from flowlift.solvers import BDF, Halt, ProposedSteps, WorkController
from flowlift.solvers.differences import ROWS, DifferenceInterpolation, rescaled, updated
from flowlift.solvers.tolerances import Tolerances


def controller(rtol, atol, **kwargs):
    steps = ProposedSteps(rtol, atol, **kwargs)
    return WorkController(steps, startup=3, startup_products=2, regrowth=10.0)


@eqx.filter_jit
def run(field, y0, horizon, rtol, atol, args=None, save=None, solver=None, **kwargs):
    solver = solver or BDF()
    ends = diffrax.SubSaveAt(t1=True)
    subs = [ends] if save is None else [ends, diffrax.SubSaveAt(ts=save)]
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        jnp.zeros_like(horizon),
        horizon,
        None,
        y0,
        args,
        saveat=diffrax.SaveAt(subs=subs, solver_state=True, controller_state=True),
        stepsize_controller=controller(rtol, atol, select=solver.select),
        max_steps=10_000,
        throw=False,
        adjoint=diffrax.ForwardMode(),
        **kwargs,
    )


def solve(field, y0, horizon, rtol=1e-6, **kwargs):
    tolerances = (jnp.asarray(t, horizon.dtype) for t in (rtol, 1e-3 * rtol))
    return run(field, y0, horizon, *tolerances, **kwargs)


def quadratic(t, y, hessian):
    return -hessian @ y


# Orders, with a fixed step and a fixed order, from exact starting values.


def tanh_flow(size=3):
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal((6, 2)), rng.standard_normal(6)

    def loss(theta):
        w, a = theta[: 2 * size].reshape(size, 2), theta[2 * size :]
        return jnp.mean((jnp.tanh(x @ w.T) @ a - target) ** 2)

    theta0 = rng.standard_normal(3 * size)
    gradient = jax.jit(jax.grad(loss))
    exact = scipy.integrate.solve_ivp(
        lambda _, y: -np.asarray(gradient(y)),
        (0, 3),
        theta0,
        method="DOP853",
        rtol=1e-13,
        atol=1e-14,
        dense_output=True,
    ).sol
    return lambda t, y, args: -jax.grad(loss)(y), lambda t: exact(t)


def linear_net_flow():
    strengths, u0 = np.array([2.0, 1.0]), 0.05

    def field(t, y, args):
        return -jax.grad(lambda w: 0.5 * jnp.sum((jnp.asarray(strengths) - w[0] * w[1]) ** 2))(y)

    def exact(t):
        root = np.sqrt([problems.mode_strength(s, u0, t) for s in strengths])
        return np.stack([root, root])

    return field, exact


def quadratic_flow():
    problem = problems.Quadratic.draw(4, 10.0)
    hessian, optimum = jnp.asarray(problem.hessian), jnp.asarray(problem.optimum)
    return lambda t, y, args: -hessian @ (y - optimum), problem.theta


FLOWS = {"quadratic": quadratic_flow, "linear net": linear_net_flow, "tanh": tanh_flow}


@functools.cache
def flow(name):
    return FLOWS[name]()


def past_differences(exact, t, h, like):
    values = np.stack([np.ravel(exact(t - j * h)) for j in range(6)])
    rows = [sum((-1) ** i * math.comb(j, i) * values[i] for i in range(j + 1)) for j in range(6)]
    return jnp.asarray(np.concatenate([rows, np.zeros((ROWS - 6, values.shape[1]))]), like.dtype)


@functools.cache
def constant_steps(name):
    """order, h, number of steps -> error at the end; one compilation per flow."""
    field, exact = flow(name)
    # By hand, what diffrax fills in: whose steps it takes.
    solver = BDF(1e-11, 1e-13, root_finder=Tolerances.of(BDF.default_controller(1e-11, 1e-13)))
    term = diffrax.ODETerm(field)

    @jax.jit
    def advance(differences, order, h, steps):
        y0 = jnp.asarray(exact(0.0))
        state = solver.init(term, 0.0, h, y0, None)

        def step(_, carry):
            y, state = carry
            state = eqx.tree_at(lambda s: (s.order, s.equal), state, (order, jnp.zeros((), int)))
            y, _, _, state, _ = solver.step(term, 0.0, h, y, None, state, False)
            return y, state

        state = eqx.tree_at(lambda s: s.differences, state, differences)
        return jax.lax.fori_loop(0, steps, step, (y0, state))[0]

    def error(order, h, steps, start=1.0):
        differences = past_differences(exact, start, h, jnp.zeros(1))
        end = advance(differences, jnp.asarray(order), jnp.asarray(h), steps)
        return np.linalg.norm(np.asarray(end) - exact(start + steps * h))

    return error


# A flow of its own to compile, between the two others: linear units with a loss that is quartic.
BETWEEN = pytest.param("linear net", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["quadratic", BETWEEN, "tanh"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_order_k_converges_with_order_k(name, order):
    """Halving the step divides the error by 2^k, from both sides."""
    error = constant_steps(name)
    h = {1: 0.01, 2: 0.02, 3: 0.04, 4: 0.05, 5: 0.025}[order]
    steps = round(1.0 / h)
    slope = math.log2(error(order, h, steps) / error(order, h / 2, 2 * steps))
    assert order - 0.35 < slope < order + 0.5


# The arithmetic of differences.


def test_rescaled_differences_are_those_of_the_same_polynomial():
    coefficients = np.array([0.3, -1.0, 2.0, 0.5])

    def polynomial(t):
        return np.polyval(coefficients, t)[None]

    old = past_differences(polynomial, 2.0, 0.1, jnp.zeros(1))
    for factor in (0.3, 1.0, 4.0):
        new = rescaled(old, jnp.asarray(3), factor)
        expected = past_differences(polynomial, 2.0, 0.1 * factor, jnp.zeros(1))
        np.testing.assert_allclose(new[:4], expected[:4], atol=1e-10)


def test_updated_differences_and_the_interpolant_meet_past_values():
    def polynomial(t):
        return np.array([t**3 - t, 2 * t**3 + 1.0])

    h, order = 0.2, jnp.asarray(3)
    before = past_differences(polynomial, 1.0, h, jnp.zeros(1))
    new = updated(before, order, jnp.asarray(polynomial(1.0 + h)) - before[:4].sum(0))
    after = past_differences(polynomial, 1.0 + h, h, jnp.zeros(1))
    np.testing.assert_allclose(new[:4], after[:4], atol=1e-13)
    path = DifferenceInterpolation(t0=1.0, t1=1.0 + h, differences=new, order=order)
    for t in (0.8, 1.0, 1.13, 1.2):
        np.testing.assert_allclose(path.evaluate(jnp.asarray(t)), polynomial(t), atol=1e-12)
    increment = path.evaluate(jnp.asarray(1.05), jnp.asarray(1.2))
    np.testing.assert_allclose(increment, polynomial(1.2) - polynomial(1.05), atol=1e-12)


# Whole solutions.


@pytest.mark.slow
@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_quadratic_flows_match_the_matrix_exponential(condition):
    problem = problems.Quadratic.draw(40, condition)
    start = jnp.asarray(problem.start - problem.optimum)
    times = np.geomspace(1e-2, 3 * condition, 12)
    solution = solve(
        quadratic, start, jnp.asarray(times[-1]), 1e-7, args=jnp.asarray(problem.hessian),
        save=jnp.asarray(times),
    )  # fmt: skip
    exact = np.stack([problem.theta(t) - problem.optimum for t in times])
    np.testing.assert_allclose(solution.ys[1], exact, atol=2e-5)
    work = solution.stats["num_steps"], solution.controller_state.work.cost
    assert solution.controller_state.halt == Halt.NONE
    # An explicit method of order 5 would take 6 x 3 x condition / 3.3 gradients.
    assert work[1] < 2_000


@pytest.mark.slow
def test_errors_follow_the_tolerance():
    problem = problems.Quadratic.draw(40, 1e3)
    start, args = jnp.asarray(problem.start - problem.optimum), jnp.asarray(problem.hessian)
    errors = []
    for rtol in (1e-3, 1e-5, 1e-7):
        solution = solve(quadratic, start, jnp.asarray(100.0), rtol, args=args)
        errors.append(np.abs(solution.ys[0][0] - problem.theta(100.0) + problem.optimum).max())
    assert 5 < errors[0] / errors[1] < 3000
    assert 5 < errors[1] / errors[2] < 3000


@pytest.mark.slow
def test_float32_reaches_its_floor():
    problem = problems.Quadratic.draw(20, 1e3)
    start = jnp.asarray(problem.start - problem.optimum, jnp.float32)
    args = jnp.asarray(problem.hessian, jnp.float32)
    solution = solve(quadratic, start, jnp.asarray(1e3, jnp.float32), 1e-5, args=args)
    assert solution.ys[0].dtype == jnp.float32
    np.testing.assert_allclose(solution.ys[0][0], problem.theta(1e3) - problem.optimum, atol=2e-4)
    assert solution.controller_state.halt == Halt.NONE
    assert solution.stats["num_steps"] < 300


def growth(t, y, args):
    """A saddle: one direction grows, the other is stiff."""
    return jnp.array([0.3, -1e4]) * y + jnp.array([0.0, 1e4]) * jnp.sin(y[0]) * 0


# Seconds of compilation; each run compares attempts at negative curvature with those of the host.
@pytest.mark.slow
def test_negative_curvature_is_integrated_as_growth():
    solution = solve(growth, jnp.array([1e-3, 1.0]), jnp.asarray(20.0), 1e-7)
    assert float(solution.ys[0][0, 0]) == pytest.approx(1e-3 * math.exp(6.0), rel=1e-5)
    assert abs(float(solution.ys[0][0, 1])) < 1e-8


COUNTED = [
    BDF(),
    pytest.param(BDF(capacity=4, secants=3), marks=pytest.mark.slow),
    pytest.param(BDF(dense=True), marks=pytest.mark.slow),
]


@pytest.mark.slow  # a program with callbacks, never cached
@pytest.mark.parametrize("solver", COUNTED)
def test_counts_are_true_counts(solver):
    """Against host callbacks in the field: one kind for values, one for products.

    A capacity of 4 forces conjugate gradients.
    """
    calls = {"gradient": 0, "product": 0}

    def count(kind):
        calls[kind] += 1

    @jax.custom_jvp
    def tick(y):
        jax.debug.callback(lambda _: count("gradient"), y[0])
        return y

    @tick.defjvp
    def tick_jvp(primals, tangents):
        jax.debug.callback(lambda _: count("product"), tangents[0][0])
        return primals[0], tangents[0]

    stiff = jnp.geomspace(1.0, 1e4, 16)

    def field(t, y, args):
        y = tick(y)
        return -stiff * y - y**3

    solution = solve(field, jnp.ones(16), jnp.asarray(5.0), 1e-4, solver=solver)
    jax.effects_barrier()
    work = solution.controller_state.work
    assert (int(work.gradients), int(work.hvps)) == (calls["gradient"], calls["product"])
    assert calls["product"] > 16
    reference = scipy.integrate.solve_ivp(
        lambda _, y: -np.asarray(stiff) * y - y**3, (0, 5), np.ones(16), "Radau", rtol=1e-9,
        atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(solution.ys[0][0], reference.y[:, -1], atol=1e-4)


def flat_spectrum(t, y, args):
    """Sixty equally stiff, nonlinear directions: any small basis is full."""
    return -jnp.linspace(5e3, 1e4, 60) * (y - jnp.cos(jnp.arange(60.0))) - 2e3 * y**3


@pytest.mark.slow
def test_a_full_basis_is_finished_by_conjugate_gradients():
    small = solve(
        flat_spectrum, jnp.zeros(60), jnp.asarray(10.0), 1e-5, solver=BDF(capacity=6, secants=4)
    )
    reference = scipy.integrate.solve_ivp(
        lambda t, y: np.asarray(flat_spectrum(t, y, None)), (0, 10), np.zeros(60), "Radau",
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(small.ys[0][0], reference.y[:, -1], atol=1e-5)
    assert small.controller_state.halt == Halt.NONE
    # Stability alone would make a method of order 5 take 6 x 10 x 1e4 / 3.3 gradients.
    assert small.controller_state.work.cost < 10_000


@pytest.mark.slow
def test_any_pytree_and_components_that_do_not_act_back():
    """A state with integrals: exact, without making the Jacobian look unsymmetric."""
    hessian = jnp.diag(jnp.array([1.0, 100.0]))

    def field(t, y, args):
        rate = -hessian @ jnp.concatenate([y["x"]["a"], y["x"]["b"]])
        return {"x": {"a": rate[:1], "b": rate[1:]}, "energy": rate @ rate}

    y0 = {"x": {"a": jnp.ones(1), "b": jnp.ones(1)}, "energy": jnp.zeros(())}
    solution = solve(field, y0, jnp.asarray(3.0), 1e-8, solver=BDF(select=lambda y: y["x"]))
    assert solution.controller_state.halt == Halt.NONE
    end = jax.tree.map(lambda leaf: leaf[0], solution.ys[0])
    assert float(end["x"]["a"][0]) == pytest.approx(math.exp(-3), rel=1e-5)
    energy = 0.5 * (101 - math.exp(-6))
    assert float(end["energy"]) == pytest.approx(energy, rel=1e-5)


@pytest.mark.slow  # compiles the solver for a field of its own
def test_a_field_that_is_no_gradient_is_found_out():
    rotation = jnp.array([[1.0, 5.0], [-5.0, 1.0]])
    solution = solve(quadratic, jnp.ones(2), jnp.asarray(1.0), args=rotation)
    assert solution.controller_state.halt == Halt.NOT_SYMMETRIC
    assert solution.stats["num_steps"] == 1


@pytest.mark.slow
def test_nan_and_explosion_end_the_integration():
    solution = solve(lambda t, y, args: y**3, jnp.ones(2), jnp.asarray(1.0))
    assert solution.controller_state.halt in (Halt.NON_FINITE, Halt.TIME_UNDERFLOW)
    assert float(solution.ts[0][0]) == pytest.approx(0.5, abs=1e-3)
    rooted = solve(lambda t, y, args: -0.5 / jnp.sqrt(y - 1), jnp.full(2, 2.0), jnp.asarray(9.0))
    assert rooted.controller_state.halt in (Halt.NON_FINITE, Halt.TIME_UNDERFLOW)
    assert rooted.stats["num_steps"] < 500


@pytest.mark.slow
def test_time_may_run_backwards():
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.array([1.0, 200.0]) * y),
        BDF(1e-7, 1e-10),
        1.0,
        0.0,
        None,
        jnp.ones(2),
        stepsize_controller=controller(1e-7, 1e-10),
    )
    np.testing.assert_allclose(solution.ys[-1], np.exp([-1.0, -200.0]), atol=1e-6)


@pytest.mark.slow
def test_under_vmap_each_lane_is_its_own_solution():
    starts = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6)))
    stiff = jnp.geomspace(1.0, 1e3, 6)

    def end(y0):
        return solve(lambda t, y, args: -stiff * y - y**3, y0, jnp.asarray(2.0), 1e-5)

    together = jax.vmap(end)(starts)
    for i, start in enumerate(starts):
        alone = end(start)
        np.testing.assert_allclose(together.ys[0][i], alone.ys[0], rtol=1e-8, atol=1e-12)
        work, own = together.controller_state.work, alone.controller_state.work
        assert (int(work.gradients[i]), int(work.hvps[i])) == (
            int(own.gradients),
            int(own.hvps),
        )


@pytest.mark.parametrize("solver", [BDF(), pytest.param(BDF(dense=True), marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_restart_from_a_file_continues_to_the_last_bit(solver):
    """Stopped after some attempts, written, read, and continued: the same as without."""
    problem = problems.Quadratic.draw(12, 1e3)
    term = diffrax.ODETerm(lambda t, y, args: -jnp.asarray(problem.hessian) @ y - 0.1 * y**3)
    steps = controller(1e-5, 1e-8)
    solver = dataclasses.replace(solver, root_finder=Tolerances.of(steps))

    @eqx.filter_jit
    def advance(y, memory, attempts):
        def attempt(_, carry):
            t, t_next, y, state, control = carry
            new_y, report, _, new_state, _ = solver.step(term, t, t_next, y, None, state, False)
            keep, t, t_next, _, control, _ = steps.adapt_step_size(
                t, t_next, y, new_y, None, report, 5, control
            )
            y, state = jax.tree.map(
                lambda a, b: jnp.where(keep, a, b), (new_y, new_state), (y, state)
            )
            return t, t_next, y, state, control

        return jax.lax.fori_loop(0, attempts, attempt, (*memory[:2], y, *memory[2:]))

    y0 = jnp.asarray(problem.start)
    t_next, control = steps.init(term, 0.0, 1e3, y0, None, None, solver.func, 5)
    first = (jnp.zeros(()), t_next, solver.init(term, 0.0, t_next, y0, None), control)
    straight = advance(y0, first, 40)
    half = advance(y0, first, 17)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, half)
    file.seek(0)
    t, t_next, y, state, control = eqx.tree_deserialise_leaves(file, half)
    resumed = advance(y, (t, t_next, state, control), 23)
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
