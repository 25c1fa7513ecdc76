"""One script for whoever has a GPU: is it right there, how fast, and in how much memory.

    python benchmarks/gpu.py                     # 12 minutes at most in all
    python benchmarks/gpu.py --small             # small sizes, also on a CPU: does it run?
    python benchmarks/gpu.py --part kernels      # one part by itself

Each part is a process of its own with a share of the time, and what it found is appended to the
output file line by line (JSON), so that a part that hangs or fails costs no other. Correctness
comes first. A push over n targets of in-degree k moves (k + 1) n B words for B columns: its time is
given over that of those bytes at the bandwidth that a copy of the same size reaches.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# Shares of the whole time, in the order in which parts run.
SHARES = {"correct": 2, "kernels": 3, "flow": 2, "ensembles": 5}


def main() -> int:
    """Run the parts, each in a process, and print what each found.

    Returns:
        1 if a part failed or found something wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=720.0, help="of all parts together")
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--part", choices=list(SHARES), help="this one, in this process")
    parser.add_argument("--output", type=Path, default=Path("results/gpu.jsonl"))
    given = parser.parse_args()
    if given.part:
        for row in PARTS[given.part](given.small):
            print(json.dumps({"part": given.part} | row), flush=True)
        return 0
    given.output.parent.mkdir(parents=True, exist_ok=True)
    ends, failed = time.monotonic() + given.seconds, False
    left = dict(SHARES)
    for part in SHARES:
        share = left[part] / sum(left.values()) * (ends - time.monotonic())
        del left[part]
        with given.output.open("a") as file:
            failed |= not _kept(part, given.small, share, file)
    return int(failed)


def _kept(part: str, small: bool, seconds: float, file: Any) -> bool:
    """Run one part for so long at most; every line is written as it comes."""
    command = [sys.executable, __file__, "--part", part, *(["--small"] if small else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ends, right = time.monotonic() + seconds, True
    killed = _kill_after(process, seconds)
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        file.write(line)
        file.flush()
        right &= json.loads(line).get("right", True)
    process.wait()
    killed.cancel()
    if process.returncode:
        late = time.monotonic() >= ends
        why = f"took more than {seconds:.0f} s" if late else f"ended by {process.returncode}"
        row = json.dumps({"part": part, "right": False, "failed": why})
        print(row, flush=True)
        file.write(row + "\n")
    return right and not process.returncode


def _kill_after(process: subprocess.Popen, seconds: float) -> Any:
    import threading

    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def correct(small: bool) -> Iterator[Row]:
    """Kernels against their meaning in NumPy, flows against those of a CPU, in both precisions."""
    import jax
    import numpy as np

    import flowlift

    _settled()
    yield {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-11)):
        fibre, w, y = _fibre(64 if small else 4096, 8, 16, dtype)
        expected = np.zeros_like(y)
        terms = np.asarray(w)[:, None] * np.asarray(y)[np.asarray(fibre.sources)]
        np.add.at(expected, np.asarray(fibre.targets), terms)
        for method in ("padded", "naive", "dense"):
            found = flowlift.kernels.fibre_sum(fibre, w, y, method=method)
            error = float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
            yield {"push": method, "dtype": dtype, "error": error, "right": error < tolerance}
    for solver in ("tsit5",) if small else ("tsit5", "rkc2", "bdf"):
        here = _flow(solver, None)
        with jax.default_device(jax.devices("cpu")[0]):
            there = _flow(solver, "graph")
        error = abs(here.loss[-1] / there.loss[-1] - 1)
        row = {"flow": solver, "engine": here.engine, "error": error}
        yield row | {"right": bool(error < 1e-3 and here.result == there.result)}


def kernels(small: bool) -> Iterator[Row]:
    """Time of a push over that of its bytes, and gradients against peers on the same card."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import sparse

    from flowlift.kernels import fibre_sum

    _settled()
    sizes = ((256, 8, 16),) if small else ((4096, 8, 64), (65536, 8, 64), (65536, 32, 64))
    for n, k, columns in sizes:
        fibre, w, y = _fibre(n, k, columns, "float32")
        words = (k + 1) * n * columns
        copy = _seconds(lambda x: x + 1, jnp.zeros(words // 2, jnp.float32))
        methods = ("padded", "naive", "dense") if n <= 8192 else ("padded", "naive")
        ours = lambda method, w, y, fibre=fibre: fibre_sum(fibre, w, y, method=method)
        ways: dict[str, Callable] = {method: partial(ours, method) for method in methods}
        indices = jnp.stack([fibre.targets, fibre.sources], axis=1)
        ways["BCOO"] = lambda w, y, at=indices, n=n: sparse.BCOO((w, at), shape=(n, n)) @ y
        for name, push in ways.items():
            gradient = jax.grad(lambda w, y, push=push: jnp.sum(jnp.sin(push(w, y))), (0, 1))
            took = _seconds(push, w, y)
            row = {"n": n, "k": k, "columns": columns, "way": name, "push_s": took}
            row |= {"over_bytes": took / copy, "gradient_s": _seconds(gradient, w, y)}
            yield row


def flow(small: bool) -> Iterator[Row]:
    """One flow of a million edges, in both precisions, with its memory."""
    import flowlift

    _settled()
    for precision in ("float32", "float64"):
        lift = flowlift.sample(
            flowlift.modules.mlp(8, depth=2),
            copies=64 if small else 65_536,
            edges=flowlift.FixedInDegree(4 if small else 8),
            seed=0,
            precision=precision,
        )
        task = flowlift.tasks.random_labels(8, samples=8 if small else 256, seed=0)
        clock = time.perf_counter()
        found = flowlift.solve(
            lift, task, 1.0, solver="rkc2", rtol=1e-3, atol=1e-6, precision=precision, save=[1.0]
        )
        row = {"parameters": sum(w.size for w in lift.weights.values()), "precision": precision}
        row |= {"seconds": time.perf_counter() - clock, "gradients": found.stats.gradients}
        yield row | {"result": str(found.result), "memory": _memory()}


def ensembles(small: bool) -> Iterator[Row]:
    """Flows of P = 200 side by side, against one by one and against vmapped diffrax."""
    import jax
    import jax.numpy as jnp

    import flowlift

    _settled()
    task = flowlift.tasks.periodic({1: 1.0}, samples=16)
    module = flowlift.modules.mlp(inputs=2, depth=2)

    def lifts(count: int) -> list[Any]:
        law, copies = flowlift.FixedInDegree(4), 8 if small else 20
        one = lambda seed: flowlift.sample(module, copies=copies, edges=law, seed=seed)
        return [one(seed) for seed in range(count)]

    options = {"rtol": 1e-4, "save": [1.0, 10.0], "solver": "tsit5"}
    sizes = (4,) if small else (64, 1024, 16384)
    for count in sizes:
        models = lifts(count)
        for precision in ("float32", "float64"):
            each = lambda batch, models, precision=precision: list(
                flowlift.flow.solve_each(
                    models, task, 10.0, batch=batch, precision=precision, **options
                )
            )
            ways: dict[str, Callable] = {
                "side by side": lambda m, each=each, count=count: each(min(count, 1024), m)
            }
            if count <= 64:
                ways["one by one"] = lambda m, each=each: each(None, m)
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *models)
            last = lambda model, precision=precision: flowlift.trajectory(
                model, task, [1.0, 10.0], solver="tsit5", rtol=1e-4, precision=precision
            ).losses[-1]
            vmapped = jax.jit(jax.vmap(last))
            ready = lambda _, run=vmapped, s=stacked: jax.block_until_ready(run(s))
            ways["vmapped diffrax"] = ready
            for name, run in ways.items():
                clock = time.perf_counter()
                run(models)
                first = time.perf_counter() - clock
                clock = time.perf_counter()
                run(models)
                took = time.perf_counter() - clock
                row = {"flows": count, "precision": precision, "way": name, "first_s": first}
                yield row | {"s": took, "s_a_flow": took / count, "memory": _memory()}


PARTS = {"correct": correct, "kernels": kernels, "flow": flow, "ensembles": ensembles}


def _settled() -> None:
    import jax

    jax.config.update("jax_enable_x64", True)


def _fibre(n: int, k: int, columns: int, dtype: str) -> tuple[Any, Any, Any]:
    import jax.numpy as jnp
    import numpy as np

    from flowlift.kernels import Fibre

    rng = np.random.default_rng(0)
    # Distinct sources of each target, without a draw for each.
    offsets = rng.choice(n, k, replace=False)
    sources = (rng.integers(n, size=n)[:, None] + offsets).reshape(-1) % n
    fibre = Fibre.build(sources, np.repeat(np.arange(n), k), n, n, regular=k)[0]
    w, y = rng.standard_normal(k * n), rng.standard_normal((n, columns))
    return fibre, jnp.asarray(w, dtype), jnp.asarray(y, dtype)


def _flow(solver: str, engine: str | None) -> Any:
    import flowlift

    module = flowlift.modules.mlp(inputs=2, depth=1)
    lift = flowlift.sample(module, copies=8, edges=flowlift.FixedInDegree(4), seed=0)
    task = flowlift.tasks.periodic({1: 1.0}, samples=16)
    return flowlift.solve(lift, task, 10.0, solver=solver, engine=engine)


def _seconds(function: Callable, *given: Any) -> float:
    """The least time of ten calls of the compiled function."""
    import jax

    run = jax.jit(function)
    jax.block_until_ready(run(*given))
    times = []
    for _ in range(10):
        clock = time.perf_counter()
        jax.block_until_ready(run(*given))
        times.append(time.perf_counter() - clock)
    return min(times)


def _memory() -> int | None:
    """Peak bytes on the device; None where it does not say."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


if __name__ == "__main__":
    sys.exit(main())
