"""Loss against size: a power law, with an interval, where the data are one."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import xarray

from ..showing import shows_itself
from .learning import in_counts
from .log_log_line import weighted_line
from .verdicts import common_end, last_known, reasons, there

_FEWEST_SIZES = 4
_RESAMPLES = 2000
# Numbers that are resampled at a time: an eighth of a gigabyte.
_AT_ONCE = 2**24


@shows_itself
@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """L = prefactor n^(-exponent), fitted to the geometric mean of L over seeds; or a refusal.

    Attributes:
        exponent: of the fit; NaN if it is refused.
        low: lower end of the exponent's bootstrap interval.
        high: upper end.
        prefactor: L at n = 1.
        misfit: p-value of the lack-of-fit test; NaN where it could not be made.
        level: of the interval.
        refused: why the data are no power law; empty if they may be one.
    """

    exponent: float
    low: float
    high: float
    prefactor: float
    misfit: float
    level: float
    refused: str = ""


def power_law(
    results: xarray.Dataset, *, level: float = 0.95, significance: float = 0.01
) -> PowerLaw:
    """A power law of the final loss in the lift size.

    Least squares of log L on log n over all seeds. The interval is a bootstrap over seeds within
    each size (BCa, Efron 1987; a percentile one where that is undefined), which supposes nothing
    of the spread. The fit is refused, not drawn, with fewer than four sizes or two seeds a size,
    where losses are not positive, where a flow was ended before the common end of all (by a rule,
    whose threshold its loss then tells of, a budget or a failure) at no certified critical point,
    and where the F-test of lack of fit against the spread over seeds rejects the straight line.

    Args:
        results: as given by `load`, of one variant (`by_variant`).
        level: of the interval.
        significance: of the lack-of-fit test, which supposes that log L spreads alike at all sizes.

    Returns:
        The law or the refusal.
    """
    done = there(results)
    unseen = done & ~last_known(results, common_end(results))
    if unseen.any():
        why = in_counts(Counter(reasons(results).values[unseen.values].tolist()))
        return _refusal(
            f"the losses of {int(unseen.sum())} of {int(done.sum())} flows at the common end are"
            f" not observed: {why}",
            level,
        )
    sizes, losses = [], []
    for size in results["size"].values.tolist():
        here = done.sel(size=size).values
        if here.any():
            sizes.append(size)
            losses.append(results.final_loss.sel(size=size).values[here])
    return fit_power_law(sizes, losses, level=level, significance=significance)


def fit_power_law(
    sizes: Sequence[float],
    losses: Sequence[np.ndarray],
    *,
    level: float = 0.95,
    significance: float = 0.01,
) -> PowerLaw:
    """`power_law` on plain arrays.

    Args:
        sizes: the sizes n.
        losses: the final losses of each size's seeds.
        level: of the interval.
        significance: of the lack-of-fit test.

    Returns:
        The law or the refusal.
    """
    if len(sizes) < _FEWEST_SIZES:
        return _refusal(f"{len(sizes)} sizes are too few, {_FEWEST_SIZES} are needed", level)
    if min(len(values) for values in losses) < 2:
        return _refusal("a size has one seed, so that its spread is unknown", level)
    if not all(np.all((values > 0) & np.isfinite(values)) for values in losses):
        return _refusal("a loss is not positive or not finite", level)
    x, y = np.log(np.asarray(sizes, float)), [np.log(values) for values in losses]
    counts = np.array([len(values) for values in y])
    slope, intercept = weighted_line(x, counts, np.array([values.mean() for values in y]))
    misfit = _lack_of_fit(x, y, slope, intercept)
    if misfit < significance:
        return _refusal(
            f"a straight line in log-log does not fit (p = {misfit:.1e})", level, misfit
        )
    low, high = _interval(x, counts, y, level)
    return PowerLaw(float(-slope), low, high, float(np.exp(intercept)), misfit, level)


def _refusal(reason: str, level: float, misfit: float = np.nan) -> PowerLaw:
    return PowerLaw(np.nan, np.nan, np.nan, np.nan, misfit, level, reason)


def _lack_of_fit(x: np.ndarray, y: Sequence[np.ndarray], slope, intercept) -> float:
    from scipy import stats

    means, counts = np.array([v.mean() for v in y]), np.array([len(v) for v in y])
    bend = counts @ (means - intercept - slope * x) ** 2 / (len(x) - 2)
    pure = sum(((v - v.mean()) ** 2).sum() for v in y) / (counts.sum() - len(x))
    # Without any spread, rounding alone may bend the line.
    if pure == 0:
        return 1.0 if bend <= 1e-20 * np.abs(means).max() ** 2 else 0.0
    return float(stats.f.sf(bend / pure, len(x) - 2, counts.sum() - len(x)))


def _interval(x, counts, y: Sequence[np.ndarray], level: float) -> tuple[float, float]:
    from scipy import stats

    def exponent(*samples, axis=-1):
        return -weighted_line(x, counts, np.stack([s.mean(axis=axis) for s in samples]))[0]

    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.bootstrap(
            tuple(y),
            exponent,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=min(_RESAMPLES, max(1, _AT_ONCE // int(counts.sum()))),
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        slopes = -weighted_line(x, counts, np.eye(len(x)))[0]
        shares = _bca(found.bootstrap_distribution, exponent(*y), slopes, y, (1 - level) / 2)
    if np.all(np.isfinite(shares)):
        low, high = np.quantile(found.bootstrap_distribution, shares)
    else:
        low, high = found.confidence_interval
    return float(low), float(high)


def _bca(resampled, value, slopes, y: Sequence[np.ndarray], tail: float) -> np.ndarray:
    """Which quantiles of the resampled values end a BCa interval (Efron 1987), NaN if undefined."""
    # The value is linear in the means, sum_j slopes_j mean(y_j), so that the acceleration needs no
    # jackknife, which takes time and memory of order n^2: without y_ji the value falls by
    # slopes_j (y_ji - mean(y_j)) / (n_j - 1).
    from scipy import stats

    bias = stats.norm.ppf((np.mean(resampled < value) + np.mean(resampled <= value)) / 2)
    moments = [
        sum((s / len(v)) ** k * ((v - v.mean()) ** k).sum() for s, v in zip(slopes, y, strict=True))
        for k in (2, 3)
    ]
    acceleration = moments[1] / moments[0] ** 1.5 / 6
    moved = bias + stats.norm.ppf([tail, 1 - tail])
    return stats.norm.cdf(bias + moved / (1 - acceleration * moved))
