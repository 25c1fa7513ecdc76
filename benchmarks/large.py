"""Flows and instruments at size: processor seconds, gradients and peak memory, a process each.

    python benchmarks/large.py gradient --edges 1e4 1e5 1e6 1e7 --dtype float64
    python benchmarks/large.py flow --edges 1e5 --dtype float32 --samples 256
    python benchmarks/large.py flow --edges 1e7 --dtype float32 --samples 256 --budget 1
    python benchmarks/large.py bdf --edges 1e6 --horizon 100 --budget 40
    python benchmarks/large.py checkpoint --edges 1e7 --dtype float32 --solver tsit5
    python benchmarks/large.py checkpoint --edges 1e7 --dtype float32 --solver bdf
    python benchmarks/large.py curvature --edges 1e6 --samples 256 --products 16
    python benchmarks/large.py radius --edges 1e6 --samples 256 --products 8
    python benchmarks/large.py top --edges 1e6 --samples 256 --products 16
    python benchmarks/large.py streamed --samples 200000

The lift has three sparse tanh layers of in-degree 8 and a complete read-out to ten outputs, 34
edges a copy, on handwritten digits; no biases. Seconds are those of the processor, all threads and
system calls, which other work on the machine changes least. A budget of gradients ends what would
take too long: the rest is in proportion to what is counted.
"""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from flowlift import FixedInDegree, diagnostics, flow, modules, sample, tasks
from flowlift.flow.engine import Engine
from flowlift.flow.problem import make_problem
from flowlift.flow.programs import host_field
from flowlift.flow.solve import prepared
from flowlift.lift import Gaussian, Lift

IN_DEGREE, PER_COPY = 8, 34
# Gradients that are timed after one that compiles.
TIMED = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """What runs.

    Attributes:
        part: gradient, flow, bdf, checkpoint, curvature, critical, radius, kernel, top or streamed.
        edges: of the lift; several for `gradient`.
        dtype: float64 or float32.
        samples: digits, or rows of the file of `streamed`.
        horizon: of the flow.
        budget: of gradients; 0 for none.
        products: of an instrument; 0 for its own number.
        memory: bytes, of `solve` or of the instrument; 0 for none.
        solver: of the flow.
        parametrisation: of the flow: its laws and rates; none: weights of unit pre-activations, a
            small read-out and no rates, so that curvature grows with the edges.
        checkpoint: a file that keeps where the flow stands, every five minutes; none if empty.
        alone: this process measures itself; else each number of edges gets one of its own.
    """

    part: tyro.conf.Positional[str]
    edges: tuple[float, ...] = (1e6,)
    dtype: str = "float64"
    samples: int = 64
    horizon: float = 10.0
    budget: float = 0.0
    products: int = 0
    memory: int = 0
    solver: str = "auto"
    parametrisation: str = ""
    checkpoint: str = ""
    alone: bool = False


def draw(options: Options) -> Lift:
    module = modules.mlp(64, 10, depth=3, bias=False, vector_input=False)
    weights = {"*": Gaussian(IN_DEGREE**-0.5), "h3->y": Gaussian(1e-3)}
    copies = max(IN_DEGREE, round(options.edges[0] / PER_COPY))
    named = options.parametrisation
    laws = {"parametrisation": named} if named else {"weights": weights}
    edges = FixedInDegree(IN_DEGREE)
    return sample(module, copies=copies, edges=edges, seed=0, precision=options.dtype, **laws)


def peak() -> float:
    """GB of resident memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def busy() -> float:
    """Processor seconds of this process."""
    return time.process_time()


def gradient(options: Options) -> str:
    """One gradient, after the first."""
    lift = draw(options)
    problem = make_problem(lift, tasks.digits(options.samples).objective, options.dtype)
    field, theta = host_field(problem), problem.start_on_host
    field.value_and_grad(theta)
    repeats = max(TIMED, int(1e6 / options.edges[0]))
    start = busy()
    for _ in range(repeats):
        field.value_and_grad(theta)
    return f"{1e3 * (busy() - start) / repeats:.4g} ms a gradient"


def run_flow(options: Options, solver: str) -> str:
    """A flow, or its beginning."""
    lift, task = draw(options), tasks.digits(options.samples)
    start, before = busy(), peak()
    kept = flow.Checkpoints(options.checkpoint, every=300) if options.checkpoint else None
    found = flow.solve(
        lift,
        task,
        options.horizon,
        solver=solver,
        rtol=1e-3,
        save=[options.horizon],
        precision=options.dtype,
        memory=options.memory or None,
        max_gradients=options.budget or np.inf,
        rates=options.parametrisation or None,
        checkpoints=kept,
        progress=kept is not None,
    )
    stats = found.stats
    return (
        f"{found.result.value} at t = {found.time:.4g} by {found.solver[:60]}: cost {stats.cost} "
        f"({stats.gradients} gradients, {stats.hvps} products, {stats.observation_gradients} of "
        f"records), loss {found.loss[0]:.4g} to {found.loss[-1]:.4g}, {busy() - start:.4g} s, "
        f"{before:.3g} GB before"
    )


def checkpoint(options: Options) -> str:
    """What is kept of a flow that has begun, and the way back from it."""
    lift, task = draw(options), tasks.digits(options.samples)
    solver = "tsit5" if options.solver == "auto" else options.solver
    settings = {"solver": solver, "rtol": 1e-2, "precision": options.dtype}
    begun, plan = prepared(lift, task, options.horizon, **settings)
    engine = Engine(begun.settings.problem)
    begun = dataclasses.replace(begun, position=engine.begin(begun.settings))
    with tempfile.TemporaryDirectory() as folder:
        path, times = Path(folder) / "flow.npz", []
        keeps = flow.Checkpoints(path, every=0)
        timed(keeps.restore, "identity", times)(begun.settings, plan, engine)
        timed(keeps.keep, "written", times)(begun, engine)
        size, files, before = path.stat().st_size, len(list(Path(folder).iterdir())), peak()
        found = timed(keeps.restore, "restored", times)(begun.settings, plan, engine)
    assert found is not None
    assert np.array_equal(found.position.here.y, begun.position.here.y)
    each = [f"{name} {wall:.3g} s ({cpu:.3g} of the processor)" for name, wall, cpu in times]
    told = f"{solver}, {files} file of {size / 1e9:.3g} GB, {', '.join(each)}"
    return f"{told}, {peak() - before:.3g} GB more at the peak of restoring"


def timed(function: Callable, name: str, times: list) -> Callable:
    """A function that notes how long it takes."""

    def run(*args):
        wall, cpu = time.perf_counter(), busy()
        found = function(*args)
        times.append((name, time.perf_counter() - wall, busy() - cpu))
        return found

    return run


def instrument(options: Options) -> str:
    """An instrument at the start."""
    lift, task = draw(options), tasks.digits(options.samples)
    most = {"max_products": options.products} if options.products else {}
    settings, start = {"memory": options.memory or None, **most}, busy()
    if options.part == "curvature":
        least = diagnostics.least_curvature(lift, task, **settings)
        told = f"{least.lowest:.6g}, none below {least.bound:.6g}, {least.products} products"
    elif options.part == "critical":
        # The start is none; what the second order says of it is asked for all the same.
        point = diagnostics.critical_point(lift, task, gradient_norm=1e6, **settings)
        told = f"{point.message} {point.products} products"
    elif options.part == "kernel":
        leading = diagnostics.observer("kernel_top", task, count=4, **settings)
        before, found = diagnostics.foreseen(leading, lift), leading.examine(lift)
        pairs = zip(np.asarray(found.value), np.asarray(found.uncertainty), strict=True)
        known = ", ".join(f"{value:.7g} to {width:.1g}" for value, width in pairs)
        told = f"{known}, {int(found.gradients)} gradients ({before.text} foreseen)"
    elif options.part == "radius":
        level = 0.5 * float(task.objective(lift))
        found = diagnostics.observer("tangent_radius", task, eps=level, **settings).examine(lift)
        value, width = float(found.value), float(found.uncertainty)
        told = f"{value:.6g}, known to {width:.2g}, {found.gradients} gradients"
    else:
        ends = diagnostics.hessian_ends(lift, task, rtol=1e-3, **settings)
        residual = float(ends.residuals[1])
        told = f"{float(ends.highest):.6g}, known to {residual:.2g}, {ends.products} products"
    return f"{told}, {busy() - start:.4g} s"


def streamed(options: Options) -> str:
    """A flow on samples of a file, above what was there before, against the bound."""
    features, memory = 256, options.memory or 100_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        # Not by a mapping, whose pages would count as memory that is there before.
        header = {"descr": "<f4", "fortran_order": False, "shape": (options.samples, features)}
        rng, first = np.random.default_rng(0), []
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for done in range(0, options.samples, 1000):
                count = min(1000, options.samples - done)
                rows = rng.standard_normal((count, features), np.float32)
                rows.tofile(file)
                first.append(rows[:, 0].copy())
        targets = np.sin(np.concatenate(first))
        mapped = np.load(path, mmap_mode="r")
        apply = lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"]
        task = tasks.streamed(mapped, targets, apply=apply, samplewise=True)
        model = {"in": jnp.zeros((features, 128)) + 0.01, "out": jnp.ones(128) / 128}
        small = tasks.supervised(mapped[:100], targets[:100], apply=apply, samplewise=True)
        settings = {"solver": "tsit5", "rtol": 1e-2, "precision": "float32", "save": [0.5]}
        # What any flow takes is there before.
        flow.solve(model, small, 0.5, memory=memory // 10, **settings)
        flow.solve(model, task, 0.5, memory=memory // 10, max_gradients=1, **settings)
        before, start = peak(), busy()
        found = flow.solve(model, task, 0.5, memory=memory, **settings)
        more = peak() - before
        size = path.stat().st_size / 1e9
    return (
        f"{size:.3g} GB in a file, memory={memory / 1e9:.3g} GB: {more:.3g} GB more at the peak, "
        f"{found.stats.gradients} gradients in {busy() - start:.3g} s"
    )


def measure(options: Options) -> None:
    jax.config.update("jax_enable_x64", True)
    parts: dict[str, Callable[[Options], str]] = {
        "gradient": gradient,
        "flow": lambda o: run_flow(o, o.solver),
        "bdf": lambda o: run_flow(o, "bdf"),
        "checkpoint": checkpoint,
        "streamed": streamed,
    }
    told = parts.get(options.part, instrument)(options)
    edges = f"{options.edges[0]:.0e} edges, " if options.part != "streamed" else ""
    start = f"{options.part}, {edges}{options.dtype}, {options.samples} samples"
    print(f"{start}: {told}; peak {peak():.3g} GB", flush=True)


def main(options: Options) -> None:
    if options.alone:
        return measure(options)
    times = []
    for edges in options.edges:
        given = {**dataclasses.asdict(options), "edges": edges, "alone": True}
        words = [options.part]
        for name, value in given.items():
            if name == "alone":
                words.append("--alone")
            elif name != "part":
                words += [f"--{name}", str(value)]
        command = [sys.executable, __file__, *words]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        print(line, flush=True)
        if options.part == "gradient":
            times.append(float(line.split(": ")[1].split()[0]))
    if len(times) > 1:
        slope = np.polyfit(np.log(options.edges), np.log(times), 1)[0]
        print(f"fitted exponent: {slope:.3f}")
    return None


if __name__ == "__main__":
    main(tyro.cli(Options))
