"""Probabilities of convergence: exact intervals, survival, paired tests."""

import itertools
import warnings

import numpy as np
import pandas
import xarray
from scipy import stats

from .learning import exact_interval
from .summary import by_variant, further_axes, index_of
from .verdicts import converged, outcomes, there, time_to_loss


def success_probability(
    results: xarray.Dataset, loss: float, time: float | None = None, *, level: float = 0.95
) -> pandas.DataFrame:
    """P(L <= loss by `time`) per lift size over the draw of graph and weights (theory, section 4).

    Every run is counted under one of three outcomes, see `outcomes`: converged, stuck, undecided.
    `probability` with its exact interval (Clopper & Pearson 1934) counts the undecided as not
    converged, which is what was seen **by this time**; `possible` counts them as converged. The
    probability of the limit t -> infinity lies between, and so with confidence `level` at least
    between `low` and `at most`.

    Args:
        results: as given by `load`.
        loss: eps.
        time: by which flow time; None: by the end of each flow.
        level: of the interval.

    Returns:
        A table indexed by the study's further axes, if any, and the lift size: `runs`,
        `converged`, `stuck`, `undecided`; `probability` with `low` and `high`; `possible` with
        its upper end `at most`. Sizes of which no run has been done have no row.
    """
    words = outcomes(results, loss, time).transpose(*results.final_loss.dims)
    rows, index = [], []
    for selection, _ in by_variant(results):
        for size in results["size"].values.tolist():
            outcome = words.sel(selection | {"size": size}).values
            if (outcome != "").any():
                rows.append([int((outcome == word).sum()) for word in OUTCOMES])
                index.append((*selection.values(), size))
    counts = pandas.DataFrame(
        rows, index=index_of(further_axes(results), index), columns=list(OUTCOMES)
    )
    return probability_table(counts, level)


OUTCOMES = ("converged", "stuck", "undecided")


def probability_table(counts: pandas.DataFrame, level: float = 0.95) -> pandas.DataFrame:
    """Shares and exact intervals of counted outcomes.

    Args:
        counts: columns `converged`, `stuck` and `undecided`, a row per size.
        level: of the intervals.

    Returns:
        The table, as `success_probability` gives it.
    """
    runs = counts[list(OUTCOMES)].sum(axis=1)
    generous = counts["converged"] + counts["undecided"]
    low, high = exact_interval(counts["converged"], runs, level)
    table = counts.assign(
        probability=counts["converged"] / runs,
        low=low,
        high=high,
        possible=generous / runs,
        **{"at most": exact_interval(generous, runs, level)[1]},
        runs=runs,
    )
    columns = ["runs", *OUTCOMES, "probability", "low", "high", "possible", "at most"]
    return table.reindex(columns=columns)


def survival(results: xarray.Dataset, loss: float, size: int, *, level: float = 0.95):
    """The share of flows of one size that have not met a loss by t (Kaplan & Meier 1958).

    Flows that ended before are right-censored where they ended.

    Args:
        results: as given by `load`.
        loss: eps.
        size: the lift size.
        level: of the pointwise interval (log-log transformed).

    Returns:
        A table with columns `time`, `share`, `low`, `high`: a step function from share 1 at t = 0,
        with the number `censored` at each time. The interval is NaN where the share is 0 or 1.
    """
    times, met = time_to_loss(results, loss)
    done = there(results).sel(size=size).values
    times, met = times.sel(size=size).values[done], met.sel(size=size).values[done]
    curve = stats.ecdf(stats.CensoredData(uncensored=times[met], right=times[~met])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(level, method="log-log")
    return pandas.DataFrame(
        {
            "time": curve.quantiles,
            "share": curve.probabilities,
            "low": interval.low.probabilities,
            "high": interval.high.probabilities,
            "censored": [int((times[~met] == time).sum()) for time in curve.quantiles],
        }
    )


def paired_difference(first: xarray.DataArray, second: xarray.DataArray) -> float:
    """The exact McNemar test of two success patterns on the same sizes and seeds.

    Args:
        first: booleans, as given by `converged`.
        second: those of another solver, law or task, with the same seeds.

    Returns:
        The p-value of "both succeed equally often", from the discordant pairs alone.
    """
    only_first = int((first & ~second).sum())
    discordant = int((first ^ second).sum())
    return 1.0 if discordant == 0 else float(stats.binomtest(only_first, discordant).pvalue)


def paired_comparisons(
    results: xarray.Dataset, loss: float, time: float | None = None
) -> pandas.DataFrame:
    """Exact McNemar tests between the values of every further axis of a study.

    Runs are paired by size and seed and by the values along the other axes: the same graph and
    weights where the axis is the solver, the same seeds elsewhere. Sizes are pooled, since their
    lifts are independent; the other axes are not, since theirs share seeds.

    Args:
        results: as given by `load`.
        loss: eps.
        time: by which flow time; None: by the end of each flow.

    Returns:
        A row per pair of values: `axis`, `first`, `second`, `elsewhere` (the values along the
        other axes), `pairs`, `both`, `only first`, `only second`, `neither`, and `p`, the p-value
        of "both succeed equally often", not adjusted for the number of rows.
    """
    met, done = converged(results, loss, time), there(results)
    axes, rows = further_axes(results), []
    for axis in axes:
        others = [other for other in axes if other != axis]
        for values in itertools.product(*(results[other].values.tolist() for other in others)):
            here = dict(zip(others, values, strict=True))
            for one, two in itertools.combinations(results[axis].values.tolist(), 2):
                first, second = ({**here, axis: value} for value in (one, two))
                both_there = done.sel(first, drop=True) & done.sel(second, drop=True)
                pairs = [met.sel(at, drop=True).values[both_there.values] for at in (first, second)]
                rows.append(
                    {"axis": axis, "first": one, "second": two}
                    | {"elsewhere": ", ".join(f"{k} = {v}" for k, v in here.items())}
                    | _counts_of_pairs(*pairs)
                )
    return pandas.DataFrame(rows)


def _counts_of_pairs(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    return {
        "pairs": len(first),
        "both": int((first & second).sum()),
        "only first": int((first & ~second).sum()),
        "only second": int((~first & second).sum()),
        "neither": int((~first & ~second).sum()),
        "p": paired_difference(xarray.DataArray(first), xarray.DataArray(second)),
    }


def half_width(runs: int, probability: float = 0.5, *, level: float = 0.95) -> float:
    """Half the width of the exact interval that a number of runs will give, to print beforehand.

    Args:
        runs: number of runs.
        probability: the success probability expected.
        level: of the interval.

    Returns:
        Half the width.
    """
    interval = stats.binomtest(round(runs * probability), runs).proportion_ci(level)
    return (interval.high - interval.low) / 2
