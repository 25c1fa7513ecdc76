"""True counts of work, and why an integration halts: a wrapper of diffrax step-size controllers.

Diffrax rolls the solver's state back when a step is rejected, so counts kept there are too low; it
does not roll the controller's state back, so they are kept here.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..showing import shows_itself
from .pace import HOPELESS, Pace
from .streak import NON_FINITE_ATTEMPTS, streak
from .tolerances import Judge

# What diffrax's and our controllers evaluate to choose a first step, unless it is given.
_FIRST_STEP = 2


# A first step where the field a little ahead, by which it is chosen, is not finite. Steps shrink
# and grow by factors, so that any would do.
UNKNOWN_STEP = 1e-6


@shows_itself
class Work(eqx.Module):
    """Evaluations of the field and products with its Jacobian.

    Attributes:
        gradients: evaluations of the field.
        hvps: Jacobian-vector products (Hessian-vector products of a gradient flow).
    """

    gradients: Int[Array, ""]
    hvps: Int[Array, ""]

    @staticmethod
    def of(gradients: Int[Array, ""] | int = 0, hvps: Int[Array, ""] | int = 0) -> "Work":
        """Work from numbers."""
        return Work(jnp.asarray(gradients, int), jnp.asarray(hvps, int))

    def __add__(self, other: "Work") -> "Work":
        return jax.tree.map(jnp.add, self, other)

    @property
    def cost(self) -> Int[Array, ""]:
        """Gradient equivalents: gradients + 2 products."""
        return self.gradients + 2 * self.hvps


class Halt(enum.IntEnum):
    """Why the controller ended an integration."""

    NONE = 0
    BUDGET = 1
    STEP_LIMIT = 2
    NON_FINITE = 3
    TIME_UNDERFLOW = 4
    NOT_SYMMETRIC = 5
    CONDITION = 6
    NO_PROGRESS = 7
    UNSOLVED = 8


@shows_itself
class StepReport(eqx.Module):
    """What a solver returns as `y_error`: the error estimate with the attempt's work.

    diffrax looks for NaN in all of it: where types are strict it accepts no integers there. So
    they are kept as floating-point numbers of single precision, the one that all devices have,
    exact to 16 million: far beyond any one attempt's work.

    Attributes:
        error: what the inner controller takes as error estimate.
        work: the attempt's work, whether it will be accepted or not.
        halt: a `Halt` if the solver cannot go on; `UNSOLVED` if its equations have no solution
            that it finds, which a shorter step may mend.
    """

    error: PyTree
    work: Work
    halt: Float[Array, ""]

    def __init__(
        self, error: PyTree, work: Work, halt: Int[Array, ""] | int = int(Halt.NONE)
    ) -> None:
        """Put them together.

        Args:
            error: the estimate.
            work: the work.
            halt: the `Halt`.
        """
        self.error = error
        self.work, self.halt = jax.tree.map(_floating, (work, jnp.asarray(halt)))


@shows_itself
class WorkState(eqx.Module):
    """Memory of a `WorkController`. It is handed on between restarted segments.

    Attributes:
        inner: memory of the wrapped controller.
        work: work so far.
        attempts: attempted steps so far.
        accepted: accepted steps so far.
        step: the next step size, not shortened by the end of a segment.
        pace: how fast time gets on.
        non_finite: attempts in a row whose result was not finite, or not solved for.
        edge: whether the last rejected attempt was one of the former.
        halt: a `Halt`.
        max_gradients: halt when the cost is so many evaluations.
        max_attempts: halt when so many steps are attempted.
    """

    inner: PyTree
    work: Work
    attempts: Int[Array, ""]
    accepted: Int[Array, ""]
    step: Float[Array, ""]
    pace: Pace
    non_finite: Int[Array, ""]
    edge: Bool[Array, ""]
    halt: Int[Array, ""]
    max_gradients: Float[Array, ""]
    max_attempts: Float[Array, ""]

    def allow(self, gradients: float = math.inf, attempts: float = math.inf) -> "WorkState":
        """The same memory with a fresh allowance, counted from now on.

        Args:
            gradients: further evaluations.
            attempts: further attempted steps.

        Returns:
            The memory to start a segment with.
        """
        return eqx.tree_at(
            lambda s: (s.max_gradients, s.max_attempts, s.halt, s.non_finite),
            self,
            (
                (self.work.cost.astype(float) + gradients).astype(self.max_gradients.dtype),
                (self.attempts.astype(float) + attempts).astype(self.max_attempts.dtype),
                jnp.zeros_like(self.halt),
                jnp.zeros_like(self.non_finite),
            ),
        )

    def continuing(self, other: "WorkState") -> "WorkState":
        """This memory with the counts and limits of another, which it takes over from.

        Args:
            other: the memory of another solver's controller.

        Returns:
            The memory.
        """
        return eqx.tree_at(
            lambda s: (s.work, s.attempts, s.accepted, s.pace, s.max_gradients, s.max_attempts),
            self,
            (
                self.work + other.work,
                other.attempts,
                other.accepted,
                other.pace.taken_over(),
                other.max_gradients,
                other.max_attempts,
            ),
        )


@shows_itself
class WorkController(diffrax.AbstractAdaptiveStepSizeController[WorkState, float | None]):
    """Counts work, rejects what is not finite, and halts: see `Halt`.

    Steps are chosen by the wrapped controller alone, but for one rule: an attempt whose result or
    error is not finite, or whose equations were not solved, is rejected and repeated with half the
    step, and the wrapped controller, whose memory a NaN would poison, is not asked. An integration
    ends when 24 attempts in a row (those apart that were accepted and moved nothing) were of this
    kind (`NON_FINITE` or `UNSOLVED`, as the last one
    was), when the step falls below the resolution of time (those two if the last rejected attempt
    was of this kind, else `TIME_UNDERFLOW`), when doubling the time would take more attempts than
    it may have (`NO_PROGRESS`), or at a limit.

    Attributes:
        inner: any diffrax controller.
        evaluations: field evaluations per attempted step of a stock solver, which returns a bare
            error estimate; ignored for solvers that return a `StepReport`.
        products: Jacobian-vector products per attempted step, likewise.
        until_accepted: further evaluations per attempt as long as no step has been accepted: a
            solver that reuses the last stage of a step as the first of the next has none to reuse,
            and diffrax's rollback makes it forget that it evaluated one.
        startup: field evaluations of the solver's and the controller's `init`; two of them are not
            made, and not counted, where the first step `dt0` is given.
        startup_products: Jacobian-vector products there.
        regrowth: after a step shortened by the end of a segment, the next is at most so many
            times as long; finite for solvers whose memory is of the shortened step.
        until: (y, args) -> whether to halt there, asked after every accepted step; None: never.
            A `diffrax.Event` asks after every attempt and carries dense output along, which takes
            longer to compile.
        select: y -> the part of y that the field depends on; None: all of y.
    """

    inner: diffrax.AbstractStepSizeController
    evaluations: int = eqx.field(static=True, default=0)
    products: int = eqx.field(static=True, default=0)
    until_accepted: int = eqx.field(static=True, default=0)
    startup: int = eqx.field(static=True, default=0)
    startup_products: int = eqx.field(static=True, default=0)
    regrowth: float = eqx.field(static=True, default=math.inf)
    until: Callable[[PyTree, PyTree], Bool[Array, ""]] | None = eqx.field(static=True, default=None)
    select: Callable[[PyTree], PyTree] | None = eqx.field(static=True, default=None)
    patience: float | None = eqx.field(static=True, default=None)

    @property
    def rtol(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The wrapped controller's."""
        return cast(Any, self.inner).rtol

    @property
    def atol(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The wrapped controller's."""
        return cast(Any, self.inner).atol

    @property
    def norm(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The wrapped controller's, by which solvers know that their reports are understood."""
        return Judge(self.inner, cast(Any, self.inner).norm)

    def wrap(self, direction) -> "WorkController":
        """Wraps the inner controller."""
        return dataclasses.replace(self, inner=self.inner.wrap(direction))

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """The inner controller's first step, a short one if it has none, and the start-up work."""
        tnext, inner = self.inner.init(terms, t0, t1, y0, dt0, args, func, error_order)
        step = jnp.asarray(tnext - t0)
        if dt0 is None:
            known, short = jnp.isfinite(step) & (step > 0), jnp.asarray(UNKNOWN_STEP, step.dtype)
            step = jnp.where(known, step, jnp.minimum(short, t1 - t0))
            tnext = jnp.where(known, tnext, t0 + step)
        # diffrax keeps a Python bool in some controllers' memory; a loop needs an array.
        inner = jax.tree.map(jnp.asarray, inner)
        infinite = jnp.asarray(jnp.inf, step.dtype)
        zero = jnp.zeros((), int)
        startup = self.startup if dt0 is None else max(self.startup - _FIRST_STEP, 0)
        state = WorkState(
            inner=inner,
            work=Work.of(startup, self.startup_products),
            attempts=zero,
            accepted=zero,
            step=step,
            pace=Pace.zero(step),
            non_finite=zero,
            edge=jnp.asarray(False),
            halt=zero,
            max_gradients=infinite,
            max_attempts=infinite,
        )
        return tnext, state

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """The inner controller's verdict on what is finite, with the attempt counted."""
        state, taken = controller_state, jnp.asarray(t1 - t0)
        error, work, fault = self._unpack(y_error, state.accepted)
        verdict = self.inner.adapt_step_size(
            t0, t1, y0, y1_candidate, args, error, error_order, state.inner
        )
        finite, unsolved = _usable(y1_candidate, error, verdict, fault)
        keep, next0, next1, made_jump, inner, result = verdict
        keep, next0 = finite & keep, jnp.where(finite, next0, t0)
        next1 = jnp.where(finite, next1, t0 + taken / 2)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), inner, state.inner)
        result = diffrax.RESULTS.where(finite, result, diffrax.RESULTS.successful)
        proposed = next1 - next0
        # A step shortened by the end of a segment says nothing against the longer one before it.
        shortened = keep & (taken < 0.999 * state.step)
        resumed = jnp.minimum(state.step, self.regrowth * taken)
        stands = keep & state.edge & self._unmoved(y0, y1_candidate)
        new = WorkState(
            inner=inner,
            work=state.work + work,
            attempts=state.attempts + 1,
            accepted=state.accepted + keep.astype(int),
            step=jnp.where(shortened, jnp.maximum(proposed, resumed), proposed),
            pace=state.pace.after(jnp.where(keep, taken, 0)),
            non_finite=streak(state.non_finite, finite, stands, jnp.where),
            edge=jnp.where(keep, state.edge, ~finite & ~unsolved),
            # What the solver found out where nothing was finite is no evidence.
            halt=jnp.where(finite & (fault != Halt.UNSOLVED), fault, 0),
            max_gradients=state.max_gradients,
            max_attempts=state.max_attempts,
        )
        # A step of a few units in the last place may be rejected for ever without shrinking.
        stuck = (next1 <= next0) | (~keep & (proposed >= taken))
        met = self._met(keep, y1_candidate, args)
        halt = _why_halt(new, unsolved, stuck, met, self._hopeless(new))
        new = eqx.tree_at(lambda s: s.halt, new, halt)
        halted = diffrax.RESULTS.where(
            halt == Halt.NONE, diffrax.RESULTS.successful, diffrax.RESULTS.dt_min_reached
        )
        result = diffrax.RESULTS.where(result == diffrax.RESULTS.successful, halted, result)
        return keep, next0, next1, made_jump, new, result

    def _hopeless(self, state: WorkState) -> Bool[Array, ""]:
        patience = self.patience
        if patience is None:
            patience = jnp.maximum(state.max_attempts, HOPELESS)
        return state.pace.doubling > patience

    def _unmoved(self, y0, y1) -> Bool[Array, ""]:
        """Whether a step leaves what the field depends on as it was, to the last bit."""
        old, new = (y0, y1) if self.select is None else (self.select(y0), self.select(y1))
        same = jax.tree.map(lambda a, b: (a == b).all(), old, new)
        return jnp.stack(jax.tree.leaves(same)).all()

    def _met(self, keep, y, args) -> Bool[Array, ""]:
        until = self.until
        if until is None:
            return jnp.asarray(False)
        return jax.lax.cond(keep, lambda: until(y, args), lambda: jnp.asarray(False))

    def _unpack(self, y_error, accepted) -> tuple[PyTree, Work, Int[Array, ""]]:
        if isinstance(y_error, StepReport):
            numbers = (y_error.work, y_error.halt)
            return y_error.error, *jax.tree.map(lambda n: jnp.asarray(n).astype(int), numbers)
        evaluations = self.evaluations + jnp.where(accepted == 0, self.until_accepted, 0)
        return y_error, Work.of(evaluations, self.products), jnp.zeros((), int)


def _floating(number: Array) -> Array:
    return number.astype(jnp.float32)


def _all_finite(tree: PyTree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))


def _usable(candidate, error, verdict, fault) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether an attempt can be judged by its error, and whether it was not solved instead."""
    number, finite = _all_finite(candidate), _all_finite(error) & jnp.isfinite(verdict[2])
    # Where the result is no number, equations without a solution are the consequence; where it is
    # rejected by its error, the wrapped controller shortens the step.
    unsolved = (fault == Halt.UNSOLVED) & number & (verdict[0] | ~finite)
    return number & finite & ~unsolved, unsolved


def _why_halt(state: WorkState, unsolved, stuck, met, hopeless) -> Int[Array, ""]:
    limit = state.max_gradients.dtype
    conditions = (
        (state.halt != Halt.NONE, state.halt),
        (met, Halt.CONDITION),
        (unsolved & (stuck | (state.non_finite >= NON_FINITE_ATTEMPTS)), Halt.UNSOLVED),
        (state.non_finite >= NON_FINITE_ATTEMPTS, Halt.NON_FINITE),
        (stuck & state.edge, Halt.NON_FINITE),
        (stuck, Halt.TIME_UNDERFLOW),
        (state.work.cost.astype(limit) >= state.max_gradients, Halt.BUDGET),
        (state.attempts.astype(limit) >= state.max_attempts, Halt.STEP_LIMIT),
        (hopeless, Halt.NO_PROGRESS),
    )
    reasons, codes = zip(*conditions, strict=True)
    # A weakly typed code would compile every second segment anew.
    return jnp.select(reasons, [jnp.asarray(c, int) for c in codes], jnp.zeros((), int))
