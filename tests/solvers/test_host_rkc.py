"""RKC2 on the host and in bursts against the one in the graph, attempt by attempt."""

import dataclasses
import warnings

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_fields import host_field, rates

from flowlift.solvers import RKC2, Halt, PredictiveController, WorkController
from flowlift.solvers import chebyshev as in_graph
from flowlift.solvers.host import chebyshev
from flowlift.solvers.host.lean import Bounds
from flowlift.solvers.host.radius import Ready
from flowlift.solvers.host.rkc import HostRKC, LeanRKC, serves

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
# What must have come up: least numbers of rejected attempts, second tries and non-finite attempts.
EVENTS = {
    ("tanh with rejections", 1e-3): (9, 0, 0),
    ("growing", 1e-3): (0, 9, 0),
    ("an edge", 1e-3): (3, 3, 3),
}


class ThetaNorm(eqx.Module):
    live: jax.Array

    def __call__(self, error):
        theta = error[0]
        return jnp.sqrt(jnp.sum(theta * theta) / self.live.astype(theta.dtype))


def theta_of(y):
    return y[0]


class Graph:
    """The solver in the graph under its controller, one attempt at a time."""

    def __init__(self, start, args, live, rtol, dtype, max_stages=None):
        self.args, self.y = args, (start, jnp.zeros(2, dtype))
        tolerances = (jnp.asarray(t, dtype) for t in (rtol, 1e-3 * rtol))
        norm = ThetaNorm(jnp.asarray(live))
        self.controller = WorkController(PredictiveController(*tolerances, norm), startup=2)
        self.solver = RKC2(
            select=theta_of, live=jnp.asarray(live), max_stages=max_stages,
            root_finder=self.controller,
        )  # fmt: skip
        self.state, self.control = _begin(self.solver, self.controller, self.y, args)

    def attempt(self, h):
        """(candidate, middle of the step, whether it was accepted, its work)."""
        before = self.control
        h = jnp.asarray(h, self.y[0].dtype)
        keep, y, middle, state, self.control = _attempt(
            self.solver, self.controller, self.y, self.args, self.state, before, h
        )
        if keep:
            self.y, self.state = y, state
        work = jax.tree.map(lambda new, old: int(new - old), self.control.work, before.work)
        return np.concatenate(y), np.concatenate(middle), bool(keep), work


@eqx.filter_jit
def _begin(solver, controller, y, args):
    term = diffrax.ODETerm(rates(loss))
    zero, end = (jnp.asarray(t, y[0].dtype) for t in (0.0, jnp.inf))
    _, control = controller.init(term, zero, end, y, None, args, solver.func, 3)
    return solver.init(term, zero, control.step, y, args), control


@eqx.filter_jit
def _attempt(solver, controller, y, args, state, control, h):
    zero = jnp.zeros_like(h)
    term = diffrax.ODETerm(rates(loss))
    new, report, dense, state, _ = solver.step(term, zero, h, y, args, state, False)
    path = solver.interpolation_cls(t0=zero, t1=h, **dense)
    keep, *_, control, _ = controller.adapt_step_size(zero, h, y, new, args, report, 3, control)
    return keep, new, path.evaluate(h / 2), state, control


def traced(leaves, theta):
    """Of all problems here, so that they share a program."""
    args = jax.tree.unflatten(jax.tree.structure(PROBLEMS["padded"][1]), leaves)
    return jax.value_and_grad(loss)(theta, args)


def begun(name, rtol, dtype, max_stages=None):
    """(graph, method, field with its counts, state, start)."""
    start, args, live = PROBLEMS[name]
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    start, args = cast(start), cast(args)
    field, counts = host_field(loss, args, live)
    field = dataclasses.replace(field, traced=traced)
    y = np.concatenate([np.asarray(start), np.zeros(2, dtype)])
    graph = Graph(start, args, live, rtol, dtype, max_stages)
    method = HostRKC(rtol, 1e-3 * rtol, max_stages)
    return graph, method, field, counts, y, method.start(field, y)


CASES = [(name, 1e-3, "float64", None) for name in PROBLEMS]
CASES += [(name, 1e-6, "float64", None) for name in ("tanh with rejections", "growing")]
CASES += [(name, 1e-3, "float32", None) for name in ("stiff quadratic", "padded", "an edge")]
CASES += [("stiff quadratic", 1e-4, "float64", 7)]
# Each precision and each kind of event; stiff problems take long with their stages on the host.
QUICK = [*EVENTS, ("not symmetric", 1e-3)]


def cost(case):
    quick = case[:2] in QUICK and (case[0] == "an edge") == (case[2] == "float32")
    return pytest.param(*case, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "rtol", "dtype", "cap"), [cost(case) for case in CASES])
def test_host_takes_the_steps_of_the_graph(name, rtol, dtype, cap, monkeypatch):
    graph, method, field, counts, y, start = begun(name, rtol, dtype, cap)
    close = 1e-9 if dtype == "float64" else 3e-4
    assert start.step == pytest.approx(float(graph.control.step), rel=close)
    assert start.gradients == counts.gradients == int(graph.control.work.gradients) == 2
    memory, events, second, again = start.memory, np.zeros(3, int), [], Ready.again

    def seen(*args):
        second[-1] += 1
        return again(*args)

    monkeypatch.setattr(Ready, "again", seen)
    # Later, in single precision, errors are rounding.
    for _ in range(120 if dtype == "float64" else 70):
        h, made = float(graph.control.step), (counts.gradients, counts.products)
        second.append(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tried = method.attempt(field, y, memory, h)
        new, middle, keep, work = graph.attempt(h)
        finite = tried.finite and bool(np.isfinite(tried.y).all())
        spent = counts.gradients - made[0], counts.products - made[1]
        assert spent == (tried.gradients, tried.products) == (work.gradients, work.hvps)
        assert tried.y.dtype == tried.memory.rates.dtype == tried.memory.vector.dtype == dtype
        assert tried.halt == Halt(int(graph.control.halt))
        assert finite == (int(graph.control.non_finite) == 0)
        assert (tried.keep and finite) == keep
        if finite:
            assert tried.step == pytest.approx(float(graph.control.step), rel=1e5 * close)
        events += (not keep, second.pop(), not finite)
        if keep:
            scale = 1 + np.abs(y).max()
            between = tried.dense(np.array([0.5]))[0]
            for ours, theirs in ((tried.y, new), (between, middle)):
                np.testing.assert_allclose(ours, theirs, rtol=close, atol=close * scale)
            at = jnp.asarray(tried.y[:-2])
            assert tried.loss == pytest.approx(float(loss(at, graph.args)), rel=close)
            y, memory = tried.y, tried.memory
        # At rest errors are rounding, too.
        if tried.halt != Halt.NONE or np.abs(tried.memory.rates[:-2]).max() < 1e-5:
            break
    assert (tried.halt != Halt.NONE) == (name == "not symmetric")
    assert np.all(events >= EVENTS.get((name, rtol), 0))


ENDLESS = Bounds(np.inf, np.inf, 0.0, -np.inf, -np.inf, 1, np.inf, 0, False)


def by_hand(method, field, y, memory, h, attempts):
    """(state, memory, next step, time, gradients, products, accepted, non-finite in a row)."""
    time = gradients = products = accepted = non_finite = 0
    for _ in range(attempts):
        tried = method.attempt(field, y, memory, h)
        finite = tried.finite and bool(np.isfinite(tried.y).all())
        gradients, products = gradients + tried.gradients, products + tried.products
        non_finite = 0 if finite else non_finite + 1
        if tried.keep and finite:
            y, memory, time, accepted = tried.y, tried.memory, time + h, accepted + 1
        h = tried.step if finite else h / 2
        if tried.halt != Halt.NONE:
            break
    return y, memory, h, time, gradients, products, accepted, non_finite


@pytest.mark.parametrize(("name", "rtol", "dtype", "cap"), CASES)
def test_bursts_take_the_steps_of_the_host(name, rtol, dtype, cap):
    _, method, field, _, y, start = begun(name, rtol, dtype, cap)
    close = 1e-7 if dtype == "float64" else 1e-2
    lean, constants = LeanRKC(cap), {"rtol": rtol, "atol": 1e-3 * rtol}
    memory, h = start.memory, start.step
    for attempts in (1, 1, 40):
        burst = lean.run(field, y, memory, h, ENDLESS._replace(attempts=attempts), constants)
        new, kept, step, time, *counts = by_hand(method, field, y, memory, h, attempts)
        assert counts == [burst.gradients, burst.products, burst.accepted, burst.non_finite]
        np.testing.assert_allclose(burst.y, new, rtol=close, atol=close)
        assert (burst.step, burst.time) == pytest.approx((step, time), rel=1e5 * close)
        assert jax.tree.structure(burst.memory) == jax.tree.structure(kept)
        assert burst.memory.age == kept.age
        assert not burst.left
        y, memory, h = burst.y, burst.memory, burst.step
        if burst.halt != Halt.NONE:
            break
    assert (burst.halt == Halt.NOT_SYMMETRIC) == (name == "not symmetric")


def test_bursts_end_at_their_bounds():
    """With the step that reaches a time or threshold, before one that would reach the end."""
    _, _, field, _, y, start = begun("stiff quadratic", 1e-3, "float64")
    lean, constants = LeanRKC(), {"rtol": 1e-3, "atol": 1e-6}

    def run(**bounds):
        bounds = ENDLESS._replace(**{"attempts": 10_000} | bounds)
        return lean.run(field, y, start.memory, start.step, bounds, constants)

    paused = run(pause=1.0)
    assert paused.time - paused.taken < 1.0 <= paused.time
    assert not (paused.met)
    assert not (paused.left)
    ended = run(end=1.0)
    assert ended.time < 1.0 <= ended.time + ended.step
    assert ended.accepted == paused.accepted - 1
    level = 0.5 * (field.value_and_grad(paused.y[:-2])[0] + field.value_and_grad(y[:-2])[0])
    met = run(loss=level)
    assert met.met
    assert field.value_and_grad(met.y[:-2])[0] <= level
    assert field.value_and_grad(met.dense(np.array([0.5]))[0, :-2])[0] > level
    limited = run(gradients=500)
    assert 500 <= limited.gradients < 700
    assert run(gradients=limited.gradients - 200).gradients < limited.gradients


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_interpolant_is_of_third_order(dtype):
    """On y' = -y + 1/3, the integrals apart: between two steps of one length, against e^-t."""

    def exact(t):
        return 1 / 3 + np.exp(-np.asarray(t))[..., None] * np.ones(SIZE) * 2 / 3

    args = jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype), PROBLEMS["padded"][1])
    args |= {"hessian": jnp.eye(SIZE, dtype=dtype), "centre": jnp.full(SIZE, 1 / 3, dtype)}
    field, _ = host_field(loss, args | {"edge": jnp.asarray(np.inf, dtype)}, SIZE)
    y = np.concatenate([np.ones(SIZE), np.zeros(2)]).astype(dtype)
    x = np.linspace(0.1, 1, 10)
    method, errors = HostRKC(1e-3, 1e-6), []
    for h in (0.8, 0.4, 0.2):
        tried = method.attempt(field, y, method.blank(y), h)
        between = tried.dense(x)
        assert between.dtype == dtype
        errors.append(np.abs(between[:, :-2] - exact(x * h)).max())
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((observed > 2.5) & (observed < 3.5)), errors


@pytest.mark.parametrize("s", [1, 2, 3, 17, 400])
def test_weights_are_those_of_the_graph(s):
    """The increment of a step on y' = z y, at every s; s = 1 does not move."""
    z = np.concatenate([np.linspace(-0.6 * s**2, 0.5, SIZE), np.zeros(2)])
    field, _ = host_field(lambda theta, z: -0.5 * jnp.sum(z * theta**2), z[:-2], SIZE)
    y = np.concatenate([np.ones(SIZE), np.zeros(2)])
    start = field.rates(y)[1]
    increment, slope, value = chebyshev.chebyshev_step(field, y, start, 1.0, s)
    reference, _ = in_graph.chebyshev_step(
        lambda t, y: z[:-2] * y, 0.0, jnp.asarray(1.0), jnp.ones(SIZE), z[:-2], jnp.asarray(s)
    )
    np.testing.assert_allclose(increment[:-2], reference, rtol=1e-9, atol=1e-11 * s)
    np.testing.assert_allclose(slope[:-2], z[:-2] * (1 + increment[:-2]), rtol=1e-12)
    assert value == pytest.approx(-0.5 * np.sum(z[:-2] * (1 + increment[:-2]) ** 2))
    assert (s > 1) == bool(np.any(increment))
    for radius in (0.0, 3.0):
        longest = chebyshev.longest_step(s, radius, np.finfo(float).tiny)
        assert longest == pytest.approx(float(in_graph.longest_step(s, jnp.asarray(radius))))
    for steep in (0.0, 1.0, 2.59, 2.6, 1e5):
        assert chebyshev.stages_needed(steep) == int(in_graph.stages_needed(jnp.asarray(steep)))


def test_a_step_beyond_the_stages_is_shortened_to_what_they_can_make():
    """Not judged by what one stage makes of it: that is no step."""
    graph, method, field, _, y, start = begun("stiff quadratic", 1e-3, "float64", 7)
    tried = method.attempt(field, y, start.memory, 1.0)
    _, _, keep, _ = graph.attempt(1.0)
    # 48 / (1.54 x 1e4), less safety and residual.
    for step in (tried.step, float(graph.control.step)):
        assert 0.8 * 48 / 1.54e4 < step < 48 / 1.54e4
    assert tried.finite
    assert not keep
    assert not (tried.keep)
    assert int(graph.control.non_finite) == 0


def test_instances_with_functions_of_the_state_stay_with_the_graph():
    assert serves(RKC2())
    assert serves(RKC2(max_stages=30))
    assert not serves(RKC2(radius=lambda t, y, args: 1.0))
    assert not serves(RKC2(select=theta_of))
