"""The loop over legs: advance, record, judge; on the host."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from .checkpoints import Checkpoints
from .choice import WINDOW, observed, stalled
from .ending import ending, interruption, named
from .legs import Position, advance, observe_once, restart
from .limits import Limits
from .methods import Method, met, resolve_method
from .outcome import FlowError, Outcome
from .problem import RECORDED
from .records import Checkpoint, Plan, Settings, begin
from .solution import FlowSolution
from .stops import GradientNormBelow, LossBelow, Stop, asked_at_save_times, find
from .trace import Trace

# A leg costs a millisecond on the host.
_ATTEMPTS_TO_STAGNATION = 4


def integrate(
    checkpoint: Checkpoint, plan: Plan, throw: bool, checkpoints: Checkpoints | None = None
) -> FlowSolution:
    """Go on from a checkpoint until the plan is carried out or the flow ends.

    Args:
        checkpoint: where the flow stands.
        plan: what is to do.
        throw: raise if the flow neither met the horizon nor a stopping rule.
        checkpoints: the file that keeps where the flow stands, if any.

    Returns:
        The solution.

    Raises:
        FlowError: if `throw` asks for it.
    """
    clock = time.perf_counter()
    kept = checkpoints.restore(checkpoint.settings, plan) if checkpoints else None
    settings, trace, position, result = _enter(kept, checkpoint, plan)
    before_us = trace.seconds
    while result is None:
        first = len(trace.times)
        position, cause = _leg(settings, trace, plan, position)
        # Whatever halted it: how a flow ends is read off a record of where it stands.
        extra = (cause is not None or met(position.controller)) and not trace.stands
        if extra:
            _record(settings, trace, position)
        # A record that was replaced is judged again.
        first = min(first, len(trace.times) - 1) if trace.stands else first
        result = ending(trace, plan, first, cause)
        if result is not None and not trace.stands:
            # A stagnation, seen at a save time that the leg has run past.
            _record(settings, trace, position)
            result = ending(trace, plan, first, cause)
        settings, position, result = _take_over(settings, trace, plan, position, result)
        if extra and result is None:
            trace.drop_last()
        trace.seconds = before_us + time.perf_counter() - clock
        if checkpoints and result is None:
            checkpoints.keep(Checkpoint(settings, position, trace))
    result = named(result, settings.problem, position)
    trace.seconds = before_us + time.perf_counter() - clock
    solution = _solution(result, settings, trace, position)
    if throw and not solution.success:
        raise FlowError(solution)
    return solution


def _enter(kept: Checkpoint | None, checkpoint: Checkpoint, plan: Plan):
    """Where to go on from, and whether the flow is over there already."""
    if kept is not None and kept.position is not None:
        # Its limits and its judgements are those of the call that was interrupted.
        return kept.settings, kept.trace, kept.position, None
    settings, trace = checkpoint.settings, checkpoint.trace.copy()
    position = checkpoint.position or _begin(settings, trace, plan)
    _keep_snapshot(settings, trace, plan, position)
    result = ending(trace, plan, len(trace.times) - 1, None)
    return settings, trace, _allow(position, plan, settings.max_steps), result


def _attentive(method: Method, plan: Plan) -> Method:
    """The method in legs so short that a rule asked at save times holds within a few steps."""
    if not (asked_at_save_times(plan.stops) and method.runs_through):
        return method
    return dataclasses.replace(method, attempts_per_leg=_ATTEMPTS_TO_STAGNATION)


def _begin(settings: Settings, trace: Trace, plan: Plan) -> Position:
    position = begin(settings, plan)
    _record(settings, trace, position)
    return position


def _allow(position: Position, plan: Plan, max_steps: int) -> Position:
    """Set the limits of this call in the controller's memory, which counts from the very start."""
    controller = position.controller.allow(plan.max_gradients, max_steps)
    return dataclasses.replace(position, controller=controller)


def _leg(settings, trace: Trace, plan: Plan, position) -> tuple[Position, Outcome | None]:
    """Advance by one leg and record it; why the integration cannot go on, if it cannot."""
    before, since = int(position.controller.accepted), trace.time
    method = _attentive(settings.method, plan)
    target = _next_times(plan, since, method)
    kept = _snapshots_within(plan, since, target[-1]) if method.runs_through else np.array([])
    offsets = _padded(target, since, method.points_per_leg, settings.precision)
    position, records, snapshots, reached, code = advance(
        settings.problem,
        method,
        position,
        jnp.asarray(offsets),
        jnp.asarray(_padded(kept, since, len(plan.snapshots) * method.runs_through, offsets.dtype)),
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
        _keep_snapshot(settings, trace, plan, position, t, theta)
    stalled = bool(reached > 0 and trace.time == since)
    if stalled and trace.stands:
        # The flow moved, and time did not: the record there is replaced.
        trace.drop_last()
    if stalled or trace.time in target:
        _record(settings, trace, position)
    _keep_snapshot(settings, trace, plan, position)
    return position, interruption(position, code, stalled)


def _place(target, offsets, since: float, reached) -> tuple[int, float]:
    """The number of save times passed, and the time reached: a save time itself if it is at one."""
    # In the precision of the integration, where alone a time reached can equal one asked for.
    upto = int((offsets <= reached).sum())
    if upto and offsets[upto - 1] == reached:
        return upto - 1, float(target[upto - 1])
    return upto, since + float(reached)


def _keep_snapshot(settings, trace: Trace, plan: Plan, position, time=None, theta=None) -> None:
    """Keep the model if it was asked for at this time, by default that of the position."""
    time, theta = (
        trace.time if time is None else time,
        position.state[0] if theta is None else theta,
    )
    for asked, at in plan.snapshots:
        if at == time:
            trace.snapshots[asked] = settings.problem.model(theta)


def _take_over(settings: Settings, trace: Trace, plan: Plan, position: Position, result):
    """Where the choice is ours and the solver stalls, another goes on from the same position."""
    choice, controller = settings.choice, position.controller
    now = int(controller.attempts), int(controller.accepted)
    attempts, accepted = (after - before for after, before in zip(now, trace.judged, strict=True))
    if choice is None or not choice.fallbacks or (result is None and attempts < WINDOW):
        return settings, position, result
    trace.judged = now
    more = (plan.horizon - trace.time) / max(float(controller.step), np.finfo(float).tiny)
    doubling = float(controller.pace.doubling)
    why = stalled(choice.names[-1], result, attempts, accepted, more, doubling)
    if why is None:
        return settings, position, result
    choice = choice.after(f"{why} before t = {trace.time:.3g}")
    problem, tolerances = settings.problem, settings.tolerances
    method = observed(resolve_method(choice.names[-1], *tolerances, settings.precision, problem))
    settings = dataclasses.replace(settings, method=method, choice=choice)
    leg = jnp.asarray(plan.horizon - trace.time, settings.precision)
    return settings, restart(settings.problem, method, position, leg), None


def _record(settings: Settings, trace: Trace, position: Position) -> None:
    """Record the position at the time reached."""
    records = observe_once(position.state, settings.problem, settings.observers)
    trace.append_one(trace.time, records)


def _solution(result: Outcome, settings: Settings, trace: Trace, position) -> FlowSolution:
    return FlowSolution(
        model=settings.problem.model(position.state[0]),
        time=trace.time,
        result=result,
        times=np.asarray(trace.times),
        **{name: trace.series(name) for name in RECORDED},
        observations={o.name: jax.tree.map(trace.series, o.variables) for o in settings.observers},
        snapshots=dict(trace.snapshots),
        stats=settings.stats(position, trace),
        solver=settings.solver,
        solvers=settings.solvers,
        precision=settings.precision,
        checkpoint=Checkpoint(settings, position, trace),
    )


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
    return Limits(*(rule and jnp.asarray(_at_most(rule.threshold, precision)) for rule in rules))


def _at_most(threshold: float, precision: str):
    """The largest number of a precision that is no larger: numbers of it compare with it alike."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(threshold, precision)[()]
    # NumPy would round a Python number before it compares.
    return (
        rounded
        if float(rounded) <= threshold
        else np.nextafter(rounded, rounded.dtype.type(-np.inf))
    )
