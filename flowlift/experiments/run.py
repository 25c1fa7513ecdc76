"""Run a study: every cell that is not there yet, one file each, with a progress bar."""

from pathlib import Path

import xarray
from tqdm import tqdm

from ..flow import FlowSolution
from .cell import cell_name, check_study, run_cell
from .store import cell_path, load, write, write_text
from .study import Study
from .study_file import to_toml


def run_study(study: Study, directory: str | Path, *, progress: bool = True) -> xarray.Dataset:
    """Train the lifts of all sizes and seeds, and keep each finished cell.

    Cells that the folder already holds are not run again: an interrupted study goes on, and one
    with further sizes adds to its results. The resolved study is written beside them.

    Args:
        study: the study.
        directory: the folder of results, made if needed.
        progress: show a bar with the time left on a terminal, else a line per cell.

    Returns:
        The study's own part of the results, as `load` gives them.

    Raises:
        ValueError: if the study could not be run; nothing is written then.
    """
    check_study(study)
    directory, seeds = Path(directory), list(study.all_seeds)
    write_text(to_toml(study), directory / "study.toml")
    paths = {n: cell_path(directory, cell_name(study, n, seeds)) for n in study.lift.sizes}
    missing = [n for n, path in paths.items() if not path.exists()]
    with _Progress(missing, len(seeds), shown=progress) as bar:
        for size in missing:
            write(run_cell(study, size, seeds, bar.advance(size)), paths[size])
            bar.finish(size)
    return load(directory).sel(size=list(study.lift.sizes), seed=seeds)


class _Progress:
    """Runs weighted by lift size, for an honest time left; plain lines without a terminal."""

    def __init__(self, sizes: list[int], seeds: int, *, shown: bool):
        self.bar = tqdm(
            total=sum(sizes) * seeds,
            disable=None if shown else True,
            bar_format="{l_bar}{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        )
        self.lines, self.seeds = shown and self.bar.disable, seeds

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def advance(self, size: int):
        """What a run of this size reports to."""

        def on_run(seed: int, solution: FlowSolution) -> None:
            self.bar.set_postfix_str(f"n = {size}, seed {seed}: L = {solution.loss[-1]:.3g}")
            self.bar.update(size)

        return on_run

    def finish(self, size: int) -> None:
        """A line for a finished cell, where no bar is shown."""
        if self.lines:
            print(f"n = {size}: {self.seeds} flows", flush=True)
