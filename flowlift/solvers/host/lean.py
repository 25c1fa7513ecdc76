"""Bursts of attempts in one compiled loop, for methods whose steps are many and cheap.

One while loop, one copy of the gradient in it: it costs little to compile and nothing between
attempts. States at save times are kept as they are passed. It ends where the host is wanted: with
the step that passes the last save time that it was given, before one that would pass the end, at a
threshold or limit, and where a method asks for it.
"""

import abc
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..streak import NON_FINITE_ATTEMPTS, streak
from .bursts import Bounds, Burst, keep_passed
from .stepping import Dense, HostField, Vector
from .traced import TracedField, traced_field


class Traced(NamedTuple):
    """One attempt inside of a compiled loop; arrays, scalars of the type of y unless said.

    Attributes:
        y: the candidate.
        keep: bool: whether the method accepts it.
        step: the step to attempt next, as in `Attempt`.
        memory: the memory if it is accepted.
        rejected: the memory if it is not.
        gradients: int: evaluations.
        finite: bool: whether all that was judged is finite, the candidate included.
        loss: L at the candidate.
        gradient_norm: |grad L| there.
        dense: what the host needs to interpolate the step.
        leave: bool: the burst ends here, and the host is wanted.
        void: bool: this was no attempt: it is neither counted nor judged, but for its gradients.
        drift: what the step may have put wrong into the arc length, see `HostField.drift`, (2,).
    """

    y: Any
    keep: Any
    step: Any
    memory: Any
    rejected: Any
    gradients: Any
    finite: Any
    loss: Any
    gradient_norm: Any
    dense: Any
    leave: Any
    void: Any
    drift: Any


class AbstractLeanMethod(abc.ABC):
    """A method that runs in bursts. It is hashable, and says with `attempt` all that is compiled.

    A memory is a pytree of arrays of a fixed structure; `constants` are further numbers of an
    attempt, such as tolerances, that change without compiling anew.
    """

    @abc.abstractmethod
    def attempt(self, field: TracedField, y, memory, h, constants) -> Traced:
        """One attempt, traced.

        Args:
            field: the flow.
            y: the state (N,).
            memory: the method's memory.
            h: the step.
            constants: scalars of the type of y, by name.
        """

    @abc.abstractmethod
    def interpolate(self, before: Any, after: Any, taken: Any, dense: Any, fraction: Any) -> Any:
        """The state within an accepted step, of NumPy's arrays or of JAX's.

        Args:
            before: the state at its start.
            after: the state at its end.
            taken: its length.
            dense: what `Traced.dense` held.
            fraction: of the step, in [0, 1].
        """

    def run(
        self,
        field: HostField,
        y: Vector,
        memory: Any,
        h: float,
        bounds: Bounds,
        constants: dict[str, float],
    ) -> Burst:
        """Attempt steps until a bound is met: one burst, or as many as the host comes between.

        Args:
            field: the flow.
            y: the state.
            memory: the method's memory.
            h: the first step, attempted in any case.
            bounds: when to end.
            constants: numbers of the method.

        Returns:
            What came of it.
        """
        return burst(self, field, y, memory, h, bounds, constants)


class _Carry(NamedTuple):
    y: Any
    memory: Any
    before: Any
    dense: Any
    h: Any
    time: Any
    taken: Any
    attempts: Any
    accepted: Any
    gradients: Any
    non_finite: Any
    edge: Any
    met: Any
    left: Any
    rows: Any
    kept: Any
    drift: Any
    last_drift: Any


def burst(
    method: AbstractLeanMethod,
    field: HostField,
    y: Vector,
    memory: Any,
    h: float,
    bounds: Bounds,
    constants: dict[str, float],
) -> Burst:
    """Attempt steps until a bound is met. One call of one compiled program.

    Args:
        method: the method.
        field: the flow.
        y: the state.
        memory: the method's memory.
        h: the first step, attempted in any case.
        bounds: when to end.
        constants: numbers of the method.

    Returns:
        What came of it.
    """
    names = tuple(constants)
    carried = field.carried
    traced = field.traced if carried is None else carried.traced
    run = _program(method, traced, names, carried and (carried.size, carried.vectors))
    floats = (h, *bounds[:5], *(constants[name] for name in names))
    saves = np.asarray(bounds.saves, y.dtype)
    most = int(min(bounds.gradients, np.iinfo(np.int32).max))
    whole = np.array([bounds.attempts, most, bounds.non_finite, bounds.edge, field.live], np.int32)
    given = np.array(floats, y.dtype)
    out = run(field.leaves, y, memory, given, whole, field.roots, saves)
    after, new, before, dense, numbers, counts, rows, drifts = jax.device_get(out)
    step, time, taken = (float(number) for number in numbers)
    attempts, accepted, gradients, non_finite, edge, met, left, count = counts.tolist()
    kept = rows[:count]
    return Burst(
        after, new, step, time, taken, _interpolant(method, before, after, taken, dense),
        attempts, accepted, gradients, non_finite, bool(edge), bool(met), bool(left),
        rows=kept[:, : y.size], drift=drifts[0], last_drift=drifts[1],
        row_drifts=kept[:, y.size :],
    )  # fmt: skip


def _interpolant(method: AbstractLeanMethod, before: Vector, after: Vector, taken, dense) -> Dense:
    def states(fractions: Vector) -> np.ndarray:
        # One by one: a state must not depend, by rounding, on which others are asked for.
        within = lambda x: method.interpolate(before, after, taken, dense, x)
        return np.stack([within(x) for x in np.asarray(fractions, before.dtype)])

    return states


@lru_cache(maxsize=256)
def _program(
    method: AbstractLeanMethod,
    traced: Callable,
    names: Sequence[str],
    carried: tuple[int, int] | None,
) -> Callable:
    def run(leaves, y, memory, floats, counts, roots, saves):
        h, end, pause, resolution, loss, gradient_norm = floats[:6]
        constants = dict(zip(names, floats[6:], strict=True))
        most_attempts, most_gradients, non_finite, edge, live = counts
        evaluate = lambda at: traced(leaves, at)
        field = traced_field(evaluate, live, roots, y.size, carried)

        def going(now: _Carry):
            ahead = (now.time + now.h < end) & (now.time < pause) & (now.h > resolution)
            allowed = (now.attempts < most_attempts) & (now.gradients < most_gradients)
            sound = now.non_finite < NON_FINITE_ATTEMPTS
            first = (now.attempts == 0) & ~now.left
            return first | (ahead & allowed & sound & ~now.met & ~now.left)

        def once(now: _Carry) -> _Carry:
            tried = method.attempt(field, now.y, now.memory, now.h, constants)
            after = _after(now, tried, loss, gradient_norm, field.measured)
            return _saved(method, after, saves)

        begun = _begin(method, field, y, memory, h, (non_finite, edge != 0), constants, saves)
        last = jax.lax.while_loop(going, once, begun)
        numbers = jnp.stack([last.h, last.time, last.taken])
        tallies = (last.attempts, last.accepted, last.gradients, last.non_finite)
        # The host is wanted only where attempts would follow.
        flags = (last.edge, last.met, last.left & going(last._replace(left=jnp.asarray(False))))
        whole = jnp.stack([jnp.asarray(n, jnp.int32) for n in (*tallies, *flags, last.kept)])
        drifts = jnp.stack([last.drift, last.last_drift])
        return last.y, last.memory, last.before, last.dense, numbers, whole, last.rows, drifts

    return jax.jit(run)


def _saved(method: AbstractLeanMethod, now: _Carry, saves) -> _Carry:
    def within(x):
        state = method.interpolate(now.before, now.y, now.taken, now.dense, x)
        return jnp.concatenate([state, now.drift - (1 - x) * now.last_drift])

    count, rows = keep_passed(within, saves, now.time, now.taken, now.kept, now.rows)
    return now._replace(kept=count, rows=rows)


def _begin(method, field, y, memory, h, before, constants, saves) -> _Carry:
    shapes = jax.eval_shape(lambda: method.attempt(field, y, memory, h, constants))
    dense = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.dense)
    none, no, zero = jnp.zeros((), jnp.int32), jnp.asarray(False), jnp.zeros((), y.dtype)
    still = jnp.zeros_like(shapes.drift, y.dtype)
    non_finite, edge = before
    return _Carry(
        y=y,
        memory=memory,
        before=y,
        dense=dense,
        h=h,
        time=zero,
        taken=zero,
        attempts=none,
        accepted=none,
        gradients=none,
        non_finite=non_finite,
        edge=edge,
        met=no,
        left=no,
        rows=jnp.zeros((saves.size, y.size + still.size), y.dtype),
        kept=none,
        drift=still,
        last_drift=still,
    )


def _after(now: _Carry, tried: Traced, loss, gradient_norm, measured: int) -> _Carry:
    finite = tried.finite & jnp.isfinite(tried.step)
    keep = tried.keep & finite & ~tried.void
    step = jnp.where(finite, tried.step, now.h / 2)
    chosen = lambda new, old: jnp.where(keep, new, old)
    memory = jax.tree.map(lambda new, old: jnp.where(finite, new, old), tried.rejected, now.memory)
    met = (tried.loss <= loss) | (tried.gradient_norm <= gradient_norm)
    one = jnp.where(tried.void, 0, 1).astype(jnp.int32)
    stands = keep & (tried.y[:measured] == now.y[:measured]).all()
    counted = streak(now.non_finite, finite, stands, jnp.where)
    counted = jnp.where(tried.void, now.non_finite, counted)
    return _Carry(
        y=chosen(tried.y, now.y),
        memory=jax.tree.map(chosen, tried.memory, memory),
        before=chosen(now.y, now.before),
        dense=jax.tree.map(chosen, tried.dense, now.dense),
        h=jnp.where(tried.void, now.h, step),
        time=now.time + jnp.where(keep, now.h, 0),
        taken=chosen(now.h, now.taken),
        attempts=now.attempts + one,
        accepted=now.accepted + keep.astype(jnp.int32),
        gradients=now.gradients + tried.gradients.astype(jnp.int32),
        non_finite=counted.astype(jnp.int32),
        edge=jnp.where(keep | tried.void, now.edge, ~finite),
        met=keep & met,
        left=tried.leave,
        rows=now.rows,
        kept=now.kept,
        drift=now.drift + jnp.where(keep, tried.drift, 0),
        last_drift=chosen(tried.drift, now.last_drift),
    )
