"""Progress over cells, weighted by what they are expected to cost."""

from collections.abc import Callable, Iterable

from tqdm import tqdm

from ..flow import FlowSolution
from ..store import Rates, duration
from ..studies.grid import Cell


class Progress:
    """One bar with the time left on a terminal, else a line per cell; a context.

    Weights are the expected seconds of each cell, from finished runs of the study, or its size
    times its seeds where nothing is known: no weight is ever taken for a result. Where nothing was
    known, the first finished cell tells what all will take, and that is said once.
    """

    def __init__(
        self, cells: Iterable[Cell], rates: Rates, *, shown: bool, learn: Callable[[], Rates]
    ):
        """Weigh the cells.

        Args:
            cells: what is to be done.
            rates: what runs took so far.
            shown: whether anything is shown.
            learn: gives what runs took by now, called after a cell as long as that is not known.
        """
        self._cells, self._rates, self._ahead = list(cells), rates, 0.0
        self._learn = learn if shown and not rates.known else None
        self._bar = tqdm(
            total=sum(self.weight(cell) for cell in self._cells),
            disable=None if shown else True,
            bar_format="{l_bar}{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        )
        self._lines = shown and self._bar.disable

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def on_run(self, cell: Cell) -> Callable[[int, FlowSolution], None]:
        """What the runs of a cell in this process report to.

        Args:
            cell: the cell.

        Returns:
            A function of seed and solution.
        """
        step = self.weight(cell) / len(cell.seeds)

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
        self._bar.update(self.weight(cell) - self._ahead)
        self._ahead = 0.0
        if self._lines:
            print(cell, flush=True)
        if self._learn is not None and len(self._cells) > 1:
            self._predict(self._learn())

    def _predict(self, rates: Rates) -> None:
        if not rates.known:
            return
        self._learn = None
        seconds = sum(_seconds(cell, rates) for cell in self._cells)
        text = (
            f"After the first cell: all {len(self._cells)} will take about {duration(seconds)} of"
            " one worker, compilations included; sizes that have not run are extrapolated."
        )
        if self._lines:
            print(text, flush=True)
        else:
            tqdm.write(text)

    def weight(self, cell: Cell) -> float:
        """Expected cost of a cell, in seconds where that is known."""
        return _seconds(cell, self._rates)


def _seconds(cell: Cell, rates: Rates) -> float:
    return rates.seconds(cell.variant, cell.size) * len(cell.seeds)
