"""The loop over legs: advance, record, judge; on the host."""

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from .checkpoints import Checkpoints
from .choice import EXPLICIT, STABILISED, threshold
from .ctrl_c import heard, obey
from .ending import ending, named
from .engine import Engine, quietly
from .forecast import Mark, Outlook, Spell, outlook
from .held_out import apart
from .integrals import errors_of, marked
from .manner import RAISE, Manner
from .methods import resolve_method
from .outcome import FlowError, FlowInterrupted, Outcome
from .problem import RECORDED
from .progress import telling
from .records import Checkpoint, Plan, Settings, keep_snapshot
from .runner import Waiting, alone
from .sharpness import decided
from .solution import FlowSolution
from .takeover import dearer, due, lost, slow, stalled
from .trace import Trace, TraceMark


class Stand(NamedTuple):
    """Where a flow stood when a leg had ended, and how it ended there, if it did."""

    settings: Settings
    position: Any
    result: Outcome | None
    mark: TraceMark


def integrate(
    checkpoint: Checkpoint, plan: Plan, manner: Manner, checkpoints: Checkpoints | None = None
) -> FlowSolution:
    """Go on from a checkpoint until the plan is carried out or the flow ends.

    Args:
        checkpoint: where the flow stands.
        plan: what is to do.
        manner: who is told of it, and what becomes of a flow that does not come to its end.
        checkpoints: the file that keeps where the flow stands, if any.

    Returns:
        The solution.

    Raises:
        FlowError: if it neither met the horizon nor a stopping rule, and `manner` asks for it.
        FlowInterrupted: on Ctrl-C, unless `manner` asks for the solution.
    """
    with quietly(), heard() as asked:
        manner = dataclasses.replace(manner, asked=asked)
        return alone(integrating(checkpoint, plan, manner, checkpoints))


def integrating(
    checkpoint: Checkpoint, plan: Plan, manner: Manner, checkpoints: Checkpoints | None = None
) -> Waiting[FlowSolution]:
    """As `integrate`; asks for its bursts, so that flows can run side by side.

    An interruption goes back to the end of the last leg, and so to a place where the flow could
    have been written and gone on with: what a leg has begun is no record.

    Args:
        checkpoint: where the flow stands.
        plan: what is to do.
        manner: as for `integrate`.
        checkpoints: the file that keeps where the flow stands, if any.

    Yields:
        The bursts.

    Returns:
        The solution.

    Raises:
        FlowError: as for `integrate`.
        FlowInterrupted: likewise.
    """
    begun, engine = time.perf_counter(), Engine(checkpoint.settings.problem)
    kept = checkpoints.restore(checkpoint.settings, plan, engine) if checkpoints else None
    settings, trace, position, result = _enter(engine, kept, checkpoint, plan)
    before_us, stopped = trace.seconds, False
    stand = Stand(settings, position, result, trace.mark())
    try:
        with telling(manner.listener, plan, trace.time) as tell:
            while stand.result is None:
                settings, position, result = yield from _once(engine, stand, trace, plan)
                trace.seconds = before_us + time.perf_counter() - begun
                tell(settings, position, trace)
                if checkpoints and result is None:
                    checkpoints.keep(Checkpoint(settings, position, trace), engine)
                elif checkpoints and result is Outcome.HORIZON:
                    checkpoints.finish(Checkpoint(settings, position, trace), engine)
                stand = Stand(settings, position, result, trace.mark())
                obey(manner.asked)
    except KeyboardInterrupt:
        stopped = True
        trace.back_to(stand.mark)
    goes_on = Checkpoint(stand.settings, stand.position, trace)
    if stopped and stand.result is None:
        # The record of where it was left is no part of what goes on.
        goes_on = dataclasses.replace(goes_on, trace=trace.copy())
        if checkpoints:
            checkpoints.keep(goes_on, engine, at_once=True)
        stand = stand._replace(result=_left(engine, stand, trace, plan))
    solution = _solution(_named(stand, trace), stand, trace, goes_on)
    if stopped and manner.interrupt == RAISE:
        raise FlowInterrupted(solution)
    if manner.throw and not solution.success:
        raise FlowError(solution)
    return solution


def _once(engine: Engine, stand: Stand, trace: Trace, plan: Plan):
    """One leg with its records, and how the flow ended with it, if it did."""
    settings, first = stand.settings, len(trace.times)
    position, cause = yield from _leg(engine, settings, trace, plan, stand.position)
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
    return settings, position, result


def _left(engine: Engine, stand: Stand, trace: Trace, plan: Plan) -> Outcome | None:
    """How an interrupted flow ended: what it was asked for comes first here, too."""
    first = len(trace.times)
    if not trace.stands:
        engine.record(stand.settings, trace, stand.position)
    return ending(trace, plan, first, Outcome.INTERRUPTED)


def _named(stand: Stand, trace: Trace) -> Outcome:
    assert stand.result is not None
    problem, way = stand.settings.problem, trace.last("arc_length")
    return named(stand.result, problem, stand.position.seen, way, trace.time)


def _enter(engine: Engine, kept: Checkpoint | None, checkpoint: Checkpoint, plan: Plan):
    """Where to go on from, and whether the flow is over there already."""
    if kept is not None and kept.position is not None:
        # Its limits and its judgements are those of the call that was interrupted. At its end is
        # the file of a leg between two rewirings alone.
        over = Outcome.HORIZON if kept.trace.time >= plan.horizon else None
        return kept.settings, kept.trace, kept.position, over
    settings, trace = checkpoint.settings, checkpoint.trace.copy()
    position, spent = checkpoint.position, 0.0
    if position is None:
        position = engine.begin(settings)
        spent = float(position.controller.work.cost)
        spent += 2 * settings.choice.products if settings.choice else 0
        engine.record(settings, trace, position)
    theta = settings.problem.theta_of(position.seen)
    keep_snapshot(settings, trace, plan, trace.time, theta)
    result = ending(trace, plan, len(trace.times) - 1, None)
    return settings, trace, engine.allow(settings, plan, position, spent), result


def _leg(engine: Engine, settings: Settings, trace: Trace, plan: Plan, position):
    """Advance by one leg and record it; why the integration cannot go on, if it cannot."""

    def over() -> bool:
        return ending(trace, plan, len(trace.times) - 1, None) is not None

    position, cause = yield from engine.leg(settings, trace, plan, position, over)
    theta = settings.problem.theta_of(position.seen)
    keep_snapshot(settings, trace, plan, trace.time, theta)
    return position, cause


def _take_over(engine: Engine, settings: Settings, trace: Trace, plan: Plan, position, result):
    """Where the choice is ours and the solver stalls, another goes on from the same position."""
    choice = settings.choice
    if choice is None or not choice.open:
        return settings, position, result
    spell = Spell(trace.judged, _mark(trace, position))
    now = spell.now
    if result is None and not due(choice.names[-1], trace.judged, now.attempts, now.cost):
        return settings, position, result
    trace.judged, before = spell.mark, choice.products
    back = _lost(engine, settings, plan, position, spell) if result is None else None
    why, choice = (back, choice) if back else _why(engine, settings, plan, position, spell, result)
    position = position.charged(2 * (choice.products - before))
    if why is None:
        return dataclasses.replace(settings, choice=choice), position, result
    why = f"{why} before t = {trace.time:.3g}"
    if back:
        # What was met are kinks, whether declared or not.
        choice = choice.back(why, threshold(settings.tolerances[0], smooth=False))
    else:
        choice = choice.after(why)
    problem, tolerances = settings.problem, settings.tolerances
    method = resolve_method(choice.names[-1], *tolerances, settings.precision, problem)
    settings = dataclasses.replace(settings, method=method, choice=choice)
    position = engine.restart(settings, position)
    now = _mark(trace, position)
    trace.judged = now._replace(watched=now.attempts, kept=now.accepted)
    return settings, position, None


def _mark(trace: Trace, position) -> Mark:
    controller = position.controller
    cost = int(controller.work.gradients) + 2 * int(controller.work.hvps)
    counts = int(controller.attempts), int(controller.accepted), cost
    return Mark(*counts, trace.time, float(controller.step))


def _why(engine: Engine, settings: Settings, plan: Plan, position, spell: Spell, result):
    """Why another solver should take over, or None; and the choice with what the answer cost."""
    choice = settings.choice
    assert choice is not None
    name = choice.names[-1]
    if not choice.fallbacks:
        return None, choice
    why = stalled(name, result, spell, float(position.controller.pace.doubling))
    if why is not None or result is not None:
        return why, choice
    dynamics = settings.problem.dynamics
    limit = dynamics.sharpness(slow(name, spell, plan.horizon, choice.limit))
    if limit < math.inf:
        ends = engine.spectrum(settings, position, decided(limit))
        choice = dataclasses.replace(choice, products=choice.products + ends.products)
        if not ends.highest > limit:
            return None, choice
        left = (name, spell.pace, spell.now.time, float(spell.now.cost))
        return f"met a sharpness of {ends.highest:.2g}", dataclasses.replace(choice, left=left)
    # Its forecasts are in log t, and of the plain flow's Hessian.
    if choice.fallbacks[0] == STABILISED and dynamics.plain:
        seen = _outlook(engine, settings, position)
        return (None if seen is None else dearer(spell, seen, plan.horizon)), choice
    return None, choice


def _lost(engine: Engine, settings: Settings, plan: Plan, position, spell: Spell) -> str | None:
    """Why the explicit solver that was left should take its flow back, or None."""
    assert settings.choice is not None
    if not settings.choice.left or settings.choice.names[-1] in EXPLICIT:
        return None
    seen = _outlook(engine, settings, position)
    if seen is not None:
        sharp = settings.problem.dynamics.stiffness(1.0, max(seen.radius, 0.0))
        seen = seen._replace(radius=sharp)
    return lost(settings.choice.left, spell, seen, plan.horizon)


def _outlook(engine: Engine, settings: Settings, position) -> Outlook | None:
    rtol, atol = settings.tolerances
    roots, live = settings.problem.roots_on_host, settings.problem.dimension
    least = atol if roots is None else atol / roots
    return outlook(engine.memory(settings, position), live, rtol, least)


def _solution(result: Outcome, stand: Stand, trace: Trace, goes_on: Checkpoint) -> FlowSolution:
    settings, position = stand.settings, stand.position
    seen_as = lambda name: marked(name, trace.records, trace.series)
    own = {name: seen_as(name) for name in settings.problem.dynamics.records}
    seen = {o.name: jax.tree.map(trace.series, o.variables) for o in settings.observers}
    observations, held_out = apart(seen)
    return FlowSolution(
        model=settings.problem.model_on_host(settings.problem.theta_of(position.seen)),
        time=trace.time,
        result=result,
        times=np.asarray(trace.times),
        **{name: seen_as(name) for name in RECORDED},
        errors=errors_of(trace.records, trace.series),
        **held_out,
        observations=own | observations,
        snapshots=dict(trace.snapshots),
        stats=settings.stats(position, trace),
        solver=settings.solver,
        solvers=settings.solvers,
        precision=settings.precision,
        engine=settings.engine,
        rates=settings.rates,
        checkpoint=goes_on,
    )
