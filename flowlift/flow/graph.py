"""The engine in the graph: legs of diffrax, compiled whole."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..solvers import Halt
from .engine import AbstractEngine
from .legs import Position, advance, observe_once, restart, start
from .limits import Limits
from .methods import Method, halting_outcome, met, stuck_outcome
from .outcome import Outcome
from .records import Plan, Settings, keep_snapshot
from .stops import GradientNormBelow, LossBelow, Stop, asked_at_save_times, at_most, find
from .trace import Trace

# A leg costs a millisecond on the host.
_ATTEMPTS_TO_STAGNATION = 4


class GraphEngine(AbstractEngine):
    """Diffrax drives, and hands control back between legs. Serves every solver."""

    name: ClassVar[str] = "graph"

    def begin(self, settings: Settings, plan: Plan) -> Position:
        """The position at t = 0; the first save time bounds the first step."""
        leg = jnp.asarray(plan.times[0], settings.precision)
        return start(settings.problem, settings.method, leg)

    def restart(self, settings: Settings, plan: Plan, position: Position, time: float) -> Position:
        """The same position for another method."""
        leg = jnp.asarray(plan.horizon - time, settings.precision)
        return restart(settings.problem, settings.method, position, leg)

    def allow(self, settings: Settings, plan: Plan, position: Position, spent: float) -> Position:
        """Limits are in the controller's memory, which counts from the very start."""
        controller = position.controller.allow(plan.max_gradients - spent, settings.max_steps)
        return dataclasses.replace(position, controller=controller)

    def leg(
        self,
        settings: Settings,
        trace: Trace,
        plan: Plan,
        position: Position,
        over: Callable[[], bool],
    ) -> tuple[Position, Outcome | None]:
        """One call of diffeqsolve."""
        del over
        before, since = int(position.controller.accepted), trace.time
        method = _attentive(settings.method, plan)
        target = _next_times(plan, since, method)
        kept = _snapshots_within(plan, since, target[-1]) if method.runs_through else np.array([])
        offsets = _padded(target, since, method.points_per_leg, settings.precision)
        size = len(plan.snapshots) * method.runs_through
        position, records, snapshots, reached, code = advance(
            settings.problem,
            method,
            position,
            jnp.asarray(offsets),
            jnp.asarray(_padded(kept, since, size, offsets.dtype)),
            _limits(plan.stops, settings.precision),
            settings.observers,
        )
        passed, trace.time = _place(target, offsets[-len(target) :], since, np.asarray(reached))
        trace.append(target[:passed], records.reached(len(target) - 1, passed))
        trace.legs += 1
        if any(isinstance(stop, LossBelow | GradientNormBelow) for stop in plan.stops):
            trace.observation_gradients += int(position.controller.accepted) - before
        passed = int((kept < trace.time).sum())
        thetas = snapshots.reached(len(kept), passed) if len(kept) else ()
        for t, theta in zip(kept, thetas, strict=False):
            keep_snapshot(settings, trace, plan, t, theta)
        stalled = bool(reached > 0 and trace.time == since)
        if stalled and trace.stands:
            # The flow moved, and time did not: the record there is replaced.
            trace.drop_last()
        if stalled or trace.time in target:
            self.record(settings, trace, position)
        return position, _interruption(position, code, stalled)

    def halted(self, position: Position) -> bool:
        """As the controller says."""
        return met(position.controller)

    def record(self, settings: Settings, trace: Trace, position: Position) -> None:
        """One compiled call."""
        records = observe_once(position.state, settings.problem, settings.observers)
        trace.append_one(trace.time, records)

    def pack(self, position: Position) -> list[np.ndarray]:
        """The leaves that are arrays."""
        leaves = jax.tree.leaves(eqx.filter(position, eqx.is_array))
        return [np.asarray(leaf) for leaf in leaves]

    def unpack(self, settings: Settings, plan: Plan, arrays: list[np.ndarray]) -> Position:
        """Only the structure of a position is needed: traced, never computed."""
        like = eqx.filter_eval_shape(lambda: self.begin(settings, plan))
        shapes, static = eqx.partition(like, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
        leaves = [jnp.asarray(array) for array in arrays]
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(shapes), leaves), static)


def _attentive(method: Method, plan: Plan) -> Method:
    """The method in legs so short that a rule asked at save times holds within a few steps."""
    if not (asked_at_save_times(plan.stops) and method.runs_through):
        return method
    return dataclasses.replace(method, attempts_per_leg=_ATTEMPTS_TO_STAGNATION)


def _interruption(position: Position, code: Any, stalled: bool) -> Outcome | None:
    """Why the integration cannot go on after a leg; None if it can, be it that a rule halted it.

    Args:
        position: where it stands.
        code: diffrax's result.
        stalled: whether steps were taken that moved time by less than its resolution.

    Returns:
        The cause.
    """
    controller = position.controller
    halted = halting_outcome(Halt(int(controller.halt)))
    if halted is not None or met(controller):
        return halted
    if code not in (diffrax.RESULTS.successful, diffrax.RESULTS.max_steps_reached):
        return Outcome.SOLVER_FAILURE
    return stuck_outcome(controller) if stalled else None


def _place(target, offsets, since: float, reached) -> tuple[int, float]:
    """The number of save times passed, and the time reached: a save time itself if it is at one."""
    # In the precision of the integration, where alone a time reached can equal one asked for.
    upto = int((offsets <= reached).sum())
    if upto and offsets[upto - 1] == reached:
        return upto - 1, float(target[upto - 1])
    return upto, since + float(reached)


def _next_times(plan: Plan, now: float, method: Method) -> np.ndarray:
    """The save times of the next leg; a snapshot may end a leg, so that theta is exact there."""
    block = plan.times[plan.times > now][: method.points_per_leg]
    ends = np.isin(block, [at for _, at in plan.snapshots])
    # A rule asked at save times, too, ends the flow at the save time where it is seen.
    ends |= bool(asked_at_save_times(plan.stops))
    if method.runs_through or not ends.any():
        return block
    return block[: np.argmax(ends) + 1]


def _snapshots_within(plan: Plan, now: float, end: float) -> np.ndarray:
    times = np.unique([at for _, at in plan.snapshots])
    return times[(times > now) & (times < end)]


def _padded(times: np.ndarray, since: float, size: int, precision) -> np.ndarray:
    """Times from the leg's start, after zeros up to a size that does not change."""
    return np.pad(times - since, (size - len(times), 0)).astype(precision)


def _limits(stops: tuple[Stop, ...], precision: str) -> Limits:
    rules = find(stops, LossBelow), find(stops, GradientNormBelow)
    return Limits(*(rule and jnp.asarray(at_most(rule.threshold, precision)) for rule in rules))
