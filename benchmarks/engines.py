"""What a further solve costs on the host and in the graph, everything compiled, in CPU seconds.

    python benchmarks/engines.py --docs
    python benchmarks/engines.py --parameters 353 --solver bdf --horizon 1e5 --repeats 9

One process; both engines in turns, so that whoever else computes disturbs both; medians. Counted
are the processor seconds of all threads of the process. Networks are dense tanh perceptrons on 64
samples of a smooth function; calls are gradients and Hessian-vector products, records included.
"""

import dataclasses
import statistics
import time

import tyro

# Of each number of parameters: width, depth, inputs.
NETWORKS = {
    49: (12, 1, 2),
    201: (40, 1, 3),
    353: (16, 2, 3),
    1345: (32, 2, 7),
    4929: (64, 2, 10),
}
SAMPLES = 64
ENGINES = ("host", "graph")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which rows.

    Attributes:
        parameters: sizes.
        solver: solvers that the host has.
        horizon: ends of the flow. The first costs are those of every solve; a long one shows what
            an attempt costs.
        repeats: solves by each engine after the first.
        docs: write the table into docs/benchmarks.md.
    """

    parameters: tuple[int, ...] = tuple(NETWORKS)
    solver: tuple[str, ...] = ("bdf", "tsit5", "rkc2")
    horizon: tuple[float, ...] = (100.0,)
    repeats: int = 5
    docs: bool = False


def network(parameters: int) -> tuple:
    """A model of this size and its task."""
    import equinox as eqx
    import jax
    import numpy as np

    from flowlift import tasks

    width, depth, inputs = NETWORKS[parameters]
    model = eqx.nn.MLP(inputs, "scalar", width, depth, jax.nn.tanh, key=jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((SAMPLES, inputs))
    return model, tasks.supervised(x, np.sin(2 * x[:, 0]) + 0.5 * np.cos(3 * x[:, -1]))


def row(parameters: int, solver: str, horizon: float, repeats: int) -> dict[str, object]:
    """One line of the table."""
    import flowlift

    model, task = network(parameters)
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    stats = {}
    for _ in range(repeats + 1):
        for engine in ENGINES:
            start = time.process_time()
            solution = flowlift.solve(model, task, horizon, solver=solver, engine=engine)
            seconds[engine].append(time.process_time() - start)
            stats[engine] = solution.stats
    # The first one compiles.
    host, graph = (statistics.median(seconds[engine][1:]) for engine in ENGINES)
    line: dict[str, object] = {"P": parameters, "solver": solver, "to t": horizon}
    for engine in ENGINES:
        done = stats[engine]
        calls = done.gradients + done.observation_gradients
        line[f"calls, {engine}"] = f"{calls} + {done.hvps}"
    return line | {"host, s": host, "graph, s": graph, "host / graph": host / graph}


def main(options: Options) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    from first_solve import table

    rows = []
    for parameters in options.parameters:
        for solver in options.solver:
            for horizon in options.horizon:
                rows.append(row(parameters, solver, horizon, options.repeats))
                print(table(rows).splitlines()[-1], flush=True)
    print(table(rows))
    if options.docs:
        from kernel_tables import write_docs

        write_docs("engines", table(rows))


if __name__ == "__main__":
    main(tyro.cli(Options))
