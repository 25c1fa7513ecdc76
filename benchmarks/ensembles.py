"""Flows of an ensemble: one by one on the host, one by one in the graph, K side by side.

    python benchmarks/ensembles.py --flows 16 --batch 8 --solver tsit5 --horizon 10
    python benchmarks/ensembles.py --flows 48 --solver auto --horizon 1e4 --copies 10 --study

Seconds are those of the CPU, since a busy machine stretches all others; the first flow of each way,
which compiles, is not counted among them but said apart. Attempts of the batch are those of all
lanes, at rest or not, beside what the flows need alone. With `--study` they are runs of a study
that is computed in this process, lifts, identities and stored cells included.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import xarray

from flowlift import FixedInDegree, FlowSolution, Lift, modules, sample, studies, sweep, tasks
from flowlift.flow import solve_each
from flowlift.flow.ensemble import batched

jax.config.update("jax_enable_x64", True)

STUDY = """
name = "ensembles"
seeds = {seeds}
chunk = {seeds}
[module]
kind = "mlp"
inputs = 2
depth = 2
[task]
kind = "periodic"
harmonics = {{ 1 = 1.0 }}
samples = 16
[lift]
sizes = [{copies}]
edges = {{ kind = "fixed_in_degree", degree = 4 }}
[flow]
horizon = {horizon}
solver = "{solver}"
{way}
"""


def lifts(count: int, copies: int, first: int = 0) -> Iterator[Lift]:
    """Lifts of one size: P = 73 at 8 copies."""
    module = modules.mlp(inputs=2, depth=2)
    for seed in range(first, first + count):
        yield sample(module, copies=copies, edges=FixedInDegree(4), seed=seed)


def measured(run) -> tuple[float, list[FlowSolution]]:
    """CPU seconds, and what was found."""
    clock = time.process_time()
    found = list(run())
    return time.process_time() - clock, found


def of_study(given: argparse.Namespace, way: str, seeds: int) -> tuple[float, xarray.Dataset]:
    """CPU seconds of a study in this process, and its results."""
    ways = {"host": "", "graph": 'engine = "graph"', "batch": f"batch = {given.batch}"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        text = STUDY.format(seeds=seeds, way=ways[way], **vars(given))
        path.write_text(text)
        clock = time.process_time()
        found = sweep.run_study(studies.read_study(path), path.parent / "results", progress=False)
        return time.process_time() - clock, found.load()


def studied(given: argparse.Namespace) -> None:
    """One line for each way, of a study."""
    for way in given.ways:
        first, _ = of_study(given, way, given.batch if way == "batch" else 1)
        took, found = of_study(given, way, given.flows)
        print(
            f"{way:6} {given.solver}: {1e3 * took / given.flows:7.1f} ms of CPU a run of a study, "
            f"P = {int(found.parameters.values.flat[0])}, {float(found.steps.mean()):.0f} steps; "
            f"first {first:.1f} s; median loss {float(found.final_loss.median()):.3g}",
            flush=True,
        )


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--solver", default="tsit5")
    parser.add_argument("--horizon", type=float, default=10.0)
    parser.add_argument("--ways", nargs="+", default=["host", "graph", "batch"])
    parser.add_argument("--study", action="store_true")
    given = parser.parse_args()
    if given.study:
        studied(given)
        return
    task = tasks.periodic({1: 1.0}, samples=16)
    options = {"solver": given.solver, "horizon": given.horizon}
    for way in given.ways:
        work = None
        if way == "batch":
            ensemble, flows = batched(
                lifts(given.batch, given.copies, 1000), task, width=given.batch, **options
            )
            first, _ = measured(lambda e=ensemble, f=flows: e.run(f))
            ensemble, flows = batched(
                lifts(given.flows, given.copies), task, width=given.batch, **options
            )
            took, found = measured(lambda e=ensemble, f=flows: e.run(f))
            work = ensemble.work
        else:
            each = lambda count, start, way=way: solve_each(
                lifts(count, given.copies, start), task, engine=way, **options
            )
            first, _ = measured(lambda each=each: each(1, 1000))
            took, found = measured(lambda each=each: each(given.flows, 0))
        own = sum(solution.stats.steps for solution in found)
        of_lanes = (
            "" if work is None else f", {work / own:.2f} attempts of lanes for each of its own"
        )
        said = f"{1e3 * took / given.flows:7.1f} ms of CPU a flow, {own / given.flows:.0f} attempts"
        loss = f"median loss {np.median([solution.loss[-1] for solution in found]):.3g}"
        print(f"{way:6} {given.solver}: {said}{of_lanes}; first {first:.1f} s; {loss}", flush=True)


if __name__ == "__main__":
    main()
