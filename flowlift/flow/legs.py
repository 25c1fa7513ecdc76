"""The one place that calls diffrax: a flow advances in legs, each one call of diffeqsolve.

A leg ends at a save time, at a stopping rule, at a limit, or after `LEG_ATTEMPTS` attempted steps;
solver and controller states are handed on, so that legs cost next to nothing and change nothing
(design decision "legs"). Within a leg, time is counted from its start: the field is autonomous,
and float32 time would stall for large t.
"""

from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .methods import Method
from .problem import Observers, Problem, Quadratures, State, observe

LEG_ATTEMPTS = 4096


class Limits(eqx.Module):
    """Thresholds of the stopping rules that are tested at every accepted step; None: no such rule.

    Attributes:
        loss: stop when L is at most this.
        gradient_norm: stop when |grad L| is at most this.
    """

    loss: Float[Array, ""] | None
    gradient_norm: Float[Array, ""] | None

    @property
    def any(self) -> bool:
        """Whether there is any rule."""
        return self.loss is not None or self.gradient_norm is not None

    def hold(self, t, state: State, args: tuple[Problem, "Limits"], **_) -> Bool[Array, ""]:
        """Whether a rule holds, as a diffrax event condition."""
        problem, limits = args
        theta = state[0]
        held = jnp.asarray(False)
        if limits.gradient_norm is not None:
            loss, gradient = problem.value_and_grad(theta)
            held |= jnp.linalg.norm(gradient) <= limits.gradient_norm
        else:
            loss = problem.loss(theta)
        if limits.loss is not None:
            held |= loss <= limits.loss
        return held


class Position(eqx.Module):
    """Everything needed to go on from some time, as arrays.

    Attributes:
        state: theta and the integrals.
        solver: the solver's memory.
        controller: the controller's memory: step size, true counts of work, why it halted.
    """

    state: State
    solver: PyTree
    controller: PyTree


@eqx.filter_jit
def start(problem: Problem, method: Method, leg: Float[Array, ""]) -> Position:
    """The position at t = 0, with the first step size.

    Args:
        problem: the problem.
        method: the solver and its controller.
        leg: length of the first leg, an upper bound of the first step.

    Returns:
        The position.
    """
    theta = problem.start
    state = (theta, Quadratures.zero(theta.dtype))
    args = (problem, Limits(None, None))
    zero = jnp.zeros_like(leg)
    first, controller = method.controller.init(
        method.term,
        zero,
        leg,
        state,
        None,
        args,
        method.solver.func,
        method.solver.error_order(method.term),
    )
    solver = method.solver.init(method.term, zero, jnp.minimum(first, leg), state, args)
    return Position(state, solver, controller)


@eqx.filter_jit
def advance(
    problem: Problem,
    method: Method,
    position: Position,
    save: Float[Array, " m"],
    limits: Limits,
    observers: Observers,
) -> tuple[Position, dict[str, Array], Float[Array, " m"], Float[Array, ""], diffrax.RESULTS]:
    """One leg.

    Args:
        problem: the problem.
        method: the solver and its controller.
        position: where to start.
        save: save times, counted from the leg's start, the last its end.
        limits: thresholds of the stopping rules.
        observers: (name, function of the model) pairs.

    Returns:
        The new position, what was recorded at the save times (infinite where they were not
        reached), these times, the time reached, and diffrax's result.
    """

    def record(t, state, args):
        return observe(state, args[0], observers)

    solution = diffrax.diffeqsolve(
        method.term,
        method.solver,
        jnp.zeros_like(save[-1]),
        save[-1],
        jnp.minimum(position.controller.step, save[-1]),
        position.state,
        args=(problem, limits),
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=save, fn=record), diffrax.SubSaveAt(t1=True)],
            solver_state=True,
            controller_state=True,
        ),
        stepsize_controller=method.controller,
        solver_state=position.solver,
        controller_state=position.controller,
        event=diffrax.Event(limits.hold) if limits.any else None,
        # Nothing is differentiated through the solve, and a plain while loop compiles fastest.
        adjoint=diffrax.ForwardMode(),
        max_steps=LEG_ATTEMPTS,
        throw=False,
    )
    (times, (reached,)), (records, states) = cast(Any, solution.ts), cast(Any, solution.ys)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    new = Position(state, solution.solver_state, solution.controller_state)
    return new, records, times, reached, solution.result


observe_once = eqx.filter_jit(observe)
