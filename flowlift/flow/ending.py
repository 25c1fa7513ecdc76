"""How a flow ends: decided here alone, on the host, from what is recorded.

The integration only says where it halts. A stopping rule that halted it ends the flow if the record
of that place meets it, in the flow's own precision; else, by rounding, the flow goes on.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .dynamics.base import derivative, flat
from .integrals import marked
from .outcome import Outcome
from .problem import RECORDED, Flat, Problem
from .records import Plan
from .stops import (
    AbstractRule,
    GradientNormBelow,
    LossBelow,
    Stagnation,
    Stop,
    asked_at_save_times,
    find,
)
from .trace import Trace


def ending(trace: Trace, plan: Plan, first: int, cause: Outcome | None) -> Outcome | None:
    """How the flow ends where it stands, if it does.

    A record that is no finite number comes first, and a field that is no gradient, whose numbers
    mean nothing. What was asked for comes next: a rule or the horizon reached with the last step
    that a limit allows was reached.

    Args:
        trace: the records so far; the last one is of the flow's position, unless the flow goes on.
        plan: what is to do.
        first: index of the first record that has not been judged.
        cause: why the integration cannot go on, None if it can.

    Returns:
        The outcome, None if the flow goes on.
    """
    if not all(np.isfinite(trace.series(name, first)).all() for name in RECORDED):
        return Outcome.NON_FINITE
    if cause is Outcome.NOT_SYMMETRIC:
        return cause
    held = _threshold_met(trace, plan.stops) if trace.stands else None
    if held is not None:
        return held
    for rule in asked_at_save_times(plan.stops):
        if _holds(rule, trace, first, plan):
            return Outcome.STAGNATION if isinstance(rule, Stagnation) else Outcome.RULE
    return Outcome.HORIZON if trace.time >= plan.horizon else cause


# Large against a step that rounding allows, small against the way to an edge that is not the cause.
_AHEAD = 0.01
# Part of the time that a step gains at least where a solver is not given up (`HOPELESS_IF_STABLE`).
# What explodes within a few of them multiplies its exponent with each, or does so sooner.
_LEAST_GAIN, _EULER_STEPS = 1e-6, 64
# Ways to give up at an edge: steps too short for time, or without end, or without a solution.
_AT_AN_EDGE = (Outcome.TIME_UNDERFLOW, Outcome.NO_PROGRESS, Outcome.SOLVER_FAILURE)


def named(result: Outcome, problem: Problem, y: np.ndarray, way: float, time: float) -> Outcome:
    """One word for one fate: solvers give up in their own ways where L ceases to be a number.

    Args:
        result: how the flow ended.
        problem: the problem.
        y: the state in which it ended.
        way: the length of its path so far, theta's.
        time: the time reached.

    Returns:
        Non-finite where steps fell below the resolution of time, gained no time or could not be
        solved for, and L or |grad L|^2 is no finite number a bit further down the gradient: a
        hundredth of |theta|, or of the way so far, which an edge at zero needs; or is none some
        millionths of the time later, see `_explodes`. Else the result. Two gradients, and up to 64
        more, of failed flows alone.
    """
    if result not in _AT_AN_EDGE:
        return result
    at: Flat = jnp.asarray(problem.theta_of(y))
    _, gradient = problem.value_and_grad(at)
    # Scaled first, since |gradient|^2 may overflow already.
    direction = gradient / abs(gradient).max()
    far = max(float(abs(problem.coordinates.theta(at)).max()), way)
    moved = problem.coordinates.theta(direction)
    length = _AHEAD * far / (moved @ moved) ** 0.5
    loss, gradient = problem.value_and_grad(at - length * direction)
    finite = np.isfinite([loss, gradient @ gradient]).all()
    return Outcome.NON_FINITE if not finite or _explodes(problem, y, time) else result


def _explodes(problem: Problem, y: np.ndarray, time: float) -> bool:
    """Whether a flow is at infinity within some millionths of the time that it has reached."""
    # Along the field of its own dynamics: a velocity, say, goes on where the gradient is small.
    # By Euler's steps, which lag behind a flow that speeds up. L must fall in each: where they are
    # too long for a stiff field it rises.
    look = _plain_field if problem.dynamics.plain else _whole_field
    at = jnp.asarray(problem.theta_of(y) if problem.dynamics.plain else y)
    step = jnp.asarray(_LEAST_GAIN * time, at.dtype)
    before, rates = look(problem, at)
    for _ in range(_EULER_STEPS):
        at = at + step * rates
        loss, rates = look(problem, at)
        if not np.isfinite([loss, rates @ rates]).all():
            return True
        if not loss < before:
            return False
        before = loss
    return False


def _plain_field(problem: Problem, theta: Flat) -> tuple[Array, Flat]:
    loss, gradient = problem.value_and_grad(theta)
    return loss, -gradient


@eqx.filter_jit
def _whole_field(problem: Problem, y: Flat) -> tuple[Array, Flat]:
    found, rates = derivative(problem.dynamics, problem, problem.dynamics.state(y))
    return found.loss, flat(rates)


def _threshold_met(trace: Trace, stops: tuple[Stop, ...]) -> Outcome | None:
    loss, gradient_norm = find(stops, LossBelow), find(stops, GradientNormBelow)
    if loss and trace.last("loss") <= loss.threshold:
        return Outcome.LOSS_BELOW
    if gradient_norm and trace.last("gradient_norm") <= gradient_norm.threshold:
        return Outcome.GRADIENT_BELOW
    return None


def _holds(rule: AbstractRule, trace: Trace, first: int, plan: Plan) -> bool:
    """Whether a rule holds at any save time that has not been judged."""
    names = (*RECORDED, *rule.reads)
    # What is not resolved is NaN for rules as it is in the solution.
    found = {name: marked(name, trace.records, trace.series) for name in names}
    records = {"time": np.asarray(trace.times)} | found
    # Where a limit or a fault halts the flow between two of them, nobody asked for the record.
    asked = np.isin(records["time"][first:], [0.0, *plan.times])
    ends = first + 1 + np.flatnonzero(asked)
    return any(rule.holds({n: values[:end] for n, values in records.items()}) for end in ends)
