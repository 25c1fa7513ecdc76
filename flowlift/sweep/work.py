"""What a worker does with a cell: run after run, each kept, whatever happens to it."""

import dataclasses
import functools
import random
import time
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray

from ..compilations import keep_compilations
from ..doing import doing
from ..files import NotRead
from ..flow import Checkpoints, FlowSolution, ForeignCheckpoint, Outcome
from ..flow.checkpoint_files import leg_paths, remove
from ..flow.dataset import Variables
from ..flow.ensemble import resolve_batch
from ..sources import remember
from ..store import Claim, Holder, claimed_by_others
from ..store.cells import StoreError, read_cell, storing, write_cell
from ..store.damage import set_aside
from ..store.index import Watch
from ..store.joining import along_seeds
from ..studies.grid import Cell
from ..studies.records import Study
from ..studies.toml import structure_study
from .cell import Bench, describe, gather
from .compiling import compiling_seconds
from .ended import UNKNOWN, checkpoint_of, failed, reason_of, with_times
from .releasing import release_programs
from .rewiring import known_of
from .side_by_side import Batch, Keep

# Seconds between looks at the claims of others, give or take half: two that gave way to each other
# do not meet again and again.
_PAUSE = 1.0
# Seconds of finished work that a kill may cost: writing a cell takes a few milliseconds.
_UNWRITTEN = 2.0
OnRun = Callable[[int, FlowSolution], None]


@dataclasses.dataclass(frozen=True)
class Manner:
    """How cells are computed; no number depends on it.

    Attributes:
        every: seconds between two writings of where a run stands; finished runs are written
            2 seconds after the last writing at the latest, however long this is.
        again: failures to compute again, by run: when each had ended. What fails meanwhile, in
            the hands of another writer, is a result.
        insist: compute even what another live writer claims.
        singly: no run beside another, so that a claim says which one takes its worker down.
    """

    every: float = 60.0
    again: Mapping[str, str] = dataclasses.field(default_factory=dict)
    insist: bool = True
    singly: bool = False

    def of(self, cell: Cell) -> "Manner":
        """What a worker needs of it for one cell."""
        again = {run: self.again[run] for run in cell.runs if run in self.again}
        return dataclasses.replace(self, again=again)


def compute_and_store(
    study: Study,
    cell: Cell,
    directory: Path,
    manner: Manner,
    watch: Watch,
    on_run: OnRun | None = None,
) -> bool:
    """Compute the runs of a cell that no file holds yet, and store them.

    Masters that cut the study into other cells, such as one that began with other runs missing,
    repeat nothing that way: whoever comes later finds the runs of the earlier one.

    Args:
        study: the study.
        cell: the cell.
        directory: the folder of results.
        manner: how.
        watch: tells what has been stored.
        on_run: called with seed and solution after every run.

    Returns:
        False if nothing was done because another live writer claims runs of the cell.

    Raises:
        StoreError: if results could not be written.
        NotRead: if the system refuses to read a checkpoint: it stays, and no run is made of it.
        KeyboardInterrupt: on Ctrl-C, once the runs that are finished are written.
    """
    with Holder(directory, cell.runs, cell.size) as holder:
        # Claimed first, then looked: of two writers that begin at once, one sees the other.
        if not manner.insist and holder.shared:
            return False
        before = _without(read_cell(cell, directory), manner.again)
        there = set() if before is None else set(before["run"].values.ravel())
        there |= watch.stored(cell.runs, manner.again)
        missing = cell.without(there)
        if missing is None:
            return True
        release_programs()
        bench = Bench(study, cell)
        keeper = _Keeper(bench.study, cell, directory, manner, before)

        def keep(seed: int, run: str, data: Variables, solution: FlowSolution) -> None:
            keeper.add(seed, run, data)
            if on_run:
                on_run(seed, solution)

        try:
            _all(bench, missing, directory, manner, holder, keep)
        except KeyboardInterrupt:
            keeper.write()
            raise
        keeper.write()
    return True


def _all(bench: Bench, cell: Cell, directory: Path, manner: Manner, holder: Holder, keep: Keep):
    """The runs of a cell, one by one or side by side."""
    runs, plan = list(zip(cell.seeds, cell.runs, strict=True)), bench.study.flow
    # Flows whose graph changes have no lanes; a width that was asked for is refused beforehand.
    width = resolve_batch(plan.batch) if plan.rewire is None else None
    if width is not None:
        Batch(bench, width, directory, manner.every, holder).run(runs, keep, manner.singly)
        return
    for seed, run in runs:
        holder.begin(run, seed)
        with doing(f"n = {cell.size}, seed {seed}"):
            data, solution = _one(bench, seed, checkpoint_of(directory, run), manner, holder)
        keep(seed, run, data, solution)


def _without(data: xarray.Dataset | None, again: Mapping[str, str]) -> xarray.Dataset | None:
    """What the file of a cell holds, but for failures that are computed again."""
    if data is None or not again:
        return data
    pairs = zip(data["run"].values.ravel(), data["ended"].values.ravel(), strict=True)
    kept = [i for i, (run, ended) in enumerate(pairs) if again.get(str(run)) != str(ended)]
    return data.isel(seed=kept) if kept else None


def wait_for_others(cells: Sequence[Cell], directory: Path) -> None:
    """Wait until a cell is free of the claims of other live writers.

    Args:
        cells: cells that others claimed; none: nothing to wait for.
        directory: the folder of results.
    """
    if cells:
        time.sleep(_PAUSE * random.uniform(0.5, 1.5))
    while cells and all(claimed_by_others(directory, cell.runs) for cell in cells):
        time.sleep(_PAUSE * random.uniform(0.5, 1.5))


def compute_described(
    study: str,
    cell: Mapping[str, Any],
    directory: str,
    manner: Mapping[str, Any],
    texts: Collection[str],
) -> bool:
    """What `compute` does once the environment is settled.

    Args:
        study: the study as TOML text.
        cell: fields of the cell.
        directory: the folder of results.
        manner: fields of `Manner`.
        texts: the sources of the study.

    Returns:
        As `compute_and_store`.
    """
    keep_compilations()
    for text in texts:
        remember(text)
    typed = structure_study(tomllib.loads(study), execute=True)
    return compute_and_store(
        typed, Cell(**cell), Path(directory), Manner(**manner), _watch(directory)
    )


@functools.lru_cache(maxsize=1)
def _watch(directory: str) -> Watch:
    """This worker's own: what it has read of the index serves all of its cells."""
    return Watch(Path(directory))


def store_crash(study: Study, cell: Cell, directory: Path, claim: Claim) -> None:
    """Store the run that took its worker down, with what its checkpoint knows of it.

    Args:
        study: the study.
        cell: the cell that it belongs to.
        directory: the folder of results.
        claim: what the dead worker had said.
    """
    bench, alone = Bench(study, cell), cell.only(claim.run)
    kept = Checkpoints(checkpoint_of(directory, claim.run))
    solution, history = known_of(bench.study, kept, Outcome.WORKER_CRASHED)
    reason = (
        f"{Outcome.WORKER_CRASHED.sentence} Its last checkpoint: t = {solution.time:.6g}."
        if len(solution.times)
        else f"{Outcome.WORKER_CRASHED.sentence} It left no checkpoint."
    )
    # Nobody knows how much of it compiled: as in files that are older than the distinction.
    data = with_times(describe(bench.study, claim.facts, solution, history), reason, UNKNOWN)
    seconds = claim.beat - claim.since
    data["seconds"] = ((), seconds, data["seconds"][2])
    keeper = _Keeper(bench.study, alone, directory, Manner(every=float("inf")), None)
    keeper.add(claim.seed, claim.run, data)
    keeper.write()


class _Keeper:
    """The file of a cell, which grows run by run and is replaced whole."""

    def __init__(
        self,
        study: Study,
        cell: Cell,
        directory: Path,
        manner: Manner,
        before: xarray.Dataset | None,
    ):
        self._study, self._cell, self._directory = study, cell, directory
        self._every, self._written = min(manner.every, _UNWRITTEN), time.monotonic()
        self._parts = [] if before is None else [before]
        self._runs: list[tuple[int, str, Variables]] = []
        self._fresh: list[str] = []

    def add(self, seed: int, run: str, data: Variables) -> None:
        """Add a run; write if it is time to."""
        self._runs.append((seed, run, data))
        self._fresh.append(run)
        if time.monotonic() - self._written >= self._every:
            self.write()

    def write(self) -> None:
        """Write all runs so far; their checkpoints are no longer needed."""
        if not self._fresh:
            return
        # Side by side they end in any order.
        runs = sorted(self._runs, key=lambda run: run[0])
        parts = [*self._parts, gather(self._study, self._cell.size, runs)]
        data = parts[0] if len(parts) == 1 else along_seeds(parts)
        write_cell(data, self._cell, self._directory)
        for run in self._fresh:
            remove(checkpoint_of(self._directory, run))
        self._fresh, self._written = [], time.monotonic()


def _one(
    bench: Bench, seed: int, path: Path, manner: Manner, holder: Holder
) -> tuple[Variables, FlowSolution]:
    """A run; an exception is how it ended, unless it is about the store."""
    checkpoints = Checkpoints(path, manner.every, lazily=bench.identified)
    clock, compiled, facts = time.perf_counter(), compiling_seconds(), {}

    def know(found: Mapping[str, Any]) -> None:
        facts.update(found)
        holder.know(found)

    try:
        with storing(path.parent.parent):
            data, solution = _gone_on_with(bench, seed, checkpoints, know)
        reason = reason_of(solution)
    except (StoreError, NotRead):
        raise
    except Exception as error:
        seconds = time.perf_counter() - clock
        data, solution, reason = failed(bench, facts, error, checkpoints, seconds)
    took = (time.perf_counter() - clock, compiling_seconds() - compiled)
    return with_times(data, reason, took), solution


def _gone_on_with(bench: Bench, seed: int, checkpoints: Checkpoints, know: Callable):
    """The run from its checkpoint, from the start if that is another's."""
    try:
        return bench.run(seed, checkpoints, know)
    except ForeignCheckpoint:
        for path in (checkpoints.path, *leg_paths(checkpoints.path)):
            set_aside(path, "it is no checkpoint of this run by these versions")
        return bench.run(seed, checkpoints, know)
