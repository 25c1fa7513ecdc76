"""Whether a flow goes off to infinity: a fit of how far it has come, over its last decades of time.

How |theta(t) - theta(0)| grows decides it: it is bounded if and only if |theta| is. On the exact
flow it is at most sqrt(t (L(0) - L(t))), so that a growth faster than t^(1/2) is a passage, such as
the slow escape from a saddle, and cannot last.
"""

import numpy as np
import xarray

from ..flow.frame import in_log_time

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


# Runs whose records are fitted together: some 10 MB for 100 records each.
_TOGETHER = 10_000


def divergence(results: xarray.Dataset, among: xarray.DataArray | None = None) -> xarray.Dataset:
    """Which flows look as if they went off to infinity, with the evidence.

    Let r(t) = |theta(t) - theta(0)|, and p the exponent of growth, r^H = a + b (t^p - 1) / p: log t
    for p = 0, a power for p > 0, and a limit that is approached for p < 0. p is fitted between each
    two neighbouring half decades among the last three decades of t. A flow looks divergent if r
    grew in the last decade, and for some degree H of 1, 2, 3, 4 all these p lie between about 0 and
    1/2. It is a fit and no certificate: a flow that stops at a great distance looks the same before
    it gets there, and none counts as converged for it. The bound of 1/2 is the plain flow's; where
    times are log(1 + t), as those of a log-loss flow, growth up to that of time itself is log t.

    Args:
        results: as given by `load` or `flowlift.gather`.
        among: the runs that are asked for, booleans; None for all.

    Returns:
        Over the runs: `diverging`; `exponent`, the last p; `low` and `high`, the least and the
        greatest p; `degree`, the H of least spread of p; `decades` that were used, 0 where nothing
        is known; and `why` nothing is: "no record of the distance", "too few decades", "too few
        records", or "not asked".
    """
    dims, shape = results.final_loss.dims, results.final_loss.shape
    count = int(np.prod(shape))
    numbers = np.full((5, count), np.nan)
    numbers[-1] = 0
    done = np.isfinite(results.end_time.transpose(*dims).values.ravel())
    whys = np.full(count, "", dtype="<U26")
    if among is not None:
        asked = among.transpose(*dims).values.ravel()
        whys[done & ~asked], done = "not asked", done & asked
    known = "distance" in results and "time" in results["distance"].dims
    if not known:
        whys[done], done = "no record of the distance", np.zeros(count, bool)
    runs = np.flatnonzero(done)
    most = _HIGH_OF_LOG if in_log_time(results) else _HIGH
    rows = results["distance"].transpose(*dims, "time").values.reshape(count, -1) if known else None
    for first in range(0, len(runs), _TOGETHER):
        part = runs[first : first + _TOGETHER]
        assert rows is not None
        numbers[:, part], whys[part] = _fits(results.time.values, rows[part], most)
    diverging = (numbers[1] >= _LOW) & (numbers[2] <= most)
    names = ("exponent", "low", "high", "degree", "decades")
    fields = {n: (dims, v.reshape(shape)) for n, v in zip(names, numbers, strict=True)}
    fields |= {"diverging": (dims, diverging.reshape(shape)), "why": (dims, whys.reshape(shape))}
    return xarray.Dataset(fields, {name: results[name] for name in dims})


def _fits(time: np.ndarray, distances: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Exponent, least, greatest, degree and decades, (5, runs); and why there are none."""
    numbers = np.full((5, len(distances)), np.nan)
    numbers[-1] = 0
    whys = np.full(len(distances), "", dtype="<U26")
    there = np.isfinite(distances) & (time > 0)
    # Runs that have records at the same times are fitted at once.
    masks, which = np.unique(there, axis=0, return_inverse=True)
    for k, mask in enumerate(masks):
        runs = np.flatnonzero(which.ravel() == k)
        found, why = _fit(np.log10(time[mask]), distances[runs][:, mask], most)
        whys[runs] = why
        if found is not None:
            numbers[:, runs] = found
    return numbers, whys


def _fit(s: np.ndarray, r: np.ndarray, most: float) -> tuple[np.ndarray | None, str]:
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
