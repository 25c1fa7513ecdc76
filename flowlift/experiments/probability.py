"""Probabilities of convergence: exact intervals, the learning number, survival, paired tests."""

import dataclasses

import numpy as np
import pandas
import xarray
from scipy import stats
from scipy.optimize import isotonic_regression

from .verdicts import converged, there, time_to_loss


def success_probability(
    results: xarray.Dataset, loss: float, time: float | None = None, *, level: float = 0.95
) -> pandas.DataFrame:
    """P(L <= loss by `time`) per lift size over the draw of graph and weights (theory, section 4).

    The interval is exact (Clopper & Pearson 1934). A flow that was censored by the horizon, ran
    out of budget or failed counts as not converged **by this time**; none is left out. Where flows
    end before `time` without having met the loss, `at most` counts them as successes.

    Args:
        results: as given by `load`.
        loss: eps.
        time: by which flow time; None: by the end of each flow.
        level: of the interval.

    Returns:
        A table indexed by lift size: `runs`, `converged`, `undecided` (ended early), `probability`
        with `low` and `high`, and `at most`, the upper end if every undecided flow succeeded.
    """
    rows = []
    until = np.inf if time is None else time
    verdict, done = converged(results, loss, time), there(results)
    early = done & ~verdict & (results.end_time < until) if time is not None else done & ~verdict
    for size in results["size"].values:
        runs = int(done.sel(size=size).sum())
        successes = int((verdict & done).sel(size=size).sum())
        undecided = int(early.sel(size=size).sum())
        rows.append(_row(runs, successes, undecided, level))
    return pandas.DataFrame(rows, index=pandas.Index(results["size"].values, name="lift size"))


def _row(runs: int, successes: int, undecided: int, level: float) -> dict[str, float]:
    interval = stats.binomtest(successes, runs).proportion_ci(level)
    generous = stats.binomtest(successes + undecided, runs).proportion_ci(level)
    return {
        "runs": runs,
        "converged": successes,
        "undecided": undecided,
        "probability": successes / runs,
        "low": interval.low,
        "high": interval.high,
        "at most": generous.high,
    }


@dataclasses.dataclass(frozen=True)
class LearningNumber:
    """The smallest size from which P(converged) >= 1 - delta (theory, section 4), as estimated.

    Attributes:
        estimate: the smallest size whose monotone fit reaches 1 - delta; None if none does.
        above: sizes up to this one are excluded at the level of the intervals (None: none is).
        at_most: from this size on every interval lies above 1 - delta (None: nowhere, the data
            do not suffice).
        delta: the failure probability allowed.
    """

    estimate: int | None
    above: int | None
    at_most: int | None
    delta: float


def learning_number(table: pandas.DataFrame, delta: float) -> LearningNumber:
    """The learning number from a table of probabilities, by a monotone fit.

    The fit is the isotonic regression of the success frequencies on the size, weighted by runs:
    the maximum-likelihood estimate among probabilities that do not fall with the size.

    Args:
        table: as given by `success_probability`, for increasing sizes.
        delta: in (0, 1).

    Returns:
        The estimate, and the sizes between which it lies.

    Raises:
        ValueError: if `delta` is not in (0, 1) or sizes do not increase.
    """
    sizes = table.index.to_numpy()
    if not 0 < delta < 1:
        raise ValueError(
            f"Argument `delta` must lie between 0 and 1, but is {delta!r}; give e.g. 0.1."
        )
    if np.any(np.diff(sizes) <= 0):
        raise ValueError(
            f"Argument `table` must have increasing sizes, but has {list(sizes)}; sort it."
        )
    fit = isotonic_regression(table["probability"].to_numpy(), weights=table["runs"].to_numpy()).x
    reached = np.flatnonzero(fit >= 1 - delta - 1e-12)
    excluded = np.flatnonzero(table["high"].to_numpy() < 1 - delta)
    short = np.flatnonzero(table["low"].to_numpy() < 1 - delta)
    certain = 0 if short.size == 0 else short[-1] + 1
    return LearningNumber(
        estimate=int(sizes[reached[0]]) if reached.size else None,
        above=int(sizes[excluded[-1]]) if excluded.size else None,
        at_most=int(sizes[certain]) if certain < len(sizes) else None,
        delta=delta,
    )


def survival(results: xarray.Dataset, loss: float, size: int, *, level: float = 0.95):
    """The share of flows of one size that have not met a loss by t (Kaplan & Meier 1958).

    Flows that ended before are right-censored where they ended.

    Args:
        results: as given by `load`.
        loss: eps.
        size: the lift size.
        level: of the pointwise interval (log-log transformed).

    Returns:
        A table with columns `time`, `share`, `low`, `high`: a step function from share 1 at t = 0.
    """
    times, met = time_to_loss(results, loss)
    done = there(results).sel(size=size).values
    times, met = times.sel(size=size).values[done], met.sel(size=size).values[done]
    curve = stats.ecdf(stats.CensoredData(uncensored=times[met], right=times[~met])).sf
    interval = curve.confidence_interval(level, method="log-log")
    return pandas.DataFrame(
        {
            "time": curve.quantiles,
            "share": curve.probabilities,
            "low": interval.low.probabilities,
            "high": interval.high.probabilities,
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
