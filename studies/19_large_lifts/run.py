"""What falls how, as a lift grows to a million parameters?

python studies/19_large_lifts/run.py    # all, an hour or two; goes on where it stopped
python studies/19_large_lifts/run.py --cells cnn,dense teacher,1e5    # these, in this order
python studies/19_large_lifts/run.py --quick    # under 90 s
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro
from matplotlib.ticker import NullFormatter

import flowlift
from flowlift import answers, diagnostics, flow, lift, modules, plot, studies, tasks
from flowlift.doing import shown

# A run is broken off here and says so.
MOST = 3_000
SAMPLES, HELD_OUT = 64, 256
# Fits leave out lifts of fewer copies for each sample, whose kernel has not full rank with margin
# (study 03).
FEWEST = 4
IN_DEGREES = {"in-degree 4": 4, "in-degree 16": 16, "dense": None}
EPS = {"teacher": 0.01, "mnist": 0.1, "cnn": 0.1}
# Loss at fixed times, and how often the drift's probe meets the kernel.
TIMES, PRODUCTS = (1e-3, 1e-2, 1e-1), 12
TARGETS = (1, 3, 5, 7, 9)
# Sizes by seeds; the largest have one.
DECADES = {1_000: 3, 10_000: 2, 100_000: 2, 1_000_000: 1}
QUICK = "teacher", 1_000
COLOURS = {"in-degree 4": "C0", "in-degree 16": "C2", "dense": "C1"}
PANELS = {
    "kappa": "κ(ε) at the start",
    "distance": "distance travelled to ε",
    "end time": "time to ε",
    "drift": "kernel drift at ε",
    "held-out loss": "held-out loss at ε",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        cells: cells of the whole design, in this order: for each entry those that have all its
            parts, an architecture, a law or a number of parameters, with commas in between.
        figures: folder of figure and table; runs in the table are not repeated.
        one: a cell, as JSON: for the processes that this one starts.
    """

    quick: bool = False
    cells: tuple[str, ...] = ()
    figures: Path = Path("results") / "large_lifts"
    one: str = ""


def witness() -> lift.Lift:
    """A network of 100 vertices: 2 inputs, 65 copies of h1, 32 of h2 that read two each, y."""
    rng = np.random.default_rng(0)
    outer = np.minimum(np.arange(65) // 2, 31)
    edges = {
        "x->h1": (rng.integers(0, 2, 65), np.arange(65), 1.5 * rng.standard_normal(65)),
        "h1->h2": (np.arange(65), outer, rng.standard_normal(65)),
        "h2->y": (np.arange(32), np.zeros(32, int), rng.standard_normal(32)),
    }
    return lift.from_edges(module_of("teacher"), copies={"h1": 65, "h2": 32}, edges=edges)


def module_of(architecture: str) -> modules.PerceptronModule:
    """The base module, every weight a scalar or a kernel of 4 x 4."""
    if architecture == "teacher":
        return modules.mlp(2, depth=2, bias=False, vector_input=False)
    if architecture == "mnist":
        return modules.mlp(784, depth=2, vector_input=False)
    return modules.cnn2d(28, 28, depth=2, kernel=4, stride=4)


def task_of(architecture: str) -> tasks.Task:
    """64 samples at every size; targets of mean square 1."""
    if architecture != "teacher":
        shape = (784,) if architecture == "mnist" else (1, 28, 28)
        return tasks.mnist(SAMPLES, positive=TARGETS, shape=shape, held_out=HELD_OUT)
    x = np.random.default_rng(1).standard_normal((SAMPLES + HELD_OUT, 2))
    y = np.asarray(witness().batch(x))
    y = y / np.sqrt(np.mean(y[:SAMPLES] ** 2))
    held_out = x[SAMPLES:], y[SAMPLES:]
    return tasks.supervised(x[:SAMPLES], y[:SAMPLES], name="teacher of 100", held_out=held_out)


def laws_of(architecture: str, law: str) -> dict[str, dict]:
    """Edge and weight laws with pre-activations of equal variance in sparse and dense lifts."""
    k, kernel = IN_DEGREES[law], 4 if architecture == "cnn" else 1

    def weights(scale: float, degree: int | None):
        if degree is None:
            return lift.GaussianWidth(scale / kernel)
        return lift.Gaussian(scale / degree**0.5 / kernel)

    sparse = lambda degree: lift.Complete() if degree is None else lift.BernoulliInDegree(degree)
    first = {"mnist": k, "teacher": k and 1, "cnn": None}[architecture]
    return {
        "edges": {"x->h1": sparse(first), "h1->h2": sparse(k)},
        "weights": {"x->h1": weights(1.5, first), "h1->h2": weights(2.0, k)},
    }


def copies_of(architecture: str, law: str, parameters: int) -> int:
    """The number of copies whose expected count of parameters comes nearest."""
    plan = studies.LiftPlan(
        sizes=(parameters,),
        size_counts="parameters",
        edges_over=laws_of(architecture, law)["edges"],
        edges=lift.Complete(),
    )
    return plan.copies(module_of(architecture), parameters)["h1"]


def one(architecture: str, law: str, parameters: int, seed: int) -> dict:
    """One lift, its flow to the loss eps, and what is asked of both."""
    clocks, task, eps = _clocks(), task_of(architecture), EPS[architecture]
    copies, laws = copies_of(architecture, law, parameters), laws_of(architecture, law)
    start = flowlift.sample(module_of(architecture), copies=copies, seed=seed, **laws)
    solution = flowlift.solve(
        start,
        task,
        1e4,
        solver="rkc2",
        rtol=1e-3,
        atol=1e-6,
        save=flow.LogTimes(start=1e-6),
        stops=[flowlift.LossBelow(eps)],
        max_gradients=MOST,
    )
    radius = diagnostics.tangent_radius(start, task, eps, rtol=1e-2)
    row = {"architecture": architecture, "law": law, "size": parameters, "seed": seed}
    row |= {"copies": copies, "parameters": start.n_parameters, "edges": start.n_edges}
    row |= {"kappa": float(radius.kappa), "kappa low": float(radius.lower)}
    row |= {"distance": solution.distance[-1], "end time": solution.time}
    row |= {f"loss at {t:g}": _at(solution, t) for t in TIMES}
    row |= {"held-out loss": float(solution.held_out_loss[-1]), "result": solution.result.value}
    drift = diagnostics.kernel_drift(solution.model, task, start, products=PRODUCTS)
    row |= {"drift": float(drift), "certificate": _certificate(solution, eps, row["kappa"])}
    if architecture == "teacher":
        row |= _coverage(start, copies, laws)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row |= {"gradients": solution.stats.cost, "peak GB": peak * 1024 / 1e9}
    minutes, processor = (_clocks() - clocks) / 60
    return row | {"minutes": minutes, "CPU minutes": processor}


def _clocks() -> np.ndarray:
    """Seconds of the clock, and those of this process on all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def _at(solution, t: float) -> float:
    """L at a time, interpolated in log t; where the flow had ended, what it ended at."""
    times, losses = solution.times[1:], solution.loss[1:]
    return float(np.exp(np.interp(np.log(t), np.log(times), np.log(losses))))


def _certificate(solution, eps: float, kappa: float) -> float:
    """The largest (sqrt L - sqrt eps) / (sqrt L0 - sqrt eps) over kappa / (kappa + s), or nan."""
    if not np.isfinite(kappa):
        return np.nan
    roots = np.sqrt(solution.loss) - eps**0.5
    return float(np.max((roots / roots[0] * (kappa + solution.arc_length) / kappa)[1:]))


def _coverage(start: lift.Lift, copies: int, laws: dict) -> dict:
    """Good copies of the witness's h2 at precision 1, and p n; the mean over its 32 copies."""
    small, found, expected = witness(), [], []
    for copy in range(small.copies["h2"]):
        found.append(diagnostics.good_copies(start, small, "h2", copy, eta=1.0).sum())
        if isinstance(laws["edges"]["h1->h2"], lift.BernoulliInDegree):
            p = diagnostics.coverage_rate(small, "h2", copy, copies=copies, eta=1.0, **laws)
            expected.append(p * copies)
    return {"good": np.mean(found), "p n": np.mean(expected) if expected else 0.0}


def cells(options: Options) -> list[tuple[str, str, int]]:
    """Architecture, law, size: the small ones first, or as chosen."""
    every = [(a, law, n) for n in DECADES for a in EPS for law in IN_DEGREES]
    if options.quick:
        return [cell for cell in every if (cell[0], cell[2]) == QUICK]
    if options.cells:
        chosen = [cell for entry in options.cells for cell in every if _has(cell, entry)]
        return list(dict.fromkeys(chosen))
    return every


def _has(cell: tuple[str, str, int], entry: str) -> bool:
    """Whether all parts of an entry are the cell's.

    Raises:
        SystemExit: if a part names no architecture, law or number of parameters of the design.
    """
    known, parts = (*EPS, *IN_DEGREES, *DECADES), [_read(part) for part in entry.split(",")]
    for part in parts:
        if part not in known:
            names = ", ".join(map(str, known))
            raise SystemExit(f"`--cells` {entry!r}: {part!r} is none of {names}.")
    return all(part in cell for part in parts)


def _read(part: str) -> str | int:
    """A number of parameters, 1e5 or 100000, or else the part itself."""
    try:
        return round(float(part))
    except (ValueError, OverflowError):
        return part


def run(options: Options) -> pandas.DataFrame:
    """All runs, a process for each cell, whose peak memory is its own."""
    options.figures.mkdir(parents=True, exist_ok=True)
    path = options.figures / "summary.csv"
    for cell in cells(options):
        rows = pandas.read_csv(path).to_dict("records") if path.is_file() else []
        done = {(row["architecture"], row["law"], row["size"], row["seed"]) for row in rows}
        seeds = [
            s for s in range(2 if options.quick else DECADES[cell[2]]) if (*cell, s) not in done
        ]
        if not seeds:
            continue
        command = [sys.executable, __file__, "--one", json.dumps([*cell, seeds])]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows += json.loads(answer.stdout.splitlines()[-1])
        pandas.DataFrame(rows).to_csv(path, float_format="%.6g", index=False)
        print(pandas.DataFrame(rows).tail(len(seeds)).to_string(header=False), flush=True)
    return pandas.read_csv(path)


def laws_fitted(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Exponents of the number of copies, of runs that reached eps with enough copies."""
    found = []
    for (architecture, law), part in rows.groupby(["architecture", "law"], sort=False):
        for name in (*PANELS, "good"):
            used = part[(part.result == "loss below") & (part.copies >= FEWEST * SAMPLES)]
            used = used[np.isfinite(used[name]) & (used[name] > 0)] if name in used else used[:0]
            if len(used) < 3 or used.copies.nunique() < 2:
                continue
            law_of = answers.log_log_line(used.copies, used[name])
            ends = {"exponent": law_of.exponent, "low": law_of.low, "high": law_of.high}
            found.append(
                {"architecture": architecture, "law": law, "of": name, **ends, "runs": len(used)}
            )
    return pandas.DataFrame(found)


def draw(rows: pandas.DataFrame) -> plt.Figure:
    # An infinite radius has no place.
    rows = rows.replace(np.inf, np.nan)
    architectures = list(dict.fromkeys(rows.architecture))
    figure = plt.figure(figsize=(14.0, 0.6 + 2.7 * len(architectures)), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(architectures), len(PANELS), squeeze=False))
    for line, architecture in zip(grid, architectures, strict=True):
        for panel, (name, words) in zip(line, PANELS.items(), strict=True):
            for law, part in rows[rows.architecture == architecture].groupby("law", sort=False):
                panel.plot(part.copies, part[name], "o", ms=4, color=COLOURS[law], alpha=0.6)
                middle = part.groupby("copies")[name].median()
                panel.plot(middle.index, middle, "-", lw=1, color=COLOURS[law], label=law)
            there = rows[rows.architecture == architecture][name].notna().any()
            scale = "log" if there else "linear"
            panel.set(xscale=scale, yscale=scale, title=words)
            if not there:
                panel.text(0.5, 0.5, "infinite", ha="center", transform=panel.transAxes)
                panel.set_yticks([])
                panel.set_xticks([])
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.title.set_fontsize(9)
            panel.grid(alpha=0.25)
        line[0].set_ylabel(architecture)
    for panel in grid[-1]:
        panel.set_xlabel("copies n")
    grid[0, 0].legend(fontsize=7)
    plot.caption(
        grid[0, 0],
        "Lifts of 10³ to 10⁶ parameters, every flow a point, lines through medians; each ended "
        "where its loss is ε, 0.01 of the teacher's power and 0.1 of the digits'. 64 samples at "
        "every size.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    if options.one:
        *cell, seeds = json.loads(options.one)
        rows = [one(*cell, seed) for seed in seeds]
        # Infinite radii stay infinite.
        print(json.dumps(rows, default=float))
        return
    rows = run(options)
    fits = laws_fitted(rows)
    fits.to_csv(options.figures / "exponents.csv", float_format="%.4g", index=False)
    draw(rows).savefig(options.figures / "large_lifts.png", dpi=160)
    print(fits.to_string(index=False, float_format="%.3g"))
    holds = (rows.certificate.dropna() <= 1).all()
    print(
        f"The loss lies below kappa / (kappa + s) along every flow: {'holds' if holds else 'FAILS'}"
    )


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("19_large_lifts"):
        main(chosen)
