"""`solve` and `resume`: the exact gradient flow of any model on any task."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..precision import check_precision
from ..tasks import AbstractObjective, Task, population
from .legs import Limits, Position, advance, observe_once, start
from .methods import Method, check_solver, halting_outcome, resolve_method
from .outcome import FlowError, Outcome
from .problem import RECORDED, Observers, Problem, make_problem
from .schedule import LogTimes, resolve_times
from .solution import FlowSolution, FlowStats
from .stops import GradientNormBelow, LossBelow, Stagnation, Stop, check_stops, find
from .trace import Trace

RTOL = 1e-6
SAVE = LogTimes()
ATOL = 1e-9


@dataclasses.dataclass(frozen=True)
class Settings:
    """What stays the same when a flow is resumed.

    Attributes:
        problem: theta_0, the objective.
        method: the solver with its controller.
        observers: further observers.
        precision: "float64" or "float32".
        max_steps: limit of attempted steps of one `solve` or `resume`.
    """

    problem: Problem
    method: Method
    observers: Observers
    precision: str
    max_steps: int


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a flow stands: its settings, its position and its records so far."""

    settings: Settings
    position: Position | None
    trace: Trace


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one call of `solve` or `resume` is to do."""

    horizon: float
    times: np.ndarray
    snapshots: tuple[float, ...]
    stops: tuple[Stop, ...]
    max_gradients: float


def solve(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    horizon: float,
    *,
    solver: str | diffrax.AbstractSolver = "tsit5",
    rtol: float = RTOL,
    atol: float = ATOL,
    save: LogTimes | Sequence[float] = SAVE,
    stops: Sequence[Stop] = (),
    max_gradients: float = math.inf,
    max_steps: int = 10_000_000,
    observers: Mapping[str, Callable[[PyTree], Array]] | None = None,
    snapshots: Sequence[float] = (),
    precision: str = "float64",
    trainable: PyTree | Callable = eqx.is_inexact_array,
    memory: int | None = None,
    throw: bool = False,
) -> FlowSolution:
    """Integrate d theta/dt = -grad L(theta) from the model's parameters (theory, section 4).

    L is the task's loss exactly as stated there: a mean over samples, for squared loss without
    1/2. Time is that of this L: t = learning rate x number of gradient descent steps.

    The local error of theta per step is kept below atol + rtol |theta|, root mean square over the
    parameters. Records between steps come from the solver's own interpolant.

    Cost: see `FlowSolution.stats`; memory: some dozens of vectors of the size of theta for
    explicit solvers, P^2 numbers for dense implicit ones, and one loss gradient.

    Args:
        model: a `Lift`, any equinox model, or any pytree that the task accepts.
        task: a task, an objective, or a callable model -> L.
        horizon: the end T > 0.
        solver: a name from `SOLVERS`, or any adaptive diffrax solver.
        rtol: relative tolerance.
        atol: absolute tolerance.
        save: save times, a schedule or increasing numbers; 0 and the last time are always saved.
        stops: stopping rules, at most one of a kind.
        max_gradients: budget of gradient evaluations of the solver, to within one attempted step.
        max_steps: limit of attempted steps.
        observers: further functions of the model to record at the save times.
        snapshots: times at which the whole model is kept (a few: each costs P numbers).
        precision: "float64" or "float32"; parameters and data are converted to it.
        trainable: which leaves flow, as for `equinox.partition`.
        memory: bound in bytes on the activations of one gradient, on each device: samples are
            processed in chunks that keep it. None for no bound.
        throw: raise `FlowError` instead of returning a solution that was not reached.

    Returns:
        The solution. A step limit, a spent budget, a NaN or an overflow returns what was computed
        so far, with its result code.

    Raises:
        ValueError: for a bad argument, before any computation.
        FlowError: if `throw` and the flow neither met the horizon nor a stopping rule.
    """
    check_settings(solver, rtol, atol, max_steps, precision)
    plan = _plan(0.0, horizon, save, snapshots, stops, max_gradients)
    objective = resolve_objective(task)
    problem = make_problem(model, objective, precision, trainable, memory)
    problem.objective.check(eqx.combine(problem.theta0, problem.rest))
    method = resolve_method(solver, rtol, atol, precision, problem.start.size)
    watched = tuple((observers or {}).items())
    settings = Settings(problem, method, watched, precision, max_steps)
    return _integrate(Checkpoint(settings, None, Trace()), plan, throw)


def resume(
    solution: FlowSolution,
    horizon: float,
    *,
    save: LogTimes | Sequence[float] = SAVE,
    stops: Sequence[Stop] = (),
    max_gradients: float = math.inf,
    snapshots: Sequence[float] = (),
    throw: bool = False,
) -> FlowSolution:
    """Go on with a flow to a later horizon, with the same solver and tolerances.

    Nothing is repeated: the solver goes on with its own memory, so that solving to T and resuming
    to 10 T equals solving to 10 T, to within the tolerance.

    Args:
        solution: a solution that did not fail.
        horizon: the new end, later than the time reached.
        save: save times; those that are already past are ignored.
        stops: stopping rules from now on.
        max_gradients: budget of **further** gradient evaluations.
        snapshots: further times at which the whole model is kept.
        throw: as for `solve`.

    Returns:
        A solution with the records of both parts.

    Raises:
        ValueError: if the solution failed, or the horizon is not later.
        FlowError: as for `solve`.
    """
    if solution.result.failed:
        raise ValueError(
            f"Argument `solution` must not have failed, but ended by {solution.result.value!r}; "
            "solve again with other settings."
        )
    if not horizon > solution.time:
        raise ValueError(
            f"Argument `horizon` must be later than the time reached, {solution.time:g}, but is "
            f"{horizon!r}; raise it."
        )
    plan = _plan(solution.time, horizon, save, snapshots, stops, max_gradients)
    checkpoint: Checkpoint = solution.checkpoint  # pyright: ignore[reportAssignmentType]
    return _integrate(checkpoint, plan, throw)


def resolve_objective(task: Task | AbstractObjective | Callable) -> AbstractObjective:
    """The objective of a task, an objective, or a callable model -> L.

    Args:
        task: either of them.

    Returns:
        The objective.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(task, Task):
        return task.objective
    if isinstance(task, AbstractObjective):
        return task
    if callable(task):
        return population(task).objective
    raise ValueError(
        f"Argument `task` must be a Task, an objective or a callable model -> loss, but is "
        f"{type(task).__name__}; see flowlift.tasks."
    )


def _integrate(checkpoint: Checkpoint, plan: Plan, throw: bool) -> FlowSolution:
    clock = time.perf_counter()
    settings, trace = checkpoint.settings, checkpoint.trace.copy()
    position = checkpoint.position or _begin(settings, trace, plan)
    position = _allow(position, plan, settings.max_steps)
    result = _judge_start(trace, plan)
    while result is None:
        position, result = _leg(settings, trace, plan, position)
    _record_end(settings, trace, position)
    trace.seconds += time.perf_counter() - clock
    solution = _solution(result, settings, trace, position)
    if throw and not solution.success:
        raise FlowError(solution)
    return solution


def _begin(settings: Settings, trace: Trace, plan: Plan) -> Position:
    leg = jnp.asarray(plan.times[0], settings.precision)
    position = start(settings.problem, settings.method, leg)
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
    before = int(position.controller.accepted)
    points = settings.method.points_per_leg
    target = _next_times(plan, trace.time, points)
    save = np.pad(target - trace.time, (0, points - len(target)), mode="edge")
    position, records, saved, reached, code = advance(
        settings.problem,
        settings.method,
        position,
        jnp.asarray(save, settings.precision),
        _limits(plan.stops, settings.precision),
        settings.observers,
    )
    reached_slots = np.isfinite(np.asarray(saved))
    n_saved = int(reached_slots[: len(target)].sum())
    # Padding repeats the last save time, and is evaluated with it.
    trace.observation_gradients += int(reached_slots.sum()) - n_saved
    complete = bool(code == diffrax.RESULTS.successful)
    trace.append(target[:n_saved], {name: v[:n_saved] for name, v in records.items()})
    trace.time = float(target[-1]) if complete else trace.time + float(reached)
    trace.legs += 1
    if any(isinstance(stop, LossBelow | GradientNormBelow) for stop in plan.stops):
        trace.observation_gradients += int(position.controller.accepted) - before
    if complete and trace.time in plan.snapshots:
        trace.snapshots[trace.time] = settings.problem.model(position.state[0])
    return position, _judge(settings, trace, plan, position, code)


def _judge(settings, trace: Trace, plan: Plan, position, code) -> Outcome | None:
    """Whether and why the flow ends after this leg."""
    halted = halting_outcome(position.controller)
    if halted is not None:
        return halted
    if code == diffrax.RESULTS.event_occurred:
        _record_end(settings, trace, position)
        return _threshold_met(trace, plan.stops)
    if code == diffrax.RESULTS.max_steps_reached:
        return None
    if code != diffrax.RESULTS.successful:
        return Outcome.SOLVER_FAILURE
    stagnation = find(plan.stops, Stagnation)
    if stagnation and stagnation.holds(np.asarray(trace.times), trace.series("loss")):
        return Outcome.STAGNATION
    return Outcome.HORIZON if trace.time >= plan.horizon else None


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
    work = position.controller.work
    stats = FlowStats(
        gradients=settings.method.evaluations(position.controller),
        hvps=int(work.hvps),
        observation_gradients=trace.observation_gradients,
        steps=int(position.controller.attempts),
        rejected=int(position.controller.attempts) - int(position.controller.accepted),
        legs=trace.legs,
        seconds=trace.seconds,
    )
    return FlowSolution(
        model=settings.problem.model(position.state[0]),
        time=trace.time,
        result=result,
        times=np.asarray(trace.times),
        **{name: trace.series(name) for name in RECORDED},
        observations={name: trace.series(name) for name, _ in settings.observers},
        snapshots=dict(trace.snapshots),
        stats=stats,
        solver=settings.method.name,
        precision=settings.precision,
        checkpoint=Checkpoint(settings, position, trace),
    )


def _next_times(plan: Plan, now: float, points: int) -> np.ndarray:
    """The save times of the next leg; a snapshot ends a leg, so that theta is exact there."""
    block = plan.times[plan.times > now][:points]
    ends = np.isin(block, plan.snapshots)
    return block[: np.argmax(ends) + 1] if ends.any() else block


def _limits(stops: tuple[Stop, ...], precision: str) -> Limits:
    rules = find(stops, LossBelow), find(stops, GradientNormBelow)
    return Limits(*(rule and jnp.asarray(rule.threshold, precision) for rule in rules))


def _plan(after: float, horizon, save, snapshots, stops, max_gradients) -> Plan:
    if not (_is_number(horizon) and 0 < horizon < math.inf):
        raise ValueError(
            f"Argument `horizon` must be a positive finite flow time, but is {horizon!r}; "
            "give the end T."
        )
    if not (_is_number(max_gradients) and max_gradients > 0):
        raise ValueError(
            f"Argument `max_gradients` must be positive, but is {max_gradients!r}; "
            "leave it out for no budget."
        )
    check_stops(tuple(stops))
    horizon = float(horizon)
    times = resolve_times(save, after, horizon)
    wanted = resolve_times(snapshots, after, horizon)[: len(tuple(snapshots))]
    wanted = tuple(float(t) for t in wanted if t in np.asarray(snapshots, float))
    times = np.union1d(times, np.asarray(wanted))
    return Plan(horizon, times, wanted, tuple(stops), float(max_gradients))


def check_settings(
    solver: str | diffrax.AbstractSolver, rtol: float, atol: float, max_steps: int, precision: str
) -> None:
    """Refuse a solver, tolerances, a step limit or a precision that `solve` would refuse.

    Args:
        solver: a name from `SOLVERS`, or an adaptive diffrax solver.
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: limit of attempted steps.
        precision: "float64" or "float32".

    Raises:
        ValueError: for a bad argument.
    """
    check_precision(precision)
    check_solver(solver)
    _check_tolerances(rtol, atol, precision)
    _check_max_steps(max_steps)


def _check_tolerances(rtol: float, atol: float, precision: str) -> None:
    least = 4 * float(np.finfo(precision).eps)
    for name, value, bound in (("rtol", rtol, least), ("atol", atol, 0.0)):
        if not (_is_number(value) and bound <= value < math.inf):
            raise ValueError(
                f"Argument `{name}` must be a finite number of at least {bound:.2g} in "
                f"{precision}, but is {value!r}; raise it."
            )


def _check_max_steps(max_steps: int) -> None:
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(
            f"Argument `max_steps` must be an integer of at least 1, but is {max_steps!r}; "
            "give the limit of attempted steps."
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
