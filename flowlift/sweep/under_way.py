"""Which cells are done, under way and waiting, and how long the rest will take at this pace."""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from ..store import Rates
from ..studies.grid import Cell

# The last cells for each worker are played through one by one; all before them even out.
_PLAYED = 20


class UnderWay:
    """Cells as workers take them, in their order: each begins when one before it ends.

    What is expected of a cell is seconds of one worker. Work done is that of finished cells and,
    of each cell under way, the time since it began, its expected time at most. The pace is work
    done a worker, by the time it took: it knows of writers beside this one, of what lies between
    runs, and of a machine unlike the one that was learned from. The rest is played through at that
    pace, the next cell to the worker that is free first.

    Attributes:
        whole: runs by shape, of all cells.
        done: runs by shape, of finished cells.
    """

    def __init__(self, cells: Sequence[Cell], workers: int):
        """Begin with the first cells.

        Args:
            cells: all cells, in the order in which they are handed out.
            workers: how many cells are computed at once.
        """
        self._workers, self._busy = workers, min(workers, max(1, len(cells)))
        self._waiting = dict.fromkeys(cells)
        self._begun: dict[Cell, float] = {}
        self.whole, self.done = _counts(cells), Counter[tuple]()
        self._waited = self.whole.copy()
        self._fill(0.0)

    def finish(self, cell: Cell, now: float) -> None:
        """A cell is done, whoever did it.

        Args:
            cell: the cell.
            now: seconds since the first cells began.
        """
        if cell in self._waiting:
            # Another order than this one, as where other writers take part.
            self._take(cell)
        self._begun.pop(cell, None)
        self.done[_shape(cell)] += len(cell.seeds)
        self._fill(now)

    def left(self, rates: Rates, now: float, late: float = 0.0) -> float | None:
        """Seconds until all is done.

        Args:
            rates: what runs take.
            now: seconds since the first cells were handed out.
            late: how many of these passed before the first run began.

        Returns:
            The expectation; None where nothing is known or done yet, or all is.
        """
        done, known = rates.expected(self.done), set(self.done)
        if not (rates.known and done > 0 and self._begun and now > late):
            return None
        rests, worked = [], done
        for cell, begun in self._begun.items():
            expected = _expected(cell, rates, known)
            spent = min(expected, now - max(begun, late))
            worked += spent
            rests.append(expected - spent)
        pace = worked / (now - late) / self._busy
        return self._played(rests, rates, known) / pace

    def _fill(self, now: float) -> None:
        while self._waiting and len(self._begun) < self._workers:
            cell = next(iter(self._waiting))
            self._take(cell)
            self._begun[cell] = now

    def _take(self, cell: Cell) -> None:
        del self._waiting[cell]
        self._waited[_shape(cell)] -= len(cell.seeds)

    def _played(self, rests: list[float], rates: Rates, known: set[tuple]) -> float:
        """Until the last worker is done; what each still has to do is given."""
        last = list(itertools.islice(reversed(self._waiting), _PLAYED * self._workers))[::-1]
        early = self._waited - _counts(last)
        shared = rates.expected(early, compiled=known) / len(rests)
        known |= early.keys()
        rests = [rest + shared for rest in rests]
        heapq.heapify(rests)
        for cell in last:
            heapq.heapreplace(rests, rests[0] + _expected(cell, rates, known))
        return max(rests)


def _expected(cell: Cell, rates: Rates, known: set[tuple]) -> float:
    """Expected seconds of a cell; the first of its shape compiles, and is known then."""
    expected = rates.expected({_shape(cell): len(cell.seeds)}, compiled=known)
    known.add(_shape(cell))
    return expected


def _shape(cell: Cell) -> tuple:
    return cell.variant, cell.size


def _counts(cells: Iterable[Cell]) -> Counter[tuple]:
    counts = Counter[tuple]()
    for cell in cells:
        counts[_shape(cell)] += len(cell.seeds)
    return counts
