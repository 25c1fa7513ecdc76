"""One gradient of a sparse random network: flowlift beside its peers, in one process and one run.

    python benchmarks/kernels.py --n 512 2048 --samples 256 --json rows.json

The network has 64 inputs, 3 sparse tanh layers of n copies with in-degree k, and a linear read-out;
L is the mean over the samples of the squared residual. Peers take turns, so that noise hits all
alike; times are medians. `--peak` and `--scaling` measure large lifts, `--methods` the thresholds
of the automatic choice. torch's peers run if torch can be imported (`pip install flowlift[bench]`).
"""

import dataclasses
import math
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from kernel_architectures import ARCHITECTURES, compare_architecture
from kernel_peers import Network, available
from kernel_tables import Row, merged, table, wide, write_docs

from flowlift import FixedInDegree, modules, sample, tasks
from flowlift.flow.problem import Problem, make_problem
from flowlift.lift import Gaussian, Lift

INPUTS, LAYERS = 64, 3
# Who takes longer is run once, after a call that compiles.
SLOW_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Which cases to run.

    Attributes:
        n: lift sizes.
        k: in-degrees.
        samples: numbers of samples.
        dtype: precisions.
        seconds: time per case; each peer runs at least 5 times, slow ones once.
        json: a file for rows {n, k, samples, dtype, method, median_s, ratio_to_best_peer}.
        add: keep the rows of other cases that the JSON file has, for a grid in several runs.
        docs: write the table of all rows into docs/benchmarks.md.
        hvp: measure Hessian-vector products too, which takes two more compilations.
        architectures: instead, a convolutional net and a transformer of these many copies.
        methods: instead, time flowlift's own methods on each case.
        scaling: instead, fit the exponent of time in edges, from 1e4 to 1e7.
        peak: instead, one gradient with 1e7 edges and its peak memory.
    """

    n: tuple[int, ...] = (128, 512, 2048, 8192, 65536)
    k: tuple[int, ...] = (4, 8, 32)
    samples: tuple[int, ...] = (64, 256, 1797)
    dtype: tuple[str, ...] = ("float32", "float64")
    seconds: float = 4.0
    json: Path | None = None
    add: bool = False
    docs: bool = False
    hvp: bool = True
    architectures: tuple[int, ...] = ()
    methods: bool = False
    scaling: bool = False
    peak: bool = False


def draw(n: int, k: int, dtype: str, method: str = "auto") -> Lift:
    """The lift; its first layer's in-degree is at most the number of inputs."""
    module = modules.mlp(INPUTS, depth=LAYERS, bias=False, vector_input=False)
    weights = dict.fromkeys(module.edge_by_name, Gaussian(1 / math.sqrt(k)))
    return sample(
        module,
        copies=n,
        edges=FixedInDegree(k),
        weights=weights,
        seed=0,
        precision=dtype,
        method=method,
    )


def data(samples: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, INPUTS))
    return x.astype(dtype), np.sin(x[:, 0]).astype(dtype)


def as_network(lift: Lift, x: np.ndarray, targets: np.ndarray) -> Network:
    """The same graph, weights and data for the peers."""
    names = [f"h{i}->h{i + 1}" for i in range(1, LAYERS)]
    layers = [lift.edges(name) for name in ["x->h1", *names]]
    n = lift.copies["h1"]
    readout = lift.edges(f"h{LAYERS}->y")[2][None]
    sources = tuple(source.reshape(n, -1) for source, _, _ in layers)
    weights = (*(w.reshape(n, -1) for _, _, w in layers), readout)
    return Network(sources, weights, np.ascontiguousarray(x.T), targets)


def taken_apart(problem: Problem) -> tuple[list[jax.Array], Callable]:
    """The problem's arrays, and the problem from them.

    A flow calls its gradient inside a compiled loop; flattening a pytree for each call would add
    a tenth of a millisecond that only the benchmark pays.
    """
    arrays, static = eqx.partition(problem, eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    return leaves, lambda leaves: eqx.combine(jax.tree.unflatten(tree, leaves), static)


def ours(problem: Problem) -> Callable:
    leaves, whole = taken_apart(problem)
    run = jax.jit(lambda leaves, theta: whole(leaves).value_and_grad(theta))
    theta = problem.start
    return lambda: jax.block_until_ready(run(leaves, theta))


def hessian_products(problem: Problem) -> dict[str, Callable]:
    """H v by itself (jvp of the gradient), and from a linearised gradient's activations."""
    leaves, whole = taken_apart(problem)
    theta, v = problem.start, jnp.cos(jnp.arange(problem.start.size, dtype=problem.start.dtype))
    gradient = lambda leaves, theta: whole(leaves).value_and_grad(theta)[1]
    alone = jax.jit(lambda a, x, v: jax.jvp(lambda x: gradient(a, x), (x,), (v,))[1])
    product = jax.jit(lambda a, x: jax.linearize(lambda x: gradient(a, x), x)[1])(leaves, theta)
    apply = jax.jit(lambda product, v: product(v))
    return {
        "HVP": lambda: jax.block_until_ready(alone(leaves, theta, v)),
        "HVP, linearised": lambda: jax.block_until_ready(apply(product, v)),
    }


def machine_passes(n: int, samples: int, dtype: str) -> dict[str, Callable]:
    """A copy and a tanh of one layer's activations."""
    y = jnp.asarray(np.random.default_rng(0).standard_normal((n, samples)), dtype)
    passes = {"copy": jax.jit(lambda y: -y), "tanh": jax.jit(jnp.tanh)}
    return {name: lambda f=f: jax.block_until_ready(f(y)) for name, f in passes.items()}


def limit(medians: dict[str, float]) -> float:
    """Each of the 3 products of each n x n layer reads 2 or writes 1 array beside reading 1.

    A copy reads one array and writes one, as a product does at least; a vertex map is a tanh.
    """
    return 3 * (LAYERS - 1) * medians["copy"] + LAYERS * medians["tanh"]


def interleave(runs: dict[str, Callable], seconds: float) -> dict[str, float]:
    """Medians of at least 5 rounds, in which everyone takes a turn; who is slow, takes one."""
    times: dict[str, list[float]] = {}
    for name, run in runs.items():
        run()
        times[name] = [_clocked(run)]
    quick = [name for name in runs if times[name][0] < SLOW_SECONDS]
    clock, rounds = time.perf_counter(), 1
    while quick and (rounds < 5 or (time.perf_counter() - clock < seconds and rounds < 200)):
        for name in quick:
            times[name].append(_clocked(runs[name]))
        rounds += 1
    return {name: float(np.median(t)) for name, t in times.items()}


def _clocked(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(n: int, k: int, samples: int, dtype: str, options: Options) -> list[Row]:
    """All peers on one case, and what flowlift's time is compared with."""
    lift, (x, targets) = draw(n, k, dtype), data(samples, dtype)
    problem = make_problem(lift, tasks.supervised(x, targets).objective, dtype)
    network = as_network(lift, x, targets)
    peers = {name: make(network) for name, make in available(network).items()}
    runs = {"flowlift": ours(problem), **peers}
    if options.hvp:
        runs |= hessian_products(problem)
    passes = machine_passes(n, samples, dtype)
    medians = interleave({**runs, **passes}, options.seconds)
    best = min((medians[name] for name in peers), default=math.nan)
    medians = {name: medians[name] for name in runs} | {"limit": limit(medians)}
    return [Row(n, k, samples, dtype, name, m, best / m) for name, m in medians.items()]


def compare_methods(n: int, k: int, samples: int, dtype: str, seconds: float) -> dict:
    """Our own methods on one case, with what the automatic choice takes."""
    x, targets = data(samples, dtype)
    objective = tasks.supervised(x, targets).objective
    names = ["auto", "csr", "padded", "naive"] + (["dense"] if n <= 4096 else [])
    runs = {m: ours(make_problem(draw(n, k, dtype, m), objective, dtype)) for m in names}
    return {"n": n, "k": k, "samples": samples, "dtype": dtype, **interleave(runs, seconds)}


def scaling(dtype: str, seconds: float) -> None:
    """Time per gradient against edges, in-degree 8, 64 samples."""
    edges, medians = np.geomspace(1e4, 1e7, 7), []
    for e in edges:
        lift, (x, targets) = draw(round(e / (8 * LAYERS)), 8, dtype), data(64, dtype)
        run = ours(make_problem(lift, tasks.supervised(x, targets).objective, dtype))
        medians.append(interleave({"flowlift": run}, seconds)["flowlift"])
        print(f"{e:12.0f} edges  {1e3 * medians[-1]:10.3f} ms", flush=True)
    slope = np.polyfit(np.log(edges), np.log(medians), 1)[0]
    print(f"fitted exponent from 1e4 to 1e7 edges: {slope:.3f} ({dtype})")


def peak(dtype: str) -> None:
    """One gradient with 10 million edges, in-degree 8, 64 samples."""
    n = math.ceil(1e7 / (8 * LAYERS))
    lift, (x, targets) = draw(n, 8, dtype), data(64, dtype)
    problem = make_problem(lift, tasks.supervised(x, targets).objective, dtype)
    used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    before = used()
    leaves, whole = taken_apart(problem)
    run = jax.jit(lambda leaves, theta: whole(leaves).value_and_grad(theta))
    compiled = run.lower(leaves, problem.start).compile()
    start = time.perf_counter()
    jax.block_until_ready(compiled(leaves, problem.start))
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    print(
        f"{lift.n_edges} edges, {n} copies a layer, 64 samples, {dtype}: first gradient "
        f"{seconds:.2f} s, temporaries {memory.temp_size_in_bytes / 2**30:.2f} GiB, arguments "
        f"{memory.argument_size_in_bytes / 2**30:.2f} GiB, peak resident {used():.2f} GiB "
        f"({before:.2f} GiB after sampling)"
    )


def compare_architectures(options: Options) -> None:
    """Sparse against dense under a mask, by copies."""
    cases = []
    for dtype in options.dtype:
        for architecture in ARCHITECTURES:
            for copies in options.architectures:
                problem, peer = compare_architecture(architecture, copies, dtype)
                medians = interleave(
                    {"flowlift": ours(problem), "dense masked": peer}, options.seconds
                )
                ratio = medians["dense masked"] / medians["flowlift"]
                case = {"architecture": architecture, "copies": copies, "dtype": dtype, **medians}
                cases.append(case | {"x dense masked": ratio})
                print(table(cases[-1:]).splitlines()[-1], flush=True)
    print(table(cases))
    if options.docs:
        write_docs("architectures", table(cases))


def main(options: Options) -> None:
    jax.config.update("jax_enable_x64", True)
    if options.peak:
        return peak(options.dtype[0])
    if options.scaling:
        return scaling(options.dtype[0], options.seconds)
    if options.architectures:
        return compare_architectures(options)
    grid = [
        (n, k, b, dtype)
        for dtype in options.dtype
        for n in options.n
        for k in options.k
        for b in options.samples
    ]
    if options.methods:
        cases = [compare_methods(*case, options.seconds) for case in grid]
        print(table(cases))
        return None
    rows = []
    for case in grid:
        new = compare(*case, options)
        rows = rows + new
        print(table(wide(new)).splitlines()[-1], flush=True)
        if options.json:
            merged(options.json, rows, options.add)
    if options.json:
        rows = merged(options.json, rows, options.add)
    print(table(wide(rows)))
    if options.docs:
        write_docs("kernels", table(wide(rows)))
    return None


if __name__ == "__main__":
    main(tyro.cli(Options))
