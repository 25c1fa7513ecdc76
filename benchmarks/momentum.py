"""What a flow with momentum costs beside the plain flow, at equal error.

    python benchmarks/momentum.py

On the reference problem A_tanh to t = 1e4, gradients + 2 products of the BDF at several tolerances,
and the largest error of theta at decades of t against a flow at rtol = 1e-10. Costs at equal error
come from a line between the nearest two tolerances, in logarithms. Explicit methods follow a heavy
ball of friction 0.1 until its oscillations are over.
"""

import sys
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import problems  # noqa: E402  # pyright: ignore[reportMissingImports]

from flowlift.flow import GradientFlow, HeavyBall, solve  # noqa: E402

TIMES = [0.0, 10.0, 100.0, 1e3, 1e4]
RTOLS = (1e-4, 1e-5, 1e-6, 1e-7)
FLOWS = {"plain": GradientFlow(), "g = 1": HeavyBall(1.0), "g = 0.1": HeavyBall(0.1)}


def flow(dynamics, rtol, solver="bdf", times=TIMES):
    """Thetas at the times, and the cost."""
    reference = problems.reference("A_tanh")
    start = problems.Vector(jax.numpy.asarray(reference.theta0))
    solution = solve(
        start, lambda m: reference.loss(m.theta), times[-1], dynamics=dynamics, solver=solver,
        rtol=rtol, atol=1e-3 * rtol, save=list(times), observers={"theta": lambda m: m.theta},
    )  # fmt: skip
    assert solution.success, solution
    return solution.observations["theta"], solution.stats.cost


def explicit(times=(0.0, 10.0, 100.0, 160.0, 200.0, 250.0)) -> None:
    """Print what explicit methods make of the oscillations of small friction."""
    dynamics = FLOWS["g = 0.1"]
    exact, _ = flow(dynamics, 1e-11, "dopri8", times)
    for solver in ("tsit5", "dopri8"):
        for rtol in RTOLS[:2]:
            thetas, cost = flow(dynamics, rtol, solver, times)
            error = np.abs(thetas - exact).max()
            print(f"{solver:8} rtol {rtol:.0e}  error {error:.1e}  cost {cost}", flush=True)


def main() -> None:
    """Print costs and errors, then costs at equal error over that of the plain flow."""
    curves = {}
    for name, dynamics in FLOWS.items():
        exact, _ = flow(dynamics, 1e-10, "bdf" if dynamics.plain else "dopri8")
        points = []
        for rtol in RTOLS:
            thetas, cost = flow(dynamics, rtol)
            points.append((np.abs(thetas - exact).max(), cost))
            print(f"{name:8} rtol {rtol:.0e}  error {points[-1][0]:.1e}  cost {cost}", flush=True)
        curves[name] = np.log(np.array(points))[::-1].T
    for error in (1e-3, 1e-4, 1e-5):
        costs = {n: np.exp(np.interp(np.log(error), *curve)) for n, curve in curves.items()}
        ratios = ", ".join(f"{n} {c / costs['plain']:.2f}" for n, c in costs.items())
        print(f"at an error of {error:.0e}: {ratios}")
    explicit()


if __name__ == "__main__":
    main()
