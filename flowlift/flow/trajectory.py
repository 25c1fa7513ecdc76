"""The flow as a pure function, for jax.jit, jax.vmap and jax.grad; `solve` is for long flows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from ..numbers import real, whole
from ..precision import check_precision
from ..showing import shows_itself
from ..solvers import BDF, RKC2, ExpRosenbrock
from ..tasks import AbstractObjective, Task, resolve_objective
from ..tasks.added import Penalised
from .coordinates import joined, live_parts, real_parts
from .dynamics import AbstractDynamics
from .dynamics.base import check_dynamics
from .moving import LiveNorm, Moving, of_dynamics
from .problem import in_precision, split_trainable
from .rates import Rates, at_rates
from .solve import ATOL, PLAIN, RTOL
from .unchecked import unchecked

_SOLVERS: dict[str, Callable[[], diffrax.AbstractSolver]] = {
    "tsit5": diffrax.Tsit5,
    "dopri8": diffrax.Dopri8,
    "kvaerno5": diffrax.Kvaerno5,
}
# Diffrax's own default: the memory of a gradient grows with its logarithm.
_MAX_STEPS = 4096


@shows_itself
class Trajectory(eqx.Module):
    """theta(t) of a gradient flow at given times, and L there.

    Attributes:
        times: the times, (m,).
        losses: L there, (m,); NaN at those that were not reached.
        models: the model there, its trainable leaves with a leading axis m; likewise.
        result: diffrax's code: successful, or why not all times were reached.
    """

    times: Float[Array, " m"]
    losses: Float[Array, " m"]
    models: PyTree
    result: diffrax.RESULTS

    @property
    def success(self) -> Bool[Array, ""]:
        """Whether all times were reached and all losses are finite."""
        reached = self.result == diffrax.RESULTS.successful
        return reached & jnp.isfinite(self.losses).all(axis=-1)


def trajectory(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    times: Float[Array, " m"] | Sequence[float],
    *,
    solver: str | diffrax.AbstractSolver = "tsit5",
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = _MAX_STEPS,
    precision: str = "float64",
    rates: Rates | None = None,
    dynamics: AbstractDynamics = PLAIN,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Trajectory:
    """theta(t) with d theta/dt = -D grad L(theta), or another dynamics, as a pure function.

    It may be compiled (jax.jit), batched (jax.vmap, over models, data or times) and differentiated
    (jax.grad, jax.jvp with a suitable adjoint), with respect to the model's parameters, whatever L
    depends on, and the times. Derivatives are of the numerical flow, whose steps are held fixed.
    Arguments that are known are checked before any computation; traced ones have only shapes.

    One call takes all steps: nothing is kept of what comes after a failure, there are no stopping
    rules, budgets or checkpoints, and members of a batch wait for the one with most steps. `solve`
    does all that, and takes the stiff solvers.

    Cost: that of the solver's steps, and one loss per time. A gradient by the default adjoint costs
    a small multiple of the flow, times log(max_steps) where steps are recomputed, and keeps
    O(sqrt(max_steps)) states; see diffrax on adjoints.

    Args:
        model: any pytree that the task accepts; its floating-point arrays flow, complex ones
            x + i y by dx/dt = -dL/dx, dy/dt = -dL/dy.
        task: a task, an objective, or a callable model -> L.
        times: increasing times from 0 on, (m,), the last one the end.
        solver: "tsit5", "dopri8", "kvaerno5", or an adaptive solver of diffrax.
        rtol: relative tolerance of theta per step, root mean square over the parameters that count,
            complex ones by both parts.
        atol: absolute tolerance, likewise.
        max_steps: limit of attempted steps.
        precision: "float64" or "float32"; the model, the data and the times are converted to it.
        rates: D, as for `solve`: numbers that are no part of what is differentiated.
        dynamics: how theta moves, as for `solve`; its vectors, velocities and averages, are
            controlled like theta, and `times` are those of its clock. Central flows are refused.
        adjoint: how it is differentiated; None: `diffrax.RecursiveCheckpointAdjoint()`.

    Returns:
        The trajectory. A time that was not reached has a loss and a model of NaN, and every
        gradient with respect to the model or the data of L is NaN then: nothing fails in silence.
        So have all times where traced ones do not increase: the program calls no host to say so.
        (The derivative by an implicit solver does: lineax checks its equations by a callback.)

    Raises:
        ValueError: for a bad argument, as far as arguments are known.
    """
    check_precision(precision)
    built = _resolve(solver)
    _check_limits(rtol, atol, max_steps, precision)
    check_dynamics(dynamics)
    times = _times(times, precision)
    objective = in_precision(resolve_objective(task), precision)
    model = in_precision(model, precision)
    leaves, rest = split_trainable(model, eqx.is_inexact_array)
    leaves, rest, found = at_rates(leaves, rest, rates, precision)
    if isinstance(objective, Penalised):
        objective = objective.of(leaves)
    objective.check(model)
    given = (objective, leaves, rest, found, live_parts(model, leaves))
    moving = _descending(*given) if dynamics.plain else of_dynamics(*given, dynamics, precision)
    sound, at = _in_order(times)
    with unchecked(), jax.default_matmul_precision("highest"):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(moving.field),
            built,
            jnp.zeros_like(times[0]),
            at[-1],
            None,
            moving.start,
            args=moving.arrays,
            saveat=diffrax.SaveAt(ts=at, fn=lambda t, state, arrays: moving.saved(state, arrays)),
            stepsize_controller=diffrax.PIDController(rtol, atol, norm=moving.norm),
            adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
            max_steps=None if max_steps is None else int(max_steps),
            throw=False,
        )
    reached = sound & jnp.isfinite(jnp.asarray(solution.ts))
    start = moving.saved(moving.start, moving.arrays)
    mark = lambda saved, start: _marked(saved, start, reached)
    losses, thetas = jax.tree.map(mark, solution.ys, start)
    models = eqx.combine(joined(thetas, jax.tree.map(_shape, leaves)), rest)
    return Trajectory(times, losses, models, solution.result)


def _descending(objective, leaves: PyTree, rest: PyTree, found, counts) -> Moving:
    """The gradient flow of the leaves, as they are."""
    theta, shapes = real_parts(leaves), jax.tree.map(_shape, leaves)
    # Only arrays may be arguments of the integration, and what is differentiated must be one.
    arrays, static = eqx.partition((objective, rest), eqx.is_array)
    loss = lambda theta, arrays: _loss(joined(theta, shapes), eqx.combine(arrays, static))
    speeds = None if found is None else _by_part(leaves, found)
    field = lambda t, theta, arrays: _descent(loss, theta, arrays, speeds)
    saved = lambda theta, arrays: (loss(theta, arrays), theta)
    return Moving(field, theta, arrays, LiveNorm(counts), saved)


def _in_order(times: Float[Array, " m"]) -> tuple[Bool[Array, ""], Float[Array, " m"]]:
    """Whether times increase from 0 on, and times that do where they do not."""
    sound = jnp.isfinite(times).all() & (jnp.diff(times) > 0).all()
    sound = sound & (times[0] >= 0) & (times[-1] > 0)
    return sound, jnp.where(sound, times, jnp.arange(1, times.size + 1).astype(times.dtype))


def _loss(theta: PyTree, others: tuple[AbstractObjective, PyTree]) -> Float[Array, ""]:
    objective, rest = others
    return objective(eqx.combine(theta, rest))


def _descent(loss: Callable, theta: PyTree, arrays: PyTree, speeds: PyTree | None) -> PyTree:
    gradient = jax.grad(loss)(theta, arrays)
    if speeds is None:
        return jax.tree.map(jnp.negative, gradient)
    return jax.tree.map(lambda d, g: -d * g, speeds, gradient)


def _by_part(leaves: PyTree, found: Sequence[float]) -> PyTree:
    """The rate of each real part of the leaves."""
    each, structure = jax.tree.flatten(leaves)
    pairs = [(d, d) if jnp.iscomplexobj(z) else d for z, d in zip(each, found, strict=True)]
    return structure.unflatten(pairs)


def _marked(saved: Array, start: Array, reached: Bool[Array, " m"]) -> Array:
    """NaN where a time was not reached, in derivatives too: diffrax leaves a constant there."""
    reached = reached.reshape(-1, *[1] * start.ndim)
    factor = jnp.where(reached, 0.0, jnp.nan).astype(saved.dtype)
    return jnp.where(reached, saved, 0.0) + factor * start[None]


def _shape(leaf: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _resolve(solver: Any) -> diffrax.AbstractSolver:
    if isinstance(solver, str) and solver in _SOLVERS:
        return _SOLVERS[solver]()
    stock = isinstance(solver, diffrax.AbstractAdaptiveSolver)
    # diffrax looks for the root finder of a wrapped implicit solver in the wrapper, and fails.
    wrapped = isinstance(solver, diffrax.AbstractWrappedSolver)
    beyond = wrapped and isinstance(solver, diffrax.AbstractImplicitSolver)
    if stock and not beyond and not isinstance(solver, BDF | RKC2 | ExpRosenbrock):
        return solver
    given = repr(solver) if isinstance(solver, str) else f"of type {type(solver).__name__}"
    raise ValueError(
        f"Argument `solver` of trajectory must be {', '.join(map(repr, _SOLVERS))} or an adaptive "
        f"solver of diffrax, but is {given}; other solvers cannot be differentiated, and run "
        "under flowlift.solve."
    )


def _check_limits(rtol, atol, max_steps, precision: str) -> None:
    least = float(np.finfo(precision).eps)
    for name, value, bound in (("rtol", rtol, least), ("atol", atol, 0.0)):
        number = real(value)
        if isinstance(value, Tracer):
            continue
        if number is None or not bound <= number < math.inf:
            raise ValueError(
                f"Argument `{name}` must be a finite number of at least {bound:.2g} in "
                f"{precision}, but is {value!r}; raise it."
            )
    steps = whole(max_steps)
    if steps is None or steps < 1:
        raise ValueError(
            f"Argument `max_steps` must be an integer of at least 1, but is {max_steps!r}; "
            "give the limit of attempted steps."
        )


def _times(times: Any, precision: str) -> Float[Array, " m"]:
    """The times as an array; what is known of them is checked."""
    array = jnp.asarray(times, precision)
    known = array.ndim == 1 and array.size > 0
    if known and not isinstance(array, Tracer):
        values = np.asarray(array)
        ordered = np.isfinite(values).all() and (np.diff(values) > 0).all()
        known = bool(ordered and values[0] >= 0 and values[-1] > 0)
    if not known:
        raise ValueError(
            "Argument `times` must hold increasing finite times from 0 on, (m,), but is "
            f"{times!r}; sort them."
        )
    return array
