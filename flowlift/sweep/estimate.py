"""What a study will take and give, said before it starts."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import equinox as eqx
import jax
import numpy as np

from ..answers.probability import half_width
from ..doing import doing
from ..flow.chunking import bytes_per_sample
from ..lift import Lift
from ..showing import shows_itself
from ..store import Rates, duration
from ..studies.grid import Cell, rows
from ..studies.records import Study
from ..studies.rows import Row
from ..studies.toml import narrowed, variants
from ..tasks import Supervised
from ..tasks.added import data_of
from .cell import model_maker, study_task
from .checking import without_flow

# Vectors of the size of theta that a solver and its interpolant hold at once, generously.
_VECTORS, _VECTORS_STIFF = 40, 120
_DENSE = ("kvaerno5", "dense-bdf")
_EXPLICIT = ("tsit5", "dopri8", "rkc2")
# The engine of the graph compiles a BDF for some 15 s where the host takes 1, and then saves 0.2 s
# a flow to t = 10^4 of up to so many parameters, so that it pays from a hundred of a shape on, with
# margin (`benchmarks/engines.py`, `benchmarks/ensembles.py --study`).
_SMALL, _MANY, _DRIVEN = 500, 200, ("auto", "bdf")
# Variants looked at, which takes 2 ms each, and gradients traced, of different models or tasks,
# which takes 0.1 s each: at most.
_LOOKED_AT, _TRACED = 500, 50
# Python, JAX and compiled code of one process, as measured after a small flow.
_PROCESS = 500_000_000


_ADVICE = (
    ' Stiff flows so small and so many take less time with engine = "graph" under [flow], which '
    "compiles their solver whole; they are other runs than these."
)


@shows_itself
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
        looked_at: of how many combinations of further axes the memory was estimated, and of how
            many there are.
        graph_pays: whether flows that the host drives are so small and so many that stiff ones
            take less time where `flow.engine` is "graph".
    """

    runs: int
    cells: int
    compilations: int
    bytes: int
    seconds: float | None
    seeds: tuple[int, int]
    looked_at: tuple[int, int] = (1, 1)
    graph_pays: bool = False

    def __str__(self) -> str:
        """The forecast for a terminal."""
        time = (
            "not known before the first cell is done"
            if self.seconds is None
            else f"{duration(self.seconds)} of one worker"
        )
        return (
            f"{self.runs} runs in {self.cells} cells, {self.compilations} compilations; memory of "
            f"a worker at most {self.bytes / 1e9:.2g} GB{self._of_which()}; time {time}; "
            f"{self._widths()}.{_ADVICE if self.graph_pays else ''}"
        )

    def _of_which(self) -> str:
        some, all_of_them = self.looked_at
        return f" in {some} of {all_of_them} variants" if some < all_of_them else ""

    def _widths(self) -> str:
        """How wide the intervals of probabilities will be."""
        fewest, most = self.seeds
        text = f"{most} seeds give a 95% interval of ±{half_width(most):.2f}"
        text += f", {fewest} of ±{half_width(fewest):.2f}," if fewest < most else ""
        return f"{text} around a probability of 1/2"


def forecast(
    study: Study, missing: Collection[Cell], rates: Rates, plan: Iterable[Row] | None = None
) -> Forecast:
    """Predict what the missing cells will take.

    Time is that of finished runs of the same study, smaller ones extrapolated by a power law in
    the size, and of one compilation for each shape. Memory counts every array of one traced
    gradient as if none were freed, and a solver's vectors generously, so that it errs upwards; the
    largest lift is drawn for it, and nothing is compiled. Of more than 50 models or tasks, or 500
    variants, it is that of so many, all over the grid.

    Args:
        study: the study.
        missing: its cells that are to be done.
        rates: what runs took so far.
        plan: the study's rows where they are known already.

    Returns:
        The forecast.
    """
    largest = _largest(missing)
    memory = _Memory(study)
    bytes, looked_at = _most_bytes(memory, largest)
    counts = [len(row.seeds) for row in (rows(study) if plan is None else plan)]
    return Forecast(
        runs=sum(len(cell.seeds) for cell in missing),
        cells=len(missing),
        compilations=len({(cell.variant, cell.size) for cell in missing}),
        bytes=bytes,
        looked_at=(looked_at, len(largest)),
        seconds=rates.total(missing) if rates.known else None,
        seeds=(min(counts), max(counts)),
        graph_pays=_most_of_a_shape(missing, memory.driven) >= _MANY,
    )


def _most_of_a_shape(cells: Collection[Cell], variants: Collection[tuple]) -> int:
    """The most runs of one size and one of these variants."""
    counts = Counter[tuple]()
    for cell in cells:
        if cell.variant in variants:
            counts[cell.variant, cell.size] += len(cell.seeds)
    return max(counts.values(), default=0)


def _largest(cells: Collection[Cell]) -> list[Cell]:
    """A cell of the largest size for each combination of further axes."""
    largest: dict[tuple, Cell] = {}
    for cell in cells:
        if cell.variant not in largest or largest[cell.variant].size < cell.size:
            largest[cell.variant] = cell
    return list(largest.values())


class _Memory:
    """Memory of one worker by cell; what is traced for it is traced once for variants of flows."""

    def __init__(self, study: Study):
        self._study = study
        # Parameters, and bytes of one gradient's samples, by record and size.
        self._known: dict[tuple[str, int], tuple[int, int]] = {}
        # Variants whose largest flows are small, and may be stiff ones that the host drives.
        self.driven: set[tuple] = set()

    def of(self, cell: Cell) -> int | None:
        """Bytes in a cell; None if enough others have been looked at."""
        variant = next(variants(narrowed(self._study, dict(cell.variant))))[1]
        key = without_flow(variant), cell.size
        if key not in self._known and len(self._known) >= _TRACED:
            return None
        if key not in self._known:
            self._known[key] = _parameters_and_bytes(variant, cell)
        parameters, samples = self._known[key]
        flow = variant.flow
        if parameters <= _SMALL and flow.solver in _DRIVEN and flow.engine is None:
            self.driven.add(cell.variant)
        item = np.dtype(variant.precision).itemsize
        vectors = _VECTORS if variant.flow.solver in _EXPLICIT else _VECTORS_STIFF
        vectors += parameters * (variant.flow.solver in _DENSE)
        return _PROCESS + parameters * item * vectors + samples


def _most_bytes(memory: _Memory, cells: Sequence[Cell]) -> tuple[int, int]:
    """The greatest estimate, and how many cells it is of."""
    # Some of all parts of the grid first, should they be more than are looked at.
    step = -(-len(cells) // _TRACED) or 1
    order = [cell for first in range(step) for cell in cells[first::step]]
    with doing("estimating memory"):
        found = [memory.of(cell) for cell in order[:_LOOKED_AT]]
    seen = [bytes for bytes in found if bytes is not None]
    return max(seen, default=0), len(seen)


def _parameters_and_bytes(variant: Study, cell: Cell) -> tuple[int, int]:
    model = model_maker(variant)(cell.size, cell.seeds[0])
    objective = data_of(study_task(variant).objective)
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    parameters = sum(leaf.size for leaf in leaves)
    if not isinstance(objective, Supervised):
        return parameters, 0
    samples = objective.targets.shape[0]
    if isinstance(model, Lift):
        samples = min(samples, model.samples_per_pass or samples)
    return parameters, samples * bytes_per_sample(model, objective)
