"""Tables and figure of the study from its results, or from the ends of all runs kept beside it.

    python studies/02_spurious_minima/analyse.py [RESULTS ...]

RESULTS are folders that `flowlift run` wrote, one per number of teachers. The ends of their runs
are kept in `runs.csv`; without folders that file is read.
"""

import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas
from scipy import stats

from flowlift import answers, store, studies

HERE = Path(__file__).parent
RUNS, FIGURE = HERE / "runs.csv", HERE / "spurious_minima.png"
EPS = 1e-3
# Safran & Shamir 2018: of 1000 runs with n = k, those that ended above EPS; the levels at k = 9.
PUBLISHED = {6: 3, 7: 55, 9: 218}
PUBLISHED_RUNS = 1000
PUBLISHED_LEVELS = {9: {0.020014: 213, 0.037489: 5}}
DIGITS = {
    "final_loss": ".7g",
    "gradient_norm": ".2e",
    "least_eigenvalue": ".4g",
    "end_time": ".4g",
    "converged_at": ".4g",
    "seconds": ".3f",
}
TIMES = (1e2, 1e3, 1e4, 1e5, 1e6)


def ends_of(folder: str) -> pandas.DataFrame:
    """One row per run: where it ended, how, and when its loss was first at most EPS."""
    results = store.load(folder)
    met_at, met = answers.time_to_loss(results, EPS)
    columns = {
        "outcome": answers.outcomes(results, EPS),
        "final_loss": results.final_loss,
        "gradient_norm": results.final_gradient_norm,
        "least_eigenvalue": results.least_eigenvalue,
        "end_time": results.end_time,
        "converged_at": met_at.where(met),
        "seconds": results.seconds,
    }
    table = pandas.DataFrame({n: c.to_series() for n, c in columns.items()})
    table = table[table.outcome != ""].reset_index().rename(columns={"size": "students"})
    study = studies.structure_study(tomllib.loads(results.attrs["study"]))
    table.insert(0, "teachers", study.task.teachers)
    return table


def table_of(runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row per (k, n): outcomes, the share of stuck runs, and the test against the paper's."""
    rows = []
    for (k, n), cell in runs.groupby(["teachers", "students"]):
        counts = cell.outcome.value_counts()
        stuck, undecided = int(counts.get("stuck", 0)), int(counts.get("undecided", 0))
        low, high = stats.binomtest(stuck, len(cell)).proportion_ci()
        at_most = stats.binomtest(stuck + undecided, len(cell)).proportion_ci().high
        published = PUBLISHED.get(int(k)) if n == k else None
        rows.append(
            {
                "k": k,
                "n": n,
                "runs": len(cell),
                "converged": int(counts.get("converged", 0)),
                "stuck": stuck,
                "undecided": undecided,
                "share stuck": f"{stuck / len(cell):.2%}",
                "95% interval": f"{low:.2%} .. {high:.2%}",
                "at most": f"{at_most:.2%}",
                "published": "" if published is None else f"{published} / {PUBLISHED_RUNS}",
                "p": "" if published is None else f"{_same(stuck, len(cell), published):.2f}",
                "core s / run": f"{cell.seconds.median():.3f}",
            }
        )
    return pandas.DataFrame(rows)


def _same(stuck: int, runs: int, published: int) -> float:
    """Fisher's exact test that both proportions are equal, two-sided."""
    table = [[stuck, published], [runs - stuck, PUBLISHED_RUNS - published]]
    return float(stats.fisher_exact(table).pvalue)


def levels_of(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The losses at which runs are stuck, to 6 decimals, with counts and their spread."""
    stuck = runs[runs.outcome == "stuck"]
    groups = stuck.groupby(["teachers", "students", stuck.final_loss.round(6).rename("level")])
    table = groups.agg(
        runs=("seed", "size"),
        spread=("final_loss", np.ptp),
        least_eigenvalue=("least_eigenvalue", "min"),
        gradient_norm=("gradient_norm", "max"),
    ).reset_index()
    table["published"] = [
        PUBLISHED_LEVELS.get(int(k), {}).get(level, "") if k == n else ""
        for k, n, level in zip(table.teachers, table.students, table.level, strict=True)
    ]
    return table


def shares_of(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The share of runs whose loss is still above EPS at some times, and at their ends."""
    met = runs.converged_at.fillna(np.inf)
    shares = {f"t = {t:g}": met > t for t in TIMES} | {"end": ~np.isfinite(met)}
    cells = [runs.teachers, runs.students]
    return pandas.DataFrame(shares).groupby(cells).mean().map("{:.1%}".format).reset_index()


def draw(runs: pandas.DataFrame, path: Path) -> None:
    """The share above EPS against t, and where the stuck runs ended."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = {k: f"C{i}" for i, k in enumerate(sorted(runs.teachers.unique()))}
    ends = []
    for i, ((k, n), cell) in enumerate(runs.groupby(["teachers", "students"])):
        times = np.geomspace(10, 1e6, 400)
        met = np.sort(cell.converged_at.fillna(np.inf))
        share = 1 - np.searchsorted(met, times, side="right") / len(met)
        style = "-" if n == k else "--"
        left.plot(times, share, style, color=colours[k], label=f"k = {k}, n = {n}")
        if n == k and k in PUBLISHED:
            left.plot(1e6, PUBLISHED[k] / PUBLISHED_RUNS, "<", color=colours[k], clip_on=False)
        stuck = cell[cell.outcome == "stuck"].final_loss
        jitter = np.linspace(-0.3, 0.3, len(stuck))
        right.plot(i + jitter, stuck, ".", color=colours[k], alpha=0.5)
        for level, count in stuck.round(6).value_counts().items():
            right.annotate(f"{level:.6f}: {count}", (i - 0.3, level + 1e-3), fontsize=8)
        ends.append(f"k = {k}\nn = {n}")
    left.set(xscale="log", xlabel="flow time t", ylabel=f"share of runs with L > {EPS:g}")
    left.legend(fontsize=8, title="triangles: published, n = k")
    right.set(ylabel="loss of stuck runs", xlim=(-0.6, len(ends) - 0.4), ylim=(0, 0.07))
    right.set_xticks(range(len(ends)), ends)
    right.grid(axis="y", alpha=0.3)
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(folders: list[str]) -> None:
    """Read, keep, print and draw."""
    if folders:
        runs = pandas.concat([ends_of(folder) for folder in folders], ignore_index=True)
        runs = runs.sort_values(["teachers", "students", "seed"])
        for column, digits in DIGITS.items():
            runs[column] = runs[column].map(
                lambda x, d=digits: f"{x:{d}}" if np.isfinite(x) else ""
            )
        runs.to_csv(RUNS, index=False)
    runs = pandas.read_csv(RUNS)
    for table in (table_of(runs), levels_of(runs), shares_of(runs)):
        print(answers.as_text(table.set_index(table.columns[0])), end="\n\n")
    draw(runs, FIGURE)


if __name__ == "__main__":
    main(sys.argv[1:])
