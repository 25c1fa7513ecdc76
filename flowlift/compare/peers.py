"""One run of any solver on one flow: ours, diffrax's, SciPy's, SUNDIALS', gradient descent.

Every run yields the same record. Peers integrate the flat field -grad L; every evaluation is
counted where it happens, those for finite-difference Jacobians included.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate

from ..flow import AUTO, SOLVERS, Outcome, Rates, solve
from ..flow.choice import CANDIDATES
from ..flow.problem import Problem
from ..flow.programs import host_field
from ..sweep.compiling import compiling_seconds

SCIPY = ("LSODA", "BDF", "Radau", "DOP853", "RK45", "RK23")
# Solvers of one family share their way of failing; a reference must come from another.
FAMILIES = {
    "explicit": ("tsit5", "dopri5", "dopri8", "dop853", "rk45", "rk23", "heun", "bosh3"),
    "stabilised": ("rkc2",),
    "exponential": ("exprb",),
    "implicit": ("kvaerno3", "kvaerno4", "kvaerno5", "radau", "kencarp3", "kencarp4", "kencarp5"),
    "multistep": ("bdf", "dense-bdf", "lsoda", "cvode"),
    "descent": ("gd",),
}
_NAMED = {name: family for family, names in FAMILIES.items() for name in names}


@dataclasses.dataclass(frozen=True)
class Run:
    """What one solver did on one flow.

    Attributes:
        times: the save times reached, from 0.
        loss: L there.
        gradients: evaluations of grad L.
        hvps: Hessian-vector products.
        seconds: wall time; of SciPy's solvers, SUNDIALS and gradient descent without what tracing
            and compiling took of it.
        result: an `Outcome` value.
        message: what happened.
        solvers: the names of the solvers that ran: several only where the choice was automatic.
        time: the flow time reached, maybe between save times.
    """

    times: np.ndarray
    loss: np.ndarray
    gradients: int
    hvps: int
    seconds: float
    result: str
    message: str
    solvers: tuple[str, ...]
    time: float

    @property
    def cost(self) -> int:
        """Gradient equivalents: gradients + 2 products."""
        return self.gradients + 2 * self.hvps


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow to run, apart from solver and relative tolerance.

    Attributes:
        model: the model.
        task: the task, as for `flow.solve`.
        problem: the same as a flat problem.
        times: save times, from 0; the last is the horizon.
        precision: "float64" or "float32".
        max_gradients: budget in gradient evaluations, a product counting as two.
        rates: as for `flow.solve`: peers integrate phi = D^(-1/2) theta.
    """

    model: object
    task: object
    problem: Problem
    times: np.ndarray
    precision: str
    max_gradients: float
    rates: Rates | None = None


def solver_label(solver: str | diffrax.AbstractSolver) -> str:
    """The name of a solver in tables."""
    return solver if isinstance(solver, str) else type(solver).__name__


def family(solver: str | diffrax.AbstractSolver) -> str:
    """The family of a solver; one that is not known is a family of its own."""
    name = solver_label(solver).split(":")
    base = name[0] if name[0] == "gd" else name[-1]
    return _NAMED.get(base.lower(), base.lower())


def families(solvers: Sequence[str | diffrax.AbstractSolver]) -> set[str]:
    """The families of some solvers; an automatic choice may be of any of ours."""
    candidates = CANDIDATES if AUTO in solvers else ()
    return {family(solver) for solver in (*solvers, *candidates) if solver != AUTO}


def is_peer(solver: str | diffrax.AbstractSolver) -> bool:
    """Whether a solver is none of ours."""
    return not (isinstance(solver, str) and solver in (*SOLVERS, AUTO))


def compiles_first(solver: str | diffrax.AbstractSolver) -> bool:
    """Whether a first run of a solver takes longer than another: its loop is compiled."""
    on_host = ("scipy", "sundials", "gd")
    return not (isinstance(solver, str) and solver.partition(":")[0] in on_host)


def check_solver(solver: str | diffrax.AbstractSolver) -> None:
    """Refuse an unknown solver, before any computation.

    Args:
        solver: a name of `flowlift.flow.SOLVERS`, "auto", "scipy:LSODA" and the like,
            "sundials:cvode", "gd:0.1" (gradient descent with that learning rate),
            "diffrax:Dopri5" and the like, or a diffrax solver.

    Raises:
        ValueError: for anything else.
        ImportError: for SUNDIALS without scikit-sundae.
    """
    if not isinstance(solver, str):
        return
    room, _, name = solver.partition(":")
    known = {
        "scipy": lambda: name in SCIPY,
        "sundials": lambda: name == "cvode",
        "gd": lambda: _learning_rate(solver) > 0,
        "diffrax": lambda: _diffrax_class(name) is not None,
    }
    if not (known[room]() if room in known else solver in (*SOLVERS, AUTO)):
        raise ValueError(
            f"Argument `solvers` must hold names such as {', '.join((*SOLVERS, AUTO))}, scipy:NAME "
            f"with one of {', '.join(SCIPY)}, sundials:cvode, diffrax:NAME or gd:LEARNING_RATE, "
            f"but holds {solver!r}; choose one of them."
        )
    if room == "sundials":
        _cvode()


def run(case: Case, solver: str | diffrax.AbstractSolver, rtol: float, atol: float) -> Run:
    """Run one solver.

    Args:
        case: the flow.
        solver: as for `check_solver`.
        rtol: relative tolerance; gradient descent has none.
        atol: absolute tolerance, likewise.

    Returns:
        The record, of a failure too.
    """
    room, _, name = solver.partition(":") if isinstance(solver, str) else ("", "", "")
    if room == "scipy":
        return _run_stepwise(
            case, solver, lambda field: _scipy_losses(case, field, name, rtol, atol)
        )
    if room == "sundials":
        return _run_stepwise(case, solver, lambda field: _cvode_losses(case, field, rtol, atol))
    if room == "gd":
        return _run_descent(case, str(solver))
    if room == "diffrax":
        solver = _diffrax_class(name)()  # pyright: ignore[reportOptionalCall]
    return _run_ours(case, solver, rtol, atol)


def _run_ours(case: Case, solver, rtol: float, atol: float) -> Run:
    solution = solve(
        case.model,  # pyright: ignore[reportArgumentType]
        case.task,  # pyright: ignore[reportArgumentType]
        float(case.times[-1]),
        solver=solver,
        rtol=rtol,
        atol=atol,
        save=case.times[1:].tolist(),
        max_gradients=case.max_gradients,
        precision=case.precision,
        rates=case.rates,
    )
    reached = np.isin(solution.times, case.times)
    return Run(
        solution.times[reached],
        solution.loss[reached],
        solution.stats.gradients,
        solution.stats.hvps,
        solution.stats.seconds,
        solution.result.value,
        solution.message,
        solution.solvers,
        solution.time,
    )


class _Stop(Exception):
    """Raised inside a peer's field to end it."""

    def __init__(self, result: Outcome):
        super().__init__(result.sentence)
        self.result = result


class _CountedField:
    """y -> -grad L(y) on the host, counted; stops its caller on the budget or on a NaN.

    y holds the coordinates that count, so that its caller's norms average over them alone. The
    caller keeps the time reached in `time`.
    """

    def __init__(self, case: Case):
        self.count = 0
        self.time = 0.0
        self.limit = case.max_gradients
        self.problem = case.problem
        self.start = np.asarray(case.problem.start[: case.problem.dimension])
        self._field = host_field(case.problem).value_and_grad

    def __call__(self, y: np.ndarray) -> np.ndarray:
        if self.count >= self.limit:
            raise _Stop(Outcome.BUDGET)
        self.count += 1
        rate = -np.asarray(self._field(self._theta(y))[1], dtype=np.float64)[: len(y)]
        if not np.isfinite(rate).all():
            raise _Stop(Outcome.NON_FINITE)
        return rate

    def loss(self, y: np.ndarray) -> float:
        """L(y), not counted: it is an observation."""
        return float(_loss(self.problem, self._theta(y)))

    def _theta(self, y: np.ndarray) -> np.ndarray:
        """All coordinates: the padding that follows is zero."""
        theta = np.zeros(self.problem.start.size, self.start.dtype)
        theta[: len(y)] = y
        return theta


@eqx.filter_jit
def _loss(problem: Problem, y):
    return problem.loss(y)


def _run_stepwise(case: Case, solver, losses: Callable) -> Run:
    """Collect (time, loss) pairs from a generator until it ends, fails, or the field stops it."""
    field = _CountedField(case)
    field.loss(field.start)
    seen, clock, compiled = [], time.perf_counter(), compiling_seconds()
    result, message = Outcome.HORIZON, Outcome.HORIZON.sentence
    try:
        for pair in losses(field):
            seen.append(pair)
    except _Stop as stop:
        result, message = stop.result, str(stop)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        result, message = Outcome.SOLVER_FAILURE, str(error)
    seconds = time.perf_counter() - clock - (compiling_seconds() - compiled)
    times, values = np.array(seen or np.zeros((0, 2))).T
    counted = (field.count, 0, seconds, result.value, message)
    return Run(times, values, *counted, (solver_label(solver),), field.time)


def _scipy_losses(case: Case, field: _CountedField, name: str, rtol: float, atol: float):
    """Step by step, so that what was reached is kept when a run fails."""
    start, end = field.start.astype(np.float64), float(case.times[-1])
    yield 0.0, field.loss(start)
    method = getattr(scipy.integrate, name)
    due = list(case.times[1:])
    with warnings.catch_warnings():
        # LSODA warns of what its status says.
        warnings.simplefilter("ignore")
        stepper: Any = method(lambda t, y: field(y), 0.0, start, end, rtol=rtol, atol=atol)
        while due:
            message = stepper.step()
            if stepper.status == "failed":
                raise RuntimeError(f"SciPy's {name} failed: {message or 'no step was possible.'}")
            between, field.time = stepper.dense_output(), float(stepper.t)
            while due and due[0] <= stepper.t:
                at = due.pop(0)
                yield at, field.loss(stepper.y if at == stepper.t else between(at))


def _cvode_losses(case: Case, field: _CountedField, rtol: float, atol: float):
    """CVODE's BDF with dense difference Jacobians."""
    start = field.start.astype(np.float64)
    stopped: list[_Stop] = []

    def rates(t, y, yp):
        try:
            yp[:] = field(y)
        except _Stop as stop:
            # An exception would be lost in the C code; a NaN ends the integration.
            stopped.append(stop)
            yp[:] = math.nan

    solver = _cvode()(rates, rtol=rtol, atol=atol, method="BDF", max_num_steps=1_000_000)
    yield 0.0, field.loss(start)
    solver.init_step(0.0, start)
    for at in case.times[1:]:
        solution = solver.step(float(at), method="normal")
        if stopped:
            raise stopped[0]
        if not solution.success:
            raise RuntimeError(f"SUNDIALS CVODE failed: {solution.message}")
        field.time = float(at)
        yield at, field.loss(np.asarray(solution.y))


def _cvode():
    try:
        from sksundae.cvode import CVODE  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "Solver 'sundials:cvode' needs scikit-sundae, which is not installed; run "
            "pip install 'flowlift[sundials]'."
        ) from error
    return CVODE


def _run_descent(case: Case, solver: str) -> Run:
    """theta_{n+1} = theta_n - rate grad L(theta_n) at t = rate n; one gradient a step."""
    # Between steps L is interpolated: of second order, where the method is of first.
    clock, compiled, rate = time.perf_counter(), compiling_seconds(), _learning_rate(solver)
    theta, done = case.problem.start, 0
    times, losses = [], []
    result = Outcome.HORIZON
    for at in case.times:
        steps = math.floor(float(at) / rate + 1e-9)
        if steps > case.max_gradients:
            result = Outcome.BUDGET
            break
        theta = _descend(case.problem, theta, jnp.asarray(rate, theta.dtype), steps - done)
        done = steps
        here, following = _two_losses(case.problem, theta, jnp.asarray(rate, theta.dtype))
        loss = float(here + (at / rate - steps) * (following - here))
        if not math.isfinite(loss):
            result = Outcome.NON_FINITE
            break
        times.append(at)
        losses.append(loss)
    seconds = time.perf_counter() - clock - (compiling_seconds() - compiled)
    counted = (done, 0, seconds, result.value, result.sentence)
    return Run(np.array(times), np.array(losses), *counted, (solver,), done * rate)


@eqx.filter_jit
def _descend(problem: Problem, theta, rate, steps):
    step = lambda _, theta: theta - rate * problem.value_and_grad(theta)[1]
    return jax.lax.fori_loop(0, jnp.asarray(steps), step, theta)


@eqx.filter_jit
def _two_losses(problem: Problem, theta, rate):
    loss, gradient = problem.value_and_grad(theta)
    return loss, problem.loss(theta - rate * gradient)


def _learning_rate(solver: str) -> float:
    try:
        return float(solver.partition(":")[2])
    except ValueError:
        return math.nan


def _diffrax_class(name: str):
    found = getattr(diffrax, name, None)
    usable = isinstance(found, type) and issubclass(found, diffrax.AbstractAdaptiveSolver)
    return found if usable else None
