"""How many samples can a small ReLU network learn by heart: by the flow, and by their steps?

python studies/15_samples_and_neurons/run.py            # an hour; goes on where it stopped
python studies/15_samples_and_neurons/run.py --quick    # under a minute
"""

import dataclasses
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
import scipy.stats
import tyro

import flowlift
from flowlift import plot, tasks
from flowlift.doing import shown

NEURONS, SEEDS, QUICK_SEEDS = 30, 20, 3
# Their fractions of converged runs, of 20 each, by dimension and number of samples.
PUBLISHED = {
    10: {10: 1.0, 20: 0.95, 30: 0.45, 40: 0.05, 50: 0.0},
    20: {40: 1.0, 60: 0.95, 80: 0.3, 100: 0.2, 120: 0.0},
    30: {90: 0.95, 120: 0.85, 150: 0.45, 180: 0.15, 210: 0.0},
}
PUBLISHED_RUNS = 20
QUICK = {10: (20, 30)}
# Their step, and a tenth of it; in the time that their loss, p/2 times ours, has.
STEP_SIZES = (1.0, 0.1)
# Where a flow is given up: it counts as not observed.
MOST = 200_000


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "samples_and_neurons"


def predict(model, x):
    """(1/p) sum_j a_j relu(<w_j, x>)."""
    return jax.nn.relu(x @ model["w"].T) @ model["a"] / len(model["a"])


def problem(
    dimension: int, samples: int, seed: int, neurons: int = NEURONS
) -> tuple[dict, tasks.Task]:
    """Isotropic inputs of length 1 to 2, random signs times 1 to 2, and the network at its start.

    Weights are those of their code, uniform from -d^(-1/2) to d^(-1/2), of length 0.58 on average;
    their text has the sphere of radius d^(-1/2).
    """
    rng = np.random.default_rng([seed, samples, dimension])
    x = rng.standard_normal((samples, dimension))
    x *= rng.uniform(1, 2, (samples, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.uniform(1, 2, samples) * rng.choice([-1, 1], samples)
    w = rng.uniform(-1, 1, (neurons, dimension)) / dimension**0.5
    a = rng.choice([-1, 1], neurons) * (np.linalg.norm(w, axis=1) + rng.exponential(1, neurons))
    return {"w": jnp.asarray(w), "a": jnp.asarray(a)}, tasks.supervised(x, y, apply=predict)


def steps_of(samples: int, neurons: int = NEURONS) -> int:
    """Their number of steps of size 1."""
    weights = samples * neurons
    return int(1.5 * weights**0.5 * np.log(weights) / 4 + 1)


@jax.jit
def descend(model, x, y, steps, step_size):
    """Gradient descent until the loss is at most 1/n or the steps are done; its last loss."""

    def loss(m):
        return jnp.mean((predict(m, x) - y) ** 2)

    def step(carry):
        k, now, _ = carry
        value, slope = jax.value_and_grad(loss)(now)
        # Their loss is p/2 times the mean.
        after = jax.tree.map(lambda w, g: w - step_size * len(model["a"]) / 2 * g, now, slope)
        return k + 1, after, value

    def goes_on(carry):
        return (carry[0] < steps) & (carry[2] > 1 / y.shape[0])

    return jax.lax.while_loop(goes_on, step, (0, model, jnp.inf))[2]


def one(dimension: int, samples: int, seed: int) -> dict:
    """The flow and both descents from one start."""
    model, task = problem(dimension, samples, seed)
    data, steps = task.objective, steps_of(samples)
    solution = flowlift.solve(
        model,
        task,
        steps * NEURONS / 2,
        rtol=1e-3,
        atol=1e-6,
        stops=[flowlift.LossBelow(1 / samples)],
        max_gradients=MOST,
    )
    row = {"d": dimension, "n": samples, "seed": seed, "flow": solution.result.value}
    row |= {"loss x n": solution.loss[-1] * samples, "gradients": solution.stats.cost}
    for step_size in STEP_SIZES:
        last = descend(model, data.inputs, data.targets, round(steps / step_size), step_size)
        row[f"GD {step_size:g}: loss x n"] = float(last) * samples
    return row


def run(options: Options) -> pandas.DataFrame:
    """All runs; those that the table holds already are not repeated."""
    path = options.figures / "summary.csv"
    rows = pandas.read_csv(path).to_dict("records") if path.is_file() else []
    done = {(row["d"], row["n"], row["seed"]) for row in rows}
    grid = QUICK if options.quick else PUBLISHED
    options.figures.mkdir(parents=True, exist_ok=True)
    for dimension, sizes in grid.items():
        for samples in sizes:
            for seed in range(QUICK_SEEDS if options.quick else SEEDS):
                if (dimension, samples, seed) not in done:
                    rows.append(one(dimension, samples, seed))
            pandas.DataFrame(rows).to_csv(path, float_format="%.6g", index=False)
    return pandas.DataFrame(rows)


def fractions(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By d and n: how many converged by each method, and Fisher's p against the published."""
    found = []
    for (dimension, samples), part in rows.groupby(["d", "n"]):
        theirs = round(PUBLISHED[dimension][samples] * PUBLISHED_RUNS)
        counts = {
            "flow": int((part.flow == "loss below").sum()),
            **{f"GD {s:g}": int((part[f"GD {s:g}: loss x n"] <= 1).sum()) for s in STEP_SIZES},
        }
        row = {"d": dimension, "n": samples, "runs": len(part), "theirs": theirs}
        row["not observed"] = int((part.flow == "budget").sum())
        for name, count in counts.items():
            table = [[count, len(part) - count], [theirs, PUBLISHED_RUNS - theirs]]
            row |= {name: count, f"p {name}": scipy.stats.fisher_exact(table).pvalue}
        found.append(row | {"gradients": part.gradients.median()})
    return pandas.DataFrame(found)


def half(sizes, shares) -> float:
    """Where a share falls through one half, linear between sizes; nan if it does not."""
    sizes, shares = np.asarray(sizes, float), np.asarray(shares, float)
    below = np.flatnonzero((shares[1:] < 0.5) & (shares[:-1] >= 0.5))
    if not len(below):
        return np.nan
    k = below[0]
    part = (shares[k] - 0.5) / (shares[k] - shares[k + 1])
    return sizes[k] + part * (sizes[k + 1] - sizes[k])


def halves(table: pandas.DataFrame) -> pandas.DataFrame:
    """By d: the number of samples at which half of the runs converge."""
    found = []
    for dimension, part in table.groupby("d"):
        row = {"d": dimension, "theirs": half(part.n, part.theirs / PUBLISHED_RUNS)}
        for name in ("flow", *(f"GD {s:g}" for s in STEP_SIZES)):
            row[name] = half(part.n, part[name] / part.runs)
        found.append(row)
    return pandas.DataFrame(found)


def draw(table: pandas.DataFrame):
    dimensions = sorted(set(table.d))
    figure = plt.figure(figsize=(12.0, 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(dimensions), sharey=True))
    for panel, dimension in zip(panels, dimensions, strict=True):
        part = table[table.d == dimension]
        panel.plot(part.n, part.theirs / PUBLISHED_RUNS, "ks--", label="published, GD step 1")
        for name, marker in (("GD 1", "^"), ("GD 0.1", "v"), ("flow", "o")):
            panel.plot(part.n, part[name] / part.runs, marker=marker, ms=5, label=f"ours, {name}")
        panel.set(xlabel=f"samples n (d = {dimension})", ylim=(-0.05, 1.05))
        panel.grid(alpha=0.25)
    panels[0].set(ylabel="share of runs with loss ≤ 1/n in time")
    panels[0].legend(fontsize=7)
    plot.caption(
        panels[0],
        f"{NEURONS} ReLUs learn n random labels in d dimensions. Gradient descent with their step "
        "should fall where theirs falls. Where the flow, and smaller steps, lie to the right of "
        "it, it is the step that fails, and not the network.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    table = fractions(run(options))
    table.to_csv(options.figures / "fractions.csv", float_format="%.4g", index=False)
    draw(table).savefig(options.figures / "samples_and_neurons.png", dpi=160)
    print(table.to_string(index=False, float_format="%.3g"))
    print(halves(table).to_string(index=False, float_format="%.4g"))
    for name in ("GD 1", "flow"):
        pooled = scipy.stats.combine_pvalues(table[f"p {name}"].clip(upper=1.0)).pvalue
        print(f"{name} against theirs, all points together (Fisher's method): p = {pooled:.2g}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("15_samples_and_neurons"):
        main(chosen)
