"""From which size on does a success probability exceed a target? By a logistic fit in log size."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, log_expit, logit, xlogy

from ..showing import shows_itself

# exp(-60) is nothing beside 1: a slope with this rise between neighbouring sizes is a jump.
_JUMP = 60.0
# Beyond a factor of a million from the sizes of the data no fit is believed.
_FARTHEST = np.log(1e6)


@shows_itself
@dataclasses.dataclass(frozen=True)
class LogisticCrossing:
    """Where the fit P(n) = 1 / (1 + exp(-a - b log n)), b >= 0, crosses a target.

    Attributes:
        size: the crossing of the maximum-likelihood fit; None if the data separate (then no
            finite fit is the likeliest) or do not rise.
        between: if the data separate, the sizes between which every likeliest fit crosses: (0, n)
            or (n, inf) if all sizes lie on one side; else None.
        low: lower end of the profile-likelihood interval; 0 if it is open.
        high: upper end; inf if it is open.
        slope: b, per unit of log n; inf if the data separate; NaN if nothing was fitted.
        misfit: p-value of the deviance against a model with a free probability per size; NaN for
            fewer than three sizes or data that separate. Small: the curve is not logistic.
    """

    size: float | None
    between: tuple[float, float] | None
    low: float
    high: float
    slope: float
    misfit: float


# Where some runs were not observed there is nothing to fit.
NOT_FITTED = LogisticCrossing(None, None, 0.0, np.inf, np.nan, np.nan)


def logistic_crossing(
    sizes: Sequence[float] | np.ndarray,
    successes: Sequence[int] | np.ndarray,
    runs: Sequence[int] | np.ndarray,
    target: float,
    *,
    level: float = 0.95,
) -> LogisticCrossing:
    """Fit the success probability as a logistic function of log size, and find where it crosses.

    The interval holds the crossings that a likelihood-ratio test does not reject: of all curves
    through (n, target), the likeliest is at most chi^2_1(level) / 2 below the likeliest of all. It
    is an interval, because the curves above a likelihood are convex in (a, b) and the crossing is
    quasi-linear in them; it remains meaningful when the data separate.

    Args:
        sizes: increasing sizes n.
        successes: successes per size.
        runs: runs per size.
        target: in (0, 1).
        level: of the interval, which is asymptotic (Wilks 1938).

    Returns:
        The crossing with its interval.
    """
    from scipy import stats

    x, k, m = np.log(np.asarray(sizes, float)), np.asarray(successes), np.asarray(runs)
    data = _Data(x, k, m, float(logit(target)))
    saturated = data.saturated()
    if between := _separation(np.asarray(sizes, float), k, m, target):
        start, best = data.jump(between), saturated
        slope, size, misfit = np.inf, None, np.nan
    else:
        a, slope, best = data.fit()
        start = (data.height - a) / slope if slope > 0 else None
        size = None if start is None or abs(start - x.mean()) > _FARTHEST else float(np.exp(start))
        free = len(x) - 2
        misfit = float(stats.chi2.sf(2 * (saturated - best), free)) if free > 0 else np.nan
    if start is None:
        return LogisticCrossing(None, None, 0.0, np.inf, 0.0, misfit)
    allowed = best - float(stats.chi2.ppf(level, 1)) / 2
    low, high = (_end(data, start, allowed, way) for way in (-1, 1))
    return LogisticCrossing(size, between, float(np.exp(low)), float(np.exp(high)), slope, misfit)


@dataclasses.dataclass(frozen=True)
class _Data:
    """Counts per log size, and the target's logit."""

    x: np.ndarray
    successes: np.ndarray
    runs: np.ndarray
    height: float

    def log_likelihood(self, eta: np.ndarray) -> float:
        failures = self.runs - self.successes
        return float(self.successes @ log_expit(eta) + failures @ log_expit(-eta))

    def saturated(self) -> float:
        p = self.successes / self.runs
        failures = self.runs - self.successes
        return float(np.sum(xlogy(self.successes, p) + xlogy(failures, 1 - p)))

    def fit(self) -> tuple[float, float, float]:
        """The likeliest (a, b) with b >= 0, and its log-likelihood; the data must overlap."""
        from scipy.optimize import minimize

        middle, total = self.x.mean(), self.runs.sum()
        columns = np.stack([np.ones_like(self.x), self.x - middle])

        def loss(c):
            return -self.log_likelihood(c @ columns) / total

        def slope(c):
            return columns @ (self.runs * expit(c @ columns) - self.successes) / total

        def curvature(c):
            p = expit(c @ columns)
            return (columns * (self.runs * p * (1 - p))) @ columns.T / total

        mean = logit(self.successes.sum() / total)
        found = minimize(
            loss,
            [mean, 0.0],
            jac=slope,
            hess=curvature,
            method="trust-exact",
            options={"gtol": 1e-10},
        )
        a, b = found.x if found.x[1] > 0 else (mean, 0.0)
        return float(a - b * middle), float(b), -loss(np.array([a, b])) * total

    @property
    def steepest(self) -> float:
        """A slope that is a jump for these sizes."""
        return _JUMP / np.diff(self.x).min(initial=1.0)

    def jump(self, between: tuple[float, float]) -> float:
        """Where the likeliest curves cross in the limit of steep ones, if the data separate."""
        mixed = np.flatnonzero((self.successes > 0) & (self.successes < self.runs))
        if mixed.size:
            i = mixed[0]
            above = self.height - logit(self.successes[i] / self.runs[i])
            return self.x[i] + above / self.steepest
        low, high = between
        if low == 0:
            return np.log(high) - 1.0
        return np.log(low) + (1.0 if high == np.inf else np.log(high / low) / 2)

    def profile(self, crossing: float) -> float:
        """The greatest log-likelihood of curves that cross the target at a log size."""
        from scipy.optimize import minimize_scalar

        off = self.x - crossing
        found = minimize_scalar(
            # Every slope b = s / (1 - s) >= 0; in s, too, there is one maximum.
            lambda s: -self.log_likelihood(self.height + s / (1 - s) * off),
            bounds=(0.0, 1.0),
            method="bounded",
            options={"xatol": 1e-10},
        )
        return -float(found.fun)


def _separation(sizes, successes, runs, target: float) -> tuple[float, float] | None:
    """The sizes around the jump, if below one size nothing succeeds and above it everything."""
    none, every = successes == 0, successes == runs
    first = int(np.argmin(none)) if not none.all() else len(sizes)
    if not every[first + 1 :].all():
        return None
    above = np.flatnonzero(successes / runs >= target)
    jump = int(above[0]) if above.size else len(sizes)
    return (
        float(sizes[jump - 1]) if jump > 0 else 0.0,
        float(sizes[jump]) if jump < len(sizes) else np.inf,
    )


def _end(data: _Data, start: float, allowed: float, way: int) -> float:
    """How far the crossing can be moved before the profile falls below what is allowed."""
    from scipy.optimize import brentq

    inner, step = start, 0.05
    while step < _FARTHEST:
        outer = start + way * step
        if data.profile(outer) < allowed:
            return brentq(lambda at: data.profile(at) - allowed, inner, outer, xtol=1e-6)  # pyright: ignore
        inner, step = outer, 2 * step
    return way * np.inf
