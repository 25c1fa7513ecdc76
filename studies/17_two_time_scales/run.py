"""Does a fast outer layer make the flow of a network of steps find all jumps?

python studies/17_two_time_scales/run.py            # a few minutes
python studies/17_two_time_scales/run.py --quick    # under a minute
"""

import dataclasses
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas
import scipy.stats
import tyro

import flowlift
from flowlift import plot, tasks
from flowlift.doing import shown

# The published setting: a bias and five jumps, twenty neurons, the width of a smoothed step.
BIAS, HEIGHTS, JUMPS = 1.0, (4.0, -4.0, 2.0, -2.0, 4.0), (0.2, 0.35, 0.5, 0.65, 0.8)
NEURONS, WIDTH = 20, 4e-3
# Rates of the positions, as parts of that of the weights.
RATIOS, SEEDS, QUICK_SEEDS = (1.0, 0.1, 0.01), 20, 3
# Midpoints of [0, 1] that stand for the uniform law: eight in each smoothed step.
POINTS, QUICK_POINTS = 2000, 1000
# Time of the positions, rate x t, after which a flow is over.
HORIZON, QUICK_HORIZON = 5.0, 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "two_time_scales"


def predict(model, x):
    """b + sum_j a_j s(x - u_j), s a step smoothed over WIDTH."""
    ramp = jnp.clip((x[:, None] - model["position"]) / WIDTH + 0.5, 0, 1)
    return model["bias"] + ramp @ model["weight"]


def target(x: np.ndarray) -> np.ndarray:
    return BIAS + (x[:, None] > np.array(JUMPS)) @ np.array(HEIGHTS)


def floor() -> float:
    """What smoothing leaves of the loss when all jumps are found: heights squared x WIDTH / 12."""
    return float(np.sum(np.square(HEIGHTS)) * WIDTH / 12)


def one(ratio: float, seed: int, quick: bool) -> dict:
    """One flow from weights 0 and uniform positions; whether every jump has a neuron at its end."""
    points = QUICK_POINTS if quick else POINTS
    x = (np.arange(points) + 0.5) / points
    start = np.sort(np.random.default_rng(seed).uniform(0, 1, NEURONS))
    model = {
        "bias": jnp.zeros(()),
        "weight": jnp.zeros(NEURONS),
        "position": jnp.asarray(start),
    }
    solution = flowlift.solve(
        model,
        tasks.supervised(x, target(x), apply=predict),
        (QUICK_HORIZON if quick else HORIZON) / ratio,
        rates={"position": ratio, "*": 1.0},
        # The smoothed step has kinks, at the positions where a sample enters or leaves it.
        solver="rkc2",
        rtol=1e-3,
        atol=1e-5,
        stops=[flowlift.LossBelow(1.1 * floor()), flowlift.Stagnation(1e-3, 10.0)],
        max_gradients=40_000,
    )
    found = np.asarray(solution.model["position"])
    nearest = [float(np.abs(found - jump).min()) for jump in JUMPS]
    return {
        "ratio": ratio,
        "seed": seed,
        "result": solution.result.value,
        "time of positions": ratio * solution.time,
        "loss": solution.loss[-1],
        "loss / floor": solution.loss[-1] / floor(),
        "jumps found": sum(gap < WIDTH / 2 for gap in nearest),
        "farthest jump": max(nearest),
        "gradients": solution.stats.cost,
    }


def successes(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By ratio: flows that found all jumps, with an interval, and their losses."""
    found = []
    for ratio, part in rows.groupby("ratio", sort=False):
        all_found = int((part["jumps found"] == len(JUMPS)).sum())
        interval = scipy.stats.binomtest(all_found, len(part)).proportion_ci(method="exact")
        found.append(
            {
                "ratio": ratio,
                "runs": len(part),
                "all jumps found": all_found,
                "low": interval.low,
                "high": interval.high,
                "jumps found, mean": part["jumps found"].mean(),
                "loss / floor, median": part["loss / floor"].median(),
                "gradients, median": part.gradients.median(),
            }
        )
    return pandas.DataFrame(found)


def draw(rows: pandas.DataFrame, table: pandas.DataFrame):
    figure = plt.figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    share = table["all jumps found"] / table.runs
    errors = [share - table.low, table.high - share]
    left.errorbar(table.ratio, share, yerr=errors, fmt="o-", capsize=3)
    left.set(xscale="log", ylim=(-0.05, 1.05), xlabel="rate of positions / rate of weights")
    left.set(ylabel="share of flows that find all five jumps")
    for k, (ratio, part) in enumerate(rows.groupby("ratio", sort=False)):
        order = np.sort(part["loss / floor"])
        right.plot(order, (np.arange(len(order)) + 1) / len(order), "o-", ms=3, color=f"C{k}")
        right.plot([], [], "o-", ms=3, color=f"C{k}", label=f"ratio {ratio:g}")
    right.set(xscale="log", xlabel="loss at the end / least loss of smoothed steps")
    right.set(ylabel="share of flows below")
    right.legend(fontsize=8)
    for panel in (left, right):
        panel.grid(alpha=0.25)
    plot.caption(
        left,
        "Twenty smoothed steps learn a function with five jumps. Left: the slower positions move "
        "against weights, the more flows find every jump (95% intervals). Right: their losses.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    rows = pandas.DataFrame([one(r, seed, options.quick) for r in RATIOS for seed in seeds])
    options.figures.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.figures / "summary.csv", float_format="%.6g", index=False)
    table = successes(rows)
    draw(rows, table).savefig(options.figures / "two_time_scales.png", dpi=160)
    print(table.to_string(index=False, float_format="%.3g"))
    print(rows.groupby("ratio", sort=False).result.value_counts().to_string())
    first, last = table.iloc[0], table.iloc[-1]
    counts = [[t["all jumps found"], t.runs - t["all jumps found"]] for t in (last, first)]
    p = scipy.stats.fisher_exact(counts, alternative="greater").pvalue
    print(f"all found: {first['all jumps found']:g} to {last['all jumps found']:g}, p = {p:.2g}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("17_two_time_scales"):
        main(chosen)
