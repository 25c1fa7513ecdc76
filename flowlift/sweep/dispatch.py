"""Cells on an executor: handed out, collected, and after a crash the guilty run found."""

import concurrent.futures
import dataclasses
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..sources import texts
from ..store import Claim, claims, clear_dead
from ..store.cells import finished
from ..studies.grid import Cell
from ..studies.records import Study
from ..studies.toml import narrowed, to_toml
from .dask_executor import DaskWorkers, WorkersLost
from .work import Manner, store_crash, wait_for_others
from .worker import compute

# Pools that broke in a row before any worker had begun a run.
_FALSE_STARTS = 3
# Seconds in which no cell ends, after which an executor that knows it looks for its workers.
_SILENCE = 5.0


class Dispatcher:
    """Hands out cells until each run is stored.

    A cell is handed out again if its worker died. Those that were being computed then are tried
    once more one at a time, with nothing beside them: a run whose worker dies again is the guilty
    one, and is stored as a result of its own. Cells that another live writer claims come last, and
    are waited for.
    """

    def __init__(
        self,
        study: Study,
        directory: Path,
        executor: concurrent.futures.Executor,
        manner: Manner,
    ):
        self._study = study
        # Of a study of thousands of variants a worker gets the cell's own.
        self._texts: dict[tuple, str] = {}
        self._sources = list(texts(study.sources).values())
        self._directory, self._executor, self._manner = directory, executor, manner
        self._false_starts = 0

    def results(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        """Compute cells.

        Args:
            cells: the cells, in the order in which they are handed out.

        Yields:
            Cells, or parts of them, once they are stored.

        Raises:
            WorkersLost: if workers die again and again before they begin a run, the executor
                drops its cells, as Dask does whose scheduler is gone, or a cluster has had no
                workers for as long as its executor waits.
            StoreError: if results could not be written.
        """
        waiting, claimed = list(cells), []
        while waiting:
            futures = {self._submit(c, self._polite): c for c in waiting}
            waiting, broken = [], []
            for future in self._as_ended(futures):
                cell, error = futures[future], _error(future)
                if error is not None and not _is_crash(error):
                    self._cancel(futures)
                    raise error
                if error is not None:
                    broken.append((cell, error))
                else:
                    # A cluster fails cells that had only waited on a worker which died: as long
                    # as others come to an end, workers do begin.
                    self._false_starts = 0
                    if future.result():
                        yield cell
                    else:
                        claimed.append(cell)
            if broken:
                waiting, suspects = self._sorted_out(broken)
                for cell, known in suspects:
                    yield from self._alone(cell, known)
        for cell in claimed:
            yield from self._later(cell)

    @property
    def _polite(self) -> Manner:
        return dataclasses.replace(self._manner, insist=False)

    def _stored(self) -> Collection[str]:
        return finished(self._directory, again=self._manner.again)

    def _submit(self, cell: Cell, manner: Manner) -> concurrent.futures.Future:
        fields = {f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)}
        return self._executor.submit(
            compute,
            self._text_for(cell),
            fields,
            str(self._directory),
            dataclasses.asdict(manner.of(cell)),
            self._sources,
        )

    def _as_ended(
        self, futures: Iterable[concurrent.futures.Future]
    ) -> Iterator[concurrent.futures.Future]:
        """As `concurrent.futures.as_completed`, with looks for the workers of a cluster."""
        left, executor = set(futures), self._executor
        silence = _SILENCE if isinstance(executor, DaskWorkers) else None
        while left:
            try:
                for future in concurrent.futures.as_completed(left, timeout=silence):
                    left.discard(future)
                    yield future
            except TimeoutError:
                if isinstance(executor, DaskWorkers):
                    executor.await_workers(lambda: any(future.done() for future in left))

    def _text_for(self, cell: Cell) -> str:
        if cell.variant not in self._texts:
            self._texts[cell.variant] = to_toml(narrowed(self._study, dict(cell.variant)))
        return self._texts[cell.variant]

    def _cancel(self, futures: Iterable[concurrent.futures.Future]) -> None:
        for future in futures:
            future.cancel()

    def _sorted_out(
        self, broken: list[tuple[Cell, BaseException]]
    ) -> tuple[list[Cell], list[tuple[Cell, Claim]]]:
        """Those that had only waited, and those that a dead worker was computing."""
        dead = clear_dead(self._directory)
        # A broken pool fails all its cells; Dask fails the cells whose workers died, and those
        # may be on machines where only silence tells the dead.
        there = [*dead, *claims(self._directory)]
        found = [(cell, _claim_on(cell, dead if _is_pool(e) else there)) for cell, e in broken]
        suspects = [(cell, claim) for cell, claim in found if claim is not None]
        begun = any(claim.run for _, claim in suspects)
        self._false_starts = 0 if begun else self._false_starts + 1
        if self._false_starts >= _FALSE_STARTS:
            raise WorkersLost(
                f"Workers died {_FALSE_STARTS} times before they had begun a run; run with no "
                "workers to see why, or give them more memory."
            )
        taken = [cell for cell, _ in suspects]
        return [cell for cell, _ in broken if cell not in taken], suspects

    def _alone(
        self, cell: Cell, claim: Claim | None = None, *, insist: bool = True
    ) -> Iterator[Cell]:
        """A cell with nothing beside it; the claim is that of a worker that died on it before."""
        left: Cell | None = cell
        manner = dataclasses.replace(self._manner, insist=insist, singly=True)
        while left is not None:
            wait_for_others([] if insist else [left], self._directory)
            future = next(self._as_ended([self._submit(left, manner)]))
            error = _error(future)
            if error is None and future.result():
                break
            if error is None:
                left = left.without(self._stored())
                continue
            if not _is_crash(error):
                raise error
            before, (_, suspects) = claim, self._sorted_out([(left, error)])
            claim = suspects[0][1] if suspects else before
            left = left.without(self._stored())
            if before and claim and left and claim.run in left.runs:
                store_crash(self._study, left, self._directory, claim)
                left = left.without({claim.run})
        yield cell

    def _later(self, cell: Cell) -> Iterator[Cell]:
        """A cell that another writer claimed: once that is over, it may be there."""
        wait_for_others([cell], self._directory)
        left = cell.without(self._stored())
        if left is not None:
            yield from self._alone(left, insist=False)
        else:
            yield cell


def _claim_on(cell: Cell, dead: Iterable[Claim]) -> Claim | None:
    return next((claim for claim in dead if set(claim.runs) & set(cell.runs)), None)


def _error(future: concurrent.futures.Future) -> BaseException | None:
    """How a cell failed, once it is over."""
    try:
        return future.exception()
    except concurrent.futures.CancelledError as error:
        raise WorkersLost(
            "The executor dropped the cells it had been given, as Dask does when its scheduler is "
            "gone; bring it back and run the same command again: what is finished is kept."
        ) from error


def _is_crash(error: BaseException) -> bool:
    """Whether a worker died: the pool's error, or that of Dask, by name since it is optional."""
    return _is_pool(error) or type(error).__name__ == "KilledWorker"


def _is_pool(error: BaseException) -> bool:
    return isinstance(error, concurrent.futures.BrokenExecutor)
