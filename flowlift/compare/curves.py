"""Work against precision: any solvers on any flow, by the error they achieve."""

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import diffrax
import numpy as np
import pandas
import xarray

from ..doing import doing, say, shown
from ..flow import SOLVERS, LogTimes, Outcome, Rates
from ..flow.problem import make_problem
from ..flow.schedule import resolve_times
from ..numbers import real, whole
from ..showing import shows_itself
from ..tasks import resolve_objective
from .lines import head, line
from .peers import (
    Case,
    Run,
    check_solver,
    compiles_first,
    families,
    family,
    is_peer,
    run,
    solver_label,
)

# Dense difference Jacobians of a reference cost P gradients each.
_DENSE = 512
# Losses are compared relative to L, down to this part of L(0), where rounding rules.
_FLOOR = 1e-12
_TIGHTEST = {"float64": 1e-10, "float32": 2e-6}


@shows_itself
@dataclasses.dataclass(frozen=True)
class Curve:
    """A loss curve that is known otherwise.

    Attributes:
        times: increasing times, > 0.
        losses: L there.
    """

    times: np.ndarray
    losses: np.ndarray


def compare(
    model: Any,
    task: Any,
    horizon: float,
    *,
    solvers: Sequence[str | diffrax.AbstractSolver],
    rtols: Sequence[float],
    reference: str | Sequence[str] | Curve | None = None,
    reference_rtol: float | None = None,
    atol_factor: float = 1e-3,
    save: LogTimes | Sequence[float] = LogTimes(per_decade=2),  # noqa: B008
    max_gradients: float = math.inf,
    repeats: int = 1,
    precision: str = "float64",
    rates: Rates | None = None,
    cost_ratio: float = 100.0,
    progress: bool = False,
) -> xarray.Dataset:
    """Run every solver at every tolerance, and measure what it cost and how far it was off.

    error = max over save times t of |L(t) - L_ref(t)| / (L_ref(t) + 1e-12 L_ref(0)), over what
    the run reached. Each run is judged by a reference of **another family** of solvers, so that
    no solver is its own judge. Cost counts gradient equivalents, gradients + 2 Hessian-vector
    products, rejected steps and finite-difference Jacobians included, records not.

    Args:
        model: as for `flow.solve`.
        task: as for `flow.solve`.
        horizon: the end T > 0.
        solvers: names of `flow.SOLVERS`; "auto"; diffrax solvers, or "diffrax:NAME";
            "scipy:LSODA", BDF, Radau, DOP853, RK45 or RK23; "sundials:cvode"; "gd:LEARNING_RATE",
            gradient descent on the axis t = learning rate x steps, once whatever the tolerances.
        rtols: relative tolerances.
        reference: solvers, in order of preference; a curve that is known; None for "exprb" and a
            second one of another family that the size permits.
        reference_rtol: their tolerance; None for a hundredth of the least one, not below 1e-10 in
            float64.
        atol_factor: atol = atol_factor x rtol.
        save: at which times losses are compared; not used with a curve, which has its own.
        max_gradients: budget of each run; a run that spends it is shown as a failure.
        repeats: timed runs after a first one that compiles; 0 times the first one. SciPy's
            solvers, SUNDIALS and gradient descent compile the field alone, which is not counted:
            their first run is timed, too.
        precision: "float64" or "float32".
        rates: as for `flow.solve`; absolute tolerances of SciPy and SUNDIALS are then those of
            phi = D^(-1/2) theta.
        cost_ratio: a peer, which is any solver but `flow.SOLVERS` and "auto", is given up when
            its cost exceeds this many times the least one with which a run of the same
            tolerance has reached the horizon (for gradient descent, of any); inf: never. Peers
            run last.
        progress: print each run when it ends; say what runs and what is left, by a bar on a
            terminal, else by a line now and then.

    Returns:
        Along `run`: solver, ran (the solvers behind "auto"), rtol, gradients, hvps, cost, error,
        seconds (the median), result, message, end_time, reference, given_up; loss along
        (run, time). Failures are runs with their result code; those that were given up would cost
        more than they did.

    Raises:
        ValueError: for an unknown solver, no solver or tolerance, a tolerance, budget, ratio of
            costs or number of repeats that is none, or a reference of the same family as a solver.
        ImportError: for SUNDIALS without scikit-sundae.
    """
    rtols = _checked_rtols(rtols)
    repeats = checked_whole("repeats", repeats, 0)
    max_gradients = _checked_budget("max_gradients", max_gradients)
    cost_ratio = _checked_budget("cost_ratio", cost_ratio)
    judges = _judges(reference, solvers, _size(model, task, precision))
    _check(solvers, judges)
    times = _times(reference, save, horizon)
    problem = make_problem(model, resolve_objective(task), precision, rates=rates)
    case = Case(model, task, problem, times, precision, max_gradients, rates)
    tight = reference_rtol or max(min(rtols) / 100, _TIGHTEST[precision])
    runs = [(s, r) for s in solvers for r in (rtols[:1] if family(s) == "descent" else rtols)]
    total = len(judges) + len(runs)
    with shown("comparing solvers") if progress else contextlib.nullcontext():
        curves, notes = _references(case, reference, judges, tight, atol_factor, total)
        if progress:
            say("\n".join([*(f"Reference {note}." for note in notes), "", head()]))
        rows: dict[int, dict[str, Any]] = {}
        for place in sorted(range(len(runs)), key=lambda place: is_peer(runs[place][0])):
            solver, rtol = runs[place]
            allowed = cost_ratio * _least_cost(rows.values(), solver, rtol)
            with doing(f"{solver_label(solver)} at rtol {rtol:g}", len(judges) + len(rows), total):
                timed = _timed(case, solver, rtol, atol_factor * rtol, repeats, allowed)
            rows[place] = _row(solver, rtol, timed, curves, times, allowed < max_gradients)
            if progress:
                say(line(rows[place]))
    rows_ = [rows[place] for place in sorted(rows)]
    return _dataset(rows_, times, curves, notes, horizon, problem.dimension)


def comparison_table(results: xarray.Dataset) -> pandas.DataFrame:
    """One row a run, without the curves; with what ran, where the choice was automatic.

    Args:
        results: as given by `compare`.

    Returns:
        The table; where runs were given up with a column that says which: they cost more.
    """
    columns = ["solver", "rtol", "gradients", "hvps", "cost", "error", "seconds", "result"]
    if (results.ran != results.solver).any():
        columns.insert(1, "ran")
    if results.given_up.any():
        columns.append("given_up")
    return pandas.DataFrame({name: results[name].values for name in columns})


def _size(model, task, precision: str) -> int:
    return make_problem(model, resolve_objective(task), precision).start.size


def _judges(reference, solvers, size: int) -> tuple[str, ...]:
    """The solvers that make the references, in order of preference."""
    if isinstance(reference, Curve):
        return ()
    if isinstance(reference, str):
        return (reference,)
    if reference is not None:
        return tuple(reference)
    second = "bdf" if "bdf" in SOLVERS else "scipy:Radau" if size <= _DENSE else "rkc2"
    return ("exprb", second) if family("exprb") in families(solvers) else ("exprb",)


def checked_whole(name: str, value: int, least: int) -> int:
    """An integer of Python, NumPy or JAX as Python's.

    Args:
        name: the argument.
        value: its value.
        least: the least that is allowed.

    Returns:
        The integer.

    Raises:
        ValueError: if it is none, or below.
    """
    found = whole(value)
    if found is None or found < least:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least {least}, but is {value!r}; correct "
            "it."
        )
    return found


def _checked_rtols(rtols: Sequence[float]) -> list[float]:
    _check_some("rtols", rtols)
    found = [real(rtol) for rtol in rtols]
    for rtol, given in zip(found, rtols, strict=True):
        if rtol is None or not 0 < rtol < 1:
            raise ValueError(
                f"Argument `rtols` must hold numbers between 0 and 1, but holds {given!r}; "
                "give e.g. 1e-4."
            )
    return [rtol for rtol in found if rtol is not None]


def _checked_budget(name: str, value: float) -> float:
    found = real(value)
    if found is None or not found >= 1:
        raise ValueError(
            f"Argument `{name}` must be a number of at least 1, but is {value!r}; give inf for no "
            "bound."
        )
    return found


def _check_some(name: str, values) -> None:
    if isinstance(values, str) or not len(values):
        raise ValueError(
            f"Argument `{name}` must hold at least one of them, but is {values!r}; add one."
        )


def _check(solvers, judges: tuple[str, ...]) -> None:
    _check_some("solvers", solvers)
    for solver in (*solvers, *judges):
        check_solver(solver)
    for solver in solvers:
        judging = families(judges)
        if judges and len(judging) < 2 and judging <= families([solver]):
            raise ValueError(
                f"Argument `reference` must hold a solver of another family than "
                f"{solver_label(solver)!r}, but holds {', '.join(judges)}; add e.g. 'exprb' or "
                "'scipy:Radau'."
            )


def _times(reference, save, horizon: float) -> np.ndarray:
    if isinstance(reference, Curve):
        inside = np.asarray(reference.times, np.float64)
        return np.append(0.0, inside[(inside > 0) & (inside <= horizon * (1 + 1e-9))])
    return np.append(0.0, resolve_times(save, 0.0, float(horizon)))


def _references(
    case: Case, reference, judges: tuple[str, ...], rtol: float, atol_factor: float, total: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reference losses by solver, and a sentence on each."""
    if isinstance(reference, Curve):
        start = float(case.problem.loss(case.problem.start))
        losses = np.asarray(reference.losses, np.float64)[: len(case.times) - 1]
        return {"curve": np.append(start, losses)}, ["curve: given"]
    curves, notes = {}, []
    for place, judge in enumerate(judges):
        free = dataclasses.replace(case, max_gradients=math.inf)
        with doing(f"reference by {judge} at rtol {rtol:.1g}", place, total):
            done = run(free, judge, rtol, atol_factor * rtol)
        notes.append(f"{judge} at rtol {rtol:.1g}: {done.result}, cost {done.cost}")
        if len(done.times) == len(case.times):
            curves[judge] = done.loss
    return curves, notes


def _least_cost(rows: Iterable[dict[str, Any]], solver, rtol: float) -> float:
    """That a peer is measured by; inf for what is no peer, and where nothing was reached."""
    if not is_peer(solver):
        return math.inf
    alike = lambda row: family(solver) == "descent" or row["rtol"] == rtol
    return min((r["cost"] for r in rows if r["reached"] and alike(r)), default=math.inf)


def _timed(case: Case, solver, rtol: float, atol: float, repeats: int, allowed: float) -> Run:
    """The first run, with the median wall time of those after it, or of all if none compiles."""
    case = dataclasses.replace(case, max_gradients=min(case.max_gradients, allowed))
    first = run(case, solver, rtol, atol)
    timed = [] if compiles_first(solver) else [first.seconds]
    again = [run(case, solver, rtol, atol).seconds for _ in range(repeats - len(timed))]
    seconds = statistics.median(timed + again) if timed + again else first.seconds
    return dataclasses.replace(first, seconds=seconds)


def _row(solver, rtol: float, done: Run, curves, times, bounded: bool) -> dict[str, Any]:
    ran = families(done.solvers)
    judge = next((name for name in curves if family(name) not in ran), "")
    losses = np.full(len(times), np.nan)
    losses[: len(done.loss)] = done.loss
    error = math.nan
    if judge and len(done.loss) > 1:
        error = curve_error(losses[: len(done.loss)], curves[judge])
    return {
        "solver": solver_label(solver),
        "ran": ", then ".join(done.solvers),
        "rtol": math.nan if family(solver) == "descent" else float(rtol),
        "gradients": done.gradients,
        "hvps": done.hvps,
        "cost": done.cost,
        "error": error,
        "seconds": done.seconds,
        "result": done.result,
        "reached": bool(Outcome(done.result).reached),
        "message": done.message,
        "end_time": float(done.time),
        "reference": judge,
        "given_up": bounded and done.result == Outcome.BUDGET.value,
        "loss": losses,
    }


def curve_error(losses: np.ndarray, reference: np.ndarray) -> float:
    """max |L - L_ref| / (L_ref + 1e-12 L_ref(0)) over what was reached.

    Args:
        losses: L at the first of the reference's times.
        reference: L_ref, from t = 0.

    Returns:
        The error; NaN if a loss is not finite.
    """
    true = reference[: len(losses)]
    return float(np.max(np.abs(losses - true) / (np.abs(true) + _FLOOR * abs(reference[0]))))


def _dataset(
    rows: list[dict[str, Any]], times, curves: Mapping[str, np.ndarray], notes, horizon, size
):
    scalars = {key: [row[key] for row in rows] for key in rows[0] if key != "loss"}
    variables = {key: ("run", np.asarray(values)) for key, values in scalars.items()}
    data = xarray.Dataset(
        {
            **variables,
            "loss": (("run", "time"), np.stack([row["loss"] for row in rows])),
            "reference_loss": (
                ("judge", "time"),
                np.stack([*curves.values(), *_nothing(curves, times)]),
            ),
        },
        coords={"time": times, "judge": list(curves) or ["none"]},
        attrs={
            "references": "; ".join(notes),
            "disagreement": _disagreement(list(curves.values())),
            "horizon": float(horizon),
            "parameters": int(size),
        },
    ).set_coords(["solver", "rtol"])
    labels = {
        "time": ("flow time t", "learning rate x steps"),
        "loss": ("loss L", "loss"),
        "error": ("achieved relative error of the loss", "1"),
        "cost": ("cost: gradients + 2 Hessian-vector products", "1"),
        "seconds": ("wall time", "s"),
        "given_up": ("stopped by its cost, which is a lower bound", ""),
    }
    for name, (meaning, unit) in labels.items():
        data[name].attrs.update(long_name=meaning, units=unit)
    return data


def _nothing(curves, times) -> list[np.ndarray]:
    """Where every reference failed there is no curve, and no error either."""
    return [] if curves else [np.full(len(times), np.nan)]


def _disagreement(curves: list[np.ndarray]) -> float:
    """How far two references are apart, a bound of what an error can mean."""
    return curve_error(curves[1], curves[0]) if len(curves) > 1 else math.nan
