"""Does a lift train like its linearisation at the start, the more so the larger it is?

python studies/06_lazy_or_not/run.py            # both families of lifts, a few minutes
python studies/06_lazy_or_not/run.py --quick    # under a minute
"""

import contextlib
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

from flowlift import answers, plot, studies, sweep
from flowlift.doing import shown

HERE = Path(__file__).parent
# The dense control: the same pre-activation variance from N(0, 4/n) weights on all pairs.
FAMILIES = {
    "sparse": [],
    "dense": ['lift.edges={kind="complete"}', 'lift.weights={kind="gaussian_width", scale=2.0}'],
}
COLOURS = {"sparse": "C0", "dense": "C1"}
QUANTITIES = {
    "drift": "|K - K₀| / |K₀| at the end",
    "lazy": "|F - F_lin| / |f*|, largest",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        workers: processes; 0 computes in this one.
        results: folder of cells; results/lazy_or_not by default.
        figures: folder of figure and table; that of the results by default.
    """

    quick: bool = False
    workers: int = 0
    results: Path | None = None
    figures: Path | None = None


def run(options: Options) -> dict[str, xarray.Dataset]:
    folder = options.results or Path("results") / "lazy_or_not"
    found = {}
    with contextlib.ExitStack() as stack:
        executor = None
        if options.workers:
            executor = stack.enter_context(sweep.spawned_workers(options.workers))
        for family, changes in FAMILIES.items():
            study = studies.read_study(HERE / "study.toml", changes, quick=options.quick)
            data = sweep.run_study(study, folder / family, executor=executor)
            found[family] = data.assign(relative=data.lazy / np.sqrt(data.initial_loss))
    return found


def summarised(data: xarray.Dataset) -> xarray.Dataset:
    """Of every run: the drift where it was last observed, and the largest distance."""
    there = np.isfinite(data.drift)
    last = there.cumsum("observation_time").argmax("observation_time")
    return xarray.Dataset(
        {
            "drift": data.drift.isel(observation_time=last),
            "lazy": data.relative.max("observation_time"),
            "last observed": data.observation_time.isel(observation_time=last),
            "end_time": data.end_time,
            "final_loss": data.final_loss,
            "cost of observing / flow": (data.drift_gradients + data.lazy_gradients)
            / (data.gradients + 2 * data.hvps),
        }
    ).drop_vars("observation_time")


def draw(found: dict[str, xarray.Dataset]) -> plt.Figure:
    figure = plt.figure(figsize=(12.0, 3.9), layout="constrained")
    panels = figure.subplots(1, 3)
    for family, data in found.items():
        short = summarised(data)
        for panel, (name, meaning) in zip(panels, QUANTITIES.items(), strict=False):
            values = short[name].assign_attrs(long_name=meaning, units="1")
            plot.scaling(values, panel, name=family, colour=COLOURS[family])
        for size, style in ((data["size"].values[0], ":"), (data["size"].values[-1], "-")):
            median = data.relative.sel(size=size).median("seed").dropna("observation_time")
            # At t = 0 both agree, which has no place on logarithmic axes.
            median = median[1:]
            scaled = median.observation_time * size
            label = f"{family}, n = {size}"
            panels[2].plot(scaled, median, style, color=COLOURS[family], label=label)
    panels[2].set(xscale="log", yscale="log", xlabel="n t", ylabel="|F - F_lin| / |f*|")
    panels[2].grid(alpha=0.25)
    panels[2].legend(fontsize=7)
    plot.caption(
        panels[0],
        "Each flow ends where its loss is ε = 0.01. Left: how far the tangent kernel has changed "
        "by then. Middle: how far the outputs ever were from those of the flow linearised at the "
        "start. Every lift is a point; lines are fits with 95% bands. Right: the distance along "
        "the flow, medians.",
    )
    return figure


def verdict(found: dict[str, xarray.Dataset]) -> str:
    lines = []
    for family, data in found.items():
        short = summarised(data)
        for name in QUANTITIES:
            sizes, values = xarray.broadcast(short["size"], short[name])
            law = answers.log_log_line(sizes.values, values.values)
            word = "holds" if law.high < 0 else "FAILS"
            lines.append(f"{family}, {name}: slope {law}; falling with n: {word}")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    found = run(options)
    folder = options.figures or options.results or Path("results") / "lazy_or_not"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [summarised(d).to_dataframe().assign(family=f) for f, d in found.items()]
    rows = pandas.concat(parts).reset_index().set_index(["family", "size", "seed"]).sort_index()
    rows.to_csv(folder / "summary.csv", float_format="%.5g")
    draw(found).savefig(folder / "lazy_or_not.png", dpi=160)
    print(rows.groupby(level=["family", "size"]).median().to_string())
    print(verdict(found))


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("06_lazy_or_not"):
        main(chosen)
