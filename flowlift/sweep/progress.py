"""Progress over cells, weighted by what they are expected to cost."""

import datetime
import time
from collections.abc import Callable, Iterable

from ..bars import bar, in_notebook
from ..doing import doing, say
from ..flow import FlowSolution
from ..store import Rates, duration
from ..studies.grid import Cell
from .under_way import UnderWay

# Of this process's time, at most so much goes into learning what runs take, and as much again
# into saying what is left.
_SHARE = 1 / 50


class Progress:
    """One bar with the time left on a terminal, else a line per cell; a context.

    Weights are the expected seconds of each cell, from finished runs of the study, or its size
    times its seeds where nothing is known: no weight is ever taken for a result. As cells finish,
    what runs and compilations take is learned again. The time left is that of `UnderWay`; the time
    until the first run began, while workers start, is not the cells'.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        rates: Rates,
        *,
        shown: bool,
        learn: Callable[[], Rates],
        workers: int = 1,
    ):
        """Weigh the cells.

        Args:
            cells: what is to be done, in the order in which it is handed out.
            rates: what runs took so far.
            shown: whether anything is shown.
            learn: gives what runs took by now, called as cells finish.
            workers: how many cells are computed at once, as far as that is known.
        """
        self._cells, self._rates, self._finished = list(cells), rates, 0
        self._under_way = UnderWay(self._cells, workers)
        self._learn, self._next = learn, 0.0 if shown else float("inf")
        self._begun, self._ahead = time.monotonic(), 0.0
        self._date = datetime.datetime.now(datetime.UTC).timestamp()
        # A notebook is no terminal, but somebody looks.
        alone = False if in_notebook() else None
        # Of the whole, since what the whole takes is learned on the way.
        self._bar = bar(
            total=1.0,
            disable=alone if shown else True,
            bar_format="{l_bar}{bar}| {elapsed} elapsed{postfix}",
        )
        self._lines = shown and self._bar.disable
        self._left, self._next_look = "", 0.0

    def __enter__(self) -> "Progress":
        self._said = doing("computing cells", shows_itself=not self._bar.disable)
        self._said.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._said.__exit__(*error)
        self._bar.close()

    @property
    def rates(self) -> Rates:
        """What runs took, as far as it was learned."""
        return self._rates

    def on_run(self, cell: Cell) -> Callable[[int, FlowSolution], None]:
        """What the runs of a cell in this process report to.

        Args:
            cell: the cell.

        Returns:
            A function of seed and solution.
        """
        whole = self._rates.expected(self._under_way.whole)
        step = self.weight(cell) / len(cell.seeds) / whole if whole > 0 else 0.0

        def advance(seed: int, solution: FlowSolution) -> None:
            loss = f"{solution.loss[-1]:.3g}" if len(solution.loss) else "unknown"
            self._bar.set_postfix_str(f"n = {cell.size}, seed {seed}: L = {loss}")
            self._bar.update(step)
            self._ahead += step

        return advance

    def finish(self, cell: Cell) -> None:
        """Account for a stored cell.

        Args:
            cell: the cell.
        """
        self._finished += 1
        self._under_way.finish(cell, time.monotonic() - self._begun)
        self._ahead = 0.0
        if time.monotonic() >= self._next:
            asked = time.monotonic()
            self._rates = self._learn()
            self._next = time.monotonic() + (time.monotonic() - asked) / _SHARE
        if self._bar.disable and not self._lines:
            return
        self._look()
        if self._lines:
            count = f"{self._finished} of {len(self._cells)} cells"
            say(f"{cell}; {count}{self._left and ', '}{self._left}")
        else:
            self._bar.set_postfix_str(self._left)

    def _look(self) -> None:
        """What is left; where shapes and finished runs are many, not after each cell."""
        asked, over = time.monotonic(), self._finished == len(self._cells)
        if asked < self._next_look and not over:
            return
        seconds = None if over else self.seconds_left()
        self._left = "" if seconds is None else f"about {duration(seconds)} left"
        if not self._lines:
            whole = self._rates.expected(self._under_way.whole)
            self._bar.n = self._rates.expected(self._under_way.done) / whole if whole > 0 else 0.0
        self._next_look = time.monotonic() + (time.monotonic() - asked) / _SHARE

    def seconds_left(self) -> float | None:
        """The time left; None when all is done, or nothing is known."""
        elapsed = time.monotonic() - self._begun
        began = self._rates.first_begin(self._date)
        # Another machine's clock may be ahead of this one's: no more than has passed.
        late = 0.0 if began is None else min(began - self._date, elapsed)
        return self._under_way.left(self._rates, elapsed, late)

    def weight(self, cell: Cell) -> float:
        """Expected cost of the runs of a cell, in seconds where that is known."""
        return self._rates.of_cell(cell)
