"""Quantiles over flows of which some are known from above only, since they had ended."""

import numpy as np
from jaxtyping import Bool, Float


def quantile(
    losses: Float[np.ndarray, "runs *places"], known: Bool[np.ndarray, "runs *places"], share: float
) -> tuple[Float[np.ndarray, " *places"], Bool[np.ndarray, " *places"]]:
    """A quantile over runs, and where it is one: else it is an upper bound.

    Args:
        losses: of the runs; NaN where nothing is known of one.
        known: whether each is the loss there; else the loss there is at most that.
        share: in [0, 1], with linear interpolation between neighbours.

    Returns:
        The quantile of the upper bounds, NaN where it is unbounded, and whether that of the lower
        bounds is the same.
    """
    if not len(losses):
        return np.full(losses.shape[1:], np.nan), np.zeros(losses.shape[1:], bool)
    most = _of_sorted(np.where(np.isnan(losses), np.inf, losses), share)
    least = _of_sorted(np.where(known & ~np.isnan(losses), losses, -np.inf), share)
    return np.where(np.isfinite(most), most, np.nan), least == most


def _of_sorted(values: np.ndarray, share: float) -> np.ndarray:
    """As `numpy.quantile`, but a neighbour that plays no part may be infinite."""
    values, place = np.sort(values, axis=0), share * (len(values) - 1)
    low, weight = int(place), place - int(place)
    if weight == 0:
        return values[low]
    with np.errstate(invalid="ignore"):
        return values[low] + weight * (values[low + 1] - values[low])
