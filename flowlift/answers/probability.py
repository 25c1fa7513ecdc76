"""Probabilities of convergence: exact intervals and paired tests."""

import itertools
from collections import Counter

import numpy as np
import pandas
import xarray

from .held_out import TRAINING
from .learning import exact_interval, in_counts
from .summary import by_variant, further_axes, index_of
from .verdicts import DIVERGING, NO, NOT_OBSERVED, YES, outcomes_of, there, verdicts


def success_probability(
    results: xarray.Dataset,
    loss: float,
    time: float | None = None,
    *,
    level: float = 0.95,
    on: str = TRAINING,
) -> pandas.DataFrame:
    """P(L <= loss by `time`) per lift size over the draw of graph and weights (theory, section 4).

    Every run is counted once, see `verdicts` and `outcomes`:

    - `converged`: the loss was met by then;
    - `stuck`: ended above it at a certified critical point;
    - `not yet` (with a time) or `undecided` (without): seen above it at that time, or at the common
      end of all flows; the loss may fall later;
    - `not observed`: nobody computed what happened by then, for the reasons in `why`.

    `low` and `high` hold P with confidence `level`, whatever the unobserved runs would have done:
    exact intervals (Clopper & Pearson 1934), the lower end with these as failures, the upper end
    with them as successes. `probability` is the share of runs, known only where all were observed.

    `possible` counts all but the stuck as converged. The probability of the limit t -> infinity
    lies between, and so with confidence `level` at least between `low` and `at most`.

    Of a held-out loss, which may rise again, every count is of what it is **at** that time, and
    only `at most` says something of the limit.

    Args:
        results: as given by `load` or `flowlift.gather`.
        loss: eps, a finite number.
        time: by which flow time; None: by the common end of the flows.
        level: of the intervals.
        on: which loss: "training", L itself, or "held out".

    Returns:
        A table indexed by the further axes, if any, and the lift size, with the columns `runs`,
        the five counts, `probability` (NaN where it is not known), `low`, `high`, `possible`,
        `at most`, and `why`, in words. Sizes of which no run has been done have no row.

    Raises:
        ValueError: if `loss` is not finite or `time` not positive, or there is no such loss.
    """
    counted = _words(results, loss, time, on)
    rows, index = [], []
    for selection, _ in by_variant(results):
        for size in results["size"].values.tolist():
            here = counted.sel(selection | {"size": size})
            words = here.word.values[here.word.values != ""]
            if words.size:
                whys = Counter(str(why) for why in here.why.values if why)
                rows.append([*(int((words == word).sum()) for word in OUTCOMES), in_counts(whys)])
                index.append((*selection.values(), size))
    table = pandas.DataFrame(
        rows, index=index_of(further_axes(results), index), columns=[*OUTCOMES, "why"]
    )
    return probability_table(table, level)


def counted(
    results: xarray.Dataset, loss: float, time: float | None = None, *, on: str = TRAINING
) -> tuple[xarray.DataArray, xarray.DataArray, xarray.DataArray]:
    """The counts of `success_probability` that its interval rests on, without a table.

    Args:
        results: as given by `load`.
        loss: eps, a finite number.
        time: by which flow time; None: by the common end of the flows.
        on: which loss: "training" or "held out".

    Returns:
        Over the further axes and `size`: runs, those that converged, those not observed.
    """
    word = _words(results, loss, time, on).word
    runs, met, unseen = word != "", word == OUTCOMES[0], word == NOT_OBSERVED
    return runs.sum("seed"), met.sum("seed"), unseen.sum("seed")


def _words(results: xarray.Dataset, loss: float, time: float | None, on: str) -> xarray.Dataset:
    """The outcome of every run, disjoint, and why it was not observed where it was not."""
    seen = verdicts(results, loss, time, on=on)
    word = outcomes_of(results, seen, time)
    # In the limit a flow that was not observed is undecided; a table tells the two apart.
    word = xarray.where((seen.verdict == NOT_OBSERVED) & (word != "stuck"), NOT_OBSERVED, word)
    data = xarray.Dataset({"word": word, "why": seen.why})
    return data.transpose(*results.final_loss.dims)


OUTCOMES = ("converged", "stuck", "not yet", DIVERGING, "undecided", NOT_OBSERVED)


def probability_table(counts: pandas.DataFrame, level: float = 0.95) -> pandas.DataFrame:
    """Shares and exact intervals of counted outcomes.

    Args:
        counts: a row per size; columns `converged`, `stuck` and `undecided`, and, where there are
            any, `not yet`, `diverging`, `not observed` and `why`.
        level: of the intervals.

    Returns:
        The table, as `success_probability` gives it.
    """
    table = counts.assign(**{c: 0 for c in OUTCOMES if c not in counts})
    table = table if "why" in counts else table.assign(why="")
    runs = table[list(OUTCOMES)].sum(axis=1)
    least = table["converged"]
    most, ever = least + table[NOT_OBSERVED], runs - table["stuck"]
    table = table.assign(
        probability=(least / runs).where(table[NOT_OBSERVED] == 0),
        low=exact_interval(least, runs, level)[0],
        high=exact_interval(most, runs, level)[1],
        possible=ever / runs,
        **{"at most": exact_interval(ever, runs, level)[1]},
        runs=runs,
    )
    columns = ["runs", *OUTCOMES, "probability", "low", "high", "possible", "at most", "why"]
    return table.reindex(columns=columns)


def paired_difference(first: xarray.DataArray, second: xarray.DataArray) -> float:
    """The exact McNemar test of two success patterns on the same sizes and seeds.

    Args:
        first: booleans, e.g. "yes" among the `verdicts` where all runs were observed.
        second: those of another solver, law or task, with the same seeds.

    Returns:
        The p-value of "both succeed equally often", from the discordant pairs alone.
    """
    from scipy import stats

    only_first = int((first & ~second).sum())
    discordant = int((first ^ second).sum())
    return 1.0 if discordant == 0 else float(stats.binomtest(only_first, discordant).pvalue)


def paired_comparisons(
    results: xarray.Dataset, loss: float, time: float | None = None, *, on: str = TRAINING
) -> pandas.DataFrame:
    """Exact McNemar tests between the values of every further axis of a study.

    Runs are paired by size and seed and by the values along the other axes: the same graph and
    weights where the axis is the solver, the same seeds elsewhere. Sizes are pooled, since their
    lifts are independent; the other axes are not, since theirs share seeds.

    Runs of which only one, or none, was observed are left out of the four counts. `p` is then the
    greatest p-value that any outcome of theirs would give, so that a small one rests on nothing
    that was not seen.

    Args:
        results: as given by `load`.
        loss: eps, a finite number.
        time: by which flow time; None: by the common end of each variant's flows.
        on: which loss: "training" or "held out".

    Returns:
        A row per pair of values: `axis`, `first`, `second`, `elsewhere` (the values along the
        other axes), `pairs`, `both`, `only first`, `only second`, `neither`, `not observed`, and
        `p`, the p-value of "both succeed equally often", not adjusted for the number of rows.
    """
    seen, done = verdicts(results, loss, time, on=on).verdict, there(results)
    axes, rows = further_axes(results), []
    for axis in axes:
        others = [other for other in axes if other != axis]
        for values in itertools.product(*(results[other].values.tolist() for other in others)):
            here = dict(zip(others, values, strict=True))
            for one, two in itertools.combinations(results[axis].values.tolist(), 2):
                first, second = ({**here, axis: value} for value in (one, two))
                both_there = done.sel(first, drop=True) & done.sel(second, drop=True)
                pair = [seen.sel(at, drop=True).values[both_there.values] for at in (first, second)]
                rows.append(
                    {"axis": axis, "first": one, "second": two}
                    | {"elsewhere": ", ".join(f"{k} = {v}" for k, v in here.items())}
                    | _counts_of_pairs(*pair)
                )
    return pandas.DataFrame(rows)


def _counts_of_pairs(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    count = lambda one, two: int(((first == one) & (second == two)).sum())
    only = count(YES, NO), count(NO, YES)
    unseen = (first == NOT_OBSERVED) | (second == NOT_OBSERVED)
    # What the unobserved could add to either kind of discordant pairs.
    room = int((unseen & (first != NO) & (second != YES)).sum())
    other = int((unseen & (first != YES) & (second != NO)).sum())
    return {
        "pairs": len(first),
        "both": count(YES, YES),
        "only first": only[0],
        "only second": only[1],
        "neither": count(NO, NO),
        "not observed": int(unseen.sum()),
        "p": _greatest_p(only, (room, other)),
    }


def _greatest_p(only: tuple[int, int], room: tuple[int, int]) -> float:
    """The p-value grows as the rarer kind of discordant pairs comes nearer to the other."""
    from scipy import stats

    (fewer, space), (more, _) = sorted(zip(only, room, strict=True), key=lambda pair: pair[0])
    fewer = min(more, fewer + space)
    return 1.0 if more == 0 else float(stats.binomtest(fewer, fewer + more).pvalue)


def half_width(runs: int, probability: float = 0.5, *, level: float = 0.95) -> float:
    """Half the width of the exact interval that a number of runs will give, to print beforehand.

    Args:
        runs: number of runs.
        probability: the success probability expected.
        level: of the interval.

    Returns:
        Half the width.
    """
    from scipy import stats

    interval = stats.binomtest(round(runs * probability), runs).proportion_ci(level)
    return (interval.high - interval.low) / 2
