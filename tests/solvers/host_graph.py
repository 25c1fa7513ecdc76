"""Flows, and solvers on the host beside those in the graph, one attempt after another."""

import dataclasses
import warnings

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_fields import host_field, rates

from flowlift.solvers import Halt, PredictiveController, WorkController

SIZE = 12


@jax.custom_jvp
def halved(a, b):
    return a * b


# No differential of anything: the derivative in b is left out.
halved.defjvp(lambda primals, tangents: (halved(*primals), primals[1] * tangents[0]))


def loss(theta, args):
    """A quadratic, a quartic, tanh units, a bump of curvature; NaN where the sum is large."""
    gap = theta - args["centre"]
    w, a = theta[:8].reshape(4, 2), theta[8:]
    net = jnp.mean((jnp.tanh(args["x"] @ w.T) @ a - args["target"]) ** 2)
    whole = 0.5 * gap @ args["hessian"] @ gap + args["net"] * net
    whole = whole + args["quartic"] * jnp.sum(theta**4) / 4
    sharp = 1 / (1 + jnp.exp(20 * (theta[0] - 0.5)))
    whole = whole + args["bump"] * sharp * jnp.sum(theta[1:] ** 2)
    whole = whole + args["skewed"] * jnp.sum(halved(theta[0], theta[1:]))
    return whole * jnp.where(jnp.abs(jnp.sum(theta)) > args["edge"], jnp.nan, 1.0)


def problem(
    values=0.0, net=0.0, quartic=0.0, bump=0.0, skewed=0.0, edge=np.inf, live=SIZE, start=1.0
):
    """(start, args, live); coordinates beyond `live` are zero and do not move."""
    rng = np.random.default_rng(5)
    basis = np.zeros((SIZE, SIZE))
    basis[:live, :live] = np.linalg.qr(rng.standard_normal((live, live)))[0]
    spectrum = np.zeros(SIZE)
    spectrum[:live] = values
    shown = np.arange(SIZE) < live
    if bump or quartic:
        basis = np.eye(SIZE)
    args = {
        "hessian": basis * spectrum @ basis.T,
        "centre": rng.standard_normal(SIZE) * shown * (bump == quartic == 0),
        "x": rng.standard_normal((9, 2)),
        "target": rng.standard_normal(9),
        "net": net,
        "quartic": quartic,
        "bump": bump,
        "skewed": skewed,
        "edge": edge,
    }
    return start * rng.standard_normal(SIZE) * shown, args, live


STIFF = np.geomspace(1e-2, 1e4, SIZE)
PROBLEMS = {
    "stiff quadratic": problem(STIFF),
    "tanh with rejections": problem(net=200.0, start=3.0),
    "negative curvature": problem(np.concatenate([[-0.3, -0.1], STIFF[2:]])),
    "sharpening": problem(np.ones(SIZE), bump=1e4, start=1e-3),
    "growing": problem(np.concatenate([[1.0], -3 * np.ones(SIZE - 1)]), quartic=1.0, start=1e-2),
    "padded": problem(np.geomspace(1, 1e4, 7), live=7),
    "an edge": problem(np.concatenate([-np.ones(3), np.geomspace(1, 30, 9)]), edge=6.0),
    "not symmetric": problem(np.linspace(1.0, 3.0, SIZE), skewed=1.0),
}
PROBLEMS["sharpening"][0][0] = 1.0


class Norm(eqx.Module):
    """Root mean square over the coordinates of theta that count; the integrals on demand."""

    live: jax.Array
    whole: bool = eqx.field(static=True)

    def __call__(self, error):
        theta, integrals = error
        size = jnp.sqrt(jnp.sum(theta * theta) / self.live.astype(theta.dtype))
        return jnp.max(jnp.append(jnp.abs(integrals), size)) if self.whole else size


def theta_of(y):
    return y[0]


class Graph:
    """Its state, its controller's memory, and one attempt after another."""

    def __init__(self, solver, loss, problem, rtol, whole=False):
        start, self.args, live = problem
        self.loss, self.y = loss, (start, jnp.zeros(2, start.dtype))
        tolerances = (jnp.asarray(t, start.dtype) for t in (rtol, 1e-3 * rtol))
        inner = PredictiveController(*tolerances, Norm(jnp.asarray(live), whole))
        self.controller = WorkController(inner, startup=2)
        self.solver = dataclasses.replace(
            solver, select=theta_of, live=jnp.asarray(live), root_finder=self.controller
        )
        self.state, self.control = _begin(loss, self.solver, self.controller, self.y, self.args)

    def attempt(self, h):
        """(candidate, middle of the step, whether it was accepted, its work)."""
        before = self.control
        h = jnp.asarray(h, self.y[0].dtype)
        keep, y, middle, state, self.control = _attempt(
            self.loss, self.solver, self.controller, self.y, self.args, self.state, before, h
        )
        if keep:
            self.y, self.state = y, state
        work = jax.tree.map(lambda new, old: int(new - old), self.control.work, before.work)
        return np.concatenate(y), np.concatenate(middle), bool(keep), work


@eqx.filter_jit
def _begin(loss, solver, controller, y, args):
    term = diffrax.ODETerm(rates(loss))
    zero, end = (jnp.asarray(t, y[0].dtype) for t in (0.0, jnp.inf))
    order = solver.error_order(term)
    _, control = controller.init(term, zero, end, y, None, args, solver.func, order)
    return solver.init(term, zero, control.step, y, args), control


@eqx.filter_jit
def _attempt(loss, solver, controller, y, args, state, control, h):
    zero, term = jnp.zeros_like(h), diffrax.ODETerm(rates(loss))
    new, report, dense, state, _ = solver.step(term, zero, h, y, args, state, False)
    middle = solver.interpolation_cls(t0=zero, t1=h, **dense).evaluate(h / 2)
    judge, order = controller.adapt_step_size, solver.error_order(term)
    keep, *_, control, _ = judge(zero, h, y, new, args, report, order, control)
    return keep, new, middle, state, control


def traced(leaves, theta):
    """Of all flows here, so that they share a program."""
    args = jax.tree.unflatten(jax.tree.structure(PROBLEMS["padded"][1]), leaves)
    return jax.value_and_grad(loss)(theta, args)


def begun(name, solver, method, rtol, dtype, whole=False):
    """(graph, field with its counts, state, start)."""
    start, args, live = PROBLEMS[name]
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    start, args = cast(start), cast(args)
    field, counts = host_field(loss, args, live)
    field = dataclasses.replace(field, traced=traced)
    y = np.concatenate([np.asarray(start), np.zeros(2, dtype)])
    graph = Graph(solver, loss, (start, args, live), rtol, whole)
    first = method.start(field, y)
    assert first.step == pytest.approx(float(graph.control.step), rel=_close(y))
    assert first.gradients == counts.gradients == int(graph.control.work.gradients) == 2
    return graph, field, counts, y, first


def _close(y):
    return 1e-9 if y.dtype == "float64" else 3e-4


def compared(graph, field, counts, method, y, memory, together=False, between=True):
    """Attempts of the host as (attempt, whether it was kept, whether finite), equal to the graph's.

    They end at a halt, and at rest, where errors are rounding. Each goes on from its own state, or
    both from that of the graph: differences of rounding grow where a basis misses what it may.
    Not `between`: their dense outputs are of different kinds.
    """
    while True:
        h, made = float(graph.control.step), (counts.gradients, counts.products)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tried = method.attempt(field, y, memory, h)
        new, middle, keep, work = graph.attempt(h)
        finite = tried.finite and bool(np.isfinite(tried.y).all())
        spent = counts.gradients - made[0], counts.products - made[1]
        assert spent == (tried.gradients, tried.products) == (work.gradients, work.hvps)
        assert tried.halt == Halt(int(graph.control.halt))
        assert finite == (int(graph.control.non_finite) == 0)
        assert (tried.keep and finite) == keep
        close, scale = _close(y), 1 + np.abs(y).max()
        assert tried.y.dtype == y.dtype
        assert all(leaf.dtype == y.dtype for leaf in _arrays(tried.memory))
        if finite:
            assert tried.step == pytest.approx(float(graph.control.step), rel=1e5 * close)
        if keep:
            inside = [(tried.dense(np.array([0.5]))[0], middle)] if between else []
            for ours, theirs in ((tried.y, new), *inside):
                np.testing.assert_allclose(ours, theirs, rtol=close, atol=close * scale)
            value, slope = field.value_and_grad(tried.y[:-2])
            counts.gradients -= 1
            size = float(np.linalg.norm(slope))
            assert (tried.loss, tried.gradient_norm) == pytest.approx((value, size), rel=close)
            y, memory = (new if together else tried.y), tried.memory
        yield tried, keep, finite
        if tried.halt != Halt.NONE or tried.gradient_norm < 1e-5:
            return


def _arrays(memory):
    return [leaf for leaf in jax.tree.leaves(memory) if isinstance(leaf, np.ndarray)]
