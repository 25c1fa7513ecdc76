"""The BDF on the host against the one in the graph, attempt by attempt; what it leaves alone."""

import copy
import dataclasses
import functools
import math
import warnings

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from host_fields import host_field, rates

from flowlift.solvers import BDF, Halt, ProposedSteps, curvature, lanczos
from flowlift.solvers.host import krylov
from flowlift.solvers.host.bdf import BDFMemory, HostBDF
from flowlift.solvers.host.curvature import Curvature, Learner
from flowlift.solvers.host.differences import alpha
from flowlift.solvers.host.newton import Equation, Iteration
from flowlift.solvers.host.stepping import HostField
from flowlift.solvers.tolerances import Tolerances

SIZE = 12


def theta_of(y):
    return y[0]


def loss(theta, args):
    """A quadratic, a quartic and a network of four tanh units; NaN where the sum is too large."""
    gap = theta - args["centre"]
    w, a = theta[:8].reshape(4, 2), theta[8:]
    net = jnp.mean((jnp.tanh(args["x"] @ w.T) @ a - args["target"]) ** 2)
    whole = 0.5 * gap @ args["hessian"] @ gap + args["quartic"] * jnp.sum(theta**4) / 4
    whole = whole + args["net"] * net
    return whole * jnp.where(jnp.abs(jnp.sum(theta)) > args["edge"], jnp.nan, 1.0)


def problem(eigenvalues=None, quartic=0.0, net=0.0, edge=np.inf, live=SIZE, spread=1.0):
    """(start, args, live); coordinates beyond `live` are zero and do not move."""
    rng = np.random.default_rng(5)
    basis = np.zeros((SIZE, SIZE))
    basis[:live, :live] = np.linalg.qr(rng.standard_normal((live, live)))[0]
    values = np.zeros(SIZE)
    values[:live] = 0 if eigenvalues is None else eigenvalues
    shown = np.arange(SIZE) < live
    args = {
        "hessian": basis * values @ basis.T,
        "centre": rng.standard_normal(SIZE) * shown,
        "x": rng.standard_normal((9, 2)),
        "target": rng.standard_normal(9),
        "quartic": quartic,
        "net": net,
        "edge": edge,
    }
    return spread * rng.standard_normal(SIZE) * shown, args, live


STIFF = np.geomspace(1e-2, 1e4, SIZE)
PROBLEMS = {
    "stiff quadratic": problem(STIFF),
    "stiff and quartic": problem(STIFF, quartic=3.0),
    "tanh with rejections": problem(net=200.0, spread=3.0),
    "negative curvature": problem(np.concatenate([[-0.3, -0.1], STIFF[2:]]), quartic=1e-3),
    "flat spectrum": problem(np.linspace(5e3, 1e4, SIZE), quartic=2e3),
    "padded": problem(np.geomspace(1, 1e4, 7), quartic=1.0, live=7),
    "an edge": problem(np.concatenate([-np.ones(3), STIFF[3:]]), edge=6.0),
}


class Graph:
    """The solver in the graph under its controller, one attempt at a time."""

    def __init__(self, solver, start, args, live, rtol=1e-5, dtype=np.float64):
        cast = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)
        self.args, self.rtol, self.atol = cast(args), rtol, 1e-3 * rtol
        steps = ProposedSteps(*cast((rtol, 1e-3 * rtol)), theta_of, jnp.asarray(live))
        self.solver = dataclasses.replace(
            solver,
            select=theta_of,
            live=jnp.asarray(live),
            root_finder=Tolerances.of(BDF.default_controller(*cast((rtol, 1e-3 * rtol)))),
        )
        self.y = (cast(start), jnp.zeros(2, dtype))
        self.h, self.state = _begin(self.solver, steps, self.y, self.args)

    def vector(self):
        return np.concatenate(self.y)

    def attempt(self, h):
        """(y, report, dense output at the middle), the step taken if it is accepted."""
        h = jnp.asarray(h, self.state.step.dtype)
        y, report, middle, state = _attempt(self.solver, self.y, self.args, self.state, h)
        error, factor = float(report.error.error), float(report.error.factor)
        finite = bool(np.isfinite(np.concatenate(y)).all()) and np.isfinite([error, factor]).all()
        keep = bool(finite and error <= 1)
        if keep:
            self.y, self.state = y, state
        self.h = float(h) * (factor if finite else 0.5)
        work = (int(report.work.gradients), int(report.work.hvps) - self._of_padding(report))
        return np.concatenate(y), np.concatenate(middle), keep, work

    def _of_padding(self, report):
        """Products that the host spares: a dense Hessian of the graph has columns of padding."""
        n = self.y[0].size
        whole = self.solver.dense and int(report.work.hvps) >= n
        return n - int(self.solver.live) if whole else 0


@eqx.filter_jit
def _begin(solver, steps, y, args):
    term = diffrax.ODETerm(rates(loss))
    zero, end = (jnp.asarray(t, y[0].dtype) for t in (0.0, jnp.inf))
    h, _ = steps.init(term, zero, end, y, None, args, solver.func, 5)
    return h, solver.init(term, zero, h, y, args)


@eqx.filter_jit
def _attempt(solver, y, args, state, h):
    zero = jnp.zeros_like(h)
    new, report, dense, state, _ = solver.step(
        diffrax.ODETerm(rates(loss)), zero, h, y, args, state, False
    )
    path = solver.interpolation_cls(t0=zero, t1=h, **dense)
    return new, report, path.evaluate(h / 2), state


def memory_of(state):
    """The memory on the host that says the same as the solver's state in the graph."""
    state = jax.tree.map(np.asarray, state)
    model, space = state.curvature, state.curvature.krylov
    coordinates = np.zeros_like(model.coordinates)
    inside = slice(int(space.size))
    coordinates[inside, inside] = model.coordinates[inside, inside]
    numbers = {f.name: getattr(model, f.name) for f in dataclasses.fields(Curvature)}
    numbers |= {"coordinates": coordinates, "count": int(model.count), "spent": int(model.spent)}
    numbers["krylov"] = krylov.Krylov(
        space.basis, space.alpha, space.beta, int(space.size), float(space.defect)
    )
    step, order, equal = float(state.step), int(state.order), int(state.equal)
    rate, halt = float(state.rate), int(state.halt)
    return BDFMemory(state.differences, step, order, equal, Curvature(**numbers), rate, halt)


def both(name, solver=None, rtol=1e-3, dtype=np.float64):
    solver = BDF(capacity=8, secants=3) if solver is None else solver
    start, args, live = PROBLEMS[name]
    graph = Graph(solver, start, args, live, rtol, dtype)
    field, counts = host_field(loss, graph.args, live)
    return graph, HostBDF.of(solver, graph.rtol, graph.atol), field, counts


@dataclasses.dataclass
class Seen:
    """Of a comparison: attempts, those with other counts or verdict, rejected, products, ..."""

    attempts: int = 0
    other: int = 0
    rejected: int = 0
    products: int = 0
    non_finite: int = 0
    last: object = None


def compare(name, attempts, close=1e-9, **options):
    """Each attempt from the graph's state by both."""
    graph, method, field, counts = both(name, **options)
    seen = Seen()
    for _ in range(attempts):
        y, h, before = graph.vector(), float(graph.h), dataclasses.replace(counts)
        memory = memory_of(graph.state)
        expected, middle, keep, work = graph.attempt(h)
        got = method.attempt(field, y, memory, h)
        assert counts.gradients == before.gradients + got.gradients
        assert counts.products == before.products + got.products
        same = (got.keep, got.gradients, got.products) == (keep, *work)
        seen = Seen(
            seen.attempts + 1,
            seen.other + (not same),
            seen.rejected + (not keep),
            seen.products + work[1],
            seen.non_finite + (not got.finite),
            got,
        )
        assert got.y.dtype == y.dtype
        assert got.keep or got.memory is memory
        if same:
            agree = functools.partial(
                np.testing.assert_allclose, rtol=close, atol=close * np.abs(y[:-2]).max()
            )
            agree(got.y, expected)
            halves = got.dense(np.array([0.5, 1.0]))
            agree(halves[0], middle)
            agree(halves[1], got.y)
            assert got.step == pytest.approx(float(graph.h), rel=1e3 * close)
    return seen


# Attempts until the flow is so near to its end that only rounding is left to decide.
MOVING = {
    # Three are rejected among so many, the last by what rounding has become.
    "stiff quadratic": 140,
    "stiff and quartic": 100,
    "tanh with rejections": 90,
    "negative curvature": 120,
    "flat spectrum": 50,
    "padded": 90,
    "an edge": 120,
}


@pytest.mark.slow  # compiles the solver in the graph
@pytest.mark.parametrize("name", PROBLEMS)
def test_attempts_are_those_of_the_solver_in_the_graph(name):
    """Same verdicts, evaluations, products, steps; candidates and dense output to rounding."""
    seen = compare(name, MOVING[name])
    assert seen.other == 0
    # A basis of 8 and as many products again, or nearly: "flat spectrum" needs no more.
    assert seen.products >= 15
    assert seen.rejected >= (0 if name == "padded" else 3)
    assert (seen.non_finite > 0) == (name == "an edge")


SLOW = [
    ("stiff and quartic", BDF(), 100),
    ("negative curvature", BDF(), 100),
    ("tanh with rejections", BDF(dense=True), 90),
    ("padded", BDF(dense=True, secants=2), 90),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver", "attempts"), SLOW, ids=range(len(SLOW)))
def test_so_are_those_of_larger_bases_and_of_the_whole_spectrum(name, solver, attempts):
    seen = compare(name, attempts, solver=solver)
    assert seen.other == 0
    assert seen.products > 5


# The programs of double precision, compiled again.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh with rejections", "padded"])
def test_in_single_precision_few_attempts_are_others(name):
    """Where rounding decides it may decide otherwise; nothing becomes 64-bit on the way."""
    seen = compare(name, 60, close=3e-5, dtype=np.float32)
    assert seen.other <= 2
    leaves = [leaf for leaf in jax.tree.leaves(seen.last.memory) if isinstance(leaf, np.ndarray)]
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


def driven(method, field, y, memory, h, attempts):
    """Accepted states, and what comes after the attempts."""
    path = []
    for _ in range(attempts):
        attempt = method.attempt(field, y, memory, h)
        h = attempt.step
        if attempt.keep:
            y, memory = attempt.y, attempt.memory
            path.append(y)
    return np.stack(path), (y, memory, h)


# Until rounding has grown to 1e-8 of theta, which in the network it does, by either text.
ALONE = [("stiff and quartic", 60), ("tanh with rejections", 24)]


@pytest.mark.parametrize(("name", "attempts"), ALONE)
def test_a_flow_left_to_itself_stays_with_the_one_in_the_graph(name, attempts):
    graph, method, field, counts = both(name, rtol=1e-5)
    y = graph.vector()
    start = method.start(field, y)
    assert (start.gradients, start.products, start.halt) == (3, 2, Halt.NONE)
    assert (counts.gradients, counts.products) == (3, 2)
    assert start.step == pytest.approx(float(graph.h), rel=1e-9)
    path, _ = driven(method, field, y, start.memory, start.step, attempts)
    work = np.zeros(2, int)
    for _ in range(attempts):
        work += graph.attempt(graph.h)[3]
    assert (counts.gradients - 3, counts.products - 2) == tuple(work)
    np.testing.assert_allclose(path[-1], graph.vector(), rtol=1e-8)


@pytest.mark.parametrize("name", ["an edge", "flat spectrum"])
def test_what_was_given_or_returned_never_changes(name):
    """Two flows from every former memory agree with the first to the last bit."""
    graph, method, field, _ = both(name)
    y = graph.vector()
    start = method.start(field, y)
    now, kept = (y, start.memory, start.step), []
    for _ in range(5):
        path, after = driven(method, field, *now, 10)
        kept.append((now, copy.deepcopy(now), path))
        now = after
    for now, saved, path in kept:
        for a, b in zip(jax.tree.leaves(now), jax.tree.leaves(saved), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(driven(method, field, *now, 10)[0], path)
    blank = method.blank(y)
    assert jax.tree.structure(blank) == jax.tree.structure(now[1])
    for a, b in zip(jax.tree.leaves(blank), jax.tree.leaves(now[1]), strict=True):
        assert type(a) is type(b)
        assert np.shape(a) == np.shape(b)


def test_a_step_much_longer_than_the_last_begins_anew_at_order_one():
    graph, method, field, _ = both("stiff quadratic")
    y = graph.vector()
    start = method.start(field, y)
    _, (y, memory, _) = driven(method, field, y, start.memory, start.step, 60)
    assert memory.order > 1
    graph.y = (jnp.asarray(y[:-2]), jnp.asarray(y[-2:]))
    state = graph.state
    for name in ("differences", "step", "order", "equal", "rate"):
        value = jnp.asarray(getattr(memory, name), getattr(state, name).dtype)
        state = eqx.tree_at(lambda s, name=name: getattr(s, name), state, value)
    state = dataclasses.replace(state, curvature=curvature.Curvature.empty(8, 3, graph.y[0]))
    graph.state, far = state, 30 * memory.step
    empty = dataclasses.replace(memory, curvature=Curvature.empty(8, 3, y[:-2]))
    expected, middle, keep, work = graph.attempt(far)
    got = method.attempt(field, y, empty, far)
    assert (got.keep, got.gradients, got.products) == (keep, *work)
    np.testing.assert_allclose(got.y, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.dense(np.array([0.5]))[0], middle, rtol=1e-9, atol=1e-12)
    # A polynomial of degree one: the middle is the mean.
    np.testing.assert_allclose(2 * middle, y + expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_parameter(dtype):
    """L = 50 w^2: w = e^(-100 t), the length 1 - w, the energy (1 - w^2) 50."""
    field, _ = host_field(half_square, dtype(100.0), 1)
    method, y = HostBDF(1e-5, 1e-8), np.array([1.0, 0.0, 0.0], dtype)
    start = method.start(field, y)
    memory, h, t = start.memory, start.step, 0.0
    while t < 0.03:
        attempt = method.attempt(field, y, memory, min(h, 0.03 - t))
        t += min(h, 0.03 - t) if attempt.keep else 0
        h = attempt.step
        y, memory = (attempt.y, attempt.memory) if attempt.keep else (y, memory)
        assert t > 0.03 - 1e-9 or h > 1e-9
        t = 0.03 if t > 0.03 - 1e-9 else t
    w = math.exp(-3)
    np.testing.assert_allclose(y, [w, 1 - w, 50 * (1 - w**2)], rtol=2e-4)
    assert y.dtype == dtype


LOOSE = [("A_tanh", 1e4), ("A_tanh", 1e6), ("A_soft", 1e6), ("B", 1e3), ("C", 1e4)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "horizon"), LOOSE)
def test_a_looser_tolerance_costs_no_more(name, horizon):
    """Gradients + 2 products on the reference flows, whose true losses judge the errors."""
    reference = problems.reference(name)
    loss = lambda theta, _: reference.loss(theta)
    costs = []
    for rtol in (1e-2, 1e-3, 1e-4):
        field, counts = host_field(loss, None, size=reference.theta0.size)
        method, y = HostBDF(rtol, 1e-3 * rtol), np.concatenate([reference.theta0, [0.0, 0.0]])
        start = method.start(field, y)
        memory, h, t = start.memory, start.step, 0.0
        while t < horizon:
            step = min(h, horizon - t)
            attempt = method.attempt(field, y, memory, step)
            h = attempt.step
            if attempt.keep:
                # An end that is nearly reached is reached.
                t = horizon if step > 0.999 * (horizon - t) else t + step
                y, memory = attempt.y, attempt.memory
        costs.append(counts.gradients + 2 * counts.products)
        true = reference.losses[np.isclose(reference.times, horizon)][0]
        assert float(reference.loss(jnp.asarray(y[:-2]))) == pytest.approx(true, rel=10 * rtol)
    assert max(costs[:2]) <= costs[2]


def quadratic_equation(hessian, c):
    """d = -c H (p + d), for p = (1, ..., 1)."""
    size = len(hessian)
    value_and_grad = lambda theta: (float(theta @ hessian @ theta) / 2, hessian @ theta)
    field = HostField(value_and_grad, lambda _, v: hessian @ v, size, lambda *_: (), [], 1)
    point = np.concatenate([np.ones(size), np.zeros(2)])
    nothing = np.zeros_like(point)
    return Equation(field, point, nothing, c, np.ones(size), 1e-6, 1e-13, 1.0, 1e9)


def test_products_of_conjugate_gradients_teach_the_curvature():
    """On a quadratic, what they have learnt serves the next equation: it takes no product."""
    rng, c = np.random.default_rng(2), 2.0
    basis = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    hessian = basis * np.geomspace(1e-1, 1e2, 9) @ basis.T
    equation, solved = quadratic_equation(hessian, c), []
    curvature = Curvature.empty(9, 12, np.ones(9)).restarted(np.ones(9), np.ones(9), 9)
    stiffest = lambda space: space.size == 2
    space = curvature.krylov.grown(lambda v: hessian @ v, stiffest)
    curvature = dataclasses.replace(curvature, krylov=space, spent=-99)
    for rate in (1.0, 0.5):
        now = Iteration(np.zeros(11), curvature, np.ones(9), 1.0, rate, 0, 0, False)
        now.solve(equation, curvature, rate, False)
        exact = np.linalg.solve(np.eye(9) + c * hessian, -c * hessian @ np.ones(9))
        assert now.converged
        np.testing.assert_allclose(now.correction[:-2], exact, atol=1e-5)
        solved.append(now.products)
        curvature = now.curvature
    assert solved[0] >= 5
    assert solved[1] == 0


@pytest.mark.parametrize("h", [1.0, 4.0, 12.0])
def test_where_the_equation_is_hardly_convex_the_next_step_is_shorter(h):
    """At order 1, on a saddle: I + c H has the least eigenvalue 1 - 0.3 c."""
    field = quadratic_equation(np.diag([-0.3, 0.5, 1.0]), 1.0).field
    y, method = np.array([1e-3, 1e-3, 1e-3, 0.0, 0.0]), HostBDF(0.5, 1e3)
    attempt = method.attempt(field, y, method.start(field, y).memory, h)
    lowest = -0.3 * h / alpha(1)
    if lowest > -0.5:
        # Accepted with an error of nothing; k + 1 steps at least are equal.
        assert (attempt.keep, attempt.step) == (True, h)
    else:
        assert attempt.step == pytest.approx(h * max(0.5, (0.5 / -lowest) ** (1 / 3)))


def half_square(theta, stiffness):
    return stiffness * theta @ theta / 2


def broken(theta, args):
    return jnp.sum(theta) * args


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rates_that_are_not_finite_make_an_attempt_that_is_not(value):
    """No exception and no warning, at the start or later."""
    whole, _ = host_field(broken, 1.0, 3)
    field, _ = host_field(broken, value, 3)
    method, y = HostBDF(1e-3, 1e-6), np.ones(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = method.start(field, y)
        assert start.step > 0
        assert start.halt == Halt.NONE
        fine = method.start(whole, y)
        for memory in (start.memory, fine.memory):
            attempt = method.attempt(field, y, memory, fine.step)
            assert not attempt.keep
            assert not attempt.finite
            assert attempt.step == fine.step / 2
            assert attempt.memory is memory


def test_at_rest_nothing_is_divided_by_zero():
    field, _ = host_field(half_square, 1.0, 2)
    method, y = HostBDF(1e-3, 1e-6), np.zeros(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = method.start(field, y)
        path, (_, _, h) = driven(method, field, y, start.memory, start.step, 20)
    assert h > 1e3 * start.step
    np.testing.assert_array_equal(path[:, :2], 0)


def test_products_that_are_not_symmetric_halt():
    field, _ = host_field(half_square, 1.0, 2)
    rotation = np.array([[1.0, 5.0], [-5.0, 1.0]])
    field = dataclasses.replace(field, product=lambda theta, v: rotation @ v)
    y = np.array([1.0, 2.0, 0.0, 0.0])
    start = HostBDF(1e-3, 1e-6).start(field, y)
    assert start.halt == Halt.NOT_SYMMETRIC
    attempt = HostBDF(1e-3, 1e-6).attempt(field, y, start.memory, start.step)
    assert attempt.halt == Halt.NOT_SYMMETRIC


# The parts.


@eqx.filter_jit
def extended(space, matrix):
    return space.extended(lambda v: matrix @ v)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_basis_is_that_of_the_graph(dtype):
    """Generic vectors to the bit; bases, Ritz pairs, defects to rounding, closed ones included."""
    eps = float(np.finfo(dtype).eps)
    for turn in (0, 1, 67):
        mine = krylov.generic_vector(37, dtype, turn)
        np.testing.assert_array_equal(mine, lanczos.generic_vector(37, dtype, turn))
        assert mine.dtype == dtype
    # Two eigenvalues: the space closes after two products, and goes on.
    hessian = np.diag(np.array([1.0, 1, 1, 5, 5, 5], dtype))
    first = np.arange(1, 7).astype(dtype)
    graph = lanczos.Krylov.empty(5, jnp.asarray(first)).restarted(jnp.asarray(first))
    for _ in range(5):
        graph = extended(graph, jnp.asarray(hessian))
    asked = []
    mine = krylov.Krylov.empty(5, first).restarted(first)
    mine = mine.grown(lambda v: hessian @ v, lambda space: bool(asked.append(space.size)))
    assert asked == [1, 2, 3, 4]
    assert mine.full
    np.testing.assert_allclose(mine.basis, graph.basis, atol=1e3 * eps)
    for pair in ("alpha", "beta"):
        np.testing.assert_allclose(getattr(mine, pair), getattr(graph, pair), atol=1e3 * eps)
    assert mine.beta[1] == 0
    assert mine.symmetric
    assert mine.defect < 100 * eps
    a, b = krylov.ritz(mine), lanczos.ritz(graph)
    np.testing.assert_allclose(a.values, b.values, rtol=100 * eps)
    np.testing.assert_allclose(a.residuals, b.residuals, atol=1e3 * eps)


def test_the_defect_is_that_of_the_graph_and_sees_what_is_not_symmetric():
    rng = np.random.default_rng(0)
    matrix, first = rng.standard_normal((8, 8)), rng.standard_normal(8)
    graph = lanczos.Krylov.empty(4, jnp.asarray(first)).restarted(jnp.asarray(first))
    mine = krylov.Krylov.empty(4, first).restarted(first)
    for turn in range(4):
        graph = extended(graph, jnp.asarray(matrix))
        mine = mine.grown(lambda v: matrix @ v, lambda space: True)
        assert mine.size == turn + 1
        assert mine.defect == pytest.approx(float(graph.defect), rel=1e-6, abs=1e-14)
    assert not mine.symmetric


def test_growing_a_space_leaves_it_as_it_was():
    hessian, first = np.diag(np.arange(1.0, 9)), np.ones(8)
    once = krylov.Krylov.empty(6, first).restarted(first)
    once = once.grown(lambda v: hessian @ v, lambda space: space.size == 2)
    saved = copy.deepcopy(once)
    twice = [once.grown(lambda v, k=k: k * hessian @ v, lambda space: False) for k in (1, 2)]
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(twice[0].alpha[2:], twice[1].alpha[2:])


def test_the_learner_inverts_multiplies_and_obeys_its_secants():
    """Against dense matrices; the model that it began with stays."""
    rng = np.random.default_rng(1)
    hessian = np.diag(np.geomspace(1.0, 100, 9))
    shifted = hessian + 0.3 * np.eye(9)
    model = Curvature.empty(3, 2, np.zeros(9)).restarted(np.zeros(9), np.ones(9), 9)
    model, products = model.extended(lambda v: hessian @ v, 1.0, 0.2)
    assert products == 3
    assert model.full
    saved, c = copy.deepcopy(model), 0.7
    learner, v = Learner(model, c), rng.standard_normal(9)
    for turn in range(4):
        dense = np.stack([learner.product(e) for e in np.eye(9)])
        np.testing.assert_allclose(dense, dense.T, atol=1e-12)
        x, image = learner.inverse(v)
        np.testing.assert_allclose(x + c * dense @ x, v, atol=1e-11)
        np.testing.assert_allclose(image, dense @ x, atol=1e-11)
        learner.learn(x, image, shifted @ x)
        assert learner.curvature.count == turn + 1
        if turn < 2:  # Later ones take the place of those that were counted on.
            np.testing.assert_allclose(learner.product(x), shifted @ x, atol=1e-9)
        v = v - x - c * shifted @ x
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(a, b)
