"""Do networks follow their mean-field limit, and when do they unlearn?

python studies/12_mean_field/run.py            # ten minutes
python studies/12_mean_field/run.py --quick    # under a minute
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
import scipy.integrate
import tyro
from matplotlib.ticker import NullFormatter

import flowlift
from flowlift import plot, tasks
from flowlift.doing import shown

# The published setting: noise, samples per parameter, read-outs at the start, dimension.
TAU, ALPHA, A_0 = 0.3, 0.3, 1.0
DIMENSION, QUICK_DIMENSION = 200, 50
WIDTHS, QUICK_WIDTHS = (4, 8, 16, 32, 64), (4, 8, 16)
SEEDS, QUICK_SEEDS = 8, 3
# Flows that are followed until they unlearn, to so many times m.
LONG, QUICK_LONG, LONG_TIMES = (4, 8, 16), (4,), 30.0
# The published values of the limit.
PUBLISHED = {0: 0.578, 1: 0.384, 2: 0.251, 5: 0.0796, 10: 0.0546, 20: 0.0511, 100: 0.0454}
SHORT = 20.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and tables.
    """

    quick: bool = False
    figures: Path = Path("results") / "mean_field"


def h(q):
    """The covariance of neurons: of sigma(<w, x>) and sigma(<w', x>), with q = <w, w'>."""
    return 0.9 * q + q**3 / 6


def slope_of_h(q):
    return 0.9 + q**2 / 2


def sigma(z):
    """The activation that has this h: sqrt(0.9) He_1 + He_3 / 6, as E He_3^2 = 6."""
    return 0.9**0.5 * z + (z**3 - 3 * z) / 6


def error_of(a, v):
    """The limit's test error, noise included."""
    return (TAU**2 + h(1) - 2 * a * h(v) + a**2 * h(v**2)) / 2


def limit(times: np.ndarray) -> np.ndarray:
    """Test error of infinitely many neurons: an equation for their read-out a and overlap v."""

    def field(_, state):
        v, a = state
        turn = ALPHA * a * (1 - v**2) * (slope_of_h(v) - a * slope_of_h(v**2) * v)
        return [turn, ALPHA * (h(v) - a * h(v**2))]

    ends = (0.0, float(times[-1]))
    found = scipy.integrate.solve_ivp(
        field, ends, [0.0, A_0], "LSODA", t_eval=times, rtol=1e-10, atol=1e-12
    )
    return error_of(found.y[1], found.y[0])


def predict(model, x):
    """(1/m) sum_j a_j sigma(<u_j / |u_j|, x>): on the sphere, since |u_j| = 1 is conserved."""
    w = model["u"] / jnp.linalg.norm(model["u"], axis=1, keepdims=True)
    return jnp.mean(model["a"] * sigma(x @ w.T), axis=-1)


def test_error(model):
    """Half the mean squared error over all x, noise included: in closed form by h."""
    w = model["u"] / jnp.linalg.norm(model["u"], axis=1, keepdims=True)
    a = model["a"]
    mean = jnp.mean(a * h(w[:, 0]))
    return (TAU**2 + h(1) - 2 * mean + jnp.mean(jnp.outer(a, a) * h(w @ w.T))) / 2


def flow(width: int, dimension: int, seed: int, times) -> flowlift.FlowSolution:
    """One network from random directions, on n = alpha m d noisy samples of sigma(x_1)."""
    rng = np.random.default_rng([seed, width, dimension])
    samples = round(ALPHA * width * dimension)
    x = rng.standard_normal((samples, dimension))
    y = sigma(x[:, 0]) + TAU * rng.standard_normal(samples)
    u = rng.standard_normal((width, dimension))
    model = {"u": u / np.linalg.norm(u, axis=1, keepdims=True), "a": np.full(width, A_0)}
    return flowlift.solve(
        model,
        tasks.supervised(x, y, apply=predict),
        float(times[-1]),
        save=times,
        # Their loss has 1/2, their network 1/m, their time alpha: alpha m / 2 times our gradient.
        rates=ALPHA * width / 2,
        rtol=1e-4,
        atol=1e-6,
        observers={"test error": test_error},
    )


def short_flows(options: Options, times: np.ndarray) -> pandas.DataFrame:
    """One row a width, seed and time: test error of the network and of the limit."""
    expected = limit(times)
    dimension = QUICK_DIMENSION if options.quick else DIMENSION
    found = []
    for width in QUICK_WIDTHS if options.quick else WIDTHS:
        for seed in range(QUICK_SEEDS if options.quick else SEEDS):
            solution = flow(width, dimension, seed, times)
            tests = solution.observations["test error"]
            found.append(
                pandas.DataFrame({"m": width, "seed": seed, "t": times, "test": tests})
                .assign(train=solution.loss / 2, limit=expected)
                .assign(gradients=solution.stats.cost, result=solution.result.value)
            )
    return pandas.concat(found)


def long_flows(options: Options) -> pandas.DataFrame:
    """Test and training error until long after t = m, and the time of the least test error."""
    dimension = QUICK_DIMENSION if options.quick else DIMENSION
    found = []
    for width in QUICK_LONG if options.quick else LONG:
        times = np.concatenate([[0.0], np.geomspace(0.1, LONG_TIMES * width, 60)])
        solution = flow(width, dimension, 0, times)
        found.append(
            pandas.DataFrame({"m": width, "t": solution.times, "train": solution.loss / 2}).assign(
                test=solution.observations["test error"], gradients=solution.stats.cost
            )
        )
    return pandas.concat(found)


def gaps(rows: pandas.DataFrame) -> pandas.DataFrame:
    """By width: the largest over times of |mean over seeds - limit|, and of one seed's rms gap."""
    rows = rows.assign(gap=rows.test - rows.limit)
    by_time = rows.groupby(["m", "t"]).gap
    mean = by_time.mean().abs().groupby("m").max()
    rms = by_time.apply(lambda g: np.sqrt(np.mean(g**2))).groupby("m").max()
    return pandas.DataFrame({"of the mean": mean, "rms": rms})


def unlearning(later: pandas.DataFrame) -> pandas.DataFrame:
    """By width: when the test error is least, what it is then, and both errors at the end."""
    found = []
    for width, part in later.groupby("m"):
        best, last = part.iloc[part.test.argmin()], part.iloc[-1]
        found.append(
            {
                "m": width,
                "least at t": best.t,
                "t / m": best.t / width,
                "least test": best.test,
                "end t": last.t,
                "end test": last.test,
                "end train": last.train,
                "gradients": last.gradients,
            }
        )
    return pandas.DataFrame(found)


def draw(rows: pandas.DataFrame, later: pandas.DataFrame, gap: pandas.DataFrame):
    figure = plt.figure(figsize=(12.0, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    widths = sorted(set(rows.m))
    shades = plt.get_cmap("viridis")(np.linspace(0.9, 0, len(widths)))
    colours = dict(zip(widths, shades, strict=True))
    for width, part in rows.groupby("m"):
        line = part.groupby("t").test.mean()
        left.plot(line.index, line, color=colours[width], label=f"m = {width}")
    curve = rows[(rows.m == widths[0]) & (rows.seed == 0)]
    left.plot(curve.t, curve.limit, "k--", lw=1.5, label="limit")
    told = [t for t in PUBLISHED if t <= SHORT]
    left.plot(told, [PUBLISHED[t] for t in told], "ks", ms=4, label="published limit")
    left.set(xlabel="t (the paper's)", ylabel="test error, mean over seeds", yscale="log")
    middle.plot(gap.index, gap.rms, "o-", label="rms over seeds")
    middle.plot(gap.index, gap["of the mean"], "s-", label="of the mean over seeds")
    guide = gap.rms.iloc[0] * (gap.index / gap.index[0]) ** -1.0
    middle.plot(gap.index, guide, "k--", lw=1, label="slope -1")
    middle.set(xscale="log", yscale="log", xlabel="m", ylabel="largest gap to the limit")
    middle.set_xticks(widths, [str(width) for width in widths])
    middle.xaxis.set_minor_formatter(NullFormatter())
    for width, part in later.groupby("m"):
        part = part[part.t > 0]
        right.plot(part.t, part.test, color=colours[width], label=f"test, m = {width}")
        right.plot(part.t, part.train, ":", color=colours[width], label=f"training, m = {width}")
        right.axvline(width, color=colours[width], lw=0.8)
    right.set(xscale="log", xlabel="t (lines at t = m)", ylabel="error", ylim=(0, 0.65))
    for panel in (left, middle, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        left,
        "Left: networks of m neurons approach the limiting equation (dashed). Middle: "
        f"the largest gap over t ≤ {SHORT:g} falls, in the end nearly like 1/m. Right: from t of "
        "the order of m on the training error falls and the test error rises: unlearning.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    times = np.linspace(0, SHORT, 41)
    told = np.array(list(PUBLISHED), float)
    ours = limit(told)
    off = np.abs(ours / np.array(list(PUBLISHED.values())) - 1).max()
    print(
        "limit:",
        dict(zip(PUBLISHED, ours.round(4).tolist(), strict=True)),
        f"off by {off:.2g} at most",
    )
    rows = short_flows(options, times)
    gap = gaps(rows)
    slopes = np.diff(np.log(gap.rms)) / np.diff(np.log(gap.index))
    later = long_flows(options)
    options.figures.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.figures / "summary.csv", float_format="%.6g", index=False)
    later.to_csv(options.figures / "long.csv", float_format="%.6g", index=False)
    draw(rows, later, gap).savefig(options.figures / "mean_field.png", dpi=160)
    print(gap.to_string(float_format="%.4g"))
    print(unlearning(later).to_string(index=False, float_format="%.4g"))
    falls = "falls with m: the claim holds" if gap.rms.is_monotonic_decreasing else "DOES NOT FALL"
    print(f"exponents of m between widths {slopes.round(2).tolist()}: the gap {falls}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("12_mean_field"):
        main(chosen)
