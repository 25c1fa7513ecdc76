"""What rates, decay and scale add to one gradient: operations of the program, bytes, CPU time.

    python benchmarks/flows.py

The gradient of a tanh lift on 256 samples, plain and with each addition: flops and bytes as XLA
counts them, and the median CPU time of a gradient in a compiled loop of many, as flows run them,
the variants in turn, so that a busy machine slows all of them alike. Plain stands twice: how far
its ratio is from 1 says what differences mean.
"""

import statistics
import time

import jax
import numpy as np

from flowlift import BernoulliInDegree, modules, sample, tasks
from flowlift.flow.problem import Problem, make_problem
from flowlift.lift import Gaussian

# Gradients of a loop, and loops.
STEPS = 100
CALLS = 40
SIZES = (64, 1024)
SAMPLES = 256


def variants(size: int) -> dict[str, Problem]:
    """The problem of one lift, plain and with each addition."""
    module = modules.mlp(8, depth=3)
    weights = dict.fromkeys(module.edge_by_name, Gaussian())
    lift = sample(module, copies=size, edges=BernoulliInDegree(4), weights=weights, seed=0)
    x = np.random.default_rng(0).standard_normal((SAMPLES, 8))
    task = tasks.supervised(x, np.sin(x[:, 0]))
    objective = task.objective
    made = lambda changed: make_problem(lift, changed.objective, "float64")
    return {
        "plain": make_problem(lift, objective, "float64"),
        "plain again": make_problem(lift, objective, "float64"),
        "rates": make_problem(lift, objective, "float64", rates={"*": "1/n", "x->h1": "n"}),
        "decay": made(tasks.with_decay(task, {"*": 1e-3, "h1->h2": 1e-2})),
        "scale": made(tasks.with_output(task, scale=2.0)),
        "centred": made(tasks.with_output(task, scale=2.0, start=lift)),
    }


def measured(problem: Problem):
    """A compiled loop of gradients; flops and bytes of one, by XLA's own analysis."""
    theta = problem.start
    single = jax.jit(lambda p, at: p.value_and_grad(at)).lower(problem, theta).compile()
    analysis = single.cost_analysis() or {}
    # Another function for each, so that nothing of another compilation is taken.
    looped = jax.jit(lambda p, at: loop(p, at)).lower(problem, theta).compile()
    return looped, theta, analysis.get("flops", 0.0), analysis.get("bytes accessed", 0.0)


def loop(problem: Problem, theta):
    """Steps so small that theta stays where it is, of which none can be left out."""

    def step(_, at):
        loss, gradient = problem.value_and_grad(at)
        return at - 1e-12 * (1 + 1e-12 * loss) * gradient

    return jax.lax.fori_loop(0, STEPS, step, theta)


def seconds_of(run, problem: Problem, theta) -> float:
    """CPU time of this process for one gradient."""
    before = time.process_time()
    jax.block_until_ready(run(problem, theta))
    return (time.process_time() - before) / STEPS


def main() -> None:
    """Print one row a variant and size."""
    jax.config.update("jax_enable_x64", True)
    print("size  variant          flops  ratio   bytes ratio   CPU ms  ratio")
    for size in SIZES:
        problems = variants(size)
        programs = {name: measured(problem) for name, problem in problems.items()}
        taken: dict[str, list[float]] = {name: [] for name in problems}
        for turn in range(CALLS + 4):
            for name, (run, theta, _, _) in programs.items():
                spent = seconds_of(run, problems[name], theta)
                # The first calls fill caches.
                if turn >= 4:
                    taken[name].append(spent)
        _, _, flops, moved = programs["plain"]
        plain = statistics.median(taken["plain"])
        for name, (_, _, own, bytes_) in programs.items():
            # Paired with the plain call of the same turn.
            pairs = zip(taken[name], taken["plain"], strict=True)
            ratio = statistics.median(one / max(other, 1e-9) for one, other in pairs)
            print(
                f"{size:5d} {name:12s} {own:10.4g} {own / flops:6.3f} {bytes_ / moved:10.3f}"
                f" {1e3 * plain * ratio:10.3f} {ratio:6.3f}"
            )


if __name__ == "__main__":
    main()
