"""The same in 100 dimensions, beside their ten points of 80 runs.

python studies/15_samples_and_neurons/large.py             # 80 seeds, an hour; can go on
python studies/15_samples_and_neurons/large.py --seeds 20 --tenths 0 --flows 0
"""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import pandas
import run as small
import scipy.stats
import tyro

import flowlift
from flowlift import plot
from flowlift.doing import shown

DIMENSION = 100
# Their fractions of converged runs, of 80 each, with 36 or 37 neurons.
PUBLISHED = {
    **{1300: 1.0, 1350: 0.9875, 1400: 1.0, 1450: 1.0, 1500: 0.9625, 1550: 0.85},
    **{1600: 0.85, 1650: 0.675, 1700: 0.25, 1750: 0.0375, 1800: 0.0},
}
PUBLISHED_RUNS = 80
NEURONS = (36, 37)
# Step and time, in units of theirs.
DESCENTS = {"GD 1": (1.0, 1), "GD 1, twice the time": (1.0, 2), "GD 0.1": (0.1, 1)}
MARKERS = {"GD 1": "o", "GD 1, twice the time": "^", "GD 0.1": "v", "flow": "D"}
OTHERS = ("GD 1, twice the time", "GD 0.1")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        seeds: descents with their step, of each number of samples and of neurons.
        tenths: of these, how many are repeated with a tenth of the step, and for twice the time,
            with 36 neurons.
        flows: of these, how many by the flow.
        from_size: tenths and flows are of so many samples or more.
        figures: folder of figure and tables; runs in the table are not repeated.
    """

    seeds: int = PUBLISHED_RUNS
    tenths: int = 4
    flows: int = 4
    from_size: int = 1550
    figures: Path = Path("results") / "samples_and_neurons"


def runs_of(options: Options) -> list[tuple[str, int, int, int]]:
    """Method, neurons, samples, seed: with 36 neurons first."""
    first, second = (
        [("GD 1", p, n, s) for s in range(options.seeds) for n in PUBLISHED] for p in NEURONS
    )
    late = [(NEURONS[0], n, s) for n, s in _late(options)]
    others = [(m, *place) for m in OTHERS for place in late if place[2] < options.tenths]
    flows = [("flow", *place) for place in late if place[2] < options.flows]
    return first + others + flows + second


def _late(options: Options) -> list[tuple[int, int]]:
    sizes = [n for n in PUBLISHED if n >= options.from_size]
    return [(n, s) for s in range(max(options.tenths, options.flows)) for n in sizes]


def one(method: str, neurons: int, samples: int, seed: int) -> dict:
    """One descent or flow, with the loss at which it ended."""
    model, task = small.problem(DIMENSION, samples, seed, neurons)
    data, steps = task.objective, small.steps_of(samples, neurons)
    row = {"method": method, "p": neurons, "n": samples, "seed": seed}
    if method != "flow":
        step, longer = DESCENTS[method]
        last = small.descend(model, data.inputs, data.targets, round(longer * steps / step), step)
        return row | {"loss x n": float(last) * samples, "ended": ""}
    stops = [flowlift.LossBelow(1 / samples)]
    solution = flowlift.solve(
        model,
        task,
        steps * neurons / 2,
        rtol=1e-3,
        atol=1e-6,
        stops=stops,
        max_gradients=small.MOST,
    )
    ended = {"ended": solution.result.value, "gradients": solution.stats.cost}
    return row | {"loss x n": solution.loss[-1] * samples, "time": solution.time} | ended


def run(options: Options) -> pandas.DataFrame:
    """All runs; those that the table holds already are not repeated."""
    path, keys = options.figures / "large.csv", ["method", "p", "n", "seed"]
    options.figures.mkdir(parents=True, exist_ok=True)
    rows = pandas.read_csv(path).to_dict("records") if path.is_file() else []
    done = {tuple(row[key] for key in keys) for row in rows}
    for place in runs_of(options):
        if place not in done:
            rows.append(one(*place))
            # Renamed when it is whole: a kill loses the run under way and no other.
            whole = path.with_suffix(".new")
            pandas.DataFrame(rows).to_csv(whole, float_format="%.6g", index=False)
            whole.replace(path)
    return pandas.DataFrame(rows)


def fractions(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By method, p and n: how many converged, and Fisher's p against the published."""
    found = []
    for (method, neurons, samples), part in rows.groupby(["method", "p", "n"]):
        theirs = round(PUBLISHED[samples] * PUBLISHED_RUNS)
        count, unseen = int((part["loss x n"] <= 1).sum()), int((part.ended == "budget").sum())
        table = [[count, len(part) - unseen - count], [theirs, PUBLISHED_RUNS - theirs]]
        row = {"method": method, "p": neurons, "n": samples, "runs": len(part), "converged": count}
        row |= {"not observed": unseen, "theirs of 80": theirs}
        found.append(row | {"Fisher's p": scipy.stats.fisher_exact(table).pvalue})
    return pandas.DataFrame(found)


def draw(table: pandas.DataFrame) -> plt.Figure:
    figure = plt.figure(figsize=(7.0, 4.6), layout="constrained")
    panel = figure.subplots()
    shares = list(PUBLISHED.values())
    panel.plot(list(PUBLISHED), shares, "ks--", label="published, GD step 1, p = 36 or 37")
    for (method, neurons), part in table.groupby(["method", "p"]):
        seen = part.runs - part["not observed"]
        label = f"ours, {method}, p = {neurons}"
        share = part.converged / seen.where(seen > 0)
        panel.plot(part.n, share, marker=MARKERS[method], ms=6, mfc="none", label=label)
    panel.set(xlabel="samples n (d = 100)", ylabel="share of runs with loss ≤ 1/n in time")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8)
    plot.caption(
        panel,
        "Gradient descent with their step should fall where theirs falls. Smaller steps and the "
        "flow above it: the bound is the step's. Twice the time above it: the bound is the time's.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    table = fractions(run(options))
    table.to_csv(options.figures / "large_fractions.csv", float_format="%.4g", index=False)
    draw(table).savefig(options.figures / "large.png", dpi=160)
    print(table.to_string(index=False, float_format="%.3g"))
    for (method, neurons), part in table.groupby(["method", "p"]):
        pooled = scipy.stats.combine_pvalues(part["Fisher's p"].clip(upper=1.0)).pvalue
        middle = small.half(part.n, part.converged / part.runs)
        print(
            f"{method}, p = {neurons}: all points together p = {pooled:.2g}; half at {middle:.0f}"
        )
    print(f"theirs: half at {small.half(list(PUBLISHED), list(PUBLISHED.values())):.0f}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("15_samples_and_neurons"):
        main(chosen)
