"""Progress over cells, weighted by what they are expected to cost."""

from collections.abc import Callable, Iterable

from tqdm import tqdm

from ..flow import FlowSolution
from ..ledger import Rates
from .grid import Cell


class Progress:
    """One bar with the time left on a terminal, else a line per cell; a context.

    Weights are the expected seconds of each cell, from finished runs of the study, or its size
    times its seeds where nothing is known: no weight is ever taken for a result.
    """

    def __init__(self, cells: Iterable[Cell], rates: Rates, *, shown: bool):
        """Weigh the cells.

        Args:
            cells: what is to be done.
            rates: what runs took so far.
            shown: whether anything is shown.
        """
        self._rates, self._ahead = rates, 0.0
        self._bar = tqdm(
            total=sum(self.weight(cell) for cell in cells),
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

    def weight(self, cell: Cell) -> float:
        """Expected cost of a cell, in seconds where that is known."""
        return self._rates.seconds(cell.variant, cell.size) * len(cell.seeds)
