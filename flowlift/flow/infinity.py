"""A fit of how far a flow has come, over its last decades of time: does it go off to infinity?

How |theta(t) - theta(0)| grows decides it: it is bounded if and only if |theta| is. On the exact
flow it is at most sqrt(t (L(0) - L(t))), so that, where L is bounded below, a growth faster than
t^(1/2) is a passage, such as the slow escape from a saddle, and cannot last.
"""

from typing import NamedTuple

import numpy as np

# Growth is compared between half decades of t, over the last three decades.
_STEP, _STEPS = 0.5, 6
# With homogeneous networks of degree H the H-th power grows like log t (Lyu & Li, ICLR 2020).
_DEGREES = (1, 2, 3, 4)
# Growth per decade may fall by a tenth and a little: log t comes with terms in log log t.
_LOW = -0.06
# Growth like t^(1/2) is the limit, of which a fit is some hundredths off.
_HIGH = 0.55
# In the time log(1 + t) of a log-loss flow |theta|^H grows like time itself.
_HIGH_OF_LOG = 1.05
# What grew less in the last decade says nothing of infinity.
_LEAST_GROWTH = 0.05
# Fewer records a decade do not show how growth changes from one half decade to the next.
_RECORDS = 4
# A loss below 0 has no bound that is known: L = -w goes like t, what grows faster explodes.
_HIGH_UNBOUNDED = 1.05


class Growth(NamedTuple):
    """The evidence on one flow, see `flowlift.answers.divergence`."""

    diverging: bool
    exponent: float
    low: float
    high: float
    degree: float
    decades: float
    why: str


def growth(time: np.ndarray, distance: np.ndarray, loss: float, log_time: bool) -> Growth:
    """The fit of one flow.

    Args:
        time: (m,), increasing.
        distance: |theta(t) - theta(0)| then.
        loss: L at the end.
        log_time: whether times are log(1 + t).

    Returns:
        The evidence.
    """
    most = largest_exponent(np.array([loss]), log_time)
    numbers, whys = fits(time, distance[None], most)
    exponent, low, high, degree, decades = (float(number) for number in numbers[:, 0])
    off = bool(diverging(numbers, most)[0])
    return Growth(off, exponent, low, high, degree, decades, str(whys[0]))


def largest_exponent(losses: np.ndarray, log_time: bool) -> np.ndarray:
    """The greatest exponent of a growth without end.

    Args:
        losses: the final ones, (runs,).
        log_time: whether times are log(1 + t).

    Returns:
        (runs,).
    """
    bounded = _HIGH_OF_LOG if log_time else _HIGH
    return np.where(losses < 0, _HIGH_UNBOUNDED, bounded)


def diverging(numbers: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The verdicts.

    Args:
        numbers: as given by `fits`.
        most: as given by `largest_exponent`.

    Returns:
        Booleans, (runs,).
    """
    return (numbers[1] >= _LOW) & (numbers[2] <= most)


def fits(
    time: np.ndarray, distances: np.ndarray, most: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The fits of many runs.

    Args:
        time: (m,), increasing.
        distances: (runs, m), NaN where nothing is recorded.
        most: the greatest exponents, (runs,).

    Returns:
        Exponent, least, greatest, degree and decades, (5, runs); and why there are none, (runs,).
    """
    numbers = np.full((5, len(distances)), np.nan)
    numbers[-1] = 0
    whys = np.full(len(distances), "", dtype="<U26")
    there = np.isfinite(distances) & (time > 0)
    # Runs that have records at the same times are fitted at once.
    masks, which = np.unique(there, axis=0, return_inverse=True)
    for k, mask in enumerate(masks):
        runs = np.flatnonzero(which.ravel() == k)
        found, why = _fit(np.log10(time[mask]), distances[runs][:, mask], most[runs])
        whys[runs] = why
        if found is not None:
            numbers[:, runs] = found
    return numbers, whys


def _fit(s: np.ndarray, r: np.ndarray, most: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Of runs with records at the same log10 t, (m,): r is (runs, m)."""
    ends = s[-1] - _STEP * np.arange(_STEPS + 1)[::-1] if s.size else np.zeros(0)
    if not s.size or s[0] > ends[0] + 1e-9:
        return None, "too few decades"
    if np.count_nonzero(s >= ends[0] - 1e-9) < _RECORDS * _STEP * _STEPS:
        return None, "too few records"
    from scipy.interpolate import CubicSpline

    at = CubicSpline(s, r, axis=1)(np.clip(ends, s[0], None))
    decade = round(1 / _STEP)
    # Growth that has stopped, or is no growth, has no exponent.
    grows = (np.diff(at) > 0).all(axis=1) & (at[:, -1] >= (1 + _LEAST_GROWTH) * at[:, -1 - decade])
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.stack([_exponents(at, degree) for degree in _DEGREES])
    low, high = p.min(axis=2), p.max(axis=2)
    fair = (low >= _LOW) & (high <= most)
    # Where none is fair, the first says why.
    fair[0] |= ~fair.any(axis=0)
    best = np.where(fair, high - low, np.inf).argmin(axis=0)
    runs = np.arange(len(r))
    found = np.stack([p[best, runs, -1], low[best, runs], high[best, runs], 1.0 + best])
    found = np.where(grows, found, np.array([[-np.inf]] * 3 + [[1.0]]))
    return np.concatenate([found, np.full((1, len(r)), _STEP * _STEPS)]), ""


def _exponents(at: np.ndarray, degree: int) -> np.ndarray:
    """p between neighbouring half decades: growth goes by a factor 10^(p / 2) from each to next."""
    growth = np.diff(at**degree)
    return np.log10(growth[:, 1:] / growth[:, :-1]) / _STEP
