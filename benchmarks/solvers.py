"""Solvers side by side: what reaching a horizon costs, by the error that is achieved.

    python benchmarks/solvers.py --docs          # the whole table of docs/benchmarks.md: an hour
    python benchmarks/solvers.py --problem B --solver rkc2 exprb --rtol 1e-4 --json rows.json
    python benchmarks/solvers.py --problem A_tanh --horizon 1e4 --solver bdf tsit5 --turns 3

A_tanh, A_soft, B and C are the reference flows of tests/reference, judged by their true loss
curves; "digits" is a random sparse lift of 21,002 parameters on handwritten digits to t = 1e3,
judged by a solver of another family. Cost = gradients + 2 Hessian-vector products.
"""

import dataclasses
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import jax.numpy as jnp
import numpy as np
import problems
import tyro

from flowlift import modules, tasks
from flowlift.compare.curves import Curve, compare
from flowlift.compare.peers import Case, run
from flowlift.flow import AUTO, SOLVERS, LogTimes
from flowlift.flow.problem import make_problem
from flowlift.lift import FixedInDegree, Gaussian, sample
from flowlift.tasks import resolve_objective

HORIZONS = {
    "A_tanh": (1e4, 1e6),
    "A_soft": (1e6,),
    "B": (1e3,),
    "C": (1e4,),
    "digits": (1e3,),
}
# Dense difference Jacobians, or stability limits, make these hopeless where they are left out.
PEERS = {
    ("A_tanh", 1e4): ("tsit5", "dopri8", "kvaerno5", "scipy:LSODA"),
    ("A_tanh", 1e6): ("scipy:LSODA",),
    ("A_soft", 1e6): ("scipy:LSODA",),
    ("B", 1e3): ("tsit5", "dopri8"),
    ("C", 1e4): ("tsit5", "dopri8"),
    ("digits", 1e3): ("tsit5", "dopri8"),
}
# A gradient of the digits lift takes long; a hundred thousand are more than twenty times what is
# needed.
BUDGETS = {"digits": 100_000}
REFERENCE_RTOL = {"digits": 1e-5}
STOCK = ("tsit5", "dopri8", "kvaerno5")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which cases to run.

    Attributes:
        problem: problems by name; all by default.
        horizon: end times; those of the table by default.
        solver: solvers, as for `flowlift.compare.compare`; by default all of `flow.SOLVERS`
            and the peers that can reach the horizon.
        rtol: relative tolerances; atol is a thousandth of them.
        repeats: timed runs after the first, which compiles; the median is shown.
        max_gradients: budget of a run, at most 100,000 on digits.
        json: file for rows {problem, horizon, solver, rtol, gradients, hvps, cost, error, wall_s,
            result}.
        turns: instead, wall times of the solvers at the first tolerance, in so many rounds in
            which everyone takes a turn, after one that compiles.
        docs: put the rows into the table of docs/benchmarks.md; rows of other cases stay.
    """

    problem: tuple[str, ...] = tuple(HORIZONS)
    horizon: tuple[float, ...] = ()
    solver: tuple[str, ...] = ()
    rtol: tuple[float, ...] = (1e-3, 1e-4, 1e-6)
    repeats: int = 1
    max_gradients: float = 300_000
    json: Path | None = None
    turns: int = 0
    docs: bool = False


def setup(name: str) -> tuple[Any, Any, Curve | None]:
    """Model, task and true loss curve of a problem."""
    if name == "digits":
        return (*digits_lift(), None)
    reference = problems.reference(name)
    model = problems.Vector(jnp.asarray(reference.theta0))
    return model, lambda m: reference.loss(m.theta), Curve(reference.times, reference.losses)


def digits_lift() -> tuple[Any, Any]:
    """Two hidden layers of 256 and in-degree 6, 512 images: 21,002 parameters."""
    module = modules.mlp(64, 10, depth=2)
    weights = {name: Gaussian() for name in module.edge_by_name}
    weights["x->h1"] = Gaussian(1 / 8)
    weights["h2->y"] = Gaussian(1 / 16)
    lift = sample(module, copies=256, edges=FixedInDegree(6), weights=weights, seed=0)
    return lift, tasks.digits(512)


def solvers_for(problem: str, horizon: float, options: Options) -> list[str]:
    """The solvers asked for, or all that can reach the horizon."""
    if options.solver:
        return list(options.solver)
    ours = [name for name in (*SOLVERS, AUTO) if name not in STOCK]
    return [*PEERS.get((problem, horizon), ()), *ours]


def measure(options: Options) -> Iterable[tuple[str, float, Any]]:
    """Problem, horizon and record of each run."""
    for problem in options.problem:
        for horizon in options.horizon or HORIZONS[problem]:
            model, task, curve = setup(problem)
            solvers = solvers_for(problem, horizon, options)
            # With a known curve solvers go one by one, so that rows come as they are measured;
            # else they share the references.
            for group in [[solver] for solver in solvers] if curve else [solvers]:
                results = compare(
                    model,
                    task,
                    horizon,
                    solvers=group,
                    rtols=options.rtol,
                    reference=curve,
                    save=LogTimes(per_decade=2, start=0.1),
                    reference_rtol=REFERENCE_RTOL.get(problem),
                    max_gradients=min(options.max_gradients, BUDGETS.get(problem, math.inf)),
                    repeats=options.repeats,
                )
                for row in range(results.sizes["run"]):
                    yield problem, horizon, results.isel(run=row)


def row(problem: str, horizon: float, of: Any) -> dict[str, Any]:
    """A run as a JSON row."""
    return {
        "problem": problem,
        "horizon": horizon,
        "solver": of.solver.item(),
        "rtol": of.rtol.item(),
        "gradients": of.gradients.item(),
        "hvps": of.hvps.item(),
        "cost": of.cost.item(),
        "error": of.error.item(),
        "wall_s": of.seconds.item(),
        "result": of.result.item(),
    }


def line(problem: str, horizon: float, of: Any, compiled: bool) -> list[str]:
    """A run as a row of the table; a cost that was not paid is marked as extrapolated."""
    r = row(problem, horizon, of)
    ran, reached = of.ran.item(), of.end_time.item()
    cost = f"{r['cost']:,}"
    if not of.reached.item():
        whole = r["cost"] * horizon / reached if reached else math.inf
        cost = f"{whole:.1e} (extrapolated from t = {reached:.2g})"
    return [
        problem,
        f"{horizon:.0e}",
        r["solver"] if ran == r["solver"] else f"{r['solver']}: {ran}",
        f"{r['rtol']:.0e}",
        f"{r['gradients']:,}",
        f"{r['hvps']:,}",
        cost,
        f"{r['error']:.1e}",
        f"{r['wall_s']:.2f}" + ("" if compiled else " c"),
        r["result"],
    ]


HEADER = [
    "problem",
    "to t",
    "solver",
    "rtol",
    "gradients",
    "HVPs",
    "cost to t",
    "error",
    "wall s",
    "result",
]
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- solvers: begin -->", "<!-- solvers: end -->"


def table(lines: Iterable[list[str]]) -> str:
    """Markdown."""
    rows = [HEADER, ["---"] * len(HEADER), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def merged(old: list[list[str]], new: list[list[str]]) -> list[list[str]]:
    """Rows of both; where both have a case the new one; ordered by problem, horizon, solver."""
    # "auto: bdf" is a case of "auto"; names such as "scipy:LSODA" hold no space.
    key = lambda cells: (*cells[:2], cells[2].split(": ")[0], cells[3])
    cases = {key(cells): cells for cells in (*old, *new)}
    problem = {name: i for i, name in enumerate(HORIZONS)}
    ours = [name for name in (*SOLVERS, AUTO) if name not in STOCK]
    solver = {name: i for i, name in enumerate([*ours, *STOCK])}

    def order(case):
        name, horizon, which, rtol = case
        return problem[name], float(horizon), solver.get(which, 99), which, -float(rtol)

    return [cases[case] for case in sorted(cases, key=order)]


def write_docs(lines: list[list[str]]) -> None:
    """Put the rows into the table of docs/benchmarks.md, beside those of other cases there."""
    before, rest = PAGE.read_text().split(BEGIN)
    inside, after = rest.split(END)
    old = [
        [cell.strip() for cell in text.strip("| ").split("|")] for text in inside.splitlines()[3:]
    ]
    PAGE.write_text(f"{before}{BEGIN}\n{table(merged(old, lines))}\n{END}{after}")


def take_turns(options: Options) -> None:
    """Print the median wall time of each solver, and the ratio to the last one's."""
    rtol = options.rtol[0]
    for problem in options.problem:
        model, task, _ = setup(problem)
        for horizon in options.horizon or HORIZONS[problem]:
            times = np.append(0.0, LogTimes(per_decade=2, start=0.1).times(horizon))
            flat = make_problem(model, resolve_objective(task), "float64")
            case = Case(model, task, flat, times, "float64", options.max_gradients)
            solvers = solvers_for(problem, horizon, options)
            rounds = [
                {name: run(case, name, rtol, 1e-3 * rtol).seconds for name in solvers}
                for _ in range(1 + options.turns)
            ]
            medians = {n: statistics.median(r[n] for r in rounds[1:]) for n in solvers}
            for name, seconds in medians.items():
                ratio = medians[solvers[-1]] / seconds
                print(f"{problem} to {horizon:.0e}: {name} {seconds:.3f} s, {ratio:.1f}")


def main() -> None:
    options = tyro.cli(Options)
    if options.turns:
        return take_turns(options)
    rows, lines = [], []
    for problem, horizon, of in measure(options):
        rows.append(row(problem, horizon, of))
        lines.append(line(problem, horizon, of, compiled=options.repeats > 0))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
        if options.docs:
            write_docs(lines[-1:])
    print(table(lines))


if __name__ == "__main__":
    main()
