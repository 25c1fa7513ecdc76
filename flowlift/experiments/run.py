"""Run a study: every run that is not there yet, cell by cell, with a progress bar."""

import concurrent.futures
import tomllib
from collections.abc import Iterator
from pathlib import Path

import xarray
from tqdm import tqdm

from ..flow import FlowSolution
from .cell import check_study, run_cell
from .grid import Cell, cells
from .store import finished, load, write_cell, write_study
from .study import Study
from .study_file import structure_study, to_toml


def run_study(
    study: Study,
    directory: str | Path,
    *,
    executor: concurrent.futures.Executor | None = None,
    shard: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> xarray.Dataset:
    """Train the lifts of all sizes and seeds, and keep each finished cell.

    Runs that the folder already holds are not run again: resuming an interrupted study, adding
    sizes or seeds to it, and sharding it are one operation. Numbers do not depend on the executor,
    the chunk of seeds or the order. Cells are written by whoever computes them.

    Args:
        study: the study.
        directory: the folder of results, made if needed.
        executor: any `concurrent.futures.Executor`, e.g. of `spawned_workers`; None computes in
            this process.
        shard: (i, n), 0 <= i < n: do only the i-th of n disjoint parts, for array jobs that share
            the folder.
        progress: show a bar with the time left on a terminal, else a line per cell.

    Returns:
        The study's results so far, as `load` gives them.

    Raises:
        ValueError: if the study could not be run; nothing is written then.
    """
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"Argument `shard` must be (i, n) with 0 <= i < n, but is {shard}; number the parts "
            "from 0."
        )
    check_study(study)
    directory = Path(directory)
    write_study(study, directory)
    missing = list(cells(study, finished(directory), shard))
    with _Progress(missing, shown=progress) as bar:
        if executor is None:
            for cell in missing:
                write_cell(run_cell(study, cell, bar.on_run(cell)), cell, directory)
                bar.finish(cell)
        else:
            for cell in _computed_elsewhere(study, missing, directory, executor):
                bar.bar.update(cell.cost)
                bar.finish(cell)
    return load(directory, study)


def compute_and_store(study: str, cell: Cell, directory: str) -> None:
    """What a worker does with a cell.

    Args:
        study: the study as TOML text.
        cell: the cell.
        directory: the folder of results.
    """
    typed = structure_study(tomllib.loads(study))
    write_cell(run_cell(typed, cell), cell, Path(directory))


def _computed_elsewhere(
    study: Study, missing: list[Cell], directory: Path, executor: concurrent.futures.Executor
) -> Iterator[Cell]:
    """Cells as they are finished, the expensive ones first so that none is waited for at last."""
    text = to_toml(study)
    ordered = sorted(missing, key=lambda cell: -cell.cost)
    futures = {
        executor.submit(compute_and_store, text, cell, str(directory)): cell for cell in ordered
    }
    for future in concurrent.futures.as_completed(futures):
        future.result()
        yield futures[future]


class _Progress:
    """Runs weighted by lift size, for an honest time left; plain lines without a terminal."""

    def __init__(self, missing: list[Cell], *, shown: bool):
        self.bar = tqdm(
            total=sum(cell.cost for cell in missing),
            disable=None if shown else True,
            bar_format="{l_bar}{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        )
        self.lines = shown and self.bar.disable

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def on_run(self, cell: Cell):
        """What the runs of a cell report to."""

        def advance(seed: int, solution: FlowSolution) -> None:
            self.bar.set_postfix_str(f"n = {cell.size}, seed {seed}: L = {solution.loss[-1]:.3g}")
            self.bar.update(cell.size)

        return advance

    def finish(self, cell: Cell) -> None:
        """A line for a finished cell, where no bar is shown."""
        if self.lines:
            print(cell, flush=True)
