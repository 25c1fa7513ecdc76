"""How sharp are the minima where flows of deep linear networks end?

python studies/14_sharpness_at_the_end/run.py            # a few minutes
python studies/14_sharpness_at_the_end/run.py --quick    # under a minute
"""

import dataclasses
import functools
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro

import flowlift
from flowlift import diagnostics, plot, tasks
from flowlift.doing import shown

# The published setting.
SAMPLES, DIMENSION, DEPTH = 50, 5, 10
SCALES, QUICK_SCALES = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6), (0.35, 0.5)
SEEDS, QUICK_SEEDS = 20, 4
# Ends of all flows: a loss at which the minimum is met to nine digits, or the horizon.
DONE, HORIZON = 1e-18, 1e7
# Bounds as published, in units of a = w*^T C w* and of the largest eigenvalue of C.
LOWER, UPPER = 20.0, 80.0
# Gradient descent as published: the smallest of their steps, and their number of them.
STEP_SIZE, STEPS = 0.005, 40_000


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "sharpness_at_the_end"


def predict(model, x):
    """<w, x> with w the product of all layers, the last of which is a row."""
    for layer in model["hidden"]:
        x = x @ layer.T
    return x @ model["read-out"]


def problem(seed: int) -> tuple[tasks.Task, float, float]:
    """Gaussian inputs and y = <w*, x>, |w*| = 1; a = w*^T C w* and the largest eigenvalue of C."""
    rng = np.random.default_rng([seed, 0])
    x = rng.standard_normal((SAMPLES, DIMENSION))
    target = rng.standard_normal(DIMENSION)
    target /= np.linalg.norm(target)
    moments = x.T @ x / SAMPLES
    task = tasks.supervised(x, x @ target, apply=predict)
    return task, float(target @ moments @ target), float(np.linalg.eigvalsh(moments)[-1])


def network(scale: float, seed: int) -> dict:
    """Ten layers of independent N(0, scale^2) entries."""
    rng = np.random.default_rng([seed, 1])
    hidden = [scale * rng.standard_normal((DIMENSION, DIMENSION)) for _ in range(DEPTH - 1)]
    return {"hidden": hidden, "read-out": scale * rng.standard_normal(DIMENSION)}


def one(scale: float, seed: int) -> dict:
    """One flow to its end and the sharpness there, with its residual."""
    task, a, largest = problem(seed)
    solution = flowlift.solve(
        network(scale, seed),
        task,
        HORIZON,
        rtol=1e-5,
        atol=1e-10,
        stops=[flowlift.LossBelow(DONE)],
    )
    first = diagnostics.hessian_ends(network(scale, seed), task)
    found = diagnostics.hessian_ends(solution.model, task)
    return {
        "scale": scale,
        "seed": seed,
        "result": solution.result.value,
        "time": solution.time,
        "loss": solution.loss[-1],
        "sharpness at the start": float(first.highest),
        "sharpness": float(found.highest),
        "residual": float(found.residuals[1]),
        "lower": LOWER * a,
        "upper": UPPER * largest,
        "gradients": solution.stats.cost,
    }


@functools.partial(jax.jit, static_argnames="steps")
def _descend(model, inputs, targets, steps):
    def step(now, _):
        slope = jax.grad(lambda m: jnp.mean((predict(m, inputs) - targets) ** 2))(now)
        return jax.tree.map(lambda w, g: w - STEP_SIZE * g, now, slope), None

    return jax.lax.scan(step, model, length=steps)[0]


def descended(scale: float, seed: int) -> float:
    """The sharpness where gradient descent with their smallest step stands after their steps."""
    task, *_ = problem(seed)
    data = task.objective
    start = jax.tree.map(jnp.asarray, network(scale, seed))
    model = _descend(start, data.inputs, data.targets, STEPS)
    if not bool(jnp.isfinite(model["read-out"]).all()):
        return np.nan
    return float(diagnostics.hessian_ends(model, task).highest)


def shares(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By scale: medians, and how many ends lie between the bounds."""
    met = rows[rows.result == "loss below"]
    inside = (met.sharpness >= met.lower) & (met.sharpness <= met.upper)
    by = met.assign(
        lower_ratio=met.sharpness / met.lower,
        above_lower=met.sharpness >= met.lower,
        inside=inside,
    ).groupby("scale")
    return pandas.DataFrame(
        {
            "flows": rows.groupby("scale").size(),
            "ended": by.size(),
            "least / (20 a)": by.lower_ratio.min(),
            "median / (20 a)": by.lower_ratio.median(),
            "largest / (20 a)": by.lower_ratio.max(),
            "at least 20 a": by.above_lower.sum(),
            "between": by.inside.sum(),
            "median, start": by["sharpness at the start"].median(),
            "median, GD": by["sharpness of GD"].median(),
            "GD diverged": rows["sharpness of GD"].isna().groupby(rows.scale).sum(),
        }
    )


def draw(rows: pandas.DataFrame):
    figure = plt.figure(figsize=(8.0, 5.0), layout="constrained")
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    # Points of one scale side by side.
    place = rows.scale + rng.uniform(-0.008, 0.008, len(rows))
    ax.plot(place, rows.sharpness, "o", ms=3, color="C0", label="end of the flow")
    ax.plot(place, rows["sharpness of GD"], "x", ms=3, color="C1", label="end of GD, η = 0.005")
    start = rows.groupby("scale")["sharpness at the start"].median()
    ax.plot(start.index, start, "k-", lw=1, label="start, median")
    for bound, name in (("lower", "20 a"), ("upper", "80 Λ")):
        ax.axhspan(rows[bound].min(), rows[bound].max(), color="0.5", alpha=0.25)
        ax.text(0.612, rows[bound].max() * 1.1, name, fontsize=8)
    ax.axhline(2 / STEP_SIZE, color="C1", lw=1, ls="--", label="2/η")
    ax.set(yscale="log", xlabel="scale of the Gaussian weights", ylabel="sharpness")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    plot.caption(
        ax,
        "Deep linear networks of ten layers. Each point is one end. Bands: the two bounds over the "
        "data sets. No end is below 20 a; up to a scale of 0.4 all stay below 80 Λ, then "
        "the flow ends as sharp as it began. Descent cannot stay where the sharpness is above 2/η.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    scales = QUICK_SCALES if options.quick else SCALES
    seeds = range(QUICK_SEEDS if options.quick else SEEDS)
    rows = pandas.DataFrame(
        [
            one(scale, seed) | {"sharpness of GD": descended(scale, seed)}
            for scale in scales
            for seed in seeds
        ]
    )
    options.figures.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.figures / "summary.csv", float_format="%.6g", index=False)
    draw(rows).savefig(options.figures / "sharpness_at_the_end.png", dpi=160)
    table = shares(rows)
    print(table.to_string(float_format="%.3g"))
    print("results:", rows.result.value_counts().to_dict(), "largest residual", rows.residual.max())
    low = int(table["at least 20 a"].sum()), int(table.ended.sum())
    verdict = "holds" if low[0] == low[1] else "FAILS"
    print(f"at least 20 a: {low[0]} of {low[1]}, the lower bound {verdict}")
    both = int(table.between.sum())
    print(f"between both: {both} of {low[1]}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("14_sharpness_at_the_end"):
        main(chosen)
