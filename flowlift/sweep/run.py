"""Run a study: every run that is not there yet, cell by cell, with a progress bar."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import xarray

from ..doing import doing, say
from ..store import NothingStored, Rates, clear_dead, latest, load
from ..store.cells import checked, index, write_study
from ..store.index import Watch
from ..studies.grid import Cell, cells, rows
from ..studies.records import Study
from ..studies.rows import Row
from ..studies.toml import to_toml
from .admission import check_every, check_grid
from .checking import check_study
from .dispatch import Dispatcher
from .estimate import forecast
from .executors import count_of
from .progress import Progress
from .work import Manner, compute_and_store, wait_for_others


def run_study(
    study: Study,
    directory: str | Path,
    *,
    executor: concurrent.futures.Executor | None = None,
    shard: tuple[int, int] = (0, 1),
    retry_failed: bool = False,
    every: float = 60.0,
    progress: bool = True,
) -> xarray.Dataset:
    """Train the lifts of all sizes and seeds, and keep each finished run.

    Runs that the folder already holds are not run again: resuming an interrupted study, adding
    sizes or seeds to it, and sharding it are one operation. Numbers do not depend on the executor,
    the chunk of seeds, the order, or on being killed in between. Cells are written by whoever
    computes them. A run that fails, or whose worker dies twice, is a result with its reason.

    Args:
        study: the study.
        directory: the folder of results, made if needed.
        executor: any `concurrent.futures.Executor`, e.g. of `spawned_workers` or `dask_workers`;
            None computes in this process.
        shard: (i, n), 0 <= i < n: do only the i-th of n disjoint parts, for array jobs that share
            the folder.
        retry_failed: run those that failed again; what they give then counts.
        every: seconds after which the place where a long run stands is written: a kill loses no
            more of it than that, and what one leg of a flow takes. Of finished runs it loses what
            was computed in the last 2 seconds at most.
        progress: say beforehand what it will take, where a run is there to learn from; show a bar
            on a terminal, else a line per cell, with the time left as it is learned.

    Returns:
        The study's results so far, as `load` gives them; a dataset without variables if this part
        has no runs and the folder holds no others. Runs in files that are damaged are computed
        again; cells that another live master is computing are waited for.

    Raises:
        ValueError: if the study could not be run; nothing is written then.
        StoreError: if results could not be written, e.g. because the disk is full.
        NotRead: if the system refuses to read what is there; nothing is set aside for it.
        WorkersLost: if the executor's workers or scheduler are gone; what is finished is kept.
    """
    complete_study(
        study,
        directory,
        executor=executor,
        shard=shard,
        retry_failed=retry_failed,
        every=every,
        progress=progress,
    )
    try:
        return load(directory, study)
    except NothingStored:
        # A part without runs of a study that nobody has begun: nothing was to be done.
        return xarray.Dataset(attrs={"study": to_toml(study)})


def complete_study(
    study: Study,
    directory: str | Path,
    *,
    executor: concurrent.futures.Executor | None = None,
    shard: tuple[int, int] = (0, 1),
    retry_failed: bool = False,
    every: float = 60.0,
    progress: bool = True,
) -> None:
    """As `run_study`, without reading the results: a hundred array jobs would each read all.

    Args:
        study: as for `run_study`, like all that follow.
        directory: the folder of results.
        executor: where cells are computed.
        shard: the part that is done.
        retry_failed: run those that failed again.
        every: seconds between two writings of where a run stands.
        progress: whether anything is shown.

    Raises:
        ValueError: as `run_study`, like all that follow.
        StoreError: if results could not be written.
        NotRead: if the system refuses to read what is there.
        WorkersLost: if the executor's workers or scheduler are gone.
    """
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"Argument `shard` must be (i, n) with 0 <= i < n, but is {shard}; number the parts "
            "from 0."
        )
    check_every(every)
    check_grid(study)
    check_study(study)
    directory = Path(directory)
    with doing("listing the runs"):
        plan = list(rows(study))
        write_study(study, directory, plan)
        clear_dead(directory)
        mine = {run for cell in cells(study, (), shard, plan=plan) for run in cell.runs}
        done = latest(checked(directory, mine).values())
        failed = {r: e.ended[i] for r, (e, i) in done.items() if r in e.reasons}
        again = failed if retry_failed else {}
        missing = list(cells(study, done.keys() - again.keys(), shard, plan=plan))
    manner, rates = Manner(every=every, again=again), Rates(plan, done)
    if progress and missing:
        say(str(forecast(study, missing, rates, plan)))
    run_cells(study, missing, directory, rates, executor, manner, progress=progress, plan=plan)
    clear_dead(directory)


def run_cells(
    study: Study,
    missing: list[Cell],
    directory: Path,
    rates: Rates,
    executor: concurrent.futures.Executor | None,
    manner: Manner,
    *,
    progress: bool,
    on_cell: Callable[[Cell], object] | None = None,
    plan: Iterable[Row] | None = None,
) -> Rates:
    """Compute and store cells of a study that has been checked and written.

    Args:
        study: the study.
        missing: its cells that are to be done.
        directory: the folder of results.
        rates: what runs took so far.
        executor: as for `run_study`.
        manner: how.
        progress: show a bar, or lines.
        on_cell: called with each cell once it is stored, while others are computed.
        plan: the study's rows where they are known already.

    Returns:
        What runs took by now.

    Raises:
        StoreError: if results could not be written.
    """
    learn, workers = partial(_rates, study, directory, plan), 1
    if executor is not None:
        missing, workers = in_order(missing, rates.of_cell), count_of(executor)
    with Progress(missing, rates, shown=progress, learn=learn, workers=workers) as bar:
        if executor is None:
            stored = _here(study, missing, directory, manner, bar)
        else:
            stored = Dispatcher(study, directory, executor, manner).results(missing)
        for cell in stored:
            bar.finish(cell)
            if on_cell:
                on_cell(cell)
    return bar.rates


def in_order(missing: Iterable[Cell], weight: Callable[[Cell], float]) -> list[Cell]:
    """The order in which workers get cells: one of each shape, then the rest.

    So workers compile different shapes, side by side, instead of the same one, and later cells
    find their shape in the cache of compilations. Within both parts the expensive ones come first,
    so that none is waited for at last.

    Args:
        missing: the cells.
        weight: their expected cost.

    Returns:
        All of them.
    """
    ordered = sorted(missing, key=weight, reverse=True)
    first: dict[tuple, Cell] = {}
    for cell in ordered:
        first.setdefault((cell.variant, cell.size), cell)
    chosen = set(first.values())
    return [*first.values(), *(cell for cell in ordered if cell not in chosen)]


def _rates(study: Study, directory: Path, plan: Iterable[Row] | None) -> Rates:
    return Rates(rows(study) if plan is None else plan, latest(index(directory).values()))


def _here(
    study: Study, missing: list[Cell], directory: Path, manner: Manner, bar: Progress
) -> Iterator[Cell]:
    polite, watch, waiting = dataclasses.replace(manner, insist=False), Watch(directory), missing
    while waiting:
        claimed = []
        for cell in waiting:
            if compute_and_store(study, cell, directory, polite, watch, bar.on_run(cell)):
                yield cell
            else:
                claimed.append(cell)
        wait_for_others(claimed, directory)
        waiting = claimed
