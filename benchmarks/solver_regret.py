"""How much more `solver="auto"` costs than the best of our solvers would have (docs/solvers.md).

    python benchmarks/solver_regret.py --curves curves.json           # flows of studies, references
    python benchmarks/solver_regret.py --curves curves.json --studied no --drawn 0 20
    python benchmarks/solver_regret.py --curves curves.json --flow A_tanh --show

For each flow every solver runs at several tolerances: its curve of cost against achieved error.
The regret of a run of `auto` is its cost over the least cost at which a solver reaches the same
error, between tolerances log-log; before that, cost and error of each solver are made monotone in
the tolerance, since single runs are lucky or not. Errors are those of the loss at save times,
relative to the loss plus a thousandth of that at the first save time: a flow whose loss vanishes
is judged while it is a loss. Seconds are those of the same runs, or of a second one with --time.
Curves are kept in a file: what is there is not run again, but `auto` is.
"""

import dataclasses
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import numpy as np
import regret_flows
import tyro

from flowlift.flow import AUTO, LogTimes, solve
from flowlift.flow.choice import declared_smooth

SOLVERS = ("bdf", "exprb", "tsit5", "rkc2")
# A solver is not run on beyond this multiple of the least cost so far at a tolerance.
_BUDGET = 3.0
# Of the first solver, and of references.
_MOST = 12_000
# Attempted steps, where a flow has kinks.
_STEPS = 4_000
# Without solver of another family for kinks: they are stepped over most safely by the explicit one.
_REFERENCES = {True: ("bdf",), None: ("bdf",), False: ("dopri8", "bdf")}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        curves: file of the curves, which grows.
        studied: flows of the studies, the references, README.
        drawn: random flows, by their first number and the one after the last.
        flow: only flows whose name holds this.
        solver: the solvers that `auto` is measured by.
        rtol: their tolerances; atol is a thousandth of them.
        auto_rtol: tolerances of `auto`.
        reference_rtol: of the reference, where no curve is known.
        time: time a second run of each.
        show: the whole curves, too.
    """

    curves: Path
    studied: bool = True
    drawn: tuple[int, int] = (0, 0)
    flow: str = ""
    solver: tuple[str, ...] = SOLVERS
    rtol: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    auto_rtol: tuple[float, ...] = (1e-3, 1e-4, 1e-6)
    reference_rtol: float = 1e-8
    time: bool = False
    show: bool = False


def run(flow, times, solver: str, rtol: float, budget: float, again: bool) -> dict[str, Any]:
    """One run, as a row."""
    model, task, horizon = flow
    for _ in range(1 + again):
        solution = solve(
            model,
            task,
            horizon,
            solver=solver,
            rtol=rtol,
            atol=1e-3 * rtol,
            save=times,
            max_gradients=budget,
            max_steps=_STEPS,
        )
    return {
        "solver": solver,
        "rtol": rtol,
        "cost": solution.stats.cost,
        "seconds": solution.stats.seconds,
        "loss": solution.loss.tolist() if solution.success else None,
        "ran": solution.solvers,
        "why": solution.solver,
    }


def measured(case: regret_flows.Case, options: Options) -> dict[str, Any] | None:
    """The curves of a flow; None where no reference reaches the horizon."""
    flow = case.make()
    times = LogTimes(per_decade=2).times(flow[2]).tolist()
    if case.curve is not None:
        times = [float(t) for t in case.curve.times if t <= flow[2] * (1 + 1e-9)]
        reference = [0.0, *case.curve.losses[: len(times)]]
    else:
        names = _REFERENCES[declared_smooth(flow[0])]
        runs = (run(flow, times, s, options.reference_rtol, _MOST, False) for s in names)
        reference = next((r["loss"] for r in runs if r["loss"] is not None), None)
        if reference is None:
            return None
    rows = []
    for rtol in options.rtol:
        budget = float(_MOST)
        for solver in options.solver:
            rows.append(run(flow, times, solver, rtol, budget, options.time))
            if rows[-1]["loss"] is not None:
                budget = min(budget, 100 + _BUDGET * rows[-1]["cost"])
    about = regret_flows.description(flow[0], flow[2], flow[1])
    return {"about": about, "times": times, "reference": reference, "rows": rows}


def error(loss: list[float] | None, reference: list[float]) -> float:
    """max |L - L_ref| / (L_ref + L_ref(t_1) / 1000) from t_1 on; NaN of a failure."""
    if loss is None or len(loss) != len(reference):
        return math.nan
    true = np.asarray(reference)[1:]
    return float(np.max(np.abs(np.asarray(loss)[1:] - true) / (true + 1e-3 * true[0])))


def monotone(values: np.ndarray) -> np.ndarray:
    """The nearest increasing sequence, in least squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append(((a * n + b * m) / (n + m), n + m))
    return np.array([value for value, count in blocks for _ in range(count)])


@dataclasses.dataclass(frozen=True)
class Curve:
    """Logarithms of achieved errors, decreasing, and of a quantity at them, increasing."""

    rtols: list[float]
    errors: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(rows: list[dict[str, Any]], reference: list[float], quantity: str) -> "Curve":
        """The curve of one solver's runs; of those that reached the horizon."""
        good = [(r, error(r["loss"], reference)) for r in sorted(rows, key=lambda r: -r["rtol"])]
        good = [(r, e) for r, e in good if math.isfinite(e)]
        errors = -monotone(np.array([-math.log(max(e, 1e-13)) for _, e in good]))
        values = monotone(np.array([math.log(r[quantity]) for r, _ in good]))
        return Curve([r["rtol"] for r, _ in good], errors, values)

    def at(self, wanted: float) -> float:
        """The quantity where the error is as wanted; infinite where it was not reached."""
        if not len(self.errors) or wanted < self.errors[-1] - 1e-9:
            return math.inf
        return math.exp(float(np.interp(-wanted, -self.errors, self.values)))


def regrets(
    flow: dict[str, Any], options: Options, quantity: str
) -> list[tuple[float, float, str]]:
    """Tolerance, regret and the best solver, of each run of `auto` that reached the horizon."""
    of = lambda name: [r for r in flow["rows"] if r["solver"] == name]
    make = lambda name: Curve.of(of(name), flow["reference"], quantity)
    curves, own, found = {name: make(name) for name in options.solver}, make(AUTO), []
    for rtol, wanted, value in zip(own.rtols, own.errors, own.values, strict=True):
        least = {name: curve.at(float(wanted)) for name, curve in curves.items()}
        best = min(least, key=lambda name: least[name])
        # What nobody else reached says nothing.
        if math.isfinite(least[best]):
            found.append((rtol, math.exp(value) / least[best], best))
    return found


def show(name: str, flow: dict[str, Any], options: Options) -> None:
    """Print a flow's runs."""
    for row in flow["rows"]:
        if options.show or row["solver"] == AUTO:
            off = error(row["loss"], flow["reference"])
            cells = name, row["solver"], f"{row['rtol']:.0e}", f"{row['cost']:,}", f"{off:.1e}"
            why = row["why"] if row["solver"] == AUTO else ""
            print("| " + " | ".join((*cells, f"{row['seconds']:.2f}", why)) + " |")


def chosen(options: Options) -> list[regret_flows.Case]:
    """The flows that were asked for."""
    cases = list(regret_flows.STUDIED) if options.studied else []
    cases += [regret_flows.drawn(seed) for seed in range(*options.drawn)]
    return [case for case in cases if options.flow in case.name]


def summary(found: list[tuple[str, float, float, str]], what: str) -> str:
    """Median and worst of some regrets."""
    if not found:
        return f"{what}: nothing measured"
    name, rtol, worst, best = max(found, key=lambda each: each[2])
    middle = statistics.median(each[2] for each in found)
    over = sum(each[2] > 1.5 for each in found)
    return (
        f"{what}: {len(found)} runs, median {middle:.2f}, worst {worst:.2f} "
        f"({name} at {rtol:.0e}, where {best} is best), {over} above 1.5"
    )


def main(options: Options) -> None:
    """Measure, tabulate, sum up.

    Args:
        options: what to measure.
    """
    known = json.loads(options.curves.read_text()) if options.curves.exists() else {}
    found: dict[str, list[tuple[str, float, float, str]]] = {"cost": [], "seconds": []}
    print("| flow | solver | rtol | cost | error | s | choice |\n|" + "---|" * 7)
    for case in chosen(options):
        if case.name not in known:
            known[case.name] = measured(case, options)
            options.curves.write_text(json.dumps(known))
        flow = known[case.name]
        if flow is None:
            print(f"| {case.name} | no reference | | | | | |")
            continue
        made = case.make()
        autos = [run(made, flow["times"], AUTO, r, _MOST, options.time) for r in options.auto_rtol]
        flow = flow | {"rows": [*flow["rows"], *autos]}
        show(f"{case.name} ({flow['about']})", flow, options)
        for quantity, all_ in found.items():
            mine = regrets(flow, options, quantity)
            all_ += [(case.name, *each) for each in mine]
            if quantity == "cost":
                print("".join(f"|  | regret at {r:.0e} | {x:.2f} ({b}) " for r, x, b in mine) + "|")
    for quantity, all_ in found.items():
        print(summary(all_, quantity))


if __name__ == "__main__":
    main(tyro.cli(Options))
