"""What a store costs around the flows: writing, folding, reading, answers, by the number of runs.

    python benchmarks/store.py                      # 100, 1,000 and 10,000 runs in cells of 4
    python benchmarks/store.py --runs 1000 100000 --folded
    python benchmarks/store.py --runs 1000 10000 100000 --folded --at 1000000
    python benchmarks/store.py --around             # CPU time of a run but for its flow

Runs are copies of one small run with losses of their own: nothing but the store is measured.
CPU seconds of this process, its system calls included, imports excluded. Exponents are those of
the last two numbers of runs, and carry on to `--at`. The bare reading is h5py's of every variable
of the same folded files.
"""

import argparse
import dataclasses
import io
import math
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import h5py
import numpy as np
import xarray

from flowlift import answers, plot, store, studies, sweep
from flowlift.store import blocks, cells, digests, folding, index, templates
from flowlift.store.names import CELLS
from flowlift.studies import grid
from flowlift.sweep import cell as cell_module
from flowlift.sweep import work

STUDY = """
name = "store"
chunk = 4
[module]
kind = "mlp"
inputs = 2
depth = 1
[lift]
sizes = [4]
edges = { kind = "complete" }
[task]
kind = "periodic"
harmonics = { 1 = 1.0 }
samples = 8
[flow]
horizon = 5.0
solver = "tsit5"
[question]
losses = [0.2, 0.05]
delta = 0.1
"""
SIZES = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
# Rows of a folded file that is made directly.
ROWS = 10_000


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--folded", action="store_true", help="make the folded files directly")
    parser.add_argument("--around", action="store_true", help="measure a run around its flow alone")
    parser.add_argument("--at", type=int, help="extrapolate to so many runs")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        if given.around:
            print(f"a run around its flow: {1e3 * around(Path(place)):.2f} ms")
            return
        one = one_run(Path(place) / "one")
        measured = [of_size(n, one, Path(place) / str(n), given.folded) for n in given.runs]
    table(given.runs, measured, given.at)


def study_of(folder: Path, runs: int, sizes: list[int]) -> studies.Study:
    file = folder.with_suffix(".toml")
    file.write_text(STUDY)
    return studies.read_study(file, [f"lift.sizes={sizes}", f"seeds={runs // len(sizes)}"])


def one_run(folder: Path) -> xarray.Dataset:
    """A real run, as its cell's file holds it."""
    sweep.run_study(study_of(folder, 1, [4]), folder, progress=False)
    data = cells.read_file(next((folder / CELLS).glob("*.nc")))
    assert data is not None
    return data


def cpu(function: Callable) -> tuple[float, object]:
    began = time.process_time()
    result = function()
    return time.process_time() - began, result


def of_size(runs: int, one: xarray.Dataset, folder: Path, folded: bool) -> dict[str, float]:
    """CPU seconds of everything, and the peak of memory in GB, for one store."""
    study, found = study_of(folder, runs, SIZES), {}
    cells.write_study(study, folder)
    if folded:
        make_folded(study, one, folder)
    else:
        made = list(made_up(study, one))
        found["write"], _ = cpu(lambda: [cells.write_cell(d, c, folder) for c, d in made])
        found["index of cells"], _ = cpu(lambda: cells.index(folder))
        found["fold"], _ = cpu(lambda: folding.fold(folder))
    found["status"], _ = cpu(lambda: store.status(folder, cells.reread))
    found["load"], results = cpu(lambda: store.load(folder))
    found["bare h5py"], _ = cpu(lambda: bare(folder))
    assert isinstance(results, xarray.Dataset)
    asked = answers.question_of(results)
    found["success"], _ = cpu(lambda: answers.answers(results, asked))
    found["power law"], _ = cpu(lambda: answers.power_law(results))
    found["summary"], _ = cpu(lambda: answers.summary(results))
    drawn = folder / "figures"
    found["plot"], _ = cpu(lambda: plot.save_figures(results, drawn, question=asked))
    found["second run"], _ = cpu(lambda: sweep.run_study(study, folder, progress=False))
    found["report"], _ = cpu(lambda: plot.write_report(folder, folder / "report.html"))
    found["lazy load"], _ = cpu(lambda: store.load(folder, lazy=True))
    for name in ("cells", "index"):
        sizes = [file.stat().st_size for file in (folder / name).iterdir()]
        found[f"{name}, files"], found[f"{name}, MB"] = len(sizes), sum(sizes) / 1e6
    found["plan, MB"] = (folder / "plan.json").stat().st_size / 1e6
    found["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return found


def made_up(
    study: studies.Study, one: xarray.Dataset
) -> Iterator[tuple[grid.Cell, xarray.Dataset]]:
    draw = np.random.default_rng(0)
    for cell in studies.cells(study):
        data = one.isel(seed=np.zeros(len(cell.seeds), int))
        factor = draw.uniform(1e-3, 1, (1, len(cell.seeds)))
        data["run"] = (("size", "seed"), np.array([cell.runs]), one["run"].attrs)
        for name in ("loss", "final_loss"):
            data[name] = data[name] * (factor[..., None] if name == "loss" else factor)
        seeds, sizes = ("seed", list(cell.seeds), one["seed"].attrs), ("size", [cell.size])
        yield cell, data.assign_coords(seed=seeds, size=(*sizes, one["size"].attrs))


def make_folded(study: studies.Study, one: xarray.Dataset, folder: Path) -> None:
    """As a fold would leave it, without the cells before."""
    base, draw = blocks.block_of(one), np.random.default_rng(0)
    every = [
        (r.size, s, run) for r in grid.rows(study) for s, run in zip(r.seeds, r.runs, strict=True)
    ]
    (folder / CELLS).mkdir(exist_ok=True)
    for number, first in enumerate(range(0, len(every), ROWS)):
        sizes, seeds, runs = zip(*every[first : first + ROWS], strict=True)
        block = base.taken(np.zeros(len(runs), int))
        factor = draw.uniform(1e-3, 1, len(runs))
        columns = dict(block.columns)
        columns["run"] = columns["run"].copy(data=np.array(runs))
        columns["loss"] = columns["loss"] * factor[:, None]
        columns["final_loss"] = columns["final_loss"] * factor
        for name in ("loss", "final_loss"):
            columns[name].attrs = base.columns[name].attrs
        axes = {
            name: block.axes[name].copy(data=np.array(values))
            for name, values in (("size", sizes), ("seed", seeds))
        }
        name = f"folded-{number:016x}"
        data = blocks.folded(
            dataclasses.replace(block, axes=axes, columns=columns), name, grid.SCHEMA
        )
        (folder / CELLS / f"{name}.nc").write_bytes(digests.sealed(templates.made(data)))
    cells.index(folder)


def bare(folder: Path) -> None:
    for file in (folder / CELLS).glob("*.nc"):
        with h5py.File(io.BytesIO(file.read_bytes()), "r") as data:
            for item in data.values():
                item[()]


def around(folder: Path) -> float:
    """CPU seconds of a run but for drawing and flow, which are those of the first run."""
    study = study_of(folder / "study", 400, [4])
    kept: dict[str, object] = {}
    flow, maker = cell_module._flow, cell_module.model_maker
    first = lambda key, make: kept[key] if key in kept else kept.setdefault(key, make())
    cell_module._flow = lambda *a, **k: first("flow", lambda: flow(*a, **k))
    cell_module.model_maker = lambda study: lambda *a: first("model", lambda: maker(study)(*a))
    results, every = folder / "results", list(studies.cells(study))
    cells.write_study(study, results)
    watch = index.Watch(results)
    work.compute_and_store(study, every[0], results, work.Manner(), watch)
    seconds, _ = cpu(
        lambda: [work.compute_and_store(study, c, results, work.Manner(), watch) for c in every[1:]]
    )
    return seconds / sum(len(cell.runs) for cell in every[1:])


def table(runs: list[int], measured: list[dict[str, float]], at: int | None) -> None:
    beyond = f"{at:>14,}" if at else ""
    print(f"{'':16}" + "".join(f"{n:>12,}" for n in runs) + f"{'exponent':>12}{beyond}")
    for name in measured[-1]:
        values = [found[name] for found in measured]
        line = f"{name:16}" + "".join(f"{value:12.3f}" for value in values)
        if len(runs) > 1:
            slope = math.log(values[-1] / max(values[-2], 1e-9)) / math.log(runs[-1] / runs[-2])
            line += f"{slope:12.2f}"
            line += f"{values[-1] * (at / runs[-1]) ** slope:14.1f}" if at else ""
        print(line)
    ratios = [found["load"] / found["bare h5py"] for found in measured]
    print(f"{'load / bare':16}" + "".join(f"{ratio:12.1f}" for ratio in ratios))


if __name__ == "__main__":
    main()
