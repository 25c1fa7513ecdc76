"""The predictive step-size control on the host: as `flowlift.solvers.predictive`, the reference."""

import dataclasses
import math

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trend:
    """The last accepted step.

    Attributes:
        error: its scaled error; 0 before the first.
        step: its length.
    """

    error: float
    step: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """On an attempt.

    Attributes:
        keep: whether it is accepted.
        step: the next one to attempt; NaN where the error is NaN.
        trend: the memory after this attempt.
    """

    keep: bool
    step: float
    trend: Trend


def verdict(error: float, h: float, limit: float, order: int, old: Trend, tiny: float) -> Verdict:
    """Accept a scaled error of at most 1, and predict the next one.

    Args:
        error: the scaled error.
        h: length of the attempt.
        limit: the longest step that the solver can make here.
        order: k of an error O(h^k).
        old: the last accepted step.
        tiny: the least normal number of the flow's precision.

    Returns:
        The verdict.
    """
    possible = h <= limit
    keep = possible and error <= 1
    factor = _factor(error, h, keep, order, old, tiny)
    proposed = factor * h if possible else h
    # A little below the limit, where the rounding of t + h does not matter.
    step = proposed if math.isnan(proposed) else min(proposed, 0.99 * limit)
    return Verdict(keep, step, Trend(error, h) if keep else old)


def _factor(error: float, h: float, keep: bool, order: int, old: Trend, tiny: float) -> float:
    if math.isnan(error):
        return math.nan
    # An error of zero may let the step grow tenfold, no more.
    error = max(error, tiny)
    plain = 0.8 * error ** (-1 / order)
    if not keep:
        return min(max(plain, 0.1), 0.8)
    trend = (h / old.step) * (old.error / error) ** (1 / order) if old.error > 0 else 1.0
    return min(max(plain * trend, 0.1), 10.0)
