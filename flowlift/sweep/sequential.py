"""Sequential design: seeds where the probability is known worst, until it is known well enough."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from ..answers.learning import exact_interval
from ..answers.probability import success_probability
from ..store import load
from ..store.cells import write_study
from ..studies.records import FlowPlan, Question, Study
from ..studies.toml import variants
from .run import run_study

# A look adds a quarter of the runs that are there: few looks, and little waste.
_GROWTH = 4


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
    study: Study, directory: str | Path, *, half_width: float, budget_runs: int, **options: Any
) -> Spent:
    """Add seeds where the exact interval is widest, until all are narrow or the budget is spent.

    Every variant and size begins with the study's seeds. Then the one with the widest interval,
    over all losses and times of the study's question, gets the next seeds in order (see
    `next_count`), again and again. What is added depends on results alone: the same command
    continues where it was interrupted, repeats no run, and gives the same runs elsewhere.

    Intervals of a number of runs that was chosen by their width are no longer exactly of their
    nominal level; `coverage_after_stopping` computes what they cover.

    Runs that end before their verdict (a failure, a stopping rule) count either way, so that no
    number of seeds narrows an interval beyond their share: such a size gets no more seeds.

    Args:
        study: the study, with a question.
        directory: the folder of results.
        half_width: half the width that every interval is to have at most.
        budget_runs: how many runs the design may have in all, the first seeds included.
        **options: `executor` and `progress`, as for `run_study`.

    Returns:
        Results and what was spent. The folder's study names as many seeds as the largest cell has.

    Raises:
        ValueError: if the study has no question or says `seeds_at_most`, its flows end by the
            horizon or `loss_below` before what the question asks, `half_width` is not in (0, 1/2),
            or the study's own seeds exceed the budget.
    """
    question = _check(study, half_width, budget_runs)
    directory = Path(directory)
    run_study(study, directory, **options)
    parts = [variant.of_size(size) for _, variant in variants(study) for size in variant.all_sizes]
    counts = np.full(len(parts), study.seeds)
    found = np.array([_widest(load(directory, part), question) for part in parts])
    widths, unseen = found.T
    try:
        while np.any(open_ := (widths > half_width) & (unseen / 2 < half_width)):
            if counts.sum() >= budget_runs:
                break
            i = int(np.argmax(np.where(open_, widths, 0.0)))
            room = budget_runs - int(counts.sum())
            counts[i] += min(next_count(int(counts[i]), study.chunk) - counts[i], room)
            more = dataclasses.replace(parts[i], seeds=int(counts[i]))
            widths[i], unseen[i] = _widest(run_study(more, directory, **options), question)
    finally:
        whole = dataclasses.replace(study, seeds=int(counts.max()))
        write_study(whole, directory)
    return Spent(load(directory, whole), int(counts.sum()), float(widths.max()))


def next_count(count: int, chunk: int) -> int:
    """How many runs follow on `count`: a quarter more, and at least a chunk."""
    return count + max(chunk, count // _GROWTH)


def _widest(results: xarray.Dataset, question: Question) -> tuple[float, float]:
    """Of one variant and size, over losses and times, the widest half and most unobserved share.

    Args:
        results: of the variant and size.
        question: the question.

    Returns:
        Both.
    """
    tables = [success_probability(results, *p, level=question.level) for p in question.pairs]
    widths = [np.max(t["high"].to_numpy() - t["low"].to_numpy()) / 2 for t in tables]
    unseen = [np.max(t["not observed"].to_numpy() / t["runs"].to_numpy()) for t in tables]
    return float(max(widths)), float(max(unseen))


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
    if any(variant.seeds_at_most for _, variant in variants(study)):
        raise ValueError(
            "Argument `study` must leave the number of seeds at each size to the design, but says "
            "`seeds_at_most`; leave that out."
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
