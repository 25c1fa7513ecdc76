"""The loop over legs: advance, record, judge; on the host."""

import dataclasses
import time

import jax
import numpy as np

from .checkpoints import Checkpoints
from .choice import WINDOW, stalled
from .ending import ending, named
from .engine import Engine
from .methods import resolve_method
from .outcome import FlowError, Outcome
from .problem import RECORDED
from .records import Checkpoint, Plan, Settings, keep_snapshot
from .solution import FlowSolution
from .trace import Trace


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
    engine = Engine(checkpoint.settings.problem)
    kept = checkpoints.restore(checkpoint.settings, plan, engine) if checkpoints else None
    settings, trace, position, result = _enter(engine, kept, checkpoint, plan)
    before_us = trace.seconds
    while result is None:
        first = len(trace.times)
        position, cause = _leg(engine, settings, trace, plan, position)
        # Whatever halted it: how a flow ends is read off a record of where it stands.
        extra = (cause is not None or engine.halted(position)) and not trace.stands
        if extra:
            engine.record(settings, trace, position)
        # A record that was replaced is judged again.
        first = min(first, len(trace.times) - 1) if trace.stands else first
        result = ending(trace, plan, first, cause)
        if result is not None and not trace.stands:
            # A stagnation, seen at a save time that the leg has run past.
            engine.record(settings, trace, position)
            result = ending(trace, plan, first, cause)
        settings, position, result = _take_over(engine, settings, trace, plan, position, result)
        if extra and result is None:
            trace.drop_last()
        trace.seconds = before_us + time.perf_counter() - clock
        if checkpoints and result is None:
            checkpoints.keep(Checkpoint(settings, position, trace), engine)
    result = named(result, settings.problem, position.theta, trace.last("arc_length"))
    trace.seconds = before_us + time.perf_counter() - clock
    solution = _solution(result, settings, trace, position)
    if throw and not solution.success:
        raise FlowError(solution)
    return solution


def _enter(engine: Engine, kept: Checkpoint | None, checkpoint: Checkpoint, plan: Plan):
    """Where to go on from, and whether the flow is over there already."""
    if kept is not None and kept.position is not None:
        # Its limits and its judgements are those of the call that was interrupted.
        return kept.settings, kept.trace, kept.position, None
    settings, trace = checkpoint.settings, checkpoint.trace.copy()
    position, spent = checkpoint.position, 0.0
    if position is None:
        position = engine.begin(settings)
        spent = float(position.controller.work.gradients)
        engine.record(settings, trace, position)
    keep_snapshot(settings, trace, plan, trace.time, position.theta)
    result = ending(trace, plan, len(trace.times) - 1, None)
    return settings, trace, engine.allow(settings, plan, position, spent), result


def _leg(engine: Engine, settings: Settings, trace: Trace, plan: Plan, position):
    """Advance by one leg and record it; why the integration cannot go on, if it cannot."""

    def over() -> bool:
        return ending(trace, plan, len(trace.times) - 1, None) is not None

    position, cause = engine.leg(settings, trace, plan, position, over)
    keep_snapshot(settings, trace, plan, trace.time, position.theta)
    return position, cause


def _take_over(engine: Engine, settings: Settings, trace: Trace, plan: Plan, position, result):
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
    method = resolve_method(choice.names[-1], *tolerances, settings.precision, problem)
    settings = dataclasses.replace(settings, method=method, choice=choice)
    return settings, engine.restart(settings, position), None


def _solution(result: Outcome, settings: Settings, trace: Trace, position) -> FlowSolution:
    return FlowSolution(
        model=settings.problem.model_on_host(position.theta),
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
        engine=settings.engine,
        checkpoint=Checkpoint(settings, position, trace),
    )
