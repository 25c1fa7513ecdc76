"""Tables and figure of the study from its results, or from the ends of all runs kept beside it.

    python studies/07_architectures/analyse.py [RESULTS]

RESULTS is the folder that `flowlift run` wrote. The ends of its runs are kept in `runs.csv`;
without a folder that file is read.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas
from scipy import stats

from flowlift import plot, store

HERE = Path(__file__).parent
RUNS, FIGURE = HERE / "runs.csv", HERE / "architectures.png"
LOSSES = (0.5, 0.1)
TASKS = {
    "mlp": "digits",
    "cnn2d": "digits as images",
    "resnet": "digits as images",
    "transformer": "digits, 8 tokens",
    "rnn": "digits, row by row",
    "cnn1d": "MNIST-1D",
    "skips": "diabetes",
}
# Okabe & Ito's colours.
LAWS = {"sparse": ("#0072B2", "o", 0.97), "dense": ("#D55E00", "s", 1.03)}


def ends_of(folder: str) -> pandas.DataFrame:
    """One row per run: how large the lift was, where its flow ended and how."""
    results = store.load(folder)
    columns = ["parameters", "edges", "final_loss", "end_time", "result", "gradients", "seconds"]
    table = results[columns].to_dataframe().dropna(subset="end_time").reset_index()
    return table[["architecture", "law", "size", "seed", *columns]].round({"seconds": 2})


def table_of(runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row per architecture and size: sparse against dense."""
    rows = []
    for name in TASKS:
        for size, cell in runs[runs.architecture == name].groupby("size"):
            row = {"architecture": name, "data": TASKS[name], "size": size}
            losses = {law: cell[cell.law == law].final_loss.to_numpy() for law in LAWS}
            for law, values in losses.items():
                of = cell[cell.law == law]
                row[f"{law}: parameters"] = f"{np.median(of.parameters):.0f}"
                row[f"{law}: L"] = f"{np.median(values):.3g}"
                for eps in LOSSES:
                    row[f"{law}: L <= {eps}"] = f"{np.sum(values <= eps)} / {len(values)}"
            row["p"] = f"{stats.mannwhitneyu(*losses.values()).pvalue:.2g}"
            rows.append(row)
    return pandas.DataFrame(rows)


def figure_of(runs: pandas.DataFrame) -> plt.Figure:
    """A panel per architecture: final loss against parameters, every lift a point."""
    figure, axes = plt.subplots(2, 4, figsize=(9.6, 5.2), layout="constrained", sharex=True)
    for ax, name in zip(axes.flat, TASKS, strict=False):
        for law, (colour, marker, shift) in LAWS.items():
            of = runs[(runs.architecture == name) & (runs.law == law)]
            ax.plot(of["size"] * shift, of.final_loss, marker, color=colour, alpha=0.35, ms=3)
            median = of.groupby("size").final_loss.median()
            ax.plot(median.index * shift, median, f"{marker}-", color=colour, ms=5, label=law)
        for eps in LOSSES:
            ax.axhline(eps, color="0.6", lw=0.8, ls=":")
        sizes = sorted(runs["size"].unique())
        ax.set(xscale="log", yscale="log", title=f"{name}: {TASKS[name]}")
        ax.title.set_fontsize(8.5)
        ax.set_xticks(sizes, [f"{n:g}" for n in sizes])
        ax.xaxis.set_minor_locator(plt.NullLocator())
        ax.grid(alpha=0.25)
    for ax in axes[:, 0]:
        ax.set_ylabel("loss L at t = 100")
    # The panel above the empty place has no neighbour below to carry its ticks.
    axes[0, 3].tick_params(labelbottom=True)
    for ax in axes.flat[3:7]:
        ax.set_xlabel("parameters")
    axes.flat[7].axis("off")
    axes.flat[7].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=9)
    plot.caption(
        axes.flat[0],
        "Random lifts of seven architectures after a flow time of 100 (learning rate x steps): "
        "every lift a point, medians joined; sparse lifts and dense controls of equal numbers of "
        "parameters. L(0) = 1 everywhere; dotted: the losses asked for.",
    )
    return figure


def main(folders: list[str]) -> None:
    runs = ends_of(folders[0]) if folders else pandas.read_csv(RUNS)
    if folders:
        runs.to_csv(RUNS, index=False, float_format="%.6g")
    print(table_of(runs).to_string(index=False))
    figure_of(runs).savefig(FIGURE, dpi=200)


if __name__ == "__main__":
    main(sys.argv[1:])
