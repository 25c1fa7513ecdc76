"""Bursts of attempts in one compiled loop, for methods whose steps are many and cheap.

One while loop, one copy of the gradient in it: it costs little to compile and nothing between
attempts. It ends where the host is wanted: with the step that passes a save time, before one that
would pass the end, at a threshold or limit, and where a method asks for it.
"""

import abc
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..streak import NON_FINITE_ATTEMPTS, streak
from ..work import Halt
from .stepping import Dense, HostField, Vector
from .traced import TracedField, traced_field


class Bounds(NamedTuple):
    """When a burst ends; times are counted from its start.

    Attributes:
        end: a step that would reach it is not attempted, but for the first.
        pause: the burst ends with the accepted step that reaches it.
        resolution: it ends when the next step is no longer than this.
        loss: it ends with the accepted step at which L is at most this.
        gradient_norm: likewise |grad L|.
        attempts: most attempts.
        gradients: it ends when so many are counted.
        non_finite: attempts in a row, before, that were not finite.
        edge: whether the last rejected attempt, before, was one of them.
    """

    end: float
    pause: float
    resolution: float
    loss: float
    gradient_norm: float
    attempts: int
    gradients: float
    non_finite: int
    edge: bool

    def after(self, burst: "Burst") -> "Bounds":
        """These bounds for a burst that goes on from another.

        Args:
            burst: the other one.

        Returns:
            What it left of them.
        """
        return self._replace(
            end=self.end - burst.time,
            pause=self.pause - burst.time,
            attempts=self.attempts - burst.attempts,
            gradients=self.gradients - burst.gradients,
            non_finite=burst.non_finite,
            edge=burst.edge,
        )


class Burst(NamedTuple):
    """What a burst came to.

    Attributes:
        y: after the last accepted step.
        memory: the method's memory there.
        step: the next step to attempt.
        time: the time gained.
        taken: length of the last accepted step.
        dense: as for `Attempt`, of the last accepted step.
        attempts: attempted steps.
        accepted: accepted ones.
        gradients: evaluations.
        non_finite: attempts in a row, at the end, that were not finite.
        edge: whether the last rejected attempt was one of them.
        met: whether a threshold is met at y.
        left: whether the method asked for the host, and nothing else ended the burst.
        products: Hessian-vector products.
        halt: a `Halt` if the method cannot go on.
        observations: evaluations that only judged thresholds.
    """

    y: Vector
    memory: Any
    step: float
    time: float
    taken: float
    dense: Dense
    attempts: int
    accepted: int
    gradients: int
    non_finite: int
    edge: bool
    met: bool
    left: bool
    products: int = 0
    halt: Halt = Halt.NONE
    observations: int = 0

    def followed(self, other: "Burst") -> "Burst":
        """This burst and another that went on from it, as one.

        Args:
            other: the other one.

        Returns:
            Both.
        """
        sums = ("time", "attempts", "accepted", "gradients", "products", "observations")
        both = other._replace(**{name: getattr(self, name) + getattr(other, name) for name in sums})
        return both if other.accepted else both._replace(taken=self.taken, dense=self.dense)


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
    def interpolate(self, before: Vector, after: Vector, taken: float, dense: Any) -> Dense:
        """The interpolant of an accepted step, on the host.

        Args:
            before: the state at its start.
            after: the state at its end.
            taken: its length.
            dense: what `Traced.dense` held.
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
    most = int(min(bounds.gradients, np.iinfo(np.int32).max))
    whole = np.array([bounds.attempts, most, bounds.non_finite, bounds.edge, field.live], np.int32)
    out = run(field.leaves, y, memory, np.array(floats, y.dtype), whole, field.roots)
    after, new, before, dense, numbers, counts = jax.device_get(out)
    step, time, taken = (float(number) for number in numbers)
    attempts, accepted, gradients, non_finite, edge, met, left = counts.tolist()
    interpolant = method.interpolate(before, after, taken, dense)
    return Burst(
        after, new, step, time, taken, interpolant,
        attempts, accepted, gradients, non_finite, bool(edge), bool(met), bool(left),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _program(
    method: AbstractLeanMethod,
    traced: Callable,
    names: Sequence[str],
    carried: tuple[int, int] | None,
) -> Callable:
    def run(leaves, y, memory, floats, counts, roots):
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
            return _after(now, tried, loss, gradient_norm, field.measured)

        begun = _begin(method, field, y, memory, h, (non_finite, edge != 0), constants)
        last = jax.lax.while_loop(going, once, begun)
        numbers = jnp.stack([last.h, last.time, last.taken])
        tallies = (last.attempts, last.accepted, last.gradients, last.non_finite)
        # The host is wanted only where attempts would follow.
        flags = (last.edge, last.met, last.left & going(last._replace(left=jnp.asarray(False))))
        whole = jnp.stack([jnp.asarray(n, jnp.int32) for n in (*tallies, *flags)])
        return last.y, last.memory, last.before, last.dense, numbers, whole

    return jax.jit(run)


def _begin(method, field, y, memory, h, before, constants) -> _Carry:
    shapes = jax.eval_shape(lambda: method.attempt(field, y, memory, h, constants))
    dense = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.dense)
    none, no, zero = jnp.zeros((), jnp.int32), jnp.asarray(False), jnp.zeros((), y.dtype)
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
    )
