"""The loop over legs: advance, record, judge; on the host."""

import dataclasses
import time

import diffrax
import jax.numpy as jnp
import numpy as np

from .checkpoints import Checkpoints
from .choice import WINDOW, observed, stalled
from .legs import Position, advance, observe_once, restart
from .limits import Limits
from .methods import Method, halting_outcome, met, resolve_method
from .outcome import FlowError, Outcome
from .problem import RECORDED
from .records import Checkpoint, Plan, Settings, begin
from .solution import FlowSolution
from .stops import GradientNormBelow, LossBelow, Stagnation, Stop, find
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
        position, result = _leg(settings, trace, plan, position)
        settings, position, result = _take_over(settings, trace, plan, position, result)
        trace.seconds = before_us + time.perf_counter() - clock
        if checkpoints and result is None:
            checkpoints.keep(Checkpoint(settings, position, trace))
    _record_end(settings, trace, position)
    if result.failed and not np.isfinite(trace.last("loss")):
        # A step of several stages may end where L is no number, without having been there.
        result = Outcome.NON_FINITE
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
    return settings, trace, _allow(position, plan, settings.max_steps), _judge_start(trace, plan)


def _attentive(method: Method, plan: Plan) -> Method:
    """The method in legs so short that a stagnation is noticed within a few steps."""
    if find(plan.stops, Stagnation) is None or not method.runs_through:
        return method
    return dataclasses.replace(method, attempts_per_leg=_ATTEMPTS_TO_STAGNATION)


def _begin(settings: Settings, trace: Trace, plan: Plan) -> Position:
    position = begin(settings, plan)
    records = observe_once(position.state, settings.problem, settings.observers)
    trace.append_one(0.0, records)
    return position


def _allow(position: Position, plan: Plan, max_steps: int) -> Position:
    """Set the limits of this call in the controller's memory, which counts from the very start."""
    controller = position.controller.allow(plan.max_gradients, max_steps)
    return dataclasses.replace(position, controller=controller)


def _judge_start(trace: Trace, plan: Plan) -> Outcome | None:
    if not np.isfinite([trace.last("loss"), trace.last("gradient_norm")]).all():
        return Outcome.NON_FINITE
    return _threshold_met(trace, plan.stops)


def _leg(settings, trace: Trace, plan: Plan, position) -> tuple[Position, Outcome | None]:
    """Advance by one leg, record it, and judge whether the flow ends."""
    before, since = int(position.controller.accepted), trace.time
    method = _attentive(settings.method, plan)
    target = _next_times(plan, since, method)
    kept = _next_snapshots(plan, since, target[-1]) if method.runs_through else np.array([])
    position, records, snapshots, reached, code = advance(
        settings.problem,
        method,
        position,
        _padded(target, since, method.points_per_leg, settings.precision),
        _padded(kept, since, len(plan.snapshots) * method.runs_through, settings.precision),
        _limits(plan.stops, settings.precision),
        settings.observers,
    )
    complete = bool(code == diffrax.RESULTS.successful)
    saved, values = records.reached(len(target))
    trace.append(target[:saved], values)
    trace.time = float(target[-1]) if complete else since + float(reached)
    trace.legs += 1
    if any(isinstance(stop, LossBelow | GradientNormBelow) for stop in plan.stops):
        trace.observation_gradients += int(position.controller.accepted) - before
    for t, theta in zip(kept, snapshots.reached(len(kept))[1], strict=False):
        trace.snapshots[float(t)] = settings.problem.model(theta)
    if complete and trace.time in plan.snapshots and not method.runs_through:
        trace.snapshots[trace.time] = settings.problem.model(position.state[0])
    if not complete and saved == 0 and trace.time == since and reached > 0:
        return position, Outcome.TIME_UNDERFLOW
    return position, _judge(settings, trace, plan, position, code, saved)


def _take_over(settings: Settings, trace: Trace, plan: Plan, position: Position, result):
    """Where the choice is ours and the solver stalls, another goes on from the same position."""
    choice, controller = settings.choice, position.controller
    now = int(controller.attempts), int(controller.accepted)
    attempts, accepted = (after - before for after, before in zip(now, trace.judged, strict=True))
    if choice is None or not choice.fallbacks or (result is None and attempts < WINDOW):
        return settings, position, result
    trace.judged = now
    more = (plan.horizon - trace.time) / max(float(controller.step), np.finfo(float).tiny)
    why = stalled(choice.names[-1], result, attempts, accepted, more)
    if why is None:
        return settings, position, result
    choice = choice.after(f"{why} before t = {trace.time:.3g}")
    size, tolerances = settings.problem.start.size, settings.tolerances
    method = observed(resolve_method(choice.names[-1], *tolerances, settings.precision, size))
    settings = dataclasses.replace(settings, method=method, choice=choice)
    leg = jnp.asarray(plan.horizon - trace.time, settings.precision)
    return settings, restart(settings.problem, method, position, leg), None


def _judge(settings, trace: Trace, plan: Plan, position, code, saved: int) -> Outcome | None:
    """Whether and why the flow ends after this leg."""
    halted = halting_outcome(position.controller)
    if halted is not None:
        return halted
    if met(position.controller):
        _record_end(settings, trace, position)
        return _threshold_met(trace, plan.stops)
    if code not in (diffrax.RESULTS.successful, diffrax.RESULTS.max_steps_reached):
        return Outcome.SOLVER_FAILURE
    stagnation = find(plan.stops, Stagnation)
    if stagnation and _stagnated(stagnation, trace, saved):
        return Outcome.STAGNATION
    complete = code == diffrax.RESULTS.successful
    return Outcome.HORIZON if complete and trace.time >= plan.horizon else None


def _stagnated(rule: Stagnation, trace: Trace, saved: int) -> bool:
    times, losses = np.asarray(trace.times), trace.series("loss")
    ends = range(len(times) - saved + 1, len(times) + 1)
    return any(rule.holds(times[:end], losses[:end]) for end in ends)


def _threshold_met(trace: Trace, stops: tuple[Stop, ...]) -> Outcome | None:
    loss, gradient_norm = find(stops, LossBelow), find(stops, GradientNormBelow)
    if loss and trace.last("loss") <= loss.threshold:
        return Outcome.LOSS_BELOW
    if gradient_norm and trace.last("gradient_norm") <= gradient_norm.threshold:
        return Outcome.GRADIENT_BELOW
    return None


def _record_end(settings: Settings, trace: Trace, position: Position) -> None:
    """Record the time reached, unless it was a save time."""
    if trace.times[-1] < trace.time:
        records = observe_once(position.state, settings.problem, settings.observers)
        trace.append_one(trace.time, records)


def _solution(result: Outcome, settings: Settings, trace: Trace, position) -> FlowSolution:
    return FlowSolution(
        model=settings.problem.model(position.state[0]),
        time=trace.time,
        result=result,
        times=np.asarray(trace.times),
        **{name: trace.series(name) for name in RECORDED},
        observations={name: trace.series(name) for name, _ in settings.observers},
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
    ends = np.isin(block, plan.snapshots)
    if method.runs_through or not ends.any():
        return block
    return block[: np.argmax(ends) + 1]


def _next_snapshots(plan: Plan, now: float, end: float) -> np.ndarray:
    times = np.asarray(plan.snapshots, float)
    return times[(times > now) & (times <= end)]


def _padded(times: np.ndarray, since: float, size: int, precision: str):
    """Times from the leg's start, after zeros up to a size that does not change."""
    return jnp.asarray(np.pad(times - since, (size - len(times), 0)), precision)


def _limits(stops: tuple[Stop, ...], precision: str) -> Limits:
    rules = find(stops, LossBelow), find(stops, GradientNormBelow)
    return Limits(*(rule and jnp.asarray(rule.threshold, precision) for rule in rules))
