"""Sequential design: seeds where the probability is known worst, until it is known well enough."""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xarray

from ..answers.learning import exact_interval
from ..answers.probability import counted
from ..answers.questions import ANSWERED
from ..doing import say
from ..showing import shows_itself
from ..store import NothingStored, Rates, load
from ..store.ahead import Ahead
from ..store.cells import write_study
from ..store.gathering import load_cells
from ..store.index import Watch
from ..studies.grid import Cell, axis_names, cells_of
from ..studies.records import FlowPlan, Question, Study
from ..studies.toml import variants
from .run import complete_study, run_cells
from .work import Manner

# A look adds a quarter of the runs that are there: few looks, and little waste.
_GROWTH = 4


@shows_itself
@dataclasses.dataclass(frozen=True)
class Spent:
    """What a sequential design did.

    Attributes:
        results: all results, ragged in the seeds: where a size has fewer, the rest is missing.
        runs: runs of the design, all sizes and variants together.
        widest: the greatest half-width that is left.
    """

    results: xarray.Dataset
    runs: int
    widest: float


def run_until(
    study: Study,
    directory: str | Path,
    *,
    half_width: float,
    budget_runs: int,
    executor: concurrent.futures.Executor | None = None,
    every: float = 60.0,
    progress: bool = True,
) -> Spent:
    """Add seeds where an exact interval is too wide, until all are narrow or the budget is spent.

    Every variant and size begins with the study's seeds. At each look those that are still too
    wide, over all losses and times of the study's question, get the next seeds in order, all
    together (see `next_count`), so that workers have many cells at a time. Where the budget does
    not suffice for all, the widest are served first. What is added depends on results alone: the
    same command continues where it was interrupted, repeats no run, and gives the same runs
    elsewhere, with any number of workers.

    Intervals of a number of runs that was chosen by their width are no longer exactly of their
    nominal level; `coverage_after_stopping` computes what they cover.

    Runs that end before their verdict (a failure, a stopping rule) count either way, so that no
    number of seeds narrows an interval beyond their share: such a size gets no more seeds.

    Cost: a cell is read as it is finished, while others are computed, and of its numbers those that
    the question asks for; a look counts what was read. Of a design that goes on these may be folded
    files, with other runs in them.

    Args:
        study: the study, with a question.
        directory: the folder of results.
        half_width: half the width that every interval is to have at most.
        budget_runs: how many runs the design may have in all, the first seeds included.
        executor: as for `run_study`.
        every: as for `run_study`.
        progress: as for `run_study`; also a line at each look.

    Returns:
        Results and what was spent. The folder's study names as many seeds as the largest cell has.

    Raises:
        ValueError: if the study has no question or says `seeds_at_most`, its flows end by the
            horizon or `loss_below` before what the question asks, `half_width` is not in (0, 1/2),
            or the study's own seeds exceed the budget.
    """
    question = _check(study, half_width, budget_runs)
    directory = Path(directory)
    complete_study(study, directory, executor=executor, every=every, progress=progress)
    compute = partial(run_cells, executor=executor, manner=Manner(every=every), progress=progress)
    looks = _Looks(study, directory, question, compute)
    looks.take(np.full(len(looks.counts), study.seeds))
    try:
        while np.any(more := _more(looks, half_width, budget_runs, study.seeds_a_cell)):
            if progress:
                wide = f"{np.count_nonzero(more)} of {len(more)} intervals are too wide"
                say(f"{wide}, the widest ±{looks.widths.max():.3f}: {more.sum()} more runs")
            looks.take(more)
    finally:
        whole = dataclasses.replace(study, seeds=int(looks.counts.max()))
        write_study(whole, directory)
    return Spent(load(directory, whole), int(looks.counts.sum()), float(looks.widths.max()))


class _Looks:
    """What a sequential design has seen: each run is read once, and counted.

    Attributes:
        counts: runs of each variant and size by now.
        widths: of each, the half-width of the widest interval over the question's pairs.
        unseen: of each, the greatest share of runs that were not observed.
    """

    def __init__(
        self,
        study: Study,
        directory: Path,
        question: Question,
        compute: Callable[..., Rates],
    ):
        self._study, self._directory, self._question = study, directory, question
        self._watch, self._ahead = Watch(directory), Ahead(directory, ANSWERED)
        # Cells are read while others are computed: workers wait for a count alone.
        self._compute = partial(compute, on_cell=self._ahead.take)
        self._rates = Rates((), {})
        made = [(point, cells_of(variant, point), variant) for point, variant in variants(study)]
        # For each variant and size its place in the grid, its first seed, what makes its cells.
        self._parts = [
            ((*point.values(), size), variant.first_seed, partial(make, size))
            for point, make, variant in made
            for size in variant.all_sizes
        ]
        self.counts = np.zeros(len(self._parts), int)
        # For each pair of the question: runs, those that converged, those that were not observed.
        self._seen = np.zeros((len(question.pairs), 3, len(self._parts)), int)
        self.widths, self.unseen = np.full(len(self._parts), np.inf), np.zeros(len(self._parts))

    def take(self, more: np.ndarray) -> None:
        """Give each variant and size so many further seeds, compute what is missing, and look."""
        new = self._count(self._completed(self._cells(more)))
        self.counts, self._seen = self.counts + more, self._seen + new
        runs, met, unseen = self._seen.transpose(1, 0, 2)
        low = exact_interval(met, runs, self._question.level)[0]
        high = exact_interval(met + unseen, runs, self._question.level)[1]
        self.widths, self.unseen = ((high - low) / 2).max(axis=0), (unseen / runs).max(axis=0)

    def _cells(self, more: np.ndarray) -> list[Cell]:
        """The cells of the next seeds of each variant and size."""
        return [
            cell
            for (_, first, make), given, count in zip(self._parts, self.counts, more, strict=True)
            for cell in make(range(first + int(given), first + int(given + count)))
        ]

    def _completed(self, wanted: Sequence[Cell]) -> xarray.Dataset:
        """Results of cells, computed where they are missing or, as reading shows, damaged."""
        there = self._watch.stored(run for cell in wanted for run in cell.runs)
        while True:
            left = [part for cell in wanted if (part := cell.without(there))]
            if left:
                self._rates = self._compute(self._study, left, self._directory, self._rates)
            try:
                data = load_cells(
                    self._directory,
                    self._study,
                    wanted,
                    variables=ANSWERED,
                    watch=self._watch,
                    ahead=self._ahead,
                )
            except NothingStored:
                there = set()
                continue
            # What was read decides, not the index, which may be one that cannot be written.
            there = set(np.ravel(data["run"].values).tolist())
            if all(there.issuperset(cell.runs) for cell in wanted):
                return data

    def _count(self, results: xarray.Dataset) -> np.ndarray:
        """Per pair of the question: runs, successes, unobserved, of each variant and size."""
        new, axes = np.zeros_like(self._seen), (*axis_names(self._study).values(), "size")
        places = {place: i for i, (place, _, _) in enumerate(self._parts)}
        combinations = itertools.product(*(results[axis].values.tolist() for axis in axes))
        # Where values along axes make no variant of the study there are no runs.
        there = [(n, places[c]) for n, c in enumerate(combinations) if c in places]
        rows, at = np.array(there).T
        for of_pair, (loss, time) in zip(new, self._question.pairs, strict=True):
            found = counted(results, loss, time, on=self._question.asked_on)
            for of_kind, counts in zip(of_pair, found, strict=True):
                of_kind[at] = counts.transpose(*axes).values.ravel()[rows]
        return new


def _more(looks: _Looks, half_width: float, budget: int, chunk: int) -> np.ndarray:
    """How many seeds each gets next: those whose intervals can still narrow, the widest first."""
    open_ = (looks.widths > half_width) & (looks.unseen / 2 < half_width)
    more, room = np.zeros_like(looks.counts), budget - int(looks.counts.sum())
    for i in np.argsort(-looks.widths, kind="stable"):
        if open_[i]:
            more[i] = min(next_count(int(looks.counts[i]), chunk) - looks.counts[i], room)
            room -= more[i]
    return more


def next_count(count: int, chunk: int) -> int:
    """How many runs follow on `count`: a quarter more, and at least a chunk."""
    return count + max(chunk, count // _GROWTH)


def coverage_after_stopping(
    half_width: float, *, first: int, chunk: int, level: float = 0.95
) -> float:
    """The least probability with which the interval covers p when its width ended the sampling.

    Exact for one loss and time without a budget, by following the distribution of successes from
    look to look: at each, the counts whose interval is narrow enough stop. The minimum is over
    p = 1/400, 2/400, ..., 399/400.

    Cost: of order n^2 log n numbers for n runs at the last look.

    Args:
        half_width: as for `run_until`.
        first: runs at the first look, the study's seeds.
        chunk: the study's chunk.
        level: the nominal level.

    Returns:
        The least coverage.
    """
    from scipy import stats
    from scipy.signal import fftconvolve

    p = np.arange(1, 400)[:, None] / 400
    runs = first
    going = stats.binom.pmf(np.arange(runs + 1), runs, p)
    covered = np.zeros(len(p))
    while True:
        low, high = exact_interval(np.arange(runs + 1), np.full(runs + 1, runs), level)
        stops = (high - low) / 2 <= half_width
        covered += np.sum(going * (stops & (low <= p) & (p <= high)), axis=1)
        if stops.all():
            return float(covered.min())
        more = next_count(runs, chunk) - runs
        step = stats.binom.pmf(np.arange(more + 1), more, p)
        going = fftconvolve(going * ~stops, step, axes=1)
        runs += more


def _check_observable(flow: FlowPlan, question: Question) -> None:
    """Refuse what no flow of the study will be watched for, however many there are."""
    if flow.loss_below is not None and min(question.losses) < flow.loss_below:
        raise ValueError(
            f"Argument `question.losses` must be at least the loss at which the flows stop, "
            f"{flow.loss_below:g}, but holds {min(question.losses):g}; lower `flow.loss_below`."
        )
    if question.times and max(question.times) > flow.horizon:
        raise ValueError(
            f"Argument `question.times` must be at most the horizon {flow.horizon:g} of the flows, "
            f"but holds {max(question.times):g}; raise `flow.horizon`."
        )


def _check(study: Study, half_width: float, budget_runs: int) -> Question:
    if study.question is None:
        raise ValueError(
            "Argument `study` must have a table [question], since the interval at its losses "
            "decides, but has none; write losses = [...] there."
        )
    for _, variant in variants(study):
        for key, common in (("seeds_at_most", {}), ("seeds", study.seeds)):
            if getattr(variant, key) != common:
                raise ValueError(
                    "Argument `study` must leave the number of seeds at each variant and size to "
                    f"the design, but says `{key}` = {getattr(variant, key)}; leave that out."
                )
    for _, variant in variants(study):
        _check_observable(variant.flow, study.question)
    if not 0 < half_width < 0.5:
        raise ValueError(
            f"Argument `half_width` must lie between 0 and 1/2, but is {half_width!r}; give e.g. "
            "0.05."
        )
    least = sum(len(v.all_sizes) for _, v in variants(study)) * study.seeds
    if budget_runs < least:
        raise ValueError(
            f"Argument `budget_runs` must be at least {least}, the study's own runs, but is "
            f"{budget_runs}; raise it or lower `seeds`."
        )
    return study.question
