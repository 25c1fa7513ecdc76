"""A family of cases on what stands around a flow: rates, terms, held-out data, other dynamics."""

import dataclasses
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import flowlift
from flowlift import flow, tasks
from flowlift.flow import Adam, HeavyBall, Nesterov, Outcome, RMSProp

from . import checks, draws
from .families import Killed, killed_after

# A block shares its compilations.
_BLOCK = 6
_PLAIN = ["tsit5", "dopri8", "bdf", "rkc2", "exprb", "auto"]
# Of the sum of |theta|, |L| and what moved, in units of rtol: a few hundred steps, each with rtol.
_ROOM = 1e3
_ATTEMPT = 400


def _model(shapes, rng):
    width, depth = int(shapes.integers(2, 6)), int(shapes.integers(1, 3))
    activation = [jnp.tanh, jax.nn.softplus, jnp.sin][shapes.integers(0, 3)]
    return eqx.nn.MLP(2, 1, width, depth, activation, key=jax.random.key(int(rng.integers(2**31))))


def _dynamics(shapes, rng):
    way, number = int(shapes.integers(0, 6)), float(10 ** rng.uniform(-0.5, 0.5))
    kinds = [
        HeavyBall(number),
        Nesterov(3.0),
        Adam(number, 2 * number, 1e-3),
        RMSProp(number, 1e-3),
    ]
    return kinds[way] if way < len(kinds) else flow.GradientFlow()


def _solver(dynamics, shapes) -> str:
    if isinstance(dynamics, flow.GradientFlow):
        return str(shapes.choice(_PLAIN))
    second = isinstance(dynamics, HeavyBall | Nesterov)
    return str(shapes.choice(["tsit5", "dopri8", *(["bdf"] if second else [])]))


def _rates(model, shapes, rng) -> dict[str, float]:
    """A rate for some layers, 0 among them, and one for all others; none in every third case."""
    if shapes.integers(0, 3) == 0:
        return {}
    names = [f"layers.{i}.weight" for i in range(len(model.layers)) if shapes.integers(0, 2)]
    given = {name: float(10 ** rng.uniform(-1, 1)) for name in names}
    if names and shapes.integers(0, 2):
        given[names[0]] = 0.0
    return given | {"*": float(10 ** rng.uniform(-1, 1))}


def _leaves(model, numbers: dict[str, float], otherwise: float) -> np.ndarray:
    """One number for each coordinate of theta, in the order of `ravel_pytree`."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        found.append(np.full(leaf.size, numbers.get(name, numbers.get("*", otherwise))))
    return np.concatenate(found)


def manners(number: int) -> None:
    """A network with rates, decay and held-out data, moved by any dynamics."""
    shapes, rng = draws.streams("manners", number, _BLOCK)
    model, dynamics = _model(shapes, rng), _dynamics(shapes, rng)
    x, z = rng.standard_normal((2, 12, 2))
    y = rng.standard_normal(12)
    task = tasks.supervised(x, y, held_out=(z, y), apply=lambda m, x: jax.vmap(m)(x)[:, 0])
    decay = float(rng.choice([0.0, 10 ** rng.uniform(-3, 0)]))
    whole = tasks.with_decay(task, {"*": decay}) if decay else task
    rates, solver = _rates(model, shapes, rng), _solver(dynamics, shapes)
    theta, unravel = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    rest = eqx.filter(model, eqx.is_inexact_array, inverse=True)
    d = _leaves(model, rates, 1.0)
    # Decay is of the leaves that flow.
    moved = jnp.asarray(d > 0)

    def loss(v, inputs=x):
        outputs = jax.vmap(eqx.combine(unravel(v), rest))(inputs)[:, 0]
        return jnp.mean((outputs - y) ** 2) + decay / 2 * jnp.sum(jnp.where(moved, v, 0.0) ** 2)

    slope = jax.jit(jax.grad(loss))
    speed = float(np.sum(d * slope(theta) ** 2))
    horizon = float(np.clip(float(loss(theta)) / max(speed, 1e-9), 1e-2, 20.0))
    rtol = float(10 ** rng.uniform(-8, -6))
    more = {"solver": solver, "rtol": rtol, "atol": rtol, "dynamics": dynamics}
    more |= {"rates": rates or None, "save": [0.4 * horizon], "max_steps": 5000}
    solution = flowlift.solve(model, whole, horizon, **more)
    checks.shape_of_the_end(solution)
    checks.numbers_agree("loss[0]", solution.loss[0], loss(theta))
    if solution.result == Outcome.STEP_LIMIT:
        return
    checks.expect(solution.success, "result", solution.message)
    ended = np.asarray(ravel_pytree(eqx.filter(solution.model, eqx.is_inexact_array))[0])
    checks.numbers_agree("the last loss", solution.loss[-1], loss(ended), 1e-9)
    checks.expect(bool((ended == np.asarray(theta))[d == 0].all()), "frozen leaves", ended)
    outputs = jax.vmap(solution.model)(z)[:, 0]
    checks.numbers_agree(
        "held-out loss", solution.held_out_loss[-1], np.mean((outputs - y) ** 2), 1e-9
    )
    room = _ROOM * rtol * (1 + float(np.abs(theta).max() + np.nan_to_num(solution.arc_length[-1])))
    reference = _reference(dynamics, slope, np.asarray(theta), d, horizon)
    if reference is not None:
        checks.numbers_agree("theta by SciPy", ended, reference, 0.0, room)
        fell = solution.loss[0] - solution.loss
        more_room = room * (1 + float(np.abs(solution.loss).max()))
        seen = np.isfinite(solution.energy)
        checks.numbers_agree("energy", solution.energy[seen], fell[seen], 0.0, more_room)
    _goes_on(model, whole, horizon, more, solution, rng)


def _reference(dynamics, slope, theta, d, horizon):
    """theta at the horizon by an independent integrator; None where t = 0 is singular."""
    n = len(theta)
    if isinstance(dynamics, flow.GradientFlow):
        start, field = theta, lambda t, v: -d * np.asarray(slope(v))
    elif isinstance(dynamics, HeavyBall):
        start = np.concatenate([theta, np.zeros(n)])

        def field(t, s):
            pull = -dynamics.friction * s[n:] - d * np.asarray(slope(s[:n]))
            return np.concatenate([s[n:], pull])

    else:
        return None
    found = solve_ivp(field, (0, horizon), start, "LSODA", [horizon], rtol=1e-10, atol=1e-12)
    return found.y[:n, -1]


def _goes_on(model, task, horizon, more, solution, rng) -> None:
    """Killed and gone on with it has the same bits; under a budget it ends within one attempt."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow"
        try:
            flowlift.solve(
                model,
                task,
                horizon,
                **more,
                checkpoints=killed_after(path, int(rng.integers(1, 3))),
            )
        except Killed:
            again = flowlift.solve(
                model, task, horizon, **more, checkpoints=flow.Checkpoints(path, every=0)
            )
            checks.same_bits(_plain(again), _plain(solution))
    budget = int(rng.integers(1, solution.stats.cost + 1))
    limited = flowlift.solve(model, task, horizon, **more, max_gradients=budget)
    checks.budget_of_gradients(_plain(limited), _plain(solution), budget, _ATTEMPT)


def _plain(solution):
    """The solution with theta in place of the model, and held-out losses among what is observed."""
    theta = np.asarray(ravel_pytree(eqx.filter(solution.model, eqx.is_inexact_array))[0])
    observed = solution.observations | {"held_out_loss": solution.held_out_loss}
    return dataclasses.replace(solution, model=theta, observations=observed)


FAMILIES = {"manners": manners}
