"""Runs of a cell side by side in one program, each kept as it ends.

Each run is the flow that it would be with any others beside it: its lanes are those of the study's
`batch` however few there are, and the last one does not leave them. So numbers depend on the width
alone, which is part of what a run is known by.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..doing import doing
from ..files import NotRead
from ..flow import Checkpoints, FlowSolution, ForeignCheckpoint
from ..flow.dataset import Variables
from ..flow.runner import Waiting
from ..flow.side_by_side import Ensemble
from ..store import Holder
from ..store.cells import StoreError, storing
from ..store.damage import set_aside
from .cell import Bench
from .compiling import compiling_seconds
from .ended import checkpoint_of, failed, reason_of, with_times

# Called with seed, identity, data and flow of a run that has ended.
Keep = Callable[[int, str, Variables, FlowSolution], None]


class Batch:
    """Runs of one cell in lanes of one program.

    Attributes:
        width: how many lanes.
    """

    def __init__(self, bench: Bench, width: int, directory: Path, every: float, holder: Holder):
        """Prepare; nothing is compiled.

        Args:
            bench: the cell.
            width: how many lanes.
            directory: the folder of results.
            every: seconds between two writings of where a run stands.
            holder: the claim, which says what was begun last.
        """
        self.width = width
        self._bench, self._directory, self._every = bench, directory, every
        self._holder, self._ended = holder, (time.perf_counter(), compiling_seconds())

    def run(self, runs: Sequence[tuple[int, str]], keep: Keep, singly: bool) -> None:
        """Compute runs, each kept as it ends.

        Args:
            runs: seeds and identities.
            keep: what takes a run.
            singly: one after another in the same lanes, with the same numbers: where one takes
                this process down, the claim says which.

        Raises:
            StoreError: if results could not be written.
            NotRead: if the system refuses to read a checkpoint.
            KeyboardInterrupt: on Ctrl-C, once it is written where each run stands.
        """
        kept: set[str] = set()

        def take(seed: int, run: str, data: Variables, solution: FlowSolution) -> None:
            kept.add(run)
            keep(seed, run, data, solution)

        with doing(f"n = {self._bench.size}, {len(runs)} runs side by side"):
            if not singly:
                try:
                    self._serve(self._waiting(seed, run, take) for seed, run in runs)
                except (StoreError, NotRead):
                    raise
                except Exception:
                    # The program of all lanes failed: whose fault it was, each shows by itself.
                    singly = True
            for seed, run in (pair for pair in runs if pair[1] not in kept):
                self._alone(seed, run, take)

    def _alone(self, seed: int, run: str, take: Keep) -> None:
        try:
            self._serve([self._waiting(seed, run, take)])
        except (StoreError, NotRead):
            raise
        except Exception as error:
            checkpoints = Checkpoints(checkpoint_of(self._directory, run))
            self._take(seed, run, *failed(self._bench, {}, error, checkpoints, math.nan), take)

    def _serve(self, flows: Iterable[Waiting[None]]) -> None:
        ensemble = Ensemble(self.width, last_alone=False)
        try:
            for _ in ensemble.run(flows):
                pass
        except KeyboardInterrupt:
            # Each is told, and writes where it stands.
            ensemble.interrupted()
            raise

    def _waiting(self, seed: int, run: str, take: Keep) -> Waiting[None]:
        """A run, which asks for its bursts; an exception of its own is how it ended."""
        self._holder.begin(run, seed)
        path, facts, clock = checkpoint_of(self._directory, run), {}, time.perf_counter()
        checkpoints = Checkpoints(path, self._every, lazily=self._bench.identified)

        def know(found: Any) -> None:
            facts.update(found)
            self._holder.know(found)

        try:
            with storing(self._directory):
                try:
                    found = yield from self._bench.waiting(seed, checkpoints, know)
                except ForeignCheckpoint:
                    set_aside(path, "it is no checkpoint of this run by these versions")
                    found = yield from self._bench.waiting(seed, checkpoints, know)
            data, solution = found
            reason = reason_of(solution)
        except (StoreError, NotRead):
            raise
        except Exception as error:
            took = time.perf_counter() - clock
            data, solution, reason = failed(self._bench, facts, error, checkpoints, took)
        self._take(seed, run, data, solution, reason, take)

    def _take(self, seed: int, run: str, data, solution: FlowSolution, reason: str, take: Keep):
        """A run with its share of the time: what went by since another one ended."""
        before, self._ended = self._ended, (time.perf_counter(), compiling_seconds())
        took = [now - then for now, then in zip(self._ended, before, strict=True)]
        take(seed, run, with_times(data, reason, took), solution)
