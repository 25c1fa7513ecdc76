"""At which times does a flow from small weights leave its saddles?

python studies/11_saddle_to_saddle/run.py            # two minutes
python studies/11_saddle_to_saddle/run.py --quick    # under a minute
"""

import dataclasses
import math
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro

import flowlift
from flowlift import diagnostics, modules, plot, tasks
from flowlift.doing import shown

ALPHAS, QUICK_ALPHAS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12), (1e-2, 1e-4, 1e-8)
# Depth 3 takes a time of order 1 / alpha.
CUBIC_ALPHAS, QUICK_CUBIC_ALPHAS = (1e-1, 1e-2, 1e-3, 1e-4), (1e-1, 1e-2, 1e-3)
TARGET = np.array([2.0, 1.0, 0.5])
WIDTH = 8
RTOL = 1e-7
# Save times between which a jump, which takes a time of order 1, is interpolated.
SAVES = 2000


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "saddle_to_saddle"


def crossing(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """The first time at which values pass the level, linear between save times; nan if never."""
    passed = np.flatnonzero((values[1:] >= level) & (values[:-1] < level))
    if not len(passed):
        return math.nan
    k = passed[0]
    part = (level - values[k]) / (values[k + 1] - values[k])
    return float(times[k] + part * (times[k + 1] - times[k]))


def jumps(model, loss, horizon: float, alpha: float, modes) -> tuple[list[float], pandas.DataFrame]:
    """Times at which each mode is half of its target, and the loss along the flow.

    Errors must be small against weights of size alpha: atol is rtol alpha.
    """
    solution = flowlift.solve(
        model,
        loss,
        horizon,
        rtol=RTOL,
        atol=RTOL * alpha,
        save=np.linspace(0, horizon, SAVES + 1),
        observers={"modes": modes},
    )
    seen = solution.observations["modes"]
    found = [crossing(solution.times, seen[:, i], TARGET[i] / 2) for i in range(len(TARGET))]
    return found, pandas.DataFrame({"t": solution.times, "loss": solution.loss})


def diagonal(alpha: float) -> tuple[list[float], pandas.DataFrame]:
    """L = |u o v - target|^2 / 2 from u = sqrt(2) alpha, v = 0 (Pesme & Flammarion 2023)."""
    model = {"u": jnp.full(3, 2**0.5 * alpha), "v": jnp.zeros(3)}

    def loss(m):
        return jnp.sum((m["u"] * m["v"] - TARGET) ** 2) / 2

    horizon = 1.2 * math.log(1 / alpha) / TARGET.min() + 10
    return jumps(model, loss, horizon, alpha, lambda m: m["u"] * m["v"])


def frames() -> tuple[np.ndarray, np.ndarray]:
    """Left and right singular vectors of the target of the linear networks."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    return left, right


def linear(alpha: float) -> tuple[list[float], pandas.DataFrame]:
    """L = |W2 W1 - Y|^2 / 2, 8 hidden units, independent Gaussian weights of scale alpha."""
    left, right = frames()
    y = left * TARGET @ right.T
    rng = np.random.default_rng(1)
    model = {
        "W1": jnp.asarray(alpha * rng.standard_normal((WIDTH, 3))),
        "W2": jnp.asarray(alpha * rng.standard_normal((3, WIDTH))),
    }

    def loss(m):
        return jnp.sum((m["W2"] @ m["W1"] - y) ** 2) / 2

    horizon = 1.2 * math.log(1 / alpha) / TARGET.min() + 10
    modes = lambda m: jnp.diag(left.T @ m["W2"] @ m["W1"] @ right)
    return jumps(model, loss, horizon, alpha, modes)


def cubic(alpha: float) -> tuple[list[float], pandas.DataFrame]:
    """L = |W3 W2 W1 - Y|^2 / 2, square layers, alpha times rotations that fit together."""
    left, right = frames()
    y = left * TARGET @ right.T
    rng = np.random.default_rng(2)
    first, second = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    layers = (first @ right.T, second @ first.T, left @ second.T)
    model = [jnp.asarray(alpha * layer) for layer in layers]

    def loss(m):
        return jnp.sum((m[2] @ m[1] @ m[0] - y) ** 2) / 2

    horizon = 1.2 / alpha / TARGET.min() + 20
    modes = lambda m: jnp.diag(left.T @ m[2] @ m[1] @ m[0] @ right)
    return jumps(model, loss, horizon, alpha, modes)


def lift_problem() -> tuple[flowlift.Lift, tasks.Task]:
    """A sparse lift of x -> tanh -> y, 64 copies that see 2 of 6 inputs; targets Y x."""
    module = modules.mlp(6, 3, depth=1, bias=False, vector_input=False)
    lift = flowlift.sample(
        module,
        copies=64,
        edges={"x->h1": flowlift.FixedInDegree(2)},
        weights={"*": flowlift.lift.Gaussian(1.0), "h1->y": flowlift.lift.Gaussian(1.0)},
        seed=0,
    )
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 6))
    return lift, tasks.supervised(x, x @ (rng.standard_normal((6, 3)) * [2.0, 1.0, 0.5]))


def scaled(lift: flowlift.Lift, alpha: float) -> flowlift.Lift:
    """The lift with all of its weights times alpha."""
    weights, rest = eqx.partition(lift, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda w: alpha * w, weights), rest)


def escape_rates() -> np.ndarray:
    """The largest -lambda of the Hessian at 0, a saddle of every network of two layers; distinct.

    Copies that see the same two inputs share their eigenvalues.
    """
    lift, task = lift_problem()
    found = diagnostics.hessian_top(scaled(lift, 0.0), lambda m: -task.objective(m), 16)
    return np.unique(np.asarray(found.values).round(6))[::-1]


def sparse(alpha: float, rate: float) -> tuple[list[float], pandas.DataFrame]:
    """When the lift's loss has fallen by a tenth: the first jump."""
    lift, task = lift_problem()
    horizon = 1.3 * math.log(1 / alpha) / rate + 5 / rate
    solution = flowlift.solve(
        scaled(lift, alpha),
        task,
        horizon,
        rtol=RTOL,
        atol=RTOL * alpha,
        save=np.linspace(0, horizon, SAVES + 1),
    )
    fallen = 1 - solution.loss / solution.loss[0]
    record = pandas.DataFrame({"t": solution.times, "loss": solution.loss})
    return [crossing(solution.times, fallen, 0.1)], record


def rows(family: str, found, predicted) -> list[dict]:
    """One row a jump: `found` holds (alpha, times), `predicted` the limit of t / unit."""
    return [
        {"network": family, "alpha": alpha, "jump": i + 1, "t": t, "predicted": predicted[i]}
        for alpha, times in found
        for i, t in enumerate(times)
    ]


def fits(table: pandas.DataFrame) -> pandas.DataFrame:
    """The slope of t against ln(1/alpha), or 1/alpha for depth 3, beside the predicted one."""
    found = []
    for (network, jump), part in table.groupby(["network", "jump"], sort=False):
        unit = 1 / part.alpha if network == "depth 3" else np.log(1 / part.alpha)
        # The line is an asymptote: its slope is taken between the two smallest alpha.
        slope = np.diff(part.t[-2:])[0] / np.diff(unit[-2:])[0]
        predicted = part.predicted.iloc[0]
        found.append(
            {
                "network": network,
                "jump": jump,
                "t / unit": part.t.iloc[-1] / unit.iloc[-1],
                "slope": slope,
                "predicted": predicted,
                "slope / predicted - 1": slope / predicted - 1,
            }
        )
    return pandas.DataFrame(found)


def draw(table: pandas.DataFrame, stairs, predicted_steps):
    figure = plt.figure(figsize=(12.0, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    shades = plt.get_cmap("viridis")(np.linspace(0.9, 0, len(stairs)))
    for (alpha, record), colour in zip(stairs, shades, strict=True):
        left.plot(record.t / math.log(1 / alpha), record.loss, color=colour, label=f"α = {alpha:g}")
    for step in predicted_steps:
        left.axvline(step, color="0.5", lw=1, ls=":")
    left.set(xlabel="t / ln(1/α)", ylabel="loss of the diagonal network", xlim=(0, 2.6))
    for network, marker in (("diagonal", "o"), ("depth 2", "s"), ("sparse lift", "^")):
        part = table[table.network == network]
        for jump, line in part.groupby("jump"):
            unit, colour = np.log(1 / line.alpha), f"C{jump - 1}"
            label = f"{network}, jump {jump}"
            middle.plot(unit, line.t / line.predicted, marker, color=colour, ms=5, label=label)
    reach = np.array([0, np.log(1 / table.alpha).max()])
    middle.plot(reach, reach, "k--", lw=1, label="predicted slope")
    middle.set(xlabel="ln(1/α)", ylabel="time of the jump × predicted rate")
    part = table[table.network == "depth 3"]
    for jump, line in part.groupby("jump"):
        right.plot(1 / line.alpha, line.t, "o", color=f"C{jump - 1}", label=f"jump {jump}")
        right.plot(1 / line.alpha, line.predicted / line.alpha, "k--", lw=1)
    right.set(xscale="log", yscale="log", xlabel="1/α", ylabel="time of the jump, depth 3")
    for panel in (left, middle, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        left,
        "Left: the loss falls in stairs at 1/2, 1 and 2 (dotted), steeper for smaller α. Middle: "
        "jump times of three networks of degree two, each times its predicted rate, are lines of "
        "slope 1. Right: at depth 3 the times grow like 1/α (dashed: predicted).",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    alphas = QUICK_ALPHAS if options.quick else ALPHAS
    cubic_alphas = QUICK_CUBIC_ALPHAS if options.quick else CUBIC_ALPHAS
    rates = escape_rates()
    rate = rates[0]
    diagonals = [(alpha, diagonal(alpha)) for alpha in alphas]
    table = pandas.DataFrame(
        rows("diagonal", [(alpha, found[0]) for alpha, found in diagonals], 1 / TARGET)
        + rows("depth 2", [(alpha, linear(alpha)[0]) for alpha in alphas], 1 / TARGET)
        + rows("sparse lift", [(alpha, sparse(alpha, rate)[0]) for alpha in alphas], [1 / rate])
        + rows("depth 3", [(alpha, cubic(alpha)[0]) for alpha in cubic_alphas], 1 / TARGET)
    )
    options.figures.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.figures / "summary.csv", float_format="%.8g", index=False)
    stairs = [(alpha, found[1]) for alpha, found in diagonals]
    draw(table, stairs, 1 / TARGET).savefig(options.figures / "saddle_to_saddle.png", dpi=160)
    fitted = fits(table)
    print(f"sparse lift: -lambda of the Hessian at 0 is {rates[:3].round(4).tolist()} and less")
    print(fitted.to_string(index=False, float_format="%.5g"))
    worst = fitted["slope / predicted - 1"].abs().max()
    holds = "holds" if worst <= 0.02 else "does not hold"
    print(f"slopes within {worst:.2g} of the predicted ones: the claim {holds}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("11_saddle_to_saddle"):
        main(chosen)
