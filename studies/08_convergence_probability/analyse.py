"""Tables and figures of the study from its results, or from the ends of all runs kept beside it.

    python studies/08_convergence_probability/analyse.py [RESULTS [LIMIT]]

RESULTS and LIMIT are the folders that `flowlift run` wrote from `study.toml` and `limit.toml`. The
ends of their runs are kept in `runs.csv` and `limit.csv`; without folders those files are read.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas
import xarray

from flowlift import answers, plot, store, studies
from flowlift.studies.toml import variants

HERE = Path(__file__).parent
STUDY = studies.read_study(HERE / "study.toml")
QUESTION = STUDY.question
LAWS = list(STUDY.alternatives["law"])
TITLES = {
    "periodic": "periodic signal, mlp",
    "teacher_mlp": "teacher, mlp",
    "teacher_skips": "teacher, mlp with skips",
    "teacher_attention": "teacher, attention",
    "digits": "digits, attention",
}
# Okabe & Ito's colours.
COLOURS = dict(zip(LAWS, ("#E69F00", "#009E73", "#0072B2", "#000000"), strict=True))
MARKERS = dict(zip(LAWS, "ov^s", strict=True))
NAMES = {"k2": "in-degree 2", "k4": "in-degree 4", "k8": "in-degree 8", "dense": "dense"}
# Losses of the question by the end of the flows; by t = 100 was looked at afterwards.
SHOWN = ((0.01, 1e2), (0.01, np.inf), (0.001, np.inf))
LOSSES = (0.01, 0.001)
TIMES = (1e2, 1e3, 1e4)


def ends_of(folder: str) -> pandas.DataFrame:
    """One row per run: its lift, where its flow ended, and when it first met each loss."""
    results = store.load(folder)
    columns = {
        "parameters": results.parameters,
        "edges": results.edges,
        "final_loss": results.final_loss,
        "final_gradient_norm": results.final_gradient_norm,
        "least_eigenvalue": results.least_eigenvalue,
        "end_time": results.end_time,
        "result": results.result,
        "gradients": results.gradients,
        "seconds": results.seconds,
        "certified": answers.outcomes(results, 1e-300) == "stuck",
    }
    for eps in QUESTION.losses:
        times, met = answers.time_to_loss(results, eps)
        columns[f"t_{eps:g}"] = times.where(met)
    table = pandas.DataFrame({name: column.to_series() for name, column in columns.items()})
    table = table.dropna(subset="end_time").reset_index()
    for name in ("parameters", "edges", "gradients", "certified"):
        table[name] = table[name].astype(int)
    return table.round({"seconds": 2})


def counts_of(runs: pandas.DataFrame, eps: float, time: float = np.inf) -> pandas.DataFrame:
    """Runs per problem, law and size: converged, stuck, undecided (`answers.outcomes`)."""
    converged = runs[f"t_{eps:g}"] <= time
    stuck = ~converged & (runs.certified == 1) & (runs.end_time <= time)
    words = pandas.DataFrame(
        {"converged": converged, "stuck": stuck, "undecided": ~converged & ~stuck}
    )
    return words.groupby([runs.problem, runs.law, runs["size"]]).sum()


def learning_numbers(runs: pandas.DataFrame) -> pandas.DataFrame:
    """A row per problem, law and loss: both fits, and what bounds the approximation number."""
    rows = []
    witnesses = {point["problem"]: study for point, study in variants(STUDY)}
    for eps in QUESTION.losses:
        counts = counts_of(runs, eps)
        for problem, law in counts.index.droplevel("size").unique():
            table = answers.probability_table(counts.loc[(problem, law)], QUESTION.level)
            number, generous = (
                answers.learning_number(
                    table, QUESTION.delta, level=QUESTION.level, undecided_converge=either
                )
                for either in (False, True)
            )
            reached = table.index[table.converged > 0]
            held = answers.planted_witness(witnesses[problem], eps)
            rows.append(
                {
                    "problem": problem,
                    "law": law,
                    "eps": eps,
                    "estimate": number.estimate,
                    "above": number.above,
                    "at_most": number.at_most,
                    "logistic": number.logistic.size,
                    "logistic_low": number.logistic.low,
                    "logistic_high": number.logistic.high,
                    "at_most, undecided converge": generous.at_most,
                    "best_seen": reached[0] if len(reached) else None,
                    "witness": None if held is None else held.size,
                }
            )
    return pandas.DataFrame(rows)


def probability_figure(runs: pandas.DataFrame) -> plt.Figure:
    """A column per problem, a row per event: probability against parameters, a line per law."""
    shape = (len(SHOWN), len(TITLES))
    figure, axes = plt.subplots(
        *shape, figsize=(12.5, 7), layout="constrained", sharey=True, sharex="col"
    )
    for row, (eps, time) in zip(axes, SHOWN, strict=True):
        counts = counts_of(runs, eps, time)
        for ax, problem in zip(row, TITLES, strict=True):
            for i, law in enumerate(LAWS):
                _line(ax, counts.loc[(problem, law)], law, 1.04 ** (i - 1.5))
            ax.axhline(1 - QUESTION.delta, color="0.6", lw=0.8, ls="--")
            ax.set(xscale="log")
            ax.grid(alpha=0.25)
        row[0].set_ylabel(f"P(L ≤ {eps:g})" + (f" by t = {time:g}" if time < np.inf else ""))
    for top, bottom, title in zip(axes[0], axes[-1], TITLES.values(), strict=True):
        top.set_title(title, fontsize=9)
        bottom.set_xlabel("parameters")
    axes[-1, 0].legend(fontsize=7.5, loc="lower right")
    plot.caption(
        axes[0, 0],
        "Probability over random graphs and weights that the gradient flow of a lift has reached "
        "a loss, by t = 100 or by the horizon (1e4; digits: 1e3), with 95% intervals "
        "(Clopper-Pearson); dotted: undecided flows counted as converged. If the theorem shows at "
        "these sizes, every line rises to 1. Dashed: 1 - δ.",
    )
    return figure


def _line(ax: plt.Axes, counts: pandas.DataFrame, law: str, shift: float) -> None:
    """One law; shifted a little, so that no interval hides another."""
    table = answers.probability_table(counts, QUESTION.level)
    x, p = table.index.to_numpy() * shift, table.probability
    errors = np.clip([p - table.low, table.high - p], 0, None)
    style = {"color": COLOURS[law], "marker": MARKERS[law], "ms": 4, "lw": 1.2}
    ax.errorbar(x, p, errors, elinewidth=0.8, label=NAMES[law], **style)
    ax.plot(x, table.possible, ":", color=COLOURS[law], lw=1)


def learning_figure(numbers: pandas.DataFrame, runs: pandas.DataFrame) -> plt.Figure:
    """A panel per problem: the learning number between two sizes, against the loss asked for."""
    figure, axes = plt.subplots(1, len(TITLES), figsize=(12.5, 3.6), layout="constrained")
    for ax, (problem, title) in zip(axes, TITLES.items(), strict=True):
        here = numbers[numbers.problem == problem]
        sizes = runs[runs.problem == problem]["size"]
        for i, law in enumerate(LAWS):
            of = here[here.law == law]
            x, style = of.eps.to_numpy() * 1.09 ** (i - 1.5), {"color": COLOURS[law]}
            ends = of.above.fillna(sizes.min()), of.at_most.fillna(sizes.max())
            ax.vlines(x, *ends, lw=1.2, **style)
            for end, bound, caret in zip(ends, (of.above, of.at_most), "v^", strict=True):
                ax.plot(x[bound.isna()], end[bound.isna()], caret, ms=3, mfc="w", **style)
            ax.plot(x, of.estimate, MARKERS[law], ms=4, label=NAMES[law], **style)
        ax.plot(here.groupby("eps").best_seen.min(), "+", color="0.45", label="best flow seen")
        for witness in here[here.law == "dense"].witness.dropna().unique():
            ax.axhline(witness, color="0.6", lw=0.8, ls="--", label="the teacher itself")
        ax.set(xscale="log", yscale="log", xlabel="loss ε asked for")
        ax.set_yticks(ticks := sorted(sizes.unique()), [f"{size}" for size in ticks])
        ax.yaxis.set_minor_locator(plt.NullLocator())
        ax.invert_xaxis()
        ax.set_title(title, fontsize=9)
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("learning number (parameters)")
    axes[1].legend(fontsize=7)
    plot.caption(
        axes[0],
        "The size from which the flow reaches a loss with probability at least "
        f"{1 - QUESTION.delta:g}: monotone fit (marks) and the sizes between which it lies with "
        "95% confidence (bars, open ends where these sizes do not bound it). Plus: the smallest "
        "size at which any flow got there, an upper bound of the approximation number.",
    )
    return figure


def probabilities_of(runs: pandas.DataFrame, eps: float) -> pandas.DataFrame:
    """P(L <= eps) by some times per problem, law and size, and the outcomes at the end."""
    by_time = {
        f"t = {time:g}": counts_of(runs, eps, time).pipe(answers.probability_table).probability
        for time in TIMES
    }
    end = answers.probability_table(counts_of(runs, eps), QUESTION.level)
    kept = end[["runs", "converged", "stuck", "undecided", "low", "high", "at most"]].round(3)
    return pandas.concat([pandas.DataFrame(by_time), kept], axis=1)


def paired_laws(runs: pandas.DataFrame, eps: float) -> pandas.DataFrame:
    """Sparse against dense on shared sizes and seeds (exact McNemar), per problem."""
    met = runs.assign(met=runs[f"t_{eps:g}"].notna()).pivot_table(
        index=["problem", "size", "seed"], columns="law", values="met", aggfunc="first"
    )
    rows = []
    for problem, cell in met.groupby("problem"):
        for law in LAWS[:-1]:
            pair = cell[[law, "dense"]].dropna().astype(bool)
            sparse, dense = (xarray.DataArray(pair[name].to_numpy()) for name in pair)
            rows.append(
                {"problem": problem, "law": law, "eps": eps}
                | {"only sparse": int((sparse & ~dense).sum())}
                | {"only dense": int((dense & ~sparse).sum())}
                | {"p": answers.paired_difference(sparse, dense)}
            )
    return pandas.DataFrame(rows)


def limits_of(runs: pandas.DataFrame, limit: pandas.DataFrame, eps: float) -> pandas.DataFrame:
    """What became of flows of the smallest lifts when they went on ten thousand times longer."""
    keys = ["problem", "law", "size", "seed"]
    both = runs.merge(limit, on=keys, suffixes=("", " later"))
    first, later = f"t_{eps:g}", f"t_{eps:g} later"
    met, met_later = both[first].notna(), both[later].notna()
    stuck = ~met_later & (both["certified later"] == 1)
    words = pandas.DataFrame(
        {
            "runs": True,
            "converged by 1e4": met,
            "converged by 1e8": met_later,
            "stuck": stuck,
            "undecided": ~met_later & ~stuck,
            "verdicts contradict": met & ~met_later,
        }
    )
    return words.groupby([both.problem, both.law, both["size"]]).sum()


def kept(folder: str | None, file: Path) -> pandas.DataFrame:
    """The ends of the runs in a folder, kept in a file; or, without one, those kept before."""
    if folder is not None:
        ends_of(folder).to_csv(file, index=False, float_format="%.4g")
    return pandas.read_csv(file)


def main(folders: list[str]) -> None:
    results, longer = (*folders, None, None)[:2]
    runs, limit = kept(results, HERE / "runs.csv"), kept(longer, HERE / "limit.csv")
    pandas.set_option("display.width", 200)
    for eps in LOSSES:
        print(f"\nP(L <= {eps:g})\n{probabilities_of(runs, eps).to_string()}")
        print(f"\nSparse against dense, L <= {eps:g}\n{paired_laws(runs, eps).to_string()}")
        print(f"\nOn to t = 1e8, L <= {eps:g}\n{limits_of(runs, limit, eps).to_string()}")
    numbers = learning_numbers(runs)
    numbers.to_csv(HERE / "learning_numbers.csv", index=False, float_format="%.4g")
    print(f"\nLearning numbers, delta = {QUESTION.delta:g}\n{numbers.to_string()}")
    probability_figure(runs).savefig(HERE / "probability.png", dpi=200)
    learning_figure(numbers, runs).savefig(HERE / "learning_number.png", dpi=200)


if __name__ == "__main__":
    main(sys.argv[1:])
