"""What the first solve of a fresh process costs, the second process, and repeats, in CPU seconds.

    python benchmarks/first_solve.py --case readme                      # auto, tsit5, rkc2
    python benchmarks/first_solve.py --case transformer cnn2d --solver rkc2 bdf --kernels
    python benchmarks/first_solve.py --case depth-* --solver tsit5 --docs

Each row is a process of its own with an empty folder of compilations, then one that finds them
there. Counted are the processor seconds of all its threads, imports and the drawing of the lift
included: wall time depends on who else computes. Programs and XLA's seconds (of wall time, reading
included) are what JAX reports of its compilations; kernels are the fused loops in the text of the
compiled programs, seen in one more process (`--kernels`). `diffrax` is the same field under
diffrax's own Tsit5, without flowlift's records, stops and counts, in a process of its own.
"""

import dataclasses
import fnmatch
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tyro

HORIZON, SAMPLES, COPIES, IN_DEGREE = 1.0, 64, 16, 4
DEPTHS = (2, 8, 32, 64)
COMPILED, HIT = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass(frozen=True)
class Options:
    """Which rows.

    Attributes:
        case: names or patterns of cases; all of them by default.
        solver: for the zoo and for depths. README's case has solvers of its own, auto, tsit5 and
            rkc2, and `equinox` has bdf.
        repeats: further solves in the same process; the median is shown.
        peer: whether diffrax's Tsit5 stands beside.
        kernels: whether to count kernels, in a process that writes its programs down.
        docs: write the table into docs/benchmarks.md.
        child: used by the benchmark itself.
    """

    case: tuple[str, ...] = ("*",)
    solver: tuple[str, ...] = ("rkc2", "bdf", "tsit5")
    repeats: int = 3
    peer: bool = True
    kernels: bool = False
    docs: bool = False
    child: str = ""


def zoo() -> dict[str, Callable]:
    """By name, a function without arguments that gives a module and the shape of its samples."""
    from flowlift import modules

    image, tokens = (1, 8, 8), (8, 4)
    cases = {
        "mlp": lambda: (modules.mlp(2), (2,)),
        "mlp_with_skips": lambda: (modules.mlp_with_skips(2), (2,)),
        "siren": lambda: (modules.siren(2), (2,)),
        "deep_linear": lambda: (modules.deep_linear(2), (2,)),
        "two_layer": lambda: (modules.two_layer(2), (2,)),
        "committee": lambda: (modules.committee(2), (2,)),
        "cnn1d": lambda: (modules.cnn1d(16), (1, 16)),
        "cnn2d": lambda: (modules.cnn2d(8, 8), image),
        "resnet": lambda: (modules.resnet((8, 8)), image),
        "attention": lambda: (modules.attention(*tokens), tokens),
        "transformer": lambda: (modules.transformer(*tokens), tokens),
        "unrolled_rnn": lambda: (modules.unrolled_rnn(8, 2), (8, 2)),
    }
    deep = {f"depth-{d}": lambda d=d: (modules.mlp(2, depth=d), (2,)) for d in DEPTHS}
    return cases | deep


NAMES = (
    "readme",
    "equinox",
    "mlp",
    "mlp_with_skips",
    "siren",
    "deep_linear",
    "two_layer",
    "committee",
    "cnn1d",
    "cnn2d",
    "resnet",
    "attention",
    "transformer",
    "unrolled_rnn",
    *(f"depth-{d}" for d in DEPTHS),
)
OWN_SOLVERS = {"readme": ("auto", "tsit5", "rkc2"), "equinox": ("bdf",)}


def flow_of(case: str) -> tuple:
    """Model, task, horizon and further arguments of a case."""
    import jax
    import numpy as np

    import flowlift
    from flowlift import modules, tasks
    from flowlift.lift import GaussianFanIn

    if case == "readme":
        lift = flowlift.sample(
            modules.mlp(inputs=2, depth=2, activation="tanh"),
            copies=32,
            edges=flowlift.BernoulliInDegree(4.0),
            seed=0,
        )
        task = tasks.periodic({1: 1.0, 3: 0.5}, samples=64)
        return lift, task, 100.0, {"stops": [flowlift.LossBelow(1e-3)]}
    if case == "equinox":
        import equinox as eqx

        model = eqx.nn.MLP(2, "scalar", 32, 2, jax.nn.tanh, key=jax.random.key(0))
        return model, tasks.periodic({1: 1.0, 3: 0.5}, samples=64), 100.0, {}
    module, shape = zoo()[case]()
    weights = dict.fromkeys(module.edge_by_name, GaussianFanIn(IN_DEGREE**-0.5))
    edges = flowlift.BernoulliInDegree(IN_DEGREE)
    lift = flowlift.sample(module, copies=COPIES, edges=edges, weights=weights, seed=0)
    x = np.random.default_rng(0).standard_normal((SAMPLES, *shape))
    return lift, tasks.supervised(x, np.sin(x.reshape(SAMPLES, -1)[:, 0])), HORIZON, {}


def seconds() -> float:
    """Processor seconds of this process and of those it waited for."""
    of = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of.ru_utime + of.ru_stime


def child(case: str, solver: str, repeats: int) -> dict[str, float]:
    """What one process measures of itself."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found = {"programs": 0, "XLA s": 0.0, "hits": 0}

    def compiled(event: str, duration: float, **_: object) -> None:
        if event == COMPILED:
            found["programs"] += 1
            found["XLA s"] += duration

    def hit(event: str, **_: object) -> None:
        found["hits"] += event == HIT

    jax.monitoring.register_event_duration_secs_listener(compiled)
    jax.monitoring.register_event_listener(hit)
    run = with_diffrax(case) if solver == "diffrax" else with_flowlift(case, solver)
    imported = seconds()
    run()
    first = seconds()
    counted = dict(found)
    times = []
    for _ in range(repeats):
        start = seconds()
        run()
        times.append(seconds() - start)
    repeat = sorted(times)[len(times) // 2] if times else float("nan")
    return counted | {"before": imported, "process": first, "repeat": repeat}


def with_flowlift(case: str, solver: str) -> Callable[[], object]:
    import flowlift

    model, task, horizon, more = flow_of(case)
    return lambda: flowlift.solve(model, task, horizon, solver=solver, **more)


def with_diffrax(case: str) -> Callable[[], object]:
    """The field -grad L in diffrax's own loop, at the default tolerances, saved at 32 times."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from flowlift.flow.problem import make_problem
    from flowlift.flow.solve import ATOL, RTOL

    model, task, horizon, _ = flow_of(case)
    problem = make_problem(model, task.objective, "float64")
    term = diffrax.ODETerm(lambda t, theta, problem: -problem.value_and_grad(theta)[1])
    times = jnp.geomspace(1e-3 * horizon, horizon, 32)

    @eqx.filter_jit
    def solve(problem):
        return diffrax.diffeqsolve(
            term,
            diffrax.Tsit5(),
            0.0,
            horizon,
            None,
            problem.start,
            problem,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(RTOL, ATOL),
            max_steps=1 << 20,
            throw=False,
        )

    return lambda: jax.block_until_ready(solve(problem).ys)


def measured(case: str, solver: str, options: Options, folder: str, dump: str = "") -> dict:
    """One process, its compilations kept in a folder."""
    command = [sys.executable, __file__, "--child", f"{case}:{solver}"]
    settings = {"FLOWLIFT_CACHE": folder, "OPENBLAS_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    if dump:
        flags = f"{environment.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"
        settings |= {"XLA_FLAGS": flags, "FLOWLIFT_CACHE": "off"}
    command += ["--repeats", str(0 if dump else options.repeats)]
    ended = subprocess.run(command, env=environment | settings, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{case} by {solver}: {ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def kernels(case: str, solver: str, options: Options) -> int:
    """Fused loops in all programs that a first solve compiles."""
    with tempfile.TemporaryDirectory() as dump:
        measured(case, solver, options, "off", dump)
        texts = (p.read_text() for p in Path(dump).glob("*after_optimizations.txt"))
        return sum(len(re.findall(r" fusion\(", text)) for text in texts)


def row(case: str, solver: str, options: Options) -> dict[str, object]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)
        cold = measured(case, solver, options, folder)
        warm = measured(case, solver, options, folder)
    line: dict[str, object] = {"flow": case, "solver": solver, "programs": cold["programs"]}
    if options.kernels:
        line["kernels"] = kernels(case, solver, options)
    return line | {
        "XLA, wall": cold["XLA s"],
        "imports, lift": cold["before"],
        "first process": cold["process"],
        "second process": warm["process"],
        "compiled there": warm["programs"] - warm["hits"],
        "repeat": cold["repeat"],
    }


def table(rows: list[dict[str, object]]) -> str:
    """Markdown; seconds to three digits."""
    cell = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(v) for v in r.values()] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(options: Options) -> None:
    if options.child:
        print(json.dumps(child(*options.child.split(":"), options.repeats)))
        return
    rows = []
    for case in NAMES:
        if not any(fnmatch.fnmatch(case, pattern) for pattern in options.case):
            continue
        peers = ("diffrax",) if options.peer else ()
        for solver in (*OWN_SOLVERS.get(case, options.solver), *peers):
            rows.append(row(case, solver, options))
            print(table(rows).splitlines()[-1], flush=True)
    print(table(rows))
    if options.docs:
        from kernel_tables import write_docs

        write_docs("first solve", table(rows))


if __name__ == "__main__":
    main(tyro.cli(Options))
