"""The exponential Rosenbrock method on the host against the one in the graph, and closed forms."""

import itertools
import math

import fixed
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from host_fields import host_field
from host_graph import begun, compared, theta_of

from flowlift.solvers import ExpRosenbrock, Halt
from flowlift.solvers import phi as in_graph
from flowlift.solvers.host.exprb import HostExprb, serves
from flowlift.solvers.host.phi import Projection, phi


def test_phi_functions_are_those_of_the_graph():
    z = np.array([-1e9, -30.0, -1.0001, -0.9999, -1e-3, 0.0, 1e-9, 0.9999, 1.0001, 7.0, 30.0])
    for dtype, close in (("float64", 1e-14), ("float32", 3e-5)):
        ours = phi(z.astype(dtype))
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, in_graph.phi(jnp.asarray(z, dtype)), rtol=close)
    assert phi(np.zeros((3, 0))).shape == (5, 3, 0)


def test_chains_share_one_projection():
    """A V = V T + tails, T = V^T A V, W = R V; asymmetry shows, rounding does not."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((9, 9))
    skewed, a, r = a, a + a.T, rng.standard_normal((2, 9))
    projection = Projection(9, np.zeros(9), 2)
    starts = rng.standard_normal((2, 9))
    for chain, new in ((0, True), (0, False), (0, False), (1, True), (1, False), (0, False)):
        along = projection.missing(starts[chain]) if new else projection.tails[chain]
        projection.extend(along, chain, lambda v: (a @ v, r @ v))
    m = projection.size
    v = projection.basis[:m]
    np.testing.assert_allclose(v @ v.T, np.eye(m), atol=1e-13)
    np.testing.assert_allclose(projection.matrix[:m, :m], v @ a @ v.T, atol=1e-12)
    for y in np.eye(m):
        np.testing.assert_allclose(projection.apply(y), a @ v.T @ y, atol=1e-11)
        np.testing.assert_allclose(projection.beside(y), r @ v.T @ y, atol=1e-12)
    assert projection.symmetric
    values, modes = projection.spectrum()
    np.testing.assert_allclose((modes * values) @ modes.T, v @ a @ v.T, atol=1e-11)
    other = Projection(9, np.zeros(9), 1)
    for k in range(3):
        along = other.tails[0] if k else starts[0]
        other.extend(along, 0, lambda v: (skewed @ v, r @ v))
    assert not other.symmetric


# Of twelve dimensions a basis of five is none of the whole.
CASES = [
    ("tanh with rejections", 1e-3, "float64", 5),
]
SLOW = [
    # Attempts that fail at an edge are met by RKC2 in each run.
    ("an edge", 1e-3, "float64", 5),
    ("padded", 1e-3, "float32", 256),
    ("stiff quadratic", 1e-3, "float64", 256),
    ("tanh with rejections", 1e-6, "float64", 256),
    ("negative curvature", 1e-6, "float64", 5),
    ("sharpening", 1e-3, "float64", 256),
    ("padded", 1e-6, "float64", 256),
    ("not symmetric", 1e-6, "float64", 256),
    ("tanh with rejections", 1e-3, "float32", 5),
]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW]


@pytest.mark.slow  # compiles the solver in the graph
@pytest.mark.parametrize(("name", "rtol", "dtype", "basis"), CASES)
def test_host_takes_the_steps_of_the_graph(name, rtol, dtype, basis):
    solver, method = ExpRosenbrock(max_basis=basis), HostExprb(rtol, 1e-3 * rtol, basis)
    graph, field, counts, y, start = begun(name, solver, method, rtol, dtype, whole=True)
    attempts = compared(graph, field, counts, method, y, start.memory, True, between=False)
    made = list(itertools.islice(attempts, 60))
    rejected = sum(not keep for _, keep, _ in made)
    failed = sum(not finite for *_, finite in made)
    assert (made[-1][0].halt == Halt.NOT_SYMMETRIC) == (name == "not symmetric")
    assert rejected >= ("rejections" in name)
    assert failed >= 3 * (name == "an edge")
    assert max(tried.products for tried, *_ in made) <= basis


def quadratic(eigenvalues, dtype="float64"):
    """(field, state, H); L = theta . H theta / 2."""
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    hessian = (basis * eigenvalues @ basis.T).astype(dtype)
    field, _ = host_field(lambda theta, a: 0.5 * theta @ a @ theta, hessian, size=len(hessian))
    start = np.append(rng.standard_normal(len(hessian)), [0.0, 0.0]).astype(dtype)
    return field, start, hessian


def test_linear_flows_are_exact_in_one_step():
    """However stiff, and with negative curvature; but the arc length is no such integral."""
    field, y, hessian = quadratic([-1.5, -0.1, 0.0, 0.3, 1, 1, 3, 30, 1e3, 1e4, 1e5, 1e6])
    method = HostExprb(1e-9, 1e-11)
    tried = method.attempt(field, y, method.blank(y), 2.0)
    exact = scipy.linalg.expm(-2 * hessian) @ y[:-2]
    np.testing.assert_allclose(tried.y[:-2], exact, atol=1e-8)
    assert tried.gradients == 5
    assert tried.loss == pytest.approx(0.5 * exact @ hessian @ exact, abs=1e-3)
    assert not tried.keep


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_flow_moves_from_its_first_step_on(dtype):
    """However little a step gains: it takes a product to say how much."""
    field, y, _ = quadratic(np.geomspace(1.0, 100.0, 8), dtype)
    method = HostExprb(1e-3, 1e-6)
    h, memory = 1e-5, method.start(field, y).memory
    tried = method.attempt(field, y, memory, h)
    moved = (tried.y - y)[:-2] / h
    rates = field.rates(y)[1][:-2]
    assert np.abs(moved - rates).max() < 0.02 * np.abs(rates).max()
    assert tried.products == 1


def test_between_its_ends_a_step_is_exact_on_linear_flows():
    """Within layers that a polynomial through the step's ends knows nothing of."""
    field, y, hessian = quadratic([-1.5, -0.1, 0.0, 0.3, 1, 1, 3, 30, 1e3, 1e4, 1e5, 1e6])
    method = HostExprb(1e-9, 1e-11)
    tried, fractions = method.attempt(field, y, method.blank(y), 2.0), np.geomspace(1e-8, 1.0, 41)
    states = tried.dense(fractions)
    exact = np.stack([scipy.linalg.expm(-2 * c * hessian) @ y[:-2] for c in fractions])
    np.testing.assert_allclose(states[:, :-2], exact, atol=1e-8)
    np.testing.assert_allclose(tried.dense(np.zeros(1))[0], y, atol=1e-15)
    np.testing.assert_allclose(states[-1, :-2], tried.y[:-2], rtol=1e-12, atol=1e-12)


def marched(method, field, y, time, count):
    for _ in range(count):
        y = method.attempt(field, y, method.blank(y), time / count).y
    return y


# The easier of two siblings.
@pytest.mark.slow  # many steps of halved size
@pytest.mark.parametrize("stiffness", [pytest.param(3.0, marks=pytest.mark.slow), 3000.0])
def test_between_its_ends_a_step_has_local_order_five(stiffness):
    """That of the embedded solution, by which it was judged; along a stiff valley as beside one."""

    def loss(theta, a):
        x, y, z = theta
        return a / 2 * (x - jnp.sin(y)) ** 2 + jnp.cosh(y) + y * z + z**2

    field, _ = host_field(loss, np.array(stiffness), size=3)
    method, fractions = HostExprb(1e-13, 1e-13), np.array([0.2, 0.45, 0.7])
    y = marched(method, field, np.array([0.9, 1.0, -0.5, 0.0, 0.0]), 0.1, 30)
    errors = []
    for h in 0.4 / 2 ** np.arange(5):
        states = method.attempt(field, y, method.blank(y), h).dense(fractions)
        exact = np.stack([marched(method, field, y, c * h, 12) for c in fractions])
        errors.append(np.abs(states - exact)[:, :3].max())
    assert np.all(np.abs(fixed.slopes(errors)[1:] - 5) < 0.6), errors


def test_a_basis_too_small_says_how_long_a_step_it_can_serve():
    """Refused at once, and served when it is asked for again."""
    field, y, hessian = quadratic(np.linspace(1.0, 1e4, 40))
    method = HostExprb(1e-5, 1e-8, 12)
    memory, step = method.blank(y), 0.02
    refused = method.attempt(field, y, memory, step)
    assert refused.products == math.floor(0.75 * 12)
    while not (tried := method.attempt(field, y, memory, step)).keep:
        assert 0.8**25 * step < tried.step < 0.8 * step
        step = tried.step
    assert 1e-6 < step < 1e-2
    exact = scipy.linalg.expm(-step * hessian) @ y[:-2]
    # A tenth of the tolerance, in the root mean square.
    error = (tried.y[:-2] - exact) / (1e-8 + 1e-5 * np.abs(y[:-2]))
    assert np.sqrt(np.mean(error**2)) < 0.3
    assert tried.products <= 12


def bernoulli(stiff):
    """(field, state at a time), each coordinate of L = a theta^2 / 2 + theta^4 / 4 by itself."""

    def loss(theta, a):
        return jnp.sum(a * theta**2 / 2 + theta**4 / 4)

    field, _ = host_field(loss, stiff, size=3)
    start = np.array([1.0, -0.7, 0.5])
    square = start**2

    def solution(time):
        growth = np.exp(-2 * stiff * time)
        theta = np.sign(start) * np.sqrt(
            stiff * square * growth / (stiff + square - square * growth)
        )
        # The first integral, the arc length, has no closed form.
        energy = float(loss(start, stiff) - loss(theta, stiff))
        return np.array([*theta, np.nan, energy])

    return field, solution


def test_order_is_five_with_the_integrals():
    field, solution = bernoulli(np.array([0.5, 3.0, 20.0]))
    start, end = np.nan_to_num(solution(0.0)), 0.5
    method, errors = HostExprb(1e-13, 1e-13), []
    for count in (8, 16, 32, 64):
        y = start
        for _ in range(count):
            y = method.attempt(field, y, method.blank(y), end / count).y
        error = np.abs(y - solution(end))
        errors.append(np.nanmax([*error[:-1], 0.1 * error[-1]]))
    assert np.all(np.abs(fixed.slopes(errors)[1:] - 5) < 0.6), errors


def test_instances_with_functions_or_tolerances_of_their_own_stay_with_the_graph():
    assert serves(ExpRosenbrock())
    assert serves(ExpRosenbrock(max_basis=30))
    assert not serves(ExpRosenbrock(rtol=1e-3))
    assert not serves(ExpRosenbrock(atol=1e-3))
    assert not serves(ExpRosenbrock(select=theta_of))
