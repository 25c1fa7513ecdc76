"""Families of cases on lifts and equinox networks."""

import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import naive
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import flowlift
from flowlift import flow
from flowlift import lift as lifts

from . import checks, draws, networks

# So few cases share a module that graphs differ often; a block shares its compilations.
_BLOCK = 6
_SOLVERS = ["tsit5", "tsit5", "dopri8", "bdf", "rkc2", "exprb", "auto"]
# Newton iterations and conjugate gradients that rounding may decide.
_ITERATIONS = 3
_REFERENCES = ["LSODA", "DOP853", "Radau", "BDF"]


def _draw(family: str, number: int):
    shapes, rng = draws.streams(family, number, _BLOCK)
    lift = networks.draw_lift(shapes, rng)
    data = networks.draw_data(shapes, rng, *networks.shapes_of(lift.module))
    return shapes, rng, lift, data


def permuted(lift, rng):
    """The lift with the copies of every hidden vertex in another order."""
    module, copies = lift.module, lift.copies
    order = {v.name: rng.permutation(copies[v.name]) for v in module.hidden}
    for v in module.vertices:
        order.setdefault(v.name, np.arange(copies[v.name]))
    edges = {}
    for name, edge in module.edge_by_name.items():
        sources, targets, weights = lift.edges(name)
        edges[name] = (order[edge.source][sources], order[edge.target][targets], weights)
    return lifts.from_edges(module, copies=_hidden(lift), edges=edges)


def _hidden(lift) -> dict:
    return {v.name: lift.copies[v.name] for v in lift.module.hidden}


@eqx.filter_jit
def derivatives(model, objective, seed):
    """The loss and its derivatives in random directions u, v of the weights."""
    theta, unravel = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    rest = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    loss = lambda theta: objective(eqx.combine(unravel(theta), rest))
    u, v = jax.random.normal(jax.random.key(seed), (2, theta.size))
    gradient = jax.grad(loss)
    # Of fourth order, so that an error of 1e-6 shows whatever the function.
    step = 1e-3
    hu, hv = (jax.jvp(gradient, (theta,), (w,))[1] for w in (u, v))
    return {
        "loss": loss(theta),
        "step": step,
        "jvp": jax.jvp(loss, (theta,), (u,))[1],
        "slope": gradient(theta) @ u,
        "values": jax.lax.map(lambda k: loss(theta + k * step * u), jnp.array([-2.0, -1, 1, 2])),
        "products": (hu @ v, hv @ u),
    }


@eqx.filter_jit
def batch(lift, xs):
    return lift.batch(xs)


def maps(number: int) -> None:
    """What a lift computes, against loops in NumPy; its twins; its derivatives."""
    _, rng, lift, data = _draw("maps", number)
    outputs = naive.evaluate(lift, data.inputs)
    checks.numbers_agree("outputs and loops", batch(lift, data.inputs), outputs)
    objective = data.task().objective
    found = derivatives(lift, objective, number)
    checks.numbers_agree("loss", found["loss"], data.by_hand(outputs))
    checks.derivatives_agree(found)
    way = rng.integers(0, 6)
    if way == 0:
        first = jax.tree.map(lambda leaf: leaf[0], data.inputs)
        checks.numbers_agree("one sample", lift(first), outputs[0])
    if way == 1:
        checks.numbers_agree("permuted copies", permuted(lift, rng).batch(data.inputs), outputs)
    if way == 2:
        method = str(rng.choice(["csr", "padded", "dense", "naive"]))
        twin = lifts.from_arrays(lift.module, lifts.to_arrays(lift), method=method)
        checks.expect(twin.graph_hash == lift.graph_hash, "the hash of the graph")
        checks.numbers_agree(f"from arrays, by {method}", twin.batch(data.inputs), outputs)
    _kept_in_a_file(lift)


def _kept_in_a_file(lift) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lift.safetensors"
        lifts.save_safetensors(lift, path)
        again = lifts.load_safetensors(lift.module, path)
    checks.expect(again.graph_hash == lift.graph_hash, "the hash of the graph")
    for name in lift.module.edge_by_name:
        for a, b in zip(lift.edges(name), again.edges(name), strict=True):
            checks.expect(np.array_equal(a, b), "edges from a file", name, a, b)


def flat(model, objective):
    """theta, and (L, grad L) as a function of it, in NumPy."""
    theta, unravel = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    rest = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    both = jax.jit(jax.value_and_grad(lambda v: objective(eqx.combine(unravel(v), rest))))
    return np.asarray(theta), both


def _flows(model, data, shapes, rng) -> None:
    """One flow against a reference of another family, and its twins."""
    objective = data.task().objective
    theta, both = flat(model, objective)
    value, gradient = both(theta)
    speed = float(gradient @ gradient)
    # So that the loss falls by some part of itself; flat starts get a horizon all the same.
    horizon = float(min(abs(float(value)) * 10 ** rng.uniform(-1, 1) / max(speed, 1e-12), 1e3))
    horizon = max(horizon, 1e-3)
    settings = {"solver": str(shapes.choice(_SOLVERS)), "rtol": 10 ** rng.uniform(-7, -5)}
    settings |= {"save": [0.3 * horizon, 0.7 * horizon], "max_steps": 3000}
    solution = flowlift.solve(model, data.task(), horizon, **settings)
    checks.shape_of_the_end(solution)
    checks.numbers_agree("loss[0]", solution.loss[0], objective(model))
    checks.numbers_agree("|grad L|[0]", solution.gradient_norm[0] ** 2, speed, 1e-9)
    if solution.result == flow.Outcome.STEP_LIMIT:
        return
    checks.expect(solution.success, "result", solution.message)
    checks.numbers_agree("the last loss", solution.loss[-1], objective(solution.model), 1e-9)
    _against_scipy(solution, theta, both, rng)
    order = rng.permutation(len(data.targets))
    other = flowlift.solve(model, data.task(order), horizon, **settings)
    secants = settings["solver"] in ("bdf", "auto")
    checks.same_steps(other, solution, 1e-6, _ITERATIONS, secants)
    resumed = flowlift.solve(model, data.task(), 0.5 * horizon, **settings | {"save": []})
    resumed = flowlift.resume(resumed, horizon)
    room = _room(solution)
    gap = abs(float(resumed.loss[-1]) - float(solution.loss[-1]))
    checks.expect(gap <= room, "resumed and direct", resumed.loss[-1], solution.loss[-1])


def _room(solution) -> float:
    rtol = solution.checkpoint.settings.tolerances[0]
    # Integrals that are not resolved widen nothing.
    way = float(np.nan_to_num(solution.energy[-1]) + np.nan_to_num(solution.arc_length[-1]))
    scale = np.abs(solution.loss).max() + way
    return (checks.GLOBAL + checks.PER_STEP * solution.stats.steps) * rtol * float(scale)


def _against_scipy(solution, theta, both, rng) -> None:
    field = lambda t, v: -np.asarray(both(v)[1])
    method = str(rng.choice(_REFERENCES))
    reference = solve_ivp(
        field, (0, solution.time), theta, method, solution.times[1:], rtol=1e-9, atol=1e-11
    )
    losses = np.array([float(both(v)[0]) for v in reference.y.T])
    room = _room(solution)
    gap = np.max(np.abs(losses - solution.loss[1:]))
    checks.expect(gap <= room, f"losses by SciPy's {method}", solution.loss[1:], losses, room)
    checks.energy_identity(solution, room)


def lift_flows(number: int) -> None:
    """Flows of lifts; without padding and with copies in another order they take the same steps."""
    shapes, rng, lift, data = _draw("lift_flows", number)
    _flows(lift, data, shapes, rng)


def twins(number: int) -> None:
    """A lift without its padding, or in another order of copies, takes the same steps."""
    shapes, rng, lift, data = _draw("twins", number)
    settings = {"solver": str(shapes.choice(["tsit5", "bdf", "rkc2"])), "rtol": 1e-5}
    settings |= {"max_steps": 200, "save": [0.1]}
    solution = flowlift.solve(lift, data.task(), 0.2, **settings)
    if solution.stats.steps > 100 or not solution.success:
        return
    bare = lifts.from_arrays(lift.module, lifts.to_arrays(lift))
    checks.same_steps(
        flowlift.solve(bare, data.task(), 0.2, **settings), solution, 1e-6, _ITERATIONS
    )
    twin = flowlift.solve(permuted(lift, rng), data.task(), 0.2, **settings)
    if settings["solver"] == "tsit5":
        checks.same_steps(twin, solution, 1e-6)
    else:
        # Lanczos starts from one vector, whatever the coordinates mean: another basis, of one flow.
        room = 100 * settings["rtol"] * np.abs(solution.loss).max()
        checks.numbers_agree("losses", twin.loss, solution.loss, 0.0, room)
    chunked = flowlift.solve(lift, data.task(), 0.2, memory=_bound(lift, data), **settings)
    checks.same_steps(chunked, solution, 1e-6, _ITERATIONS)


def _bound(lift, data) -> int:
    """Memory for two samples at a time."""
    from flowlift.flow.chunking import bytes_per_sample

    return 2 * bytes_per_sample(lift, data.task().objective)


def mlps(number: int) -> None:
    """Flows of equinox networks."""
    shapes, rng = draws.streams("mlps", number, _BLOCK)
    inputs, outputs = int(shapes.integers(1, 4)), int(shapes.integers(1, 4))
    activation = [jnp.tanh, jax.nn.softplus, jnp.sin][shapes.integers(0, 3)]
    width, depth = int(shapes.integers(1, 7)), int(shapes.integers(1, 3))
    key = jax.random.key(int(rng.integers(0, 2**31)))
    model = eqx.nn.MLP(inputs, outputs, width, depth, activation, key=key)
    data = networks.draw_data(shapes, rng, {"x": (inputs,)}, (outputs,))
    _flows(model, data, shapes, rng)


FAMILIES = {"maps": maps, "mlps": mlps, "lift_flows": lift_flows, "twins": twins}
