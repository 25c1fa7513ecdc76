"""Where does gradient flow stop describing gradient descent, and does the central flow go on?

python studies/13_edge_of_stability/run.py            # ten minutes
python studies/13_edge_of_stability/run.py --quick    # under a minute
"""

import dataclasses
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
import xarray

import flowlift
from flowlift import compare, diagnostics, plot, tasks
from flowlift.doing import shown
from flowlift.flow.dynamics import CentralFlow, GradientFlow

# The published quartic: (final sharpness of the flow, of the central flow, of GD), mean losses.
ETA, START, STEPS = 0.36, (0.25, 1.4, 1.6, 0.5), 60
PUBLISHED = {"flow": 5.936, "central": 5.556, "gd": 5.492, "mean gd": 0.00307, "mean": 0.00327}
# One network, three step sizes, the same time.
STEP_SIZES, QUICK_STEP_SIZES = (0.02, 0.05, 0.1), (0.1,)
TIME, QUICK_TIME = 40.0, 25.0
# At most so many eigenvalues at the edge at once.
EIGENVALUES = 3
# A flow no longer describes GD when outputs differ by so much of the targets' root mean square.
LEFT = 0.05
RTOL, ATOL = 1e-6, 1e-9


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        quick: the smaller grid.
        figures: folder of figure and table.
    """

    quick: bool = False
    figures: Path = Path("results") / "edge_of_stability"


def quartic(w):
    return (jnp.prod(w) - 1) ** 2 / 2


def sharpest(w) -> float:
    return float(np.linalg.eigvalsh(jax.hessian(quartic)(jnp.asarray(w)))[-1])


def published_case() -> pandas.DataFrame:
    """The quartic of four weights: final sharpness and mean loss, ours beside the published."""
    start = jnp.array(START)
    times = ETA * np.arange(STEPS + 1)
    plain = flowlift.solve(start, quartic, times[-1], rtol=1e-8, atol=1e-10)
    central = flowlift.solve(
        start, quartic, times[-1], dynamics=CentralFlow(ETA, 1), save=times, rtol=1e-8, atol=1e-10
    )
    w, losses = start, []
    for _ in range(STEPS + 1):
        losses.append(float(quartic(w)))
        last, w = w, w - ETA * jax.grad(quartic)(w)
    # An oscillation of period two is gone from the mean of two steps.
    ours = {
        "flow": sharpest(plain.model),
        "central": sharpest(central.model),
        "gd": sharpest((last + w) / 2),
        "mean gd": float(np.mean(losses[21:])),
        "mean": float(np.mean(central.observations["mean_loss"][21:])),
    }
    rows = [{"quantity": k, "ours": ours[k], "published": PUBLISHED[k]} for k in PUBLISHED]
    return pandas.DataFrame(rows)


def network() -> tuple[eqx.nn.MLP, tasks.Task]:
    """1 -> 8 -> 8 -> 1, tanh, weights N(0, 1 / fan-in), biases 0; a sine at eight points."""
    x = np.linspace(-1, 1, 8)[:, None]
    model = eqx.nn.MLP(1, 1, 8, 2, jnp.tanh, key=jax.random.key(0))
    rng = np.random.default_rng(2)
    for i, layer in enumerate(model.layers):
        weight = rng.normal(size=layer.weight.shape) / layer.weight.shape[1] ** 0.5
        drawn = (jnp.asarray(weight), jnp.zeros(layer.bias.shape))
        model = eqx.tree_at(lambda m, i=i: (m.layers[i].weight, m.layers[i].bias), model, drawn)
    return model, tasks.supervised(x, np.sin(4 * x))


def compared(step_size: float, time: float) -> tuple[xarray.Dataset, flowlift.FlowSolution]:
    """Steps and both flows; and the plain flow again with its sharpness."""
    model, task = network()
    steps = round(time / step_size)
    data = compare.compare_with_steps(
        model,
        task,
        compare.gradient_descent(step_size),
        steps,
        flows={
            "gradient flow": GradientFlow(),
            "central flow": CentralFlow(step_size, EIGENVALUES),
        },
        every=max(1, steps // 100),
        window=round(1.0 / step_size),
        rtol=RTOL,
        atol=ATOL,
    )
    plain = flowlift.solve(
        model,
        task,
        time,
        save=np.linspace(0, time, 81),
        rtol=RTOL,
        atol=ATOL,
        observers={"sharpness": diagnostics.observer("sharpness", task)},
    )
    return data, plain


def first_time(times: np.ndarray, holds: np.ndarray) -> float:
    """The first time from which on something holds at least once; nan if it never does."""
    return float(times[np.argmax(holds)]) if holds.any() else np.nan


def described(data: xarray.Dataset, plain: flowlift.FlowSolution, step_size: float) -> dict:
    """When the edge is met and when each flow leaves GD; mean losses over the last half."""
    sharpness = plain.observations["sharpness"]
    edge = first_time(plain.times, sharpness >= 2 / step_size)
    late = data.time.values >= data.time.values[-1] / 2
    scale = float(np.sqrt(np.mean(network()[1].objective.targets ** 2)))
    mean = float(data.mean_loss[late].mean())
    row = {"eta": step_size, "2/eta": 2 / step_size, "flow's sharpness meets it at": edge}
    # In the first unit of time the loss falls fast, and steps lag behind any flow for a moment.
    after = data.time.values >= 1
    for name in data.flow.values:
        flow = data.sel(flow=name)
        away = flow.centre_function_distance.values[after] / scale
        row[f"{name} leaves at"] = first_time(data.time.values[after], away > LEFT)
        row[f"{name}: largest distance"] = away.max()
        row[f"{name}: mean loss / GD's"] = float(flow.predicted_loss[late].mean()) / mean
        row[f"{name}: gradients"] = int(flow.gradients)
    return row | {"GD's mean loss": mean, "largest sharpness of the flow": sharpness.max()}


def draw(found: list[tuple[float, xarray.Dataset, flowlift.FlowSolution]]):
    figure = plt.figure(figsize=(12.0, 7.4), layout="constrained")
    upper, lower = figure.subplots(2, max(2, len(found)))
    scale = float(np.sqrt(np.mean(network()[1].objective.targets ** 2)))
    for panel, (step_size, data, _) in zip(upper, found, strict=False):
        panel.plot(data.time, data.step_loss, color="0.75", lw=0.7, label="GD, each step")
        panel.plot(data.time, data.mean_loss, "k", lw=1.2, label="GD, mean over t ± 0.5")
        for name, colour in zip(data.flow.values, ("C0", "C1"), strict=True):
            prediction = data.sel(flow=name).predicted_loss
            panel.plot(data.time, prediction, color=colour, label=f"{name}: predicted mean")
        panel.set(yscale="log", xlabel="t = η × steps", ylabel=f"loss, η = {step_size:g}")
    left, right = lower[:2]
    plain = found[-1][2]
    left.plot(plain.times, plain.observations["sharpness"], "k", label="sharpness of the flow")
    for k, (step_size, data, _) in enumerate(found):
        left.axhline(2 / step_size, color=f"C{k}", lw=1, ls="--", label=f"2/η, η = {step_size:g}")
        for name, style in zip(data.flow.values, ("-", ":"), strict=True):
            away = data.sel(flow=name).centre_function_distance[1:] / scale
            right.plot(
                data.time[1:], away, style, color=f"C{k}", label=f"{name}, η = {step_size:g}"
            )
    left.set(xlabel="t", ylabel="largest eigenvalue of the Hessian", yscale="log")
    right.axhline(LEFT, color="0.5", lw=1)
    right.set(yscale="log", xlabel="t = η × steps", ylabel="distance of outputs / rms of targets")
    for panel in lower[2:]:
        panel.set_visible(False)
    for panel in (*upper[: len(found)], left, right):
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7)
    for panel in upper[len(found) :]:
        panel.set_visible(False)
    plot.caption(
        left,
        "One tanh network. Upper row: losses of gradient descent and what both flows predict of "
        "their mean. Below: the flow's sharpness against 2/η, and the distance of outputs from the "
        "centre of GD's oscillation. Beyond 2/η GD follows the gradient flow (solid) until its "
        "oscillation, which begins from nothing, is large; the central flow (dotted) has it at "
        "once, and describes GD from then on.",
    )
    return figure


def main(options: Options) -> None:
    """Run, tabulate, draw.

    Args:
        options: what to run.
    """
    case = published_case()
    print(case.to_string(index=False, float_format="%.5g"))
    time = QUICK_TIME if options.quick else TIME
    found = [
        (step_size, *compared(step_size, time))
        for step_size in (QUICK_STEP_SIZES if options.quick else STEP_SIZES)
    ]
    rows = pandas.DataFrame([described(data, plain, eta) for eta, data, plain in found])
    options.figures.mkdir(parents=True, exist_ok=True)
    long = rows.melt("eta", var_name="quantity", value_name="value")
    case.to_csv(options.figures / "published.csv", float_format="%.6g", index=False)
    long.to_csv(options.figures / "summary.csv", float_format="%.6g", index=False)
    draw(found).savefig(options.figures / "edge_of_stability.png", dpi=160)
    print(rows.T.to_string(float_format="%.4g"))
    central = rows["central flow: mean loss / GD's"]
    beyond = rows[rows["flow's sharpness meets it at"].notna()]
    plain = beyond["gradient flow: mean loss / GD's"]
    near = (central - 1).abs().max()
    print(f"central flow's mean loss within {near:.2g} of GD's; gradient flow's off by", end=" ")
    print(f"{(plain - 1).abs().min():.2g} at least beyond the edge")
    agreed = (case.ours / case.published - 1).abs().max()
    print(
        f"published numbers met to {agreed:.2g}: the claim", "holds" if agreed < 0.01 else "FAILS"
    )


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    with shown("13_edge_of_stability"):
        main(chosen)
