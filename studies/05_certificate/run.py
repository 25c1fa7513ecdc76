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

from flowlift import diagnostics, experiments, plot
from flowlift.diagnostics import Certificate

HERE = Path(__file__).parent


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
    study = experiments.read_study(HERE / "study.toml", quick=options.quick)
    assert study.observe is not None
    results = experiments.run_study(study, folder)
    flow = results.isel(size=0, seed=0).sel(time=results.observation_time.values)
    # Where the flow had ended there is no loss; an infinite kappa asserts nothing and stays.
    reached = np.isfinite(flow.loss.values)
    eps = study.observe.quantities["kappa"].eps
    return flow.isel(time=reached, observation_time=reached), eps


def table(flow: xarray.Dataset, eps: float, found: Certificate) -> pandas.DataFrame:
    """One row an observation."""
    root, kappa = np.sqrt(flow.loss.values), flow.kappa.values
    needed = np.maximum(root - eps**0.5, 0)
    rows = pandas.DataFrame(
        {
            "t": flow.time.values,
            "loss": flow.loss.values,
            "bound": found.bound,
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


def draw(rows: pandas.DataFrame, eps: float, found: Certificate) -> plt.Figure:
    figure = plt.figure(figsize=(12.0, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(rows["arc length"], rows.loss, "o-", ms=3, label="loss L")
    left.plot(rows["arc length"], rows.bound, "--", label="integrated bound of L")
    left.axhline(eps, color="0.4", lw=1, ls=":", label=f"ε = {eps:g}")
    left.set(yscale="log", xlabel="arc length s", ylabel="loss")
    above = rows[rows.loss > eps]
    middle.plot(above["arc length"], above["-d sqrt(L)/ds"], "o-", ms=3, label="-d√L/ds")
    needed = "(√L - √ε) / κ(s), proved"
    middle.plot(above["arc length"], above["proved at least"], "s--", ms=3, label=needed)
    middle.set(yscale="log", xlabel="arc length s", ylabel="descent per length")
    right.plot(rows["arc length"], rows.kappa, "o-", ms=3, label="κ(ε) at the visited points")
    line = rows.kappa.iloc[0] + found.slope * rows["distance"]
    right.plot(rows["arc length"], line, "--", label=f"κ₀ + c |θ - θ₀|, c = {found.slope:.2g}")
    right.set(xlabel="arc length s", ylabel="parameter")
    for panel in (left, middle, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        left,
        "One flow on handwritten digits. Middle: the inequality at every observed point, above the "
        "dashed line as proved. Left: its integral bounds the loss. Right: κ(ε) measured along the "
        "flow, and the line below which the bound assumes it.",
    )
    return figure


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
    draw(rows, eps, found).savefig(folder / "certificate.png", dpi=160)
    print(rows.iloc[:: max(1, len(rows) // 12)].to_string(index=False, float_format="%.4g"))
    print(found.message)
    identity = np.abs(rows["R"] / rows["|grad L|^2 / (4 L)"] - 1).max()
    print(f"|R / (|grad L|^2 / 4 L) - 1| at most {identity:.2g}")
    print(f"loss {rows.loss.iloc[-1]:.3g}, proved to be at most {rows.bound.iloc[-1]:.3g}")
    cost = int(flow.kappa_gradients) + int(flow.slope_gradients)
    own = int(flow.gradients) + 2 * int(flow.hvps)
    print(f"flow: {own} gradients; observing it at {len(rows)} points: {cost}")


if __name__ == "__main__":
    main(tyro.cli(Options))
