"""`solve` and `resume`: the exact gradient flow, or another dynamics, of any model on any task."""

import math
from collections.abc import Callable, Mapping, Sequence

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from ..compilations import keep_compilations
from ..memory import check_memory, in_gigabytes
from ..numbers import real
from ..tasks import AbstractObjective, Task, resolve_objective
from .checkpoints import Checkpoints
from .choice import (
    Automatic,
    choose,
    choose_among,
    declared_smooth,
    threshold,
)
from .dynamics import AbstractDynamics, GradientFlow
from .dynamics.base import check_dynamics
from .engines import on_one_cpu, resolve_engine
from .held_out import held_out_of
from .loop import integrate
from .manner import RAISE, Manner
from .methods import AUTO, resolve_method, serves_dynamics
from .named import SOLVERS
from .observers import check_observers, watch
from .problem import Problem, make_problem
from .programs import host_field
from .progress import Listener
from .rates import Rates, named_rates
from .records import Checkpoint, Plan, Settings
from .refusals import (
    check_budget,
    check_checkpoints,
    check_not_traced,
    check_scale,
    check_settings,
    check_trainable,
)
from .schedule import LogTimes, check_apart, resolve_snapshots, resolve_times
from .sharpness import decided, spectrum, spectrum_on_host
from .solution import FlowSolution
from .stops import Stop, check_readable, check_stops
from .trace import Trace

RTOL = 1e-6
SAVE = LogTimes()
ATOL = 1e-9
MAX_STEPS = 10_000_000
PLAIN = GradientFlow()


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
    max_steps: int = MAX_STEPS,
    observers: Mapping[str, Callable[[PyTree], Array]] | None = None,
    snapshots: Sequence[float] = (),
    precision: str = "float64",
    trainable: PyTree | Callable = eqx.is_inexact_array,
    rates: Rates | None = None,
    memory: int | None = None,
    dynamics: AbstractDynamics = PLAIN,
    checkpoints: Checkpoints | None = None,
    engine: str | None = None,
    throw: bool = False,
    progress: bool | diffrax.AbstractProgressMeter | Listener = False,
    interrupt: str = RAISE,
) -> FlowSolution:
    """Integrate d theta/dt = -D grad L(theta) from the model's parameters (theory, section 4).

    L is the task's loss exactly as stated there: a mean over samples, for squared loss without
    1/2. Time is that of this L: t = learning rate x number of gradient descent steps. D = diag(d)
    holds the rates, 1 where none are given; solvers integrate the plain flow of
    phi = D^(-1/2) theta, and tolerances and records are those of theta.

    The local error of theta per step is kept below atol + rtol |theta|, root mean square over the
    parameters. Records between steps are as accurate as
    the steps, which save times never change.

    Cost: see `FlowSolution.stats`; memory: one gradient and some dozens of vectors of the size of
    theta, with the bases of `BDF` and `ExpRosenbrock` within 4 GB (their `memory`); dense ones P^2.

    Args:
        model: a `Lift`, any equinox model, or any pytree that the task accepts.
        task: a task, an objective, or a callable model -> L. Where a task has held-out data, the
            loss on them is recorded too, and accuracies where targets are labels: forward passes,
            counted as observation.
        horizon: the end T > 0.
        solver: a name from `SOLVERS`, any adaptive diffrax solver, or "auto": chosen from the
            size, the horizon, the tolerance, the spectrum at the start (at most 8 Hessian-vector
            products, counted) and the smoothness that the model declares, and changed when the
            flow shows that another costs less, or stalls; the solution says which ran and why.
        rtol: relative tolerance.
        atol: absolute tolerance.
        save: save times, a schedule or increasing numbers from 0 to the horizon; 0 and the last
            time are always saved. A number that differs from the horizon by rounding is meant to
            be it.
        stops: stopping rules, at most one of a kind.
        max_gradients: budget of the solver in gradient evaluations, > 0, to within one attempted
            step. A Hessian-vector product counts as two, as in `FlowStats.cost`.
        max_steps: limit of attempted steps.
        observers: further functions of the model to record at the save times, by names that
            results do not use themselves (`flowlift.reserved`). Their values may be numbers of any
            kind, arrays, and tuples, lists or dicts of them. The work of an `AbstractObserver`,
            such as those of `diagnostics.observer`, counts as observation; that of a plain function
            does not.
        snapshots: times from 0 to the horizon at which the whole model is kept, under these
            numbers (a few: each costs P numbers).
        precision: "float64" or "float32"; parameters and data are converted to it.
        trainable: which leaves flow, as for `equinox.partition`.
        rates: d >= 0, a number for all leaves, or numbers by names of leaves: base edges of a lift,
            paths of leaves such as "layers.0.weight" or their ends; * and ? stand for any letters,
            and "*" alone is the default of all others. 0 freezes a leaf. A rate of a lift may also
            be a function of its size n, the largest number of copies of a hidden vertex: a text
            such as "1/n", `Power(factor, power)`, or any n -> d; and the whole the name of a
            parametrisation, "standard", "ntk", "mean field" or "mup".
        memory: bound in bytes on the activations of one gradient, on each device: samples are
            processed in chunks that keep it, data that are read included. None for no bound.
        dynamics: how theta moves: by the gradient flow, or by another dynamics of
            `flowlift.flow.dynamics`, which says what it records besides, what time means and how
            errors are controlled; "auto" then chooses among the solvers that serve it.
        checkpoints: a file that keeps where the flow stands, for long ones: after a kill the same
            call goes on from it, with the same numbers as without the kill.
        engine: "host", where Python drives the solver over two compiled programs, "graph", where a
            solver of diffrax is compiled whole, or None: the host where the data are on one CPU
            and the solver is one that it has (docs/solvers.md). The solution says which one ran.
        throw: raise `FlowError` instead of returning a solution that was not reached.
        progress: True for a bar of tqdm with the time reached, L, |grad L|, the work and the size
            of the next step; or a function, called after each leg with a `flow.Progress`; or one
            of diffrax's progress meters. A leg is at most some dozens of steps; nothing is
            compiled into it, and no number changes.
        interrupt: what Ctrl-C does: "raise" ends by `FlowInterrupted`, a KeyboardInterrupt that
            has the solution so far as its `solution`; "return" returns it, its result
            `interrupted`. Either is exact up to its time, the end of the last leg; `resume` goes
            on from there, and with `checkpoints` the same call does, with the same numbers as
            without the interruption.

    Returns:
        The solution. A step limit, a spent budget, a NaN or an overflow returns what was computed
        so far, with its result code. How it ended is read off its records: `loss below` where
        loss[-1] is at most the threshold, though a limit was met with the same step; `non-finite`
        where any record is no finite number.

    Raises:
        ValueError: for a bad argument, before any computation.
        FlowError: if `throw` and the flow neither met the horizon nor a stopping rule.
        FlowInterrupted: on Ctrl-C, unless `interrupt` is "return". Before the first record there is
            nothing to attach: then it is Python's own KeyboardInterrupt.
    """
    manner = Manner.of(throw, interrupt, progress)
    checkpoint, plan = prepared(
        model,
        task,
        horizon,
        solver=solver,
        rtol=rtol,
        atol=atol,
        save=save,
        stops=stops,
        max_gradients=max_gradients,
        max_steps=max_steps,
        observers=observers,
        snapshots=snapshots,
        precision=precision,
        trainable=trainable,
        rates=rates,
        memory=memory,
        dynamics=dynamics,
        checkpoints=checkpoints,
        engine=engine,
    )
    return integrate(checkpoint, plan, manner, checkpoints)


def prepared(
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
    max_steps: int = MAX_STEPS,
    observers: Mapping[str, Callable[[PyTree], Array]] | None = None,
    snapshots: Sequence[float] = (),
    precision: str = "float64",
    trainable: PyTree | Callable = eqx.is_inexact_array,
    rates: Rates | None = None,
    memory: int | None = None,
    dynamics: AbstractDynamics = PLAIN,
    checkpoints: Checkpoints | None = None,
    engine: str | None = None,
) -> tuple[Checkpoint, Plan]:
    """A flow that has not begun, all of its arguments checked: what `solve` does first.

    Args are those of `solve`.

    Returns:
        Where it stands, and what is to do.

    Raises:
        ValueError: as for `solve`.
    """
    keep_compilations()
    objective = resolve_objective(task)
    check_not_traced(model, task, objective, horizon, rtol, atol)
    check_settings(solver, rtol, atol, max_steps, precision, max_gradients)
    rtol, atol, max_steps = float(rtol), float(atol), int(max_steps)
    plan = _plan(0.0, horizon, save, snapshots, stops, max_gradients, precision)
    check_checkpoints(checkpoints)
    check_trainable(model, trainable)
    check_dynamics(dynamics)
    check_readable(plan.stops, dynamics.records)
    problem = make_problem(model, objective, precision, trainable, memory, rates, dynamics)
    _check_room(plan, problem)
    watched = watch(observers, model)
    check_observers(observers, dynamics, model, trainable, rates)
    watched += held_out_of(task, objective, model, precision, memory)
    check_scale(problem, atol)
    choice = _choice(solver, (model, objective), problem, plan.horizon, rtol, engine)
    name = solver if choice is None else choice.names[-1]
    method = resolve_method(name, rtol, atol, precision, problem)
    drives = resolve_engine(engine, method, problem)
    numbers, named = (rtol, atol), named_rates(model, trainable, rates)
    settings = Settings(
        problem, method, watched, precision, max_steps, numbers, choice, drives, named
    )
    return Checkpoint(settings, None, Trace()), plan


def resume(
    solution: FlowSolution,
    horizon: float,
    *,
    save: LogTimes | Sequence[float] = SAVE,
    stops: Sequence[Stop] = (),
    max_gradients: float = math.inf,
    snapshots: Sequence[float] = (),
    throw: bool = False,
    progress: bool | diffrax.AbstractProgressMeter | Listener = False,
    interrupt: str = RAISE,
) -> FlowSolution:
    """Go on with a flow to a later horizon, with the same solver and tolerances.

    Nothing is repeated: the solver goes on with its own memory, so that solving to T and resuming
    to 10 T equals solving to 10 T, to within the tolerance.

    Args:
        solution: a solution that did not fail.
        horizon: the new end, later than the time reached.
        save: save times; those that are already past are ignored.
        stops: stopping rules from now on.
        max_gradients: budget of **further** gradient evaluations, a product counting as two.
        snapshots: further times at which the whole model is kept, from the time reached on.
        throw: as for `solve`.
        progress: as for `solve`.
        interrupt: as for `solve`.

    Returns:
        A solution with the records of both parts.

    Raises:
        ValueError: if the solution failed, or the horizon is not later.
        FlowError: as for `solve`.
        FlowInterrupted: as for `solve`.
    """
    manner = Manner.of(throw, interrupt, progress)
    if solution.result.failed:
        raise ValueError(
            f"Argument `solution` must not have failed, but ended by {solution.result.value!r}; "
            "solve again with other settings."
        )
    checkpoint = solution.checkpoint
    if not isinstance(checkpoint, Checkpoint):
        raise ValueError(
            "Argument `solution` must come from `solve` or `resume` with where the flow stands, "
            "but this one holds records alone; solve from its model, or give `solve` a file for "
            "`checkpoints`."
        )
    after, end = solution.time, real(horizon)
    if end is None or not end > after:
        raise ValueError(
            f"Argument `horizon` must be later than the time reached, {after!r}, but is "
            f"{horizon!r}; raise it."
        )
    keep_compilations()
    past = solution.snapshots
    precision = solution.precision
    plan = _plan(after, horizon, save, snapshots, stops, max_gradients, precision, past)
    check_readable(plan.stops, checkpoint.settings.problem.dynamics.records)
    _check_room(plan, checkpoint.settings.problem)
    return integrate(checkpoint, plan, manner)


def _choice(
    solver, flowing, problem: Problem, horizon: float, rtol: float, engine: str | None
) -> Automatic | None:
    if not (isinstance(solver, str) and solver == AUTO):
        return None
    smooth = declared_smooth(*flowing)
    if not problem.dynamics.plain:
        return _choice_among(smooth, problem, horizon, rtol)
    if engine == "graph" or not on_one_cpu(problem):
        ends = spectrum(problem, problem.start)
    else:
        enough = decided(threshold(rtol, smooth) / horizon)
        ends = spectrum_on_host(host_field(problem), problem.start_on_host, enough)
    return choose(problem.dimension, horizon, rtol, ends, smooth, problem.itemsize)


def _choice_among(smooth: bool | None, problem: Problem, horizon: float, rtol: float) -> Automatic:
    dynamics = problem.dynamics
    served = [n for n in ("bdf", "rkc2") if serves_dynamics(dynamics, SOLVERS[n]())]
    ends = None
    if served:
        field, state = host_field(problem), problem.state_on_host
        ends = spectrum_on_host(field, problem.theta_of(state), at=state)
    size, itemsize = problem.dimension, problem.itemsize
    return choose_among(dynamics, served, size, horizon, rtol, ends, smooth, itemsize)


def _plan(
    after: float, horizon, save, snapshots, stops, max_gradients, precision: str, past=()
) -> Plan:
    end = real(horizon)
    if end is None or not 0 < end < math.inf:
        raise ValueError(
            f"Argument `horizon` must be a positive finite flow time, but is {horizon!r}; "
            "give the end T."
        )
    check_budget(max_gradients)
    check_stops(stops)
    times = resolve_times(save, after, end)
    wanted = resolve_snapshots(snapshots, after, end, times, past)
    times = np.union1d(times, [at for _, at in wanted if at > after])
    check_apart(times, after, precision)
    return Plan(end, times, wanted, tuple(stops), float(max_gradients))


def _check_room(plan: Plan, problem: Problem) -> None:
    """Refuse more snapshots than the memory holds models of this size."""
    count = len(plan.snapshots)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(problem.theta0))
    what = f"{count} models of {in_gigabytes(size)}"
    check_memory("snapshots", f"a list of {count} times", count * size, what)
