"""The learning number: from which size on the flow converges with probability 1 - delta."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas

from ..showing import shows_itself
from .crossing import NOT_FITTED, LogisticCrossing, logistic_crossing


@shows_itself
@dataclasses.dataclass(frozen=True)
class LearningNumber:
    """The smallest size from which P(converged) >= 1 - delta (theory, section 4), as estimated.

    Attributes:
        estimate: the smallest size whose monotone fit reaches 1 - delta; None if none does, or if
            that depends on runs that were not observed.
        above: the learning number is greater than this size (None: not even the least size is
            excluded), and
        at_most: at most this one (None: no size suffices, or the data do not). If the probability
            does not fall with the size, both hold together with confidence `level`.
        delta: the failure probability allowed.
        level: the confidence.
        logistic: the crossing of a logistic fit in log size, with its own interval; none is fitted
            where runs were not observed.
        unknown: how many runs were not observed and why, in words; empty if all were.
        estimated: whether the estimate is known: if not, it depends on what was not observed.
    """

    estimate: int | None
    above: int | None
    at_most: int | None
    delta: float
    level: float
    logistic: LogisticCrossing
    unknown: str = ""
    estimated: bool = True


def learning_number(
    table: pandas.DataFrame,
    delta: float,
    *,
    level: float = 0.95,
    undecided_converge: bool = False,
) -> LearningNumber:
    """The learning number from a table of counts, by a monotone and by a logistic fit.

    The monotone fit is the isotonic regression of the frequencies on the size, weighted by runs:
    the maximum-likelihood estimate among probabilities that do not fall with the size. Its
    statement: going up from the least size, sizes are excluded as long as their exact interval
    lies below 1 - delta; going down from the greatest, they suffice as long as it lies above. At
    the true learning number either walk errs with probability (1 - level) / 2 at most, however
    many sizes there are, since it must err at one given size first (fixed-sequence testing).

    Runs that were not observed count as converged where a size is excluded and as not converged
    where it suffices. The estimate is given if both ways of counting lead to the same.

    Args:
        table: as given by `success_probability`, of one variant, for increasing sizes.
        delta: in (0, 1).
        level: of the confidence statements.
        undecided_converge: count the undecided as converged, instead of as not converged; those
            that look divergent too, which is no proof that their loss does not fall below.

    Returns:
        The estimates and the sizes between which the learning number lies.

    Raises:
        ValueError: if `delta` or `level` is not in (0, 1), the table has several variants, or
            sizes do not increase.
    """
    _check(table, delta, level)
    sizes, runs = table.index.to_numpy(), table["runs"].to_numpy()
    least = table["converged"].to_numpy()
    if undecided_converge:
        least = least + sum(table[w].to_numpy() for w in ("undecided", "diverging") if w in table)
    unseen = _not_observed(table)
    most = least + unseen
    low, high = exact_interval(least, runs, level)[0], exact_interval(most, runs, level)[1]
    fits = {_estimate(sizes, successes, runs, 1 - delta) for successes in (least, most)}
    excluded = _leading(high < 1 - delta)
    sufficient = _leading((low >= 1 - delta)[::-1])
    seen, known = not unseen.any(), len(fits) == 1
    return LearningNumber(
        estimate=fits.pop() if known else None,
        above=int(sizes[excluded - 1]) if excluded else None,
        at_most=int(sizes[-sufficient]) if sufficient else None,
        delta=delta,
        level=level,
        logistic=logistic_crossing(sizes, least, runs, 1 - delta, level=level)
        if seen
        else NOT_FITTED,
        unknown="" if seen else not_observed_in_words(table),
        estimated=known,
    )


def not_observed_in_words(table: pandas.DataFrame) -> str:
    """How many runs of a table were not observed, and why; empty if all were.

    Args:
        table: as given by `success_probability`.

    Returns:
        Such as "12 of 60 runs are not observed (12 stopped (loss below))".
    """
    unseen = int(_not_observed(table).sum())
    if not unseen:
        return ""
    totals = Counter()
    for words in table.reindex(columns=["why"], fill_value="")["why"].tolist():
        for part in filter(None, words.split(", ")):
            count, reason = part.split(" ", 1)
            totals[reason] += int(count)
    why = in_counts(totals)
    runs = int(table["runs"].to_numpy().sum())
    return f"{unseen} of {runs} runs are not observed" + (f": {why}" if why else "")


def in_counts(counts: Mapping[str, int]) -> str:
    """Reasons with their numbers in words: "1 failed (non-finite), 3 stopped (loss below)"."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if count)


def _not_observed(table: pandas.DataFrame) -> np.ndarray:
    column = "not observed"
    return table[column].to_numpy() if column in table else np.zeros(len(table), int)


def _estimate(sizes, successes, runs, target: float) -> int | None:
    """The smallest size whose monotone fit reaches the target; more successes never raise it."""
    from scipy.optimize import isotonic_regression

    fit = isotonic_regression(successes / runs, weights=runs).x
    reached = np.flatnonzero(fit >= target - 1e-12)
    return int(sizes[reached[0]]) if reached.size else None


def exact_interval(successes, runs, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The interval of Clopper & Pearson (1934) for many counts at once.

    Args:
        successes: numbers of successes.
        runs: numbers of runs, at least 1.
        level: the confidence level.

    Returns:
        Lower and upper ends.
    """
    # `scipy.stats` takes half a second to import.
    from scipy import special

    k, n, tail = np.asarray(successes, float), np.asarray(runs, float), (1 - level) / 2
    # The quantiles do not exist at the ends: 0 successes and no failure.
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high


def _leading(true: np.ndarray) -> int:
    """How many entries are true before the first that is not."""
    return len(true) if true.all() else int(np.argmin(true))


def _check(table: pandas.DataFrame, delta: float, level: float) -> None:
    for name, value in (("delta", delta), ("level", level)):
        if not 0 < value < 1:
            raise ValueError(
                f"Argument `{name}` must lie between 0 and 1, but is {value!r}; give e.g. 0.1."
            )
    if table.index.nlevels > 1:
        raise ValueError(
            f"Argument `table` must be of one variant, but has the axes {table.index.names[:-1]}; "
            "take each from `by_variant`."
        )
    sizes = table.index.to_numpy()
    if np.any(np.diff(sizes) <= 0):
        raise ValueError(
            f"Argument `table` must have increasing sizes, but has {list(sizes)}; sort it."
        )
