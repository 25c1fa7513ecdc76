"""Whether a flow goes off to infinity: a fit of how far it has come, over its last decades of time.

How |theta(t) - theta(0)| grows decides it: it is bounded if and only if |theta| is. On the exact
flow it is at most sqrt(t (L(0) - L(t))), so that a growth faster than t^(1/2) is a passage, such as
the slow escape from a saddle, and cannot last.
"""

import numpy as np
import xarray

# Growth is compared between half decades of t, over the last three decades.
_STEP, _STEPS = 0.5, 6
# With homogeneous networks of degree H the H-th power grows like log t (Lyu & Li, ICLR 2020).
_DEGREES = (1, 2, 3, 4)
# Growth per decade may fall by a tenth and a little: log t comes with terms in log log t.
_LOW = -0.06
# Growth like t^(1/2) is the limit, of which a fit is some hundredths off.
_HIGH = 0.55
# What grew less in the last decade says nothing of infinity.
_LEAST_GROWTH = 0.05
# Fewer records a decade do not show how growth changes from one half decade to the next.
_RECORDS = 4


def divergence(results: xarray.Dataset) -> xarray.Dataset:
    """Which flows look as if they went off to infinity, with the evidence.

    Let r(t) = |theta(t) - theta(0)|, and p the exponent of growth, r^H = a + b (t^p - 1) / p: log t
    for p = 0, a power for p > 0, and a limit that is approached for p < 0. p is fitted between each
    two neighbouring half decades among the last three decades of t. A flow looks divergent if r
    grew in the last decade, and for some degree H of 1, 2, 3, 4 all these p lie between about 0 and
    1/2. It is a fit and no certificate: a flow that stops at a great distance looks the same before
    it gets there, and none counts as converged for it.

    Args:
        results: as given by `load` or `flowlift.gather`.

    Returns:
        Over the runs: `diverging`; `exponent`, the last p; `low` and `high`, the least and the
        greatest p; `degree`, the H of least spread of p; `decades` that were used, 0 where nothing
        is known; and `why` nothing is: "no record of the distance", "too few decades" or "too few
        records".
    """
    dims = results.final_loss.dims
    shape = results.final_loss.shape
    count = int(np.prod(shape))
    names = ("exponent", "low", "high", "degree", "decades")
    numbers = np.full((len(names), count), np.nan)
    whys, diverging = np.full(count, "", dtype="<U26"), np.zeros(count, bool)
    known = "distance" in results and "time" in results["distance"].dims
    rows = results["distance"].transpose(*dims, "time").values.reshape(count, -1) if known else None
    done = np.isfinite(results.end_time.transpose(*dims).values.ravel())
    for i in np.flatnonzero(done):
        if rows is None:
            whys[i], numbers[-1, i] = "no record of the distance", 0
            continue
        found, whys[i] = _fit(results.time.values, rows[i])
        numbers[:, i] = found if found is not None else (*[np.nan] * 4, 0)
        diverging[i] = found is not None and found[1] >= _LOW and found[2] <= _HIGH
    fields = {n: (dims, v.reshape(shape)) for n, v in zip(names, numbers, strict=True)}
    fields |= {"diverging": (dims, diverging.reshape(shape)), "why": (dims, whys.reshape(shape))}
    return xarray.Dataset(fields, {name: results[name] for name in dims})


def _fit(time: np.ndarray, distance: np.ndarray) -> tuple[tuple[float, ...] | None, str]:
    """Exponent, least, greatest, degree and decades of one flow; or why there are none."""
    there = np.isfinite(distance) & (time > 0)
    s, r = np.log10(time[there]), distance[there]
    ends = s[-1] - _STEP * np.arange(_STEPS + 1)[::-1] if s.size else np.zeros(0)
    if not s.size or s[0] > ends[0] + 1e-9:
        return None, "too few decades"
    if np.count_nonzero(s >= ends[0] - 1e-9) < _RECORDS * _STEP * _STEPS:
        return None, "too few records"
    from scipy.interpolate import CubicSpline

    at = CubicSpline(s, r)(np.clip(ends, s[0], None))
    decade = round(1 / _STEP)
    # Growth that has stopped, or is no growth, has no exponent.
    if not (np.diff(at) > 0).all() or at[-1] < (1 + _LEAST_GROWTH) * at[-1 - decade]:
        return (*[-np.inf] * 3, 1.0, _STEP * _STEPS), ""
    fits = [(_exponents(at, degree), degree) for degree in _DEGREES]
    fair = [(p, h) for p, h in fits if p.min() >= _LOW and p.max() <= _HIGH] or fits[:1]
    p, degree = min(fair, key=lambda fit: np.ptp(fit[0]))
    return (float(p[-1]), float(p.min()), float(p.max()), float(degree), _STEP * _STEPS), ""


def _exponents(at: np.ndarray, degree: int) -> np.ndarray:
    """p between neighbouring half decades: growth goes by a factor 10^(p / 2) from each to next."""
    growth = np.diff(at**degree)
    return np.log10(growth[1:] / growth[:-1]) / _STEP
