"""How far must theta move, to first order, to solve the task, as the lift grows?

python studies/03_tangent_radius/run.py            # both families of lifts, a few minutes
python studies/03_tangent_radius/run.py --quick    # under a minute
"""

import contextlib
import dataclasses
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import pandas
import tyro
import xarray
from matplotlib.ticker import NullFormatter

from flowlift import answers, plot, studies, sweep
from flowlift.doing import shown

HERE = Path(__file__).parent
# The dense control: the same pre-activation variance from N(0, 4/n) weights on all pairs. It has
# n^2 weights, so that it ends at a smaller size.
FAMILIES = {
    "sparse": [],
    "dense": ['lift.edges={kind="complete"}', 'lift.weights={kind="gaussian_width", scale=2.0}'],
}
LARGEST_DENSE = 1024
COLOURS = {"sparse": "C0", "dense": "C1"}
PREDICTED = -0.5
# From n = FULL_RANK x samples on, the n features of a zero read-out make a Gram matrix of full rank
# with margin.
FULL_RANK = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        workers: processes; 0 computes in this one.
        results: folder of cells; results/tangent_radius by default.
        figures: folder of figure and table; that of the results by default.
    """

    quick: bool = False
    workers: int = 0
    results: Path | None = None
    figures: Path | None = None


def run(options: Options) -> dict[str, xarray.Dataset]:
    folder = options.results or Path("results") / "tangent_radius"
    found = {}
    with contextlib.ExitStack() as stack:
        executor = None
        if options.workers:
            executor = stack.enter_context(sweep.spawned_workers(options.workers))
        for family, changes in FAMILIES.items():
            study = studies.read_study(HERE / "study.toml", changes, quick=options.quick)
            if family == "dense":
                sizes = tuple(n for n in study.lift.sizes if n <= LARGEST_DENSE)
                lift = dataclasses.replace(study.lift, sizes=sizes)
                study = dataclasses.replace(study, lift=lift)
            data = sweep.run_study(study, folder / family, executor=executor)
            found[family] = data.assign_attrs(from_size=FULL_RANK * study.task.samples)
    return found


def from_size(data: xarray.Dataset) -> int:
    """The law is one of large n: the fit leaves out smaller lifts."""
    return int(data.attrs["from_size"])


def table(found: dict[str, xarray.Dataset]) -> pandas.DataFrame:
    """One row a run."""
    names = ["kappa", "final_distance", "final_arc_length", "final_loss", "end_time", "result"]
    parts = [
        data.isel(observation_time=0)[names].to_dataframe()[names].assign(family=family)
        for family, data in found.items()
    ]
    rows = pandas.concat(parts).reset_index().set_index(["family", "size", "seed"]).sort_index()
    rows["travelled / kappa"] = rows.final_distance / rows.kappa
    return rows.drop(columns="observation_time", errors="ignore")


def draw(found: dict[str, xarray.Dataset]) -> plt.Figure:
    figure = plt.figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for family, data in found.items():
        settings = {"name": family, "colour": COLOURS[family], "from_size": from_size(data)}
        kappa = data.kappa.isel(observation_time=0)
        kappa.attrs.update(long_name="κ(ε); crosses: travelled", units="1")
        plot.scaling(kappa, left, predicted=PREDICTED, **settings)
        travelled = data.final_distance.median("seed")
        left.plot(data["size"], travelled, "x", color=COLOURS[family], ms=6, mew=1.5)
        ratio = data.final_distance / kappa
        right.plot(data["size"], ratio.median("seed"), "o-", color=COLOURS[family], label=family)
        band = ratio.min("seed"), ratio.max("seed")
        right.fill_between(data["size"], *band, color=COLOURS[family], alpha=0.2, linewidth=0)
    right.axhline(1, color="0.3", lw=1, ls="--")
    right.set(xscale="log", xlabel="lift size n", ylabel="travelled / κ(ε)", ylim=(0, None))
    sizes = found["sparse"]["size"].values
    for panel in (left, right):
        panel.set_xticks(sizes, [str(n) for n in sizes])
        panel.xaxis.set_minor_formatter(NullFormatter())
    right.grid(alpha=0.25)
    right.legend(fontsize=8)
    plot.caption(
        left,
        "Left: the least first-order move that brings the loss to ε = 0.01, every lift a point, "
        "with fits and their 95% bands; crosses: median distance that the flow had travelled when "
        "its loss was ε. Right: their ratio, median and all seeds.",
    )
    return figure


def verdict(found: dict[str, xarray.Dataset]) -> str:
    lines = []
    for family, data in found.items():
        used = data.kappa.isel(observation_time=0).where(data["size"] >= from_size(data), drop=True)
        sizes, values = xarray.broadcast(used["size"], used)
        law = answers.log_log_line(sizes.values, values.values)
        word = "holds" if law.contains(PREDICTED) else "FAILS"
        lines.append(f"{family}: slope {law}, predicted {PREDICTED}: the claim {word}")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    found = run(options)
    folder = options.figures or options.results or Path("results") / "tangent_radius"
    folder.mkdir(parents=True, exist_ok=True)
    rows = table(found)
    rows.to_csv(folder / "summary.csv", float_format="%.5g")
    draw(found).savefig(folder / "tangent_radius.png", dpi=160)
    numbers = ["kappa", "final_distance", "travelled / kappa", "end_time"]
    print(rows.groupby(level=["family", "size"])[numbers].median().to_string())
    print(verdict(found))


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown(HERE.name):
        main(chosen)
