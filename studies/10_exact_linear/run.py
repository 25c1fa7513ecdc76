"""Does the flow of a two-layer linear network follow its exact solution, from rich to lazy?

python studies/10_exact_linear/run.py            # two minutes
python studies/10_exact_linear/run.py --quick    # under a minute
"""

import dataclasses
import os
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import tyro

import flowlift
from flowlift import plot, tasks
from flowlift.doing import shown

# d = width = outputs: the imbalance lambda I is then met by weights of full rank for either sign.
N, SAMPLES = 5, 20
# The published range of lambda, and the horizon in the paper's time: L = 1/2 |W2 W1 - Y|^2.
LAMBDAS, QUICK_LAMBDAS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0), (-2.0, 0.0, 2.0)
HORIZON = 8.0
SOLVERS, QUICK_SOLVERS = ("tsit5", "dopri8", "bdf", "rkc2", "exprb"), ("tsit5", "bdf")
RTOLS, QUICK_RTOLS = (1e-3, 1e-5, 1e-7, 1e-9), (1e-4, 1e-7)
# What the claim allows: errors of ten times the tolerance.
ALLOWED = 10.0
# Scale of the smaller of the two layers at the start: small enough that lambda = 0 is rich.
SMALL = 0.1
TIMES = np.linspace(0, HORIZON, 41)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "exact_linear"


def apply(model, x):
    return x @ model["W1"].T @ model["W2"].T


def problem(seed: int) -> tuple[tasks.Task, np.ndarray]:
    """Whitened inputs, sum x x^T / n = I, with targets Y x; and Y, of singular values 3 to 0.3."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((SAMPLES, N)))[0] * SAMPLES**0.5
    left, right = (np.linalg.qr(rng.standard_normal((N, N)))[0] for _ in range(2))
    y = left @ np.diag(np.geomspace(3, 0.3, N)) @ right
    return tasks.supervised(x, x @ y.T, apply=apply), y


def start(imbalance: float, seed: int) -> dict[str, np.ndarray]:
    """Weights with W2^T W2 - W1 W1^T = lambda I; the smaller layer is of the scale SMALL."""
    rng = np.random.default_rng(seed)
    left, middle, right = (np.linalg.qr(rng.standard_normal((N, N)))[0] for _ in range(3))
    small = SMALL * rng.uniform(0.5, 1.5, N)
    large = np.sqrt(small**2 + abs(imbalance))
    first, second = (small, large) if imbalance > 0 else (large, small)
    return {"W1": middle @ np.diag(first) @ right.T, "W2": left @ np.diag(second) @ middle.T}


def products(model) -> np.ndarray:
    """Q Q^T of Q = [W1^T; W2]: it holds the network function and both halves of the kernel."""
    q = np.concatenate([np.asarray(model["W1"]).T, np.asarray(model["W2"])])
    return q @ q.T


def exact(model, y: np.ndarray, imbalance: float, time: float) -> np.ndarray:
    """Q Q^T after `time`, by the closed form (Domine et al., arXiv 2409.14623).

    With F = P diag(a) P^T and C = P^T Q_0 it is P E C (I + C^T D C)^-1 C^T E P^T, E = e^(a t) and
    D = (e^(2 a t) - 1) / (2 a) > 0. With B = D^(1/2) C the middle is B (I + B^T B)^-1 B^T, of
    singular values s^2 / (1 + s^2), and E D^(-1/2) stays bounded, so that nothing overflows.
    """
    if time == 0:
        return products(model)
    eye = imbalance / 2 * np.eye(N)
    values, vectors = np.linalg.eigh(np.block([[-eye, y.T], [y, eye]]))
    q = np.concatenate([model["W1"].T, model["W2"]])
    growth = np.expm1(2 * values * time) / (2 * values)
    u, s, _ = np.linalg.svd(growth[:, None] ** 0.5 * (vectors.T @ q), full_matrices=False)
    outer = vectors * (np.exp(values * time) / growth**0.5)
    half = outer @ u * (s / np.sqrt(1 + s**2))
    return half @ half.T


def errors(solver: str, rtol: float, imbalance: float, seed: int = 0) -> dict:
    """One flow: the largest relative error of Q Q^T over all times, and what it cost."""
    task, y = problem(seed)
    model = start(imbalance, seed + 1)
    # Ours is the loss without 1/2: twice as fast as the paper's.
    solution = flowlift.solve(
        model, task, HORIZON / 2, solver=solver, rtol=rtol, atol=rtol, snapshots=TIMES / 2
    )
    scale = max(np.linalg.norm(exact(model, y, imbalance, t)) for t in TIMES)
    difference = [
        np.linalg.norm(products(solution.snapshots[t / 2]) - exact(model, y, imbalance, t))
        for t in TIMES
    ]
    return {
        "lambda": imbalance,
        "solver": solver,
        "rtol": rtol,
        "error": max(difference) / scale,
        "error / rtol": max(difference) / scale / rtol,
        "gradients": solution.stats.cost,
        "result": solution.result.value,
    }


def curves(imbalance: float, seed: int = 0) -> pandas.DataFrame:
    """The trajectory by the closed form: loss, distance of function and kernel from the start."""
    _, y = problem(seed)
    model = start(imbalance, seed + 1)
    rows = []
    first = products(model)
    for t in TIMES:
        now = exact(model, y, imbalance, t)
        rows.append(
            {
                "lambda": imbalance,
                "t": t,
                "loss": np.sum((now[N:, :N] - y) ** 2) / 2,
                "kernel distance": 1 - cosine(kernel(first), kernel(now)),
            }
        )
    return pandas.DataFrame(rows)


def kernel(product: np.ndarray) -> np.ndarray:
    """The tangent kernel I (x) W1^T W1 + W2 W2^T (x) I at an orthonormal basis, (N^2, N^2)."""
    eye = np.eye(N)
    return np.kron(eye, product[:N, :N]) + np.kron(product[N:, N:], eye)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def flows_on(imbalance: float, seed: int = 0) -> pandas.DataFrame:
    """The same quantities along the flow itself, as the library solves it by default."""
    task, y = problem(seed)
    model = start(imbalance, seed + 1)
    times = TIMES[::4]
    solution = flowlift.solve(model, task, HORIZON / 2, snapshots=times / 2)
    first = kernel(products(model))
    rows = []
    for t in times:
        now = products(solution.snapshots[t / 2])
        away = 1 - cosine(first, kernel(now))
        loss = np.sum((now[N:, :N] - y) ** 2) / 2
        rows.append({"lambda": imbalance, "t": t, "loss": loss, "kernel distance": away})
    return pandas.DataFrame(rows)


def draw(lines: pandas.DataFrame, points: pandas.DataFrame, table: pandas.DataFrame):
    figure = plt.figure(figsize=(12.0, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    names = sorted(set(lines["lambda"]))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len({abs(name) for name in names})))
    colours = dict(zip(sorted({abs(name) for name in names}), shades, strict=True))
    for panel, quantity in zip(panels, ("loss", "kernel distance"), strict=False):
        for name in names:
            colour = colours[abs(name)]
            line, dots = (frame[frame["lambda"] == name] for frame in (lines, points))
            panel.plot(
                line.t,
                line[quantity],
                ":" if name < 0 else "-",
                color="k" if name < 0 else colour,
                lw=1 if name < 0 else 2,
                zorder=3 if name < 0 else 2,
                label=f"λ = {name:g}",
            )
            panel.plot(dots.t, dots[quantity], "s" if name < 0 else "o", ms=4, color=colour)
        panel.set(xlabel="t (the paper's: loss with ½)", ylabel=quantity)
    panels[0].set(yscale="log", ylabel="loss, ½ |W2 W1 - Y|²")
    panels[1].set(ylabel="1 - cosine of kernels at 0 and t")
    worst = table.groupby(["solver", "rtol"], sort=False).error.max().unstack(0)
    for solver, marker in zip(worst.columns, "osD^vP", strict=False):
        panels[2].plot(worst.index, worst[solver], marker=marker, ms=4, label=solver)
    panels[2].plot(worst.index, ALLOWED * worst.index, "k--", lw=1, label="10 × rtol")
    panels[2].set(
        xscale="log", yscale="log", xlabel="rtol", ylabel="largest relative error of Q Qᵀ"
    )
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    plot.caption(
        panels[0],
        "A two-layer linear network on whitened inputs. Lines: the closed form (λ < 0 dotted, on "
        "the line of -λ: the two layers change roles); points: the flow by the default solver, "
        "whose loss is accurate down to the tolerance. At λ = 0 the loss waits at a saddle and "
        "the kernel turns (rich); at large |λ| it turns less (lazy). Right: the largest error "
        "over all times and λ, by solver and tolerance.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    lambdas = QUICK_LAMBDAS if options.quick else LAMBDAS
    solvers = QUICK_SOLVERS if options.quick else SOLVERS
    rtols = QUICK_RTOLS if options.quick else RTOLS
    table = pandas.DataFrame(
        [errors(s, r, imbalance) for s in solvers for r in rtols for imbalance in lambdas]
    )
    lines = pandas.concat([curves(imbalance) for imbalance in lambdas])
    points = pandas.concat([flows_on(imbalance) for imbalance in lambdas])
    options.figures.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.figures / "summary.csv", float_format="%.6g", index=False)
    draw(lines, points, table).savefig(options.figures / "exact_linear.png", dpi=160)
    worst = table.groupby(["solver", "rtol"], sort=False)["error / rtol"].max().unstack()
    print("largest error / rtol over all times and lambda:")
    print(worst.to_string(float_format="%.3g"))
    print(table.groupby(["solver", "rtol"], sort=False).gradients.max().unstack().to_string())
    last = lines[lines.t == HORIZON].set_index("lambda")["kernel distance"]
    print("kernel distance at the end by lambda:", last.round(4).to_dict())
    held = [solver for solver in solvers if worst.loc[solver].max() <= ALLOWED]
    print(f"within {ALLOWED:g} x rtol at every tolerance: {', '.join(held) or 'none'}")


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("10_exact_linear"):
        main(chosen)
