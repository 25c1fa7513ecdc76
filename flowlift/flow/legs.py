"""The compiled programs of the graph: a solver of diffrax begins, attempts steps, interpolates.

Each attempt is a step from 0 to h: the field is autonomous, and so no rounding of time can change a
step. The loop is ours and lean, the solver and its controller are diffrax's or made for it.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Float, PyTree

from ..attributes import read_plainly
from ..packing import Packed
from ..precision import exact_products
from ..solvers import Halt, StepReport, Work, WorkState, counted
from ..solvers.differences import error_constant
from ..solvers.host.bursts import keep_passed
from ..solvers.predictive import Estimate
from ..solvers.proposals import Proposal
from ..static import Static, split
from .dynamics.base import State, flat
from .limits import Limits
from .methods import Method
from .problem import Problem


@read_plainly
class Memory(eqx.Module):
    """The memory of a solver and of its controller, as programs take and give it.

    Attributes:
        arrays: their arrays.
        static: what else they hold.
    """

    arrays: list[Any]
    static: Static = eqx.field(static=True)

    @staticmethod
    def of(solver: PyTree, control: WorkState) -> "Memory":
        """Put both together, in types that never change.

        Args:
            solver: the solver's.
            control: the controller's.

        Returns:
            The memory.
        """
        arrays, static = split((solver, control))
        # A weakly typed number would compile the second leg anew.
        return Memory([jnp.asarray(array, array.dtype) for array in arrays], static)

    @property
    def parts(self) -> tuple[PyTree, WorkState]:
        """The solver's memory and the controller's."""
        return self.static.joined(self.arrays)


class Numbers(NamedTuple):
    """When a leg ends, see `flowlift.solvers.host.bursts.Bounds`: in the precision of the flow."""

    h: Any
    end: Any
    pause: Any
    resolution: Any
    loss: Any
    gradient_norm: Any
    attempts: Any
    gradients: Any
    non_finite: Any
    edge: Any


@lru_cache(maxsize=256)
def beginning(static: Packed) -> Callable:
    """The program that begins.

    Args:
        static: of (problem, method).

    Returns:
        (arrays, y) -> (memory, first step, gradients, products).
    """

    def begin(arrays: list[Any], y: Float[Array, " n"]):
        problem, method = static.joined(arrays)
        state, args = problem.dynamics.state(y), (problem, Limits(None, None))
        zero = jnp.zeros((), y.dtype)
        # The method chooses its first step whatever is asked for.
        far = jnp.asarray(jnp.finfo(y.dtype).max, y.dtype)
        controller, solver = method.controller, method.solver
        given = (method.term, zero, far, state, None, args, solver.func)
        begun = counted(controller.init)(*given, solver.error_order(method.term))
        (first, control), one = begun
        memory, other = counted(solver.init)(method.term, zero, first, state, args)
        # Zero where the solver says itself what its start costs.
        work = control.work + one + other
        return Memory.of(memory, control), control.step, work.gradients, work.hvps

    return jax.jit(exact_products(begin))


class Carry(NamedTuple):
    """A leg while it runs: where it stands, what it has kept, and times from its start."""

    state: State
    memory: Memory
    dense: PyTree
    h: Array
    time: Array
    taken: Array
    rows: Array
    kept: Array
    drift: Array
    last_drift: Array


@lru_cache(maxsize=256)
def advancing(static: Packed, asked: tuple[bool, bool]) -> Callable:
    """The program of a leg: attempts until a bound is met, the first in any case.

    Args:
        static: of (problem, method).
        asked: whether there are thresholds of the loss and of the gradient's norm.

    Returns:
        (arrays, y, memory, numbers, save times (m,)) -> (y, memory, what interpolates the last
        accepted step, (next step, time gained, length of that step), counts, states at the first
        of the save times with the drift up to there (m, N + 2), drift of the leg and of its
        last accepted step (2, 2), see `flowlift.solvers.host.bursts.Burst`).
    """

    def advance(arrays: list[Any], y, memory: Memory, numbers: Float[Array, " k"], saves):
        begun, once = begun_leg(static, asked, arrays, y, memory, numbers, saves)
        last = jax.lax.while_loop(lambda now: goes_on(now, numbers), once, begun)
        return found_by(last, memory.parts[1].accepted)

    return jax.jit(exact_products(advance))


def begun_leg(
    static: Packed, asked: tuple[bool, bool], arrays: list[Any], y, memory: Memory, numbers, saves
) -> tuple["Carry", Callable]:
    """What the loop of a leg begins with, and its body.

    Args:
        static: of (problem, method).
        asked: as for `advancing`.
        arrays: of (problem, method).
        y: the state.
        memory: that of the solver and the controller.
        numbers: the bounds.
        saves: save times.

    Returns:
        Both.
    """
    problem, method = static.joined(arrays)
    bounds = Numbers(*numbers)
    thresholds = (bounds.loss, bounds.gradient_norm)
    limits = Limits(*(t if a else None for t, a in zip(thresholds, asked, strict=True)))
    memory = _allowed(memory, bounds)
    attempt = _attempt(method, (problem, limits), memory.static)
    once, begun = _loop(attempt, problem.dynamics.state(y), memory, bounds.h, saves)
    within = _interpolated(method.solver)

    def once_and_saved(now: Carry) -> Carry:
        after = once(now)

        def inside(fraction):
            drift = after.drift - (1 - fraction) * after.last_drift
            return jnp.concatenate([within(after.dense, after.taken, fraction), drift])

        passed = (after.time, after.taken, after.kept, after.rows)
        count, rows = keep_passed(inside, saves, *passed)
        return after._replace(kept=count, rows=rows)

    return begun, once_and_saved


def goes_on(now: "Carry", numbers: Float[Array, " k"]):
    """Whether a leg goes on: until a bound is met, but the first attempt is made in any case.

    Args:
        now: where it stands.
        numbers: the bounds.

    Returns:
        The verdict.
    """
    bounds, control = Numbers(*numbers), now.memory.parts[1]
    ahead = (now.time + now.h < bounds.end) & (now.time < bounds.pause)
    ahead = ahead & (now.h > bounds.resolution) & (control.halt == Halt.NONE)
    return (control.attempts == 0) | ahead


def found_by(last: "Carry", accepted: Array) -> tuple:
    """What `advancing` gives.

    Args:
        last: where the leg ended.
        accepted: accepted steps before it.

    Returns:
        The arrays.
    """
    after = last.memory.parts[1]
    counts = (after.attempts, after.accepted - accepted, after.work.gradients, after.work.hvps)
    counts += (after.non_finite, after.edge, after.halt, last.kept)
    lengths = jnp.stack([last.h, last.time, last.taken])
    whole = jnp.stack([jnp.asarray(n, int) for n in counts])
    drifts = jnp.stack([last.drift, last.last_drift])
    return flat(last.state), last.memory, last.dense, lengths, whole, last.rows, drifts


def _allowed(memory: Memory, bounds: Numbers) -> Memory:
    """The memory with counts from nothing, and the limits of a leg."""
    solver, control = memory.parts
    zero = jnp.zeros((), int)
    changed = dataclasses.replace(
        control,
        work=Work.of(),
        attempts=zero,
        halt=zero,
        non_finite=bounds.non_finite.astype(int),
        edge=bounds.edge > 0,
        max_gradients=bounds.gradients,
        max_attempts=bounds.attempts,
    )
    return Memory.of(solver, changed)


def _attempt(method: Method, args: tuple[Problem, Limits], static: Static) -> Callable:
    """(state, memory, h) -> (kept, state, memory, what interpolates it, next step, drift)."""
    # How fast time gets on is measured on the host.
    controller = dataclasses.replace(method.controller, patience=math.inf)
    solver, order = method.solver, cast(int, method.solver.error_order(method.term))

    def attempt(state: State, arrays: list[Any], h):
        zero, (old, control) = jnp.zeros_like(h), static.joined(arrays)
        tried = solver.step(method.term, zero, h, state, args, old, False)
        candidate, error, dense, memory, _ = tried
        # As diffrax does: where the field is no number, the step is too long.
        error = jax.tree.map(lambda x: jnp.where(jnp.isnan(x), jnp.inf, x), error)
        judged = controller.adapt_step_size(zero, h, state, candidate, args, error, order, control)
        keep, control = judged[0], judged[4]
        chosen = lambda new, old: jnp.where(keep, new, old) if eqx.is_array(old) else old
        state = jax.tree.map(chosen, candidate, state)
        news = jax.tree.leaves((jax.tree.map(chosen, memory, old), control))
        olds = jax.tree.leaves(static.joined(arrays))
        pairs = zip(news, olds, strict=True)
        after = [jnp.asarray(new, before.dtype) for new, before in pairs if eqx.is_array(before)]
        drift = _drift(error, dense, args[0])
        return keep, state, after, jax.tree.map(jnp.asarray, dense), control.step, drift

    return attempt


def _drift(report: Any, dense: PyTree, problem: Problem) -> Float[Array, " 2"]:
    """What a step may have put wrong into the arc length, see `HostField.drift`."""
    error = report.error if isinstance(report, StepReport) else report
    error = error.error if isinstance(error, Estimate) else error
    share = 1.0
    if isinstance(error, Proposal):
        # A BDF of order k predicts and corrects by nabla^(k + 1) y, its error is a part of that.
        differences, order = dense["differences"], dense["order"]
        error = jax.tree.map(lambda rows: rows[order + 1], differences)
        share = jnp.abs(error_constant(order, error[0].dtype))
    theta, integrals, *_ = error
    moved = problem.coordinates.theta(theta)
    return share * jnp.stack([jnp.abs(integrals.arc_length), jnp.linalg.norm(moved)])


def _loop(attempt: Callable, state: State, memory: Memory, h, saves) -> tuple[Callable, Carry]:
    """The body of the loop, and what it begins with."""
    # Traced once: a solver's step takes longer to trace than a flow to run.
    given = (state, memory.arrays, h)
    program, shapes = jax.make_jaxpr(attempt, return_shape=True)(*given)
    call = jaxpr_as_fun(program)
    structure = jax.tree.structure(shapes)

    def once(now: Carry) -> Carry:
        found = call(*jax.tree.leaves((now.state, now.memory.arrays, now.h)))
        keep, state, arrays, dense, step, drift = jax.tree.unflatten(structure, found)
        chosen = lambda new, old: jnp.where(keep, new, old)
        return Carry(
            state,
            Memory(arrays, memory.static),
            jax.tree.map(chosen, dense, now.dense),
            step,
            now.time + jnp.where(keep, now.h, 0),
            chosen(now.h, now.taken),
            now.rows,
            now.kept,
            now.drift + jnp.where(keep, drift, 0),
            chosen(drift, now.last_drift),
        )

    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[3])
    zero = jnp.zeros_like(h)
    still = jnp.zeros(shapes[5].shape, h.dtype)
    rows = jnp.zeros((saves.size, flat(state).size + still.size), h.dtype)
    none = jnp.zeros((), int)
    return once, Carry(state, memory, blank, h, zero, zero, rows, none, still, still)


def _interpolated(solver: Any) -> Callable:
    """(what interpolates a step, its length, fraction of it) -> the state there."""

    def within(dense: PyTree, taken, fraction):
        local = solver.interpolation_cls(t0=jnp.zeros_like(taken), t1=taken, **dense)
        return flat(local.evaluate(fraction * taken))

    return within


@lru_cache(maxsize=256)
def interpolating(static: Static) -> Callable:
    """The program that evaluates inside of a step.

    Args:
        static: of the solver.

    Returns:
        (arrays, what interpolates a step, its length, fractions of it (m,)) -> states (m, N).
    """

    def interpolate(arrays: list[Any], dense: PyTree, taken, fractions: Float[Array, " m"]):
        within = _interpolated(static.joined(arrays))
        return jax.vmap(lambda fraction: within(dense, taken, fraction))(fractions)

    return jax.jit(exact_products(interpolate))
