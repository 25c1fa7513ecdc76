"""`solve` and `resume`: the exact gradient flow of any model on any task."""

import math
from collections.abc import Callable, Mapping, Sequence

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, PyTree

from ..precision import check_precision
from ..tasks import AbstractObjective, Task, population
from .checkpoints import Checkpoints
from .choice import Automatic, choose, declared_smooth, observed, spectrum_at_start
from .loop import integrate
from .methods import AUTO, check_solver, resolve_method
from .problem import Problem, make_problem
from .records import Checkpoint, Plan, Settings
from .schedule import LogTimes, resolve_times
from .solution import FlowSolution
from .stops import Stop, check_stops
from .trace import Trace

RTOL = 1e-6
SAVE = LogTimes()
ATOL = 1e-9


def solve(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    horizon: float,
    *,
    solver: str | diffrax.AbstractSolver = AUTO,
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
    checkpoints: Checkpoints | None = None,
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
        solver: a name from `SOLVERS`, any adaptive diffrax solver, or "auto": chosen from the
            size, the horizon, the tolerance, the spectrum at the start (8 Hessian-vector products,
            counted) and the smoothness that the model declares, and changed when it stalls; the
            solution says which ran and why.
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
        checkpoints: a file that keeps where the flow stands, for long ones: after a kill the same
            call goes on from it, with the same numbers as without the kill.
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
    _check_scale(problem, atol)
    choice = _choice(solver, model, problem, plan.horizon, rtol)
    name = solver if choice is None else choice.names[-1]
    method = resolve_method(name, rtol, atol, precision, problem.start.size)
    method = method if choice is None else observed(method)
    watched = tuple((observers or {}).items())
    settings = Settings(problem, method, watched, precision, max_steps, (rtol, atol), choice)
    return integrate(Checkpoint(settings, None, Trace()), plan, throw, checkpoints)


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
    return integrate(checkpoint, plan, throw)


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


def _choice(solver, model, problem: Problem, horizon: float, rtol: float) -> Automatic | None:
    if not (isinstance(solver, str) and solver == AUTO):
        return None
    ends, size = spectrum_at_start(problem), problem.start.size
    return choose(size, horizon, rtol, ends, declared_smooth(model))


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


def _check_scale(problem: Problem, atol: float) -> None:
    """A parameter of size zero has no relative error."""
    if atol == 0 and bool((problem.start == 0).any()):
        raise ValueError(
            "Argument `atol` must be positive where parameters start at zero (a zero read-out?), "
            "but is 0; give the error that is negligible there, e.g. a thousandth of `rtol`."
        )


def _check_max_steps(max_steps: int) -> None:
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(
            f"Argument `max_steps` must be an integer of at least 1, but is {max_steps!r}; "
            "give the limit of attempted steps."
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
