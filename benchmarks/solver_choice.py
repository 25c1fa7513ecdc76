"""Where one solver overtakes another: the measurements behind `solver="auto"` (docs/solvers.md).

    python benchmarks/solver_choice.py                            # explicit against implicit
    python benchmarks/solver_choice.py --width 4 10 20 33 66 100 --stiffness 1e4 \
        --solver bdf dense-bdf                                     # dense against low rank
    python benchmarks/solver_choice.py --activation relu --solver bdf rkc2 tsit5

The flows are those of two-layer students of two-layer teachers (4 inputs, 6 n + 1 parameters, 256
samples, mean squared loss) to T = stiffness / sharpness at the start. Every solver runs at several
tolerances; shown is what a given **achieved** error costs, interpolated between runs, against
Radau IIA at 1e-11: gradients + 2 Hessian-vector products, and milliseconds without compilation
(medians of runs). "-": the error was not reached.
"""

import dataclasses
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import tyro
import xarray

from flowlift.compare.curves import compare
from flowlift.flow.problem import make_problem
from flowlift.flow.sharpness import spectrum
from flowlift.tasks import population

INPUTS, SAMPLES = 4, 256
ACTIVATIONS = {"tanh": jnp.tanh, "softplus": jax.nn.softplus, "relu": jax.nn.relu}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which flows, and which solvers.

    Attributes:
        width: hidden units n.
        stiffness: T times the largest eigenvalue of the Hessian at the start.
        solver: solvers, as for `flowlift.compare.compare`.
        rtol: relative tolerances; atol is a thousandth of them.
        error: the achieved errors to compare at.
        activation: of student and teacher.
        seed: of both, and of the data.
        repeats: timed runs after the first.
        max_gradients: budget of a run.
    """

    width: tuple[int, ...] = (20,)
    stiffness: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
    solver: tuple[str, ...] = ("tsit5", "dopri8", "rkc2", "bdf", "exprb")
    rtol: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-10)
    error: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
    activation: str = "tanh"
    seed: int = 0
    repeats: int = 2
    max_gradients: float = 200_000


def student(width: int, activation: str, seed: int):
    """Parameters (W, a, b, c) of a student, and its loss on a teacher of four hidden units."""
    rng, act = np.random.default_rng(seed), ACTIVATIONS[activation]

    def network(n):
        shapes = ((n, INPUTS), (n,), (n,), ())
        return tuple(
            jnp.asarray(rng.standard_normal(shape) * scale)
            for shape, scale in zip(shapes, (1.0, n**-0.5, 1.0, 1.0), strict=True)
        )

    def output(parameters, x):
        w, a, b, c = parameters
        return act(x @ w.T + b) @ a + c

    start, x = network(width), jnp.asarray(rng.standard_normal((SAMPLES, INPUTS)))
    y = output(network(4), x)
    return start, lambda parameters: jnp.mean((output(parameters, x) - y) ** 2)


def at_error(runs: xarray.Dataset, quantity: str, error: float) -> float:
    """A quantity at an achieved error, between the runs of one solver; NaN outside them."""
    good = np.flatnonzero(runs.reached.values & (runs.error.values > 0))
    errors, values = runs.error.values[good], runs[quantity].values[good]
    tighter, looser = errors <= error, errors > error
    if not tighter.any():
        return math.nan
    # The cheapest run that is accurate enough, and the most accurate one that is not.
    below = np.flatnonzero(tighter)[np.argmin(values[tighter])]
    if not looser.any() or values[looser].max() >= values[below]:
        return float(values[below])
    above = np.flatnonzero(looser)[np.argmin(errors[looser])]
    part = math.log(error / errors[below]) / math.log(errors[above] / errors[below])
    return float(values[below] * (values[above] / values[below]) ** part)


def measure(options: Options, width: int, stiffness: float, model, loss, sharpness: float):
    """Lines of the table for one flow."""
    results = compare(
        model,
        loss,
        stiffness / sharpness,
        solvers=options.solver,
        rtols=options.rtol,
        reference="scipy:Radau",
        reference_rtol=1e-11,
        repeats=options.repeats,
        max_gradients=options.max_gradients,
    )
    for error in options.error:
        cells = [str(6 * width + 1), f"{stiffness:.0e}", f"{error:.0e}"]
        for solver in options.solver:
            runs = results.isel(run=np.flatnonzero(results.solver.values == solver))
            cost, seconds = (at_error(runs, name, error) for name in ("cost", "seconds"))
            cells.append("-" if math.isnan(cost) else f"{cost:,.0f} ({1e3 * seconds:.1f})")
        yield "| " + " | ".join(cells) + " |"


def main(options: Options) -> None:
    columns = ["P", "T x sharpness", "error", *options.solver]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for width in options.width:
        model, loss = student(width, options.activation, options.seed)
        problem = make_problem(model, population(loss).objective, "float64")
        sharpness = spectrum(problem, problem.start).highest
        for stiffness in options.stiffness:
            for line in measure(options, width, stiffness, model, loss, sharpness):
                print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
