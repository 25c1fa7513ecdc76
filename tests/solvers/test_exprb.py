"""The exponential Rosenbrock method against closed forms, dense matrix functions and references."""

import functools
import math

import diffrax
import fixed
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
import scipy.linalg

from flowlift import flow
from flowlift.flow import LogTimes, Outcome
from flowlift.solvers import ExpRosenbrock, Halt, PredictiveController, WorkController
from flowlift.solvers.exprb import EMBEDDED3, EMBEDDED4, NODES, PHI3, PHI4
from flowlift.solvers.phi import Projection, phi


def exact_phi(k: int, z: float) -> float:
    """The power series, in exact rational arithmetic of its terms."""
    terms = [z**j / math.factorial(j + k) for j in range(120)]
    return math.fsum(terms)


def test_phi_functions():
    z = np.array([-30.0, -5.0, -1.0001, -0.9999, -1e-3, 0.0, 1e-9, 0.5, 0.9999, 1.0001, 7.0, 30.0])
    values = np.asarray(phi(jnp.asarray(z)))
    for k in range(1, 6):
        for got, at in zip(values[k - 1], z, strict=True):
            if at > -20:
                assert got == pytest.approx(exact_phi(k, at), rel=2e-12), (k, at)
            # By recurrence from e^z, stable for large |z|.
            tail = 1 / math.factorial(k) + at * float(phi(jnp.asarray(at))[k]) if k < 5 else None
            assert tail is None or got == pytest.approx(tail, rel=1e-11)
    far = np.asarray(phi(jnp.array([-1e9, -1e4])))
    np.testing.assert_allclose(far[0], [1e-9, 1e-4], rtol=1e-12)
    np.testing.assert_allclose(far[1], [1e-9 - 1e-18, 1e-4 - 1e-8], rtol=1e-12)
    single = phi(jnp.asarray(z, "float32"))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, values, rtol=2e-5)


def test_coefficients_satisfy_the_order_conditions():
    """sum b_i c_i^2 = 2 phi_3, sum b_i c_i^3 = 6 phi_4; at z = 0 also sum b_i c_i^4 = 24 phi_5."""
    c = NODES[:3]

    def moments(weights3, weights4, power):
        return np.array([weights3 @ c**power, weights4 @ c**power])

    for weights in ((PHI3[3], PHI4[3]), (EMBEDDED3, EMBEDDED4)):
        np.testing.assert_allclose(moments(*weights, 2), [2, 0], atol=1e-12)
        np.testing.assert_allclose(moments(*weights, 3), [0, 6], atol=1e-12)
    fifth = moments(PHI3[3], PHI4[3], 4) @ [1 / 6, 1 / 24]
    assert fifth == pytest.approx(1 / 5, rel=1e-12)
    assert moments(EMBEDDED3, EMBEDDED4, 4) @ [1 / 6, 1 / 24] != pytest.approx(1 / 5, rel=1e-2)
    # Stages are exact to third order: sum_k a_ik c_k^2 = 2 c_i^3 phi_3(c_i z).
    for i in (1, 2):
        assert PHI3[i] @ c**2 == pytest.approx(2 * c[i] ** 3)


# In single precision the same step, compiled again.
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("slope", [1.0, 0.0])
def test_a_step_below_the_tolerance_moves(precision, slope):
    """y = e^(-t): after h = 1e-4 it has fallen by h, however loose the tolerance; 0 stays 0."""
    h = jnp.asarray(1e-4, precision)
    y = slope * jnp.ones(3, precision)
    step = jax.jit(
        lambda y: ExpRosenbrock(1e-1, 1e-1).step(
            diffrax.ODETerm(lambda t, y, args: -y), 0 * h, h, y, None, jnp.asarray(True), False
        )[:2]
    )
    moved, report = step(y)
    eps = float(jnp.finfo(precision).eps)
    np.testing.assert_allclose(moved, y * np.exp(-1e-4), rtol=2 * eps)
    assert float(report.work.hvps) == slope
    assert np.all(np.asarray(moved) != y) == bool(slope)


@pytest.mark.parametrize(("start", "finite"), [(0.905, False), (0.895, True)])
def test_a_step_to_where_the_field_is_no_number_has_no_error(start, finite):
    """y' = 1 up to 1: of a step of 0.1, all nodes but the end are below, and so it is rejected."""
    field = diffrax.ODETerm(lambda t, y, args: jnp.where(y > 1, jnp.nan, 1.0))
    h, y = jnp.asarray(0.1), jnp.array([start])
    step = jax.jit(
        lambda y: ExpRosenbrock(1e-3, 1e-3).step(field, 0 * h, h, y, None, jnp.asarray(True), False)
    )
    moved, report, *_ = step(y)
    np.testing.assert_allclose(moved, y + 0.1, rtol=1e-12)
    assert bool(jnp.isfinite(jnp.ravel(jax.tree.leaves(report.error)[0])).all()) == finite


@pytest.mark.slow  # compiles every chain
def test_chains_share_one_projection():
    """A V = V T + tails, T = V^T A V, and V^T f(A) b from the whole space is exact."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((9, 9))
    a, r = a + a.T, rng.standard_normal((2, 9))
    operator = lambda v: (jnp.asarray(a) @ v, jnp.asarray(r) @ v)
    projection = Projection.empty(9, jnp.zeros(9), 2, 2)
    starts = jnp.asarray(rng.standard_normal((2, 9)))
    for chain, direction in (
        (0, starts[0]),
        (0, None),
        (0, None),
        (1, starts[1]),
        (1, None),
        (0, None),
    ):
        along = projection.tails[chain] if direction is None else projection.missing(direction)
        projection = projection.extend(along, jnp.asarray(chain), operator)
    m = int(projection.size)
    v = np.asarray(projection.basis[:m])
    np.testing.assert_allclose(v @ v.T, np.eye(m), atol=1e-13)
    np.testing.assert_allclose(projection.matrix[:m, :m], v @ a @ v.T, atol=1e-12)
    np.testing.assert_allclose(projection.others[:m], v @ r.T, atol=1e-12)
    for y in np.eye(9)[:m]:
        np.testing.assert_allclose(projection.apply(jnp.asarray(y)), a @ v.T @ y[:m], atol=1e-11)
    assert projection.symmetric
    values, modes = projection.spectrum()
    inside = np.append(np.linalg.eigvalsh(v @ a @ v.T), np.zeros(9 - m))
    np.testing.assert_allclose(np.sort(values), np.sort(inside), atol=1e-11)
    np.testing.assert_allclose((modes * values) @ modes.T, projection.matrix, atol=1e-11)


@functools.cache
def stepper(name, rtol=1e-12):
    gradient, start, end, exact = fixed.FLOWS[name]()
    solver = ExpRosenbrock(rtol=rtol, atol=rtol)
    term = diffrax.ODETerm(lambda t, y, args: -gradient(y))

    @jax.jit
    def step(h, y):
        y1, report, *_ = solver.step(term, 0.0 * h, h, y, None, jnp.asarray(True), False)
        return y1, report.error.error

    return step, start, end, exact


@pytest.mark.parametrize("name", [pytest.param("linear net", marks=pytest.mark.slow), "tanh net"])
def test_orders_are_five_and_four(name):
    """The solution converges with order 5, its error estimate (a local one) with order 5 too."""
    step, start, end, exact = stepper(name)
    errors, estimates = [], []
    for count in (4, 8, 16, 32):
        y = start
        h = jnp.asarray(end / count)
        estimates.append(np.abs(step(h, y)[1]).max())
        for _ in range(count):
            y = step(h, y)[0]
        errors.append(np.abs(y - exact).max())
    assert np.all(fixed.slopes(errors)[1:] > 4.6), errors
    assert np.all(fixed.slopes(errors)[1:] < 5.8), errors
    assert np.all(np.abs(fixed.slopes(estimates)[1:] - 5) < 0.6), estimates


def test_linear_flows_are_exact_in_one_step():
    """However stiff, and with negative curvature."""
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    eigenvalues = np.array([-1.5, -0.1, 0.0, 0.3, 1, 1, 3, 30, 1e3, 1e4, 1e5, 1e6])
    hessian = basis * eigenvalues @ basis.T
    start = rng.standard_normal(12)
    solver = ExpRosenbrock(rtol=1e-9, atol=1e-11)
    term = diffrax.ODETerm(lambda t, y, args: -jnp.asarray(hessian) @ y)
    y1, report, *_ = jax.jit(
        lambda y: solver.step(term, 0.0, jnp.asarray(2.0), y, None, jnp.asarray(True), False)
    )(jnp.asarray(start))
    np.testing.assert_allclose(y1, scipy.linalg.expm(-2 * hessian) @ start, atol=1e-8)
    assert np.abs(report.error.error).max() < 1e-8
    assert int(report.work.gradients) == 5


@pytest.mark.slow
def test_integrals_beside_the_flow_have_its_order():
    """int |grad L|^2 dt = L(0) - L(t), int theta dt in closed form; neither acts back."""
    stiff = jnp.array([0.5, 3.0, 2000.0])

    def field(t, y, args):
        theta, _ = y
        gradient = stiff * theta + theta**3
        return -gradient, (gradient @ gradient, theta)

    solver = ExpRosenbrock(rtol=1e-11, atol=1e-13, select=lambda y: y[0])
    controller = WorkController(PredictiveController(1e-9, 1e-11), startup=2)
    start = jnp.array([1.0, -0.7, 0.1])
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        2.0,
        None,
        (start, (jnp.asarray(0.0), jnp.zeros(3))),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True),
        adjoint=diffrax.ForwardMode(),
    )
    theta, (energy, _) = jax.tree.map(lambda leaf: leaf[0], solution.ys)
    loss = lambda th: float(0.5 * stiff @ th**2 + 0.25 * jnp.sum(th**4))
    assert float(energy) == pytest.approx(loss(start) - loss(theta), rel=1e-9)
    # Each coordinate is a Bernoulli equation.
    growth = np.exp(-2 * np.asarray(stiff) * 2.0)
    squared = stiff * start**2 * growth / (stiff + start**2 * (1 - growth))
    np.testing.assert_allclose(theta**2, squared, rtol=1e-7, atol=1e-20)


@pytest.mark.slow
def test_a_basis_too_small_shortens_the_step():
    """Twelve vectors for a hundred stiff modes: refused, with the length that can be served."""
    stiff = jnp.asarray(np.linspace(1.0, 1e4, 100))
    field = lambda t, y, args: -stiff * (y - 1)
    controller = WorkController(PredictiveController(1e-5, 1e-7), startup=2)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        ExpRosenbrock(rtol=1e-5, atol=1e-7, max_basis=12),
        0.0,
        0.05,
        None,
        jnp.zeros(100),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        adjoint=diffrax.ForwardMode(),
    )
    np.testing.assert_allclose(solution.ys[0], 1 - np.exp(-0.05 * stiff), atol=2e-5)
    state = solution.controller_state
    assert int(state.attempts) > 10
    assert int(state.attempts) - int(state.accepted) < 0.35 * int(state.attempts)
    assert int(state.work.hvps) <= 12 * int(state.attempts)


@pytest.mark.slow  # a program with callbacks, never cached
def test_counts_are_true_counts():
    calls = []
    stiff = jnp.array([1.0, 30.0, 2000.0, 3.0])

    @jax.custom_jvp
    def field(y):
        jax.debug.callback(lambda: calls.append("gradient"))
        return -stiff * y - 0.1 * y**3

    @field.defjvp
    def tangent(primals, tangents):
        (y,), (v,) = primals, tangents
        jax.debug.callback(lambda _: calls.append("product"), v[0])
        return field(y), -(stiff + 0.3 * y**2) * v

    controller = WorkController(PredictiveController(1e-6, 1e-8))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(y)),
        ExpRosenbrock(rtol=1e-6, atol=1e-8),
        0.0,
        2.0,
        1e-3,
        jnp.ones(4),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        adjoint=diffrax.ForwardMode(),
    )
    jax.effects_barrier()
    work, attempts = (getattr(solution.controller_state, n) for n in ("work", "attempts"))
    assert int(work.gradients) == calls.count("gradient") == 5 * int(attempts)
    assert int(work.hvps) == calls.count("product")


@pytest.mark.slow
def test_a_field_without_symmetry_is_a_result():
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: rotation @ y),
        ExpRosenbrock(),
        0.0,
        1.0,
        None,
        jnp.ones(2),
        stepsize_controller=WorkController(PredictiveController(1e-6, 1e-9)),
        saveat=diffrax.SaveAt(t1=True, controller_state=True),
        throw=False,
        adjoint=diffrax.ForwardMode(),
    )
    assert int(solution.controller_state.halt) == Halt.NOT_SYMMETRIC


def quadratic_flow(horizon, **kwargs):
    problem = problems.Quadratic.draw(5, 1e6)
    model = problems.Vector(jnp.asarray(problem.start))
    save = LogTimes(2, start=1.0)
    return problem, flow.solve(
        model, problem, horizon, **{"solver": "exprb", "save": save} | kwargs
    )


@pytest.mark.slow
def test_flow_by_name_and_its_resumption():
    problem, solution = quadratic_flow(3e6)
    assert solution.result == Outcome.HORIZON
    np.testing.assert_allclose(solution.model.theta, problem.theta(3e6), atol=1e-8)
    np.testing.assert_allclose(
        solution.loss, problem.loss_at(solution.times), rtol=1e-6, atol=1e-15
    )
    # A linear flow would take any step; its integrals, whose error counts, resolve the stiff layer.
    np.testing.assert_allclose(solution.loss[0] - solution.loss, solution.energy, rtol=2e-5)
    assert solution.arc_length[-1] == pytest.approx(problem.arc_length_at(3e6), rel=2e-5)
    assert solution.stats.cost < 3_000
    _, first = quadratic_flow(1e3)
    both = flow.resume(first, 3e6, save=LogTimes(2, start=1.0))
    np.testing.assert_allclose(both.loss, solution.loss, rtol=1e-7, atol=1e-15)
    assert both.stats.cost <= solution.stats.cost + 30


@pytest.mark.slow
def test_single_precision_follows_double():
    reference = problems.reference("A_tanh")
    solution = flow.solve(
        problems.Vector(jnp.asarray(reference.theta0)),
        lambda m: reference.loss(m.theta),
        10.0,
        save=reference.reached([10.0]),
        solver="exprb",
        rtol=1e-4,
        atol=1e-6,
        precision="float32",
    )
    assert solution.success
    assert reference.error(solution.times, solution.loss) < 1e-3


# Costs are those of docs/benchmarks.md and a tenth more.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "horizon", "rtol", "error", "most"),
    [
        ("A_tanh", 1e4, 1e-6, 5e-6, 10_000),
        ("A_soft", 1e6, 1e-4, 2e-4, 17_000),
        ("B", 1e3, 1e-6, 5e-6, 3_000),
        ("C", 1e4, 1e-6, 2e-6, 4_800),
    ],
)
def test_reference_flows(name, horizon, rtol, error, most):
    reference = problems.reference(name)
    solution = flow.solve(
        problems.Vector(jnp.asarray(reference.theta0)),
        lambda m: reference.loss(m.theta),
        horizon,
        save=reference.reached([horizon]),
        solver="exprb",
        rtol=rtol,
        atol=1e-3 * rtol,
    )
    assert reference.error(solution.times, solution.loss) < error
    assert solution.stats.cost < most


@pytest.mark.slow
def test_ensembles_under_vmap_equal_single_runs():
    def run(stiff):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -stiff * y - 0.1 * y**3),
            ExpRosenbrock(rtol=1e-5, atol=1e-7),
            0.0,
            1.0,
            None,
            jnp.ones(3),
            stepsize_controller=WorkController(PredictiveController(1e-5, 1e-7), startup=2),
            saveat=diffrax.SaveAt(t1=True, controller_state=True),
            adjoint=diffrax.ForwardMode(),
        )
        return solution.ys[0], solution.controller_state.work.cost

    ensemble = jnp.asarray([[1.0, 2.0, 3.0], [1.0, 50.0, 1000.0], [0.1, 7.0, 300.0]])
    together = jax.jit(jax.vmap(run))(ensemble)
    alone = [jax.jit(run)(stiff) for stiff in ensemble]
    for i, (y, cost) in enumerate(alone):
        np.testing.assert_allclose(together[0][i], y, rtol=1e-9, atol=1e-11)
        assert int(together[1][i]) == int(cost)
