"""Is a whole flow explained by its certificate?

python studies/05_certificate/run.py            # a few minutes
python studies/05_certificate/run.py --quick    # under a minute
"""

import dataclasses
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro
import xarray

from flowlift import diagnostics, plot, studies, sweep, tasks
from flowlift import flow as flows
from flowlift.diagnostics import Certificate, LogisticBounds
from flowlift.doing import shown
from flowlift.flow import FlowSolution

HERE = Path(__file__).parent
# Horizons of the logistic experiment's settings (theory, section 7).
HORIZONS = {"a": 1e12, "b": 1e4}
QUICK_HORIZONS = {"a": 1e9, "b": 10.0}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        results: folder of cells; results/certificate by default.
        figures: folder of figure and table; that of the results by default.
    """

    quick: bool = False
    results: Path | None = None
    figures: Path | None = None


def run(options: Options) -> tuple[xarray.Dataset, float]:
    """The flow at the times of its observations, and eps."""
    folder = options.results or Path("results") / "certificate"
    study = studies.read_study(HERE / "study.toml", quick=options.quick)
    assert study.observe is not None
    results = sweep.run_study(study, folder)
    flow = results.isel(size=0, seed=0).sel(time=results.observation_time.values)
    # Where the flow had ended there is no loss; an infinite kappa asserts nothing and stays.
    reached = np.isfinite(flow.loss.values)
    eps = study.observe.quantities["kappa"].eps
    return flow.isel(time=reached, observation_time=reached), eps


def logistic(options: Options) -> dict[str, tuple[FlowSolution, LogisticBounds]]:
    """Both settings of the logistic experiment, each flow with its two inequalities."""
    found = {}
    for setting, horizon in (QUICK_HORIZONS if options.quick else HORIZONS).items():
        experiment = tasks.logistic(setting)
        solution = flows.solve(
            experiment.model, experiment.task, horizon, save=flows.LogTimes(4), max_steps=20_000
        )
        bounds = diagnostics.logistic_bounds(solution, experiment.margin, experiment.samples)
        found[setting] = solution, bounds
    return found


def logistic_table(found: dict[str, tuple[FlowSolution, LogisticBounds]]) -> pandas.DataFrame:
    """One row a save time."""
    parts = [
        pandas.DataFrame(
            {
                "setting": setting,
                "t": solution.times,
                "loss": solution.loss,
                "|grad L|^2": solution.gradient_norm**2,
                "proved at least": (1 - bounds.rate_margin) * solution.gradient_norm**2,
                "rate margin": bounds.rate_margin,
                "phi(L)": diagnostics.logistic_potential(solution.loss),
                "potential margin": bounds.potential_margin,
            }
        )
        for setting, (solution, bounds) in found.items()
    ]
    return pandas.concat(parts)


def measured_bound(flow: xarray.Dataset, eps: float) -> np.ndarray:
    """L by the inequality integrated with kappa as measured, not with a line above it.

    Between two observed points kappa is taken as the larger of theirs [assumed].
    """
    root, radii = np.sqrt(flow.loss.values), flow.kappa.values
    largest = np.maximum(radii[1:], radii[:-1])
    length = np.diff(flow.arc_length.values)
    rates = np.divide(length, largest, out=np.full_like(length, np.inf), where=largest > 0)
    decay = np.exp(-np.concatenate([[0.0], np.cumsum(rates)]))
    return (eps**0.5 + max(root[0] - eps**0.5, 0) * decay) ** 2


def table(flow: xarray.Dataset, eps: float, found: Certificate) -> pandas.DataFrame:
    """One row an observation."""
    root, kappa = np.sqrt(flow.loss.values), flow.kappa.values
    needed = np.maximum(root - eps**0.5, 0)
    rows = pandas.DataFrame(
        {
            "t": flow.time.values,
            "loss": flow.loss.values,
            "bound": found.bound,
            "bound, measured kappa": measured_bound(flow, eps),
            "kappa": flow.kappa.values,
            "distance": flow.distance.values,
            "arc length": flow.arc_length.values,
            "-d sqrt(L)/ds": flow.gradient_norm.values / (2 * root),
            "proved at least": np.divide(needed, kappa, out=0 * needed, where=kappa > 0),
            "margin": found.margin,
            "R": flow.slope.values,
            "|grad L|^2 / (4 L)": flow.gradient_norm.values**2 / (4 * flow.loss.values),
        }
    )
    return rows


def draw(rows: pandas.DataFrame, eps: float, found: Certificate, more: pandas.DataFrame):
    figure = plt.figure(figsize=(12.0, 7.4), layout="constrained")
    upper, lower = figure.subplots(2, 3)
    draw_flow(upper, rows, eps, found)
    draw_logistic(lower, more)
    for panel in (*upper, *lower):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        lower[0],
        "Upper row: one flow on handwritten digits. Left: the loss below its integrated bounds, "
        "that of the theorem and that with κ as measured. Middle: the inequality at every observed "
        "point. Right: κ(ε) measured along the flow, and the line that the theorem assumes above. "
        "Lower row: the logistic experiment, settings a and b: the loss, the rate above the proved "
        "one, and the margins of both inequalities (at least 0 as proved).",
    )
    return figure


def draw_flow(panels, rows: pandas.DataFrame, eps: float, found: Certificate) -> None:
    left, middle, right = panels
    left.plot(rows["arc length"], rows.loss, "o-", ms=3, label="loss L")
    left.plot(rows["arc length"], rows.bound, "--", label="integrated bound")
    left.plot(rows["arc length"], rows["bound, measured kappa"], ":", label="with κ as measured")
    left.axhline(eps, color="0.4", lw=1, ls="-.", label=f"ε = {eps:g}")
    left.set(yscale="log", xlabel="arc length s", ylabel="loss")
    above = rows[(rows.loss > eps) & np.isfinite(rows.kappa)]
    middle.plot(above["arc length"], above["-d sqrt(L)/ds"], "o-", ms=3, label="-d√L/ds")
    needed = "(√L - √ε) / κ(s), proved"
    middle.plot(above["arc length"], above["proved at least"], "s--", ms=3, label=needed)
    middle.set(yscale="log", xlabel="arc length s", ylabel="descent per length")
    right.plot(rows["arc length"], rows.kappa, "o-", ms=3, label="κ(ε) at the visited points")
    line = rows.kappa.iloc[0] + found.slope * rows["distance"]
    right.plot(rows["arc length"], line, "--", label=f"κ₀ + c |θ - θ₀|, c = {found.slope:.2g}")
    right.set(xlabel="arc length s", ylabel="κ(ε)")


def draw_logistic(panels, more: pandas.DataFrame) -> None:
    left, middle, right = panels
    for (setting, part), colour in zip(more.groupby("setting"), ("C0", "C1"), strict=True):
        part = part[part.t > 0]
        left.plot(part.t, part.loss, "o-", ms=3, color=colour, label=f"setting {setting}")
        middle.plot(part.t, part["|grad L|^2"], "o-", ms=3, color=colour, label=f"{setting}: |∇L|²")
        name = f"{setting}: (m/n)² (1 - e^-L)²"
        middle.plot(part.t, part["proved at least"], "--", color=colour, label=name)
        right.plot(part.t, part["rate margin"], "o-", ms=3, color=colour, label=f"{setting}: rate")
        name = f"{setting}: potential"
        right.plot(part.t, part["potential margin"], "s:", ms=3, color=colour, label=name)
    for panel, name in zip(panels, ("loss", "rate -dL/dt", "relative margin"), strict=True):
        panel.set(xscale="log", xlabel="t", ylabel=name)
    left.set(yscale="log")
    middle.set(yscale="log")
    right.set(ylim=(-0.1, 2.05))


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    flow, eps = run(options)
    found = diagnostics.certificate(flow, eps, flow.kappa.values)
    rows = table(flow, eps, found)
    folder = options.figures or options.results or Path("results") / "certificate"
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "summary.csv", float_format="%.6g", index=False)
    more = logistic(options)
    inequalities = logistic_table(more)
    inequalities.to_csv(folder / "logistic.csv", float_format="%.6g", index=False)
    draw(rows, eps, found, inequalities).savefig(folder / "certificate.png", dpi=160)
    print(rows.iloc[:: max(1, len(rows) // 12)].to_string(index=False, float_format="%.4g"))
    print(found.message)
    for setting, (solution, bounds) in more.items():
        least = bounds.rate_margin.min(), bounds.potential_margin.min()
        verdict = "both hold" if bounds.holds else "VIOLATED"
        end = f"L = {solution.loss[0]:.3g}, {solution.loss[-1]:.3g} at t = {solution.times[-1]:g}"
        print(
            f"logistic {setting}: {end} ({solution.result.value}), {len(bounds.rate_margin)} points"
        )
        print(f"  least margins of rate {least[0]:.3g}, of potential {least[1]:.3g}: {verdict}")
    identity = np.abs(rows["R"] / rows["|grad L|^2 / (4 L)"] - 1).max()
    print(f"|R / (|grad L|^2 / 4 L) - 1| at most {identity:.2g}")
    print(f"loss {rows.loss.iloc[-1]:.3g}, proved to be at most {rows.bound.iloc[-1]:.3g}")
    cost = int(flow.kappa_gradients) + int(flow.slope_gradients)
    own = int(flow.gradients) + 2 * int(flow.hvps)
    print(f"flow: {own} gradients; observing it at {len(rows)} points: {cost}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("05_certificate"):
        main(chosen)
