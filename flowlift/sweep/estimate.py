"""What a study will take and give, said before it starts."""

import dataclasses
from collections.abc import Collection

import equinox as eqx
import jax
import numpy as np

from ..answers.probability import half_width
from ..flow.chunking import bytes_per_sample
from ..lift import Lift
from ..store import Rates, duration
from ..studies.grid import Cell
from ..studies.records import Study
from ..studies.toml import variants
from ..tasks import Supervised
from ..tasks.added import data_of
from .cell import model_maker, study_task

# Vectors of the size of theta that a solver and its interpolant hold at once, generously.
_VECTORS, _VECTORS_STIFF = 40, 120
_DENSE = ("kvaerno5", "dense-bdf")
_EXPLICIT = ("tsit5", "dopri8", "rkc2")
# Python, JAX and compiled code of one process, as measured after a small flow.
_PROCESS = 500_000_000


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What is known before a study starts.

    Attributes:
        runs: runs to do.
        cells: cells to do.
        compilations: flows to compile: shapes, times solvers.
        bytes: memory of one worker at most, in the largest lift.
        seconds: of one worker for all runs; None if no run of the study is there to learn from.
        seeds: the study's numbers of seeds, the least and the greatest over sizes.
    """

    runs: int
    cells: int
    compilations: int
    bytes: int
    seconds: float | None
    seeds: tuple[int, int]

    def __str__(self) -> str:
        """The forecast for a terminal."""
        time = (
            "not known before the first cell is done"
            if self.seconds is None
            else f"{duration(self.seconds)} of one worker"
        )
        return (
            f"{self.runs} runs in {self.cells} cells, {self.compilations} compilations; memory of "
            f"a worker at most {self.bytes / 1e9:.2g} GB; time {time}; {self._widths()}."
        )

    def _widths(self) -> str:
        """How wide the intervals of probabilities will be."""
        fewest, most = self.seeds
        text = f"{most} seeds give a 95% interval of ±{half_width(most):.2f}"
        text += f", {fewest} of ±{half_width(fewest):.2f}," if fewest < most else ""
        return f"{text} around a probability of 1/2"


def forecast(study: Study, missing: Collection[Cell], rates: Rates) -> Forecast:
    """Predict what the missing cells will take.

    Time is that of finished runs of the same study, smaller ones extrapolated by a power law in
    the size, and of one compilation for each shape. Memory counts every array of one traced
    gradient as if none were freed, and a solver's vectors generously, so that it errs upwards; the
    largest lift is drawn for it, and nothing is compiled.

    Args:
        study: the study.
        missing: its cells that are to be done.
        rates: what runs took so far.

    Returns:
        The forecast.
    """
    counts = [len(v.seeds_of(size)) for _, v in variants(study) for size in v.all_sizes]
    return Forecast(
        runs=sum(len(cell.seeds) for cell in missing),
        cells=len(missing),
        compilations=len({(cell.variant, cell.size) for cell in missing}),
        bytes=max((_bytes(study, cell) for cell in _largest(missing)), default=0),
        seconds=rates.total(missing) if rates.known else None,
        seeds=(min(counts), max(counts)),
    )


def _largest(cells: Collection[Cell]) -> list[Cell]:
    """A cell of the largest size for each combination of further axes."""
    largest: dict[tuple, Cell] = {}
    for cell in cells:
        if cell.variant not in largest or largest[cell.variant].size < cell.size:
            largest[cell.variant] = cell
    return list(largest.values())


def _bytes(study: Study, cell: Cell) -> int:
    variant = next(v for a, v in variants(study) if tuple(a.items()) == cell.variant)
    model = model_maker(variant)(cell.size, cell.seeds[0])
    objective = data_of(study_task(variant).objective)
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    parameters = sum(leaf.size for leaf in leaves)
    item = np.dtype(variant.precision).itemsize
    vectors = _VECTORS if variant.flow.solver in _EXPLICIT else _VECTORS_STIFF
    theta = parameters * item * (vectors + parameters * (variant.flow.solver in _DENSE))
    if not isinstance(objective, Supervised):
        return _PROCESS + theta
    samples = objective.targets.shape[0]
    if isinstance(model, Lift):
        samples = min(samples, model.samples_per_pass or samples)
    return _PROCESS + theta + samples * bytes_per_sample(model, objective)
