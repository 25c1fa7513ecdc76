"""Does the flow of an exponential loss find the largest margin, and how slowly?

python studies/16_max_margin/run.py            # a few minutes
python studies/16_max_margin/run.py --quick    # under a minute
"""

import dataclasses
import itertools
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
import scipy.optimize
import tyro

import flowlift
from flowlift import modules, plot, tasks
from flowlift.doing import shown
from flowlift.flow import LogLoss

# Horizons in log(1 + t): t goes to e^1000.
HORIZON, QUICK_HORIZON = 1000.0, 100.0
SAMPLES, NEURONS, COPIES = 12, 100, 60
# Directions of a neuron in a plane, for the linear programme.
ANGLES = 2000
# Of linear networks; and of ReLUs, where RKC2 steps across the kinks, along which neurons slide. At
# tight tolerances every method follows each crossing: tsit5 spends its budget, or gives up.
RTOL, LOOSE = 1e-6, 1e-3


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the shorter flows.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "max_margin"


def separable() -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane with labels +-1 that a line through 0 separates, with little to spare."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * SAMPLES, 2))
    normal = np.array([0.6, 0.8])
    x = x[np.abs(x @ normal) > 0.1][:SAMPLES]
    return x, np.sign(x @ normal)


def crossed(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that no line separates: the sign of x_1 x_2, with few samples near the axes."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20 * SAMPLES, dimension))
    x = x[np.abs(x[:, 0] * x[:, 1]) > 0.2][:SAMPLES]
    return x, np.sign(x[:, 0] * x[:, 1])


def largest_margin(features: np.ndarray, y: np.ndarray) -> float:
    """The largest gamma with y F >= gamma, F = features c, sum |c| <= 1: a linear programme."""
    signed = y[:, None] * features
    # c = p - q, p, q >= 0, sum (p + q) <= 1; maximise gamma.
    samples, count = signed.shape
    cost = np.zeros(2 * count + 1)
    cost[-1] = -1
    above = np.hstack([-signed, signed, np.ones((samples, 1))])
    total = np.append(np.ones(2 * count), 0.0)
    bounds = [(0, None)] * (2 * count) + [(None, None)]
    found = scipy.optimize.linprog(
        cost, np.vstack([above, total]), np.append(np.zeros(samples), 1.0), bounds=bounds
    )
    return float(found.x[-1])


def of_lines(x: np.ndarray, y: np.ndarray) -> float:
    """max over |w| = 1 of min y <w, x>: the hard-margin support vector machine, a quadratic one."""
    found = scipy.optimize.minimize(
        lambda w: w @ w / 2,
        np.linalg.lstsq(x, 2 * y, rcond=None)[0],
        jac=lambda w: w,
        constraints={
            "type": "ineq",
            "fun": lambda w: y * (x @ w) - 1,
            "jac": lambda w: y[:, None] * x,
        },
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return 1 / float(np.linalg.norm(found.x))


def of_relus(x: np.ndarray, y: np.ndarray, planes) -> float:
    """The largest y F / |theta|^2 of any number of ReLUs, each in one of the planes.

    |a|^2 + |w|^2 >= 2 |a| |w|, so that it is half the largest margin at sum |a_j| |w_j| <= 1.
    Directions are on a grid: what it misses is of relative size (2 pi / ANGLES)^2.
    """
    angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    features = [np.maximum(x[:, list(plane)] @ directions, 0) for plane in planes]
    return largest_margin(np.concatenate(features, axis=1), y) / 2


def relus(model, x):
    return jax.nn.relu(x @ model["w"].T) @ model["a"]


def linear():
    x, y = separable()
    task = tasks.supervised(x, y, "exponential", apply=lambda m, x: x @ m["w"])
    return {"w": jnp.array([0.1, -0.1])}, task, 1.0, of_lines(x, y)


def dense():
    x, y = crossed(2)
    rng = np.random.default_rng(2)
    w = rng.standard_normal((NEURONS, 2))
    a = np.linalg.norm(w, axis=1) * rng.choice([-1, 1], NEURONS)
    model = {"w": jnp.asarray(0.1 * w), "a": jnp.asarray(0.1 * a)}
    return model, tasks.supervised(x, y, "exponential", apply=relus), 2.0, of_relus(x, y, [(0, 1)])


def sparse():
    """Copies that see two of four inputs each; the planes are all that were drawn."""
    x, y = crossed(4)
    module = modules.mlp(4, depth=1, activation="relu", bias=False, vector_input=False)
    lift = flowlift.sample(
        module,
        copies=COPIES,
        edges={"x->h1": flowlift.FixedInDegree(2)},
        weights={"*": flowlift.lift.Gaussian(0.1), "h1->y": flowlift.lift.Gaussian(0.1)},
        seed=0,
    )
    planes = list(itertools.combinations(range(4), 2))
    return lift, tasks.supervised(x, y, "exponential"), 2.0, of_relus(x, y, planes)


CASES = {"linear": linear, "dense ReLU": dense, "sparse lift, ReLU": sparse}


def one(name: str, horizon: float) -> pandas.DataFrame:
    """One flow: its normalised margin against log(1 + t), and the largest that there is."""
    model, task, degree, best = CASES[name]()
    solver, rtol = ("auto", RTOL) if name == "linear" else ("rkc2", LOOSE)
    solution = flowlift.solve(
        model,
        task,
        horizon,
        dynamics=LogLoss(degree),
        save=np.concatenate([[0.0], np.geomspace(0.1, horizon, 60)]),
        solver=solver,
        rtol=rtol,
        atol=rtol / 1000,
    )
    margin = solution.observations["normalised_margin"]
    return pandas.DataFrame(
        {
            "network": name,
            "log t": solution.times,
            "log L": solution.observations["log_loss"],
            "margin": margin,
            "largest": best,
            "short by": 1 - margin / best,
            "gradients": solution.stats.cost,
            "result": solution.result.value,
        }
    )


def ends(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By network: margins, the exponent of log t with which they close, whether they ever fell."""
    found = []
    for name, part in rows.groupby("network", sort=False):
        last = part.iloc[-1]
        late = part[part["log t"] >= last["log t"] / 10]
        # Once L is below 1/n the normalised margin never falls (Lyu and Li, ICLR 2020).
        below = part[part["log L"] < -np.log(SAMPLES)].margin.values
        found.append(
            {
                "network": name,
                "log t": last["log t"],
                "log L": last["log L"],
                "margin": last.margin,
                "largest": last.largest,
                "short by": last["short by"],
                "exponent": np.polyfit(np.log(late["log t"]), np.log(late["short by"]), 1)[0]
                if (late["short by"] > 0).all()
                else np.nan,
                "falls by": float(np.max(-np.diff(below), initial=0.0)),
                "gradients": last.gradients,
                "result": last.result,
            }
        )
    return pandas.DataFrame(found)


def draw(rows: pandas.DataFrame):
    figure = plt.figure(figsize=(9.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, part) in enumerate(rows.groupby("network", sort=False)):
        part = part[(part["log t"] > 0) & (part.margin > 0)]
        left.plot(part["log t"], part.margin / part.largest, color=f"C{k}", label=name)
        right.plot(part["log t"], part["short by"], color=f"C{k}", label=name)
    left.axhline(1, color="k", lw=1, ls="--", label="largest")
    left.set(
        xscale="log", xlabel="log(1 + t)", ylabel="normalised margin / largest", ylim=(0, 1.05)
    )
    late = np.geomspace(10, rows["log t"].max(), 2)
    right.plot(late, 3 / late, "k--", lw=1, label="like 1 / log t")
    right.set(xscale="log", yscale="log", xlabel="log(1 + t)", ylabel="1 - margin / largest")
    for panel in (left, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        left,
        "Exponential loss, to t = e^1000. Left: normalised margins rise towards the largest that "
        "any parameters have (by a quadratic and two linear programmes). Right: what is missing, "
        "which falls like 1 / log t where the flow finds that maximum.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    horizon = QUICK_HORIZON if options.quick else HORIZON
    rows = pandas.concat([one(name, horizon) for name in CASES])
    options.figures.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.figures / "summary.csv", float_format="%.8g", index=False)
    draw(rows).savefig(options.figures / "max_margin.png", dpi=160)
    table = ends(rows)
    print(table.to_string(index=False, float_format="%.4g"))
    # Of a fall, what the tolerance of the flow leaves.
    falls = (table["falls by"] <= LOOSE * table.largest).all()
    above = (table["short by"] >= -LOOSE).all()
    print("no margin falls, none is above the largest:", "holds" if falls and above else "FAILS")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("16_max_margin"):
        main(chosen)
