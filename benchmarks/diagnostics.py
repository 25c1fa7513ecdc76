"""What the instruments cost, in gradients of the same lift: counted, and by the clock.

    python benchmarks/diagnostics.py                       # the table of docs/diagnostics.md
    python benchmarks/diagnostics.py --n 1024 --samples 256 --json rows.json

The lift has three sparse tanh layers of n copies (mean in-degree 8) on handwritten digits. Counted:
what the quantity itself reports: products J v and J^T v are one gradient each, Hessian products
two, a linearisation one. By the clock: its median time over the median time of a gradient, measured
in turns in one process.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import equinox as eqx
import jax
import pandas
import tyro

from flowlift import diagnostics, modules, tasks
from flowlift.diagnostics import Observer
from flowlift.lift import BernoulliInDegree, Gaussian, GaussianFanIn, GaussianWidth, Lift, sample
from flowlift.tasks import Task

LIMITS = {"tangent_radius": 200, "hessian_top": 120, "rayleigh": 3}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which lift.

    Attributes:
        n: copies of every hidden vertex.
        in_degree: mean in-degree.
        samples: digits.
        read_out: "zero" or "random", N(0, 1/n).
        repeats: timed runs of every quantity, after one that compiles.
        gradients: gradients timed between two quantities.
        quantities: which; all by default.
        json: file for rows {n, samples, quantity, counted, ratio, limit, seconds}.
    """

    n: int = 512
    in_degree: float = 8
    samples: int = 256
    read_out: str = "random"
    repeats: int = 5
    gradients: int = 40
    quantities: tuple[str, ...] = ()
    json: Path | None = None


def draw(options: Options) -> tuple[Lift, Task]:
    module = modules.mlp(64, 10, depth=3)
    weights = {"x->h1": GaussianFanIn(), "*": Gaussian(options.in_degree**-0.5)}
    if options.read_out == "random":
        weights["h3->y"] = GaussianWidth()
    edges = {"*": BernoulliInDegree(options.in_degree)}
    lift = sample(module, copies=options.n, edges=edges, weights=weights, seed=0)
    return lift, tasks.digits(options.samples)


def observers(lift: Lift, task: Task) -> dict[str, Observer]:
    loss = float(task.objective(lift))
    see = diagnostics.observer
    found = {
        "tangent_radius": see("tangent_radius", task, eps=0.1 * loss),
        "hessian_top": see("hessian_top", task, count=20, rtol=1e-3, max_products=59),
        "rayleigh": see("rayleigh", task),
        "sharpness": see("sharpness", task, rtol=1e-3),
        "kernel_top": see("kernel_top", task, count=20, rtol=1e-3),
        "kernel_ends": see("kernel_ends", task, rtol=1e-3),
        "kernel_trace": see("kernel_trace", task),
        "kernel_drift": see("kernel_drift", task, reference=lift),
        "alignment": see("alignment", task),
    }
    return found


@eqx.filter_jit
def measured(quantity: Observer, model: Lift):
    return quantity.measure(model)


def gradient_of(task: Task, lift: Lift) -> Callable:
    theta, rest = eqx.partition(lift, eqx.is_inexact_array)
    run = jax.jit(jax.value_and_grad(lambda theta: task.objective(eqx.combine(theta, rest))))
    return lambda: jax.block_until_ready(run(theta))


def seconds(run: Callable) -> float:
    clock = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - clock


def rows(options: Options) -> list[dict[str, object]]:
    lift, task = draw(options)
    gradient, found = gradient_of(task, lift), []
    gradient()
    for name, quantity in observers(lift, task).items():
        if options.quantities and name not in options.quantities:
            continue
        value = measured(quantity, lift)
        ratios, times = [], []
        for _ in range(options.repeats):
            one = statistics.median(seconds(gradient) for _ in range(options.gradients))
            times.append(seconds(lambda q=quantity: measured(q, lift)))
            ratios.append(times[-1] / one)
        found.append(
            {
                "n": options.n,
                "samples": options.samples,
                "quantity": name,
                "counted": int(value[1]),
                "ratio": statistics.median(ratios),
                "limit": LIMITS.get(name),
                "seconds": statistics.median(times),
            }
        )
        print(found[-1], flush=True)
    return found


def main(options: Options) -> None:
    """Print the table.

    Args:
        options: which lift.
    """
    found = rows(options)
    print(pandas.DataFrame(found).to_string(index=False, float_format="%.3g"))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
