"""Runs per minute of a sweep, against the plain loop that a user would write.

python benchmarks/sweep.py [--json FILE]
python benchmarks/sweep.py --sizes 64 128 --seeds 5

A 3-layer tanh lift with in-degree 8 on a periodic signal, to the same loss by the same solver and
tolerances: `flowlift.sweep` on two spawned workers and on one, and a loop with a new jit per
seed in one process with default threads. Every part runs in processes of its own, started cold,
and is timed from the start of the first to the end of the last.
"""

import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name = "sweep"
seeds = {seeds}
chunk = 20

[module]
kind = "mlp"
inputs = 2
depth = 3

[lift]
sizes = {sizes}
edges = {{ kind = "fixed_in_degree", degree = 8 }}

[task]
kind = "periodic"
harmonics = {{ 1 = 1.0 }}
samples = 64

[flow]
solver = "tsit5"
horizon = 1000.0
rtol = 1e-4
atol = 1e-7
loss_below = {loss}
"""


# What one writes without flowlift.sweep: diffrax, and a fresh jit for each seed. The model is
# flowlift's lift, so that both sides compute the same gradients by the same kernels.
def plain_loop(file: str, sizes: list[int], seeds: int) -> None:
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from flowlift.studies import read_study
    from flowlift.sweep.cell import model_maker, study_task

    study = read_study(file)
    plan, make, objective = study.flow, model_maker(study), study_task(study).objective
    times = jnp.asarray(plan.schedule.times(plan.horizon))
    control = diffrax.PIDController(rtol=plan.rtol, atol=plan.atol)
    for size in sizes:
        for seed in range(seeds):
            theta, rest = eqx.partition(make(size, seed), eqx.is_inexact_array)
            loss = lambda theta, rest=rest: objective(eqx.combine(theta, rest))
            field = lambda t, y, args, loss=loss: jax.tree.map(jnp.negative, jax.grad(loss)(y))
            below = lambda t, y, args, loss=loss, **_: loss(y) <= plan.loss_below

            @jax.jit
            def flow(theta, field=field, below=below, loss=loss):
                solution = diffrax.diffeqsolve(
                    diffrax.ODETerm(field),
                    diffrax.Tsit5(),
                    0.0,
                    times[-1],
                    None,
                    theta,
                    saveat=diffrax.SaveAt(ts=times, t1=True, fn=lambda t, y, args: loss(y)),
                    stepsize_controller=control,
                    event=diffrax.Event(below),
                    max_steps=1_000_000,
                    adjoint=diffrax.ForwardMode(),
                )
                # What was not reached is infinite.
                return jnp.min(solution.ys), jnp.max(
                    jnp.where(solution.ts < jnp.inf, solution.ts, 0)
                )

            reached, time = flow(theta)
            print(
                f"n = {size}, seed {seed}: L({float(time):.4g}) = {float(reached):.4g}", flush=True
            )


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float, list]:
    """Seconds from the start of a process to its end, those of the processor, and timed lines."""
    clock, before = time.perf_counter(), processor_seconds()
    inherited = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    process = subprocess.Popen(
        arguments, env=inherited | environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [(time.perf_counter() - clock, line) for line in process.stdout]
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return time.perf_counter() - clock, processor_seconds() - before, lines


def processor_seconds() -> float:
    """What the children that have ended took, with all that they had waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def forecast(lines: list[tuple[float, str]]) -> float:
    """The time left that was said once a tenth of the cells was done, over what it was."""
    units = {"s": 1, "min": 60, "h": 3600, "days": 86400}
    pattern = r"(\d+) of (\d+) cells(?:, about (\S+) (s|min|h|days) left)?"
    cells = [(at, found.groups()) for at, line in lines if (found := re.search(pattern, line))]
    end = cells[-1][0]
    for at, (done, of, left, unit) in cells:
        if left and 10 * int(done) >= int(of):
            return float(left) * units[unit] / (end - at)
    return math.nan


def sweep(file: Path, workers: int, folder: Path) -> tuple[float, float, float, float]:
    """Seconds of `flowlift run` with an empty cache, of the processor, of flows; forecast."""
    from flowlift.store import load

    run = [sys.executable, "-m", "flowlift", "run", str(file), "--workers", str(workers)]
    temporary = folder / f"tmp{workers}"
    temporary.mkdir()
    seconds, processor, lines = timed(
        [*run, "--output", str(folder / str(workers))], {"TMPDIR": str(temporary)}
    )
    results = load(folder / str(workers))
    print(results.final_loss.max("seed").values, results.result.values.ravel()[:3])
    return seconds, processor, float(results.seconds.sum()), forecast(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plain-seeds", type=int, default=3, help="seeds a size of the plain loop")
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain_loop(options.plain[0], options.sizes, int(options.plain[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "study.toml"
        file.write_text(STUDY.format(seeds=options.seeds, sizes=options.sizes, loss=options.loss))
        report(measure(file, folder, options), options)


def measure(file: Path, folder: Path, options) -> dict[str, float]:
    runs = len(options.sizes) * options.seeds
    two, two_processor, flows, said = sweep(file, 2, folder)
    one, one_processor, _, said_alone = sweep(file, 1, folder)
    sizes = [str(size) for size in options.sizes]
    plain = [sys.executable, __file__, "--plain", str(file), str(options.plain_seeds), "--sizes"]
    loop, _, _ = timed([*plain, *sizes], {"JAX_ENABLE_X64": "1"})
    rates = {
        "runs per minute, two workers": 60 * runs / two,
        "runs per minute, one worker": 60 * runs / one,
        "runs per minute, plain loop": 60 * len(sizes) * options.plain_seeds / loop,
    }
    return rates | {
        "two workers / plain loop": rates["runs per minute, two workers"]
        / rates["runs per minute, plain loop"],
        "two workers / one": one / two,
        # Two workers end no sooner than the cores of this machine can do their work.
        "bound of it by their processor seconds": one * (os.cpu_count() or 1) / two_processor,
        "processor seconds, two workers": two_processor,
        "processor seconds, one worker": one_processor,
        "seconds, two workers": two,
        "seconds of flows": flows,
        "forecast / truth, two workers": said,
        "forecast / truth, one worker": said_alone,
    }


def report(rates: dict[str, float], options) -> None:
    for name, value in rates.items():
        print(f"{name:38} {value:.3g}")
    if options.json:
        options.json.write_text(json.dumps(rates | {"cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
