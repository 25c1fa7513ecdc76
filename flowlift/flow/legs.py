"""The one place that calls diffrax: a flow advances in legs, each one call of diffeqsolve.

A leg ends at a save time, at a stopping rule, at a limit, or after some number of attempted steps;
solver and controller states are handed on, so that legs cost next to nothing and change nothing
(design decision "legs"). Solvers with a memory of steps run through save times and snapshots.
Within a leg, time is counted from its start: the field is autonomous, and float32 time would stall
for large t.
"""

import warnings
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..solvers import counted
from .limits import Limits
from .methods import Method
from .observers import Observers
from .problem import Problem, Quadratures, State, observe
from .unchecked import unchecked


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

    @property
    def theta(self) -> Float[Array, " P"]:
        """The parameters."""
        return self.state[0]


class Records(eqx.Module):
    """What was recorded in a leg.

    Attributes:
        values: the quantities at its times, with a leading axis; None for no times.
    """

    values: PyTree

    def reached(self, wanted: int, count: int) -> PyTree:
        """The values at the first of the times that were asked for.

        Args:
            wanted: the number of times asked for; those before them are padding.
            count: how many of them were reached.

        Returns:
            The values with a leading axis of `count`.
        """
        padding = jax.tree.leaves(self.values)[0].shape[0] - wanted if wanted else 0
        return jax.tree.map(lambda v: v[padding : padding + count], self.values)


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
    return _start(problem, method, (theta, Quadratures.zero(theta.dtype)), leg)


def restart(
    problem: Problem, method: Method, position: Position, leg: Float[Array, ""]
) -> Position:
    """The same position for another method; the counts go on.

    Args:
        problem: the problem.
        method: the method that takes over.
        position: where the other one stands.
        leg: an upper bound of the first step.

    Returns:
        The position.
    """
    new = _start(problem, method, position.state, leg)
    return eqx.tree_at(lambda p: p.controller, new, new.controller.continuing(position.controller))


@eqx.filter_jit
def _start(problem: Problem, method: Method, state: State, leg: Float[Array, ""]) -> Position:
    args = (problem, Limits(None, None))
    zero = jnp.zeros_like(leg)
    order = method.solver.error_order(method.term)
    controlled = counted(method.controller.init)
    given = (method.term, zero, leg, state, None, args, method.solver.func, order)
    (first, controller), one = controlled(*given)
    begun = counted(method.solver.init)
    solver, other = begun(method.term, zero, jnp.minimum(first, leg), state, args)
    # Zero where the solver says itself what its start costs.
    controller = eqx.tree_at(lambda c: c.work, controller, controller.work + one + other)
    return Position(state, solver, controller)


@eqx.filter_jit
def advance(
    problem: Problem,
    method: Method,
    position: Position,
    save: Float[Array, " m"],
    snapshots: Float[Array, " s"],
    limits: Limits,
    observers: Observers,
) -> tuple[Position, Records, Records, Float[Array, ""], diffrax.RESULTS]:
    """One leg.

    Args:
        problem: the problem.
        method: the solver and its controller.
        position: where to start.
        save: save times, counted from the leg's start, zeros are padding; the last is its end,
            whose record is that of the position there, not an interpolant's.
        snapshots: times within the leg at which theta is kept, likewise.
        limits: thresholds of the stopping rules.
        observers: what is recorded besides.

    Returns:
        The new position, what was recorded at the save times but the last, theta at the snapshots,
        the time reached, and diffrax's result.
    """

    def record(t, state, args):
        shapes = jax.eval_shape(lambda: observe(state, args[0], observers))
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # Padding, which costs no gradient.
        return jax.lax.cond(t > 0, lambda: observe(state, args[0], observers), lambda: nothing)

    inner = save[:-1]
    interpolated = [(inner, record)] * bool(inner.size) + [(snapshots, _theta)] * bool(
        snapshots.size
    )
    solution = _diffeqsolve(
        method.term,
        method.solver,
        jnp.zeros_like(save[-1]),
        save[-1],
        jnp.minimum(position.controller.step, save[-1]),
        position.state,
        args=(problem, limits),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(t1=True),
                *(diffrax.SubSaveAt(ts=ts, fn=fn) for ts, fn in interpolated),
            ],
            solver_state=True,
            controller_state=True,
        ),
        stepsize_controller=method.controller,
        solver_state=position.solver,
        controller_state=position.controller,
        # Nothing is differentiated through the solve, and a plain while loop compiles fastest.
        adjoint=diffrax.ForwardMode(),
        max_steps=method.attempts_per_leg,
        throw=False,
    )
    times, values = cast(Any, solution.ts), cast(Any, solution.ys)
    state = jax.tree.map(lambda leaf: leaf[0], values[0])
    new = Position(state, solution.solver_state, solution.controller_state)
    records = Records(values[1] if inner.size else None)
    kept = Records(values[-1] if snapshots.size else None)
    return new, records, kept, times[0][0], solution.result


def _theta(t, state: State, args):
    return state[0]


observe_once = eqx.filter_jit(observe)


# diffrax fills what is not reached with infinity, which integers do not have.
@np.errstate(invalid="ignore")
def _diffeqsolve(*args: Any, **settings: Any) -> diffrax.Solution:
    """Diffrax, without its warning of complex states: theta is real, whatever the model is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Complex dtype support in Diffrax")
        return unchecked(diffrax.diffeqsolve)(*args, **settings)
