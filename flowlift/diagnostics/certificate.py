"""The certificate of convergence of theory, section 5 [proved], checked along a run.

With s the arc length and kappa(s) = kappa(eps) measured at the visited points,

    d sqrt(L)/ds = -|grad L| / (2 sqrt(L)) <= -(sqrt(L) - sqrt(eps)) / kappa(s)   (point by point)
    sqrt(L(s)) <= sqrt(eps) + (sqrt(L_0) - sqrt(eps))_+ (1 + c s / kappa_0)^(-1/c)     (integrated)

where kappa <= kappa_0 + c |theta - theta_0| along the run; exp(-s / kappa_0) for c = 0. The first
is a fact about each single theta: no solver error can break it, only a bug can.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..flow import FlowSolution


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Margins of the inequalities, one per save time; negative margins are violations.

    Attributes:
        eps: the level.
        margin: -d sqrt(L)/ds - (sqrt(L) - sqrt(eps)) / kappa, relative to -d sqrt(L)/ds.
        slope: c, the least slope with kappa <= kappa_0 + c |theta - theta_0| at the save times.
        bound: the integrated bound of L, non-increasing.
        bound_margin: 1 - L / bound.
        tolerance: relative size of a violation that counts as one.
    """

    eps: float
    margin: Float[np.ndarray, " times"]
    slope: float
    bound: Float[np.ndarray, " times"]
    bound_margin: Float[np.ndarray, " times"]
    tolerance: float

    @property
    def violated(self) -> Bool[np.ndarray, " times"]:
        """Where either inequality fails by more than the tolerance (or is not a number)."""
        return ~((self.margin >= -self.tolerance) & (self.bound_margin >= -self.tolerance))

    @property
    def holds(self) -> bool:
        """Whether both hold at every save time."""
        return not self.violated.any()

    @property
    def message(self) -> str:
        """The verdict in one sentence."""
        least = min(np.min(self.margin), np.min(self.bound_margin))
        if self.holds:
            return f"Both inequalities hold at {len(self.margin)} points, least margin {least:.3g}."
        return (
            f"{int(self.violated.sum())} of {len(self.margin)} points violate a proved inequality "
            f"by up to {-least:.3g}, beyond the tolerance {self.tolerance:g}: there is a bug in "
            "the gradient, in kappa or in the flow."
        )


def certificate(
    solution: FlowSolution, eps: float, kappa: ArrayLike, *, tolerance: float = 1e-5
) -> Certificate:
    """Check both inequalities along a flow with squared loss.

    Args:
        solution: the flow.
        eps: the level at which kappa was measured.
        kappa: kappa(eps) at every save time, upper bounds: `solution.observations[...]` of the
            observer "tangent radius". Infinite values assert nothing.
        tolerance: relative; above the solver's own error, since the arc length carries it.

    Returns:
        The certificate. Between save times kappa is assumed to keep to
        kappa_0 + c |theta - theta_0| as well.

    Raises:
        ValueError: if eps is negative or kappa has another length than the save times.
    """
    radii = np.asarray(kappa, float)
    if not eps >= 0 or radii.shape != solution.times.shape:
        raise ValueError(
            f"Arguments `eps` and `kappa` must be a loss of at least 0 and one radius for each of "
            f"{solution.times.size} save times, but are {eps!r} and of shape {radii.shape}; "
            "record kappa by an observer of the same flow."
        )
    root, aim = np.sqrt(solution.loss), np.sqrt(eps)
    speed = np.divide(solution.gradient_norm, 2 * root, out=np.zeros_like(root), where=root > 0)
    needed = np.divide(np.maximum(root - aim, 0), radii, out=np.zeros_like(root), where=radii > 0)
    # Where L <= eps kappa is 0 and nothing is asserted.
    margin = 1 - np.divide(needed, speed, out=np.where(needed > 0, np.inf, 0), where=speed > 0)
    slope = _slope(radii, solution.distance)
    decay = _decay(solution.arc_length, radii[0], slope)
    bound = (aim + max(root[0] - aim, 0) * decay) ** 2
    bound = np.maximum(bound, eps) if root[0] > aim else np.full_like(root, solution.loss[0])
    return Certificate(
        eps, margin, slope, bound, 1 - solution.loss / np.maximum(bound, 1e-300), tolerance
    )


def _slope(kappa: np.ndarray, distance: np.ndarray) -> float:
    moved = (distance > 0) & (kappa > kappa[0])
    if not np.isfinite(kappa[0]) or not moved.any():
        return 0.0
    return float(np.max((kappa[moved] - kappa[0]) / distance[moved]))


def _decay(arc: np.ndarray, kappa: float, slope: float) -> np.ndarray:
    if not np.isfinite(kappa) or not np.isfinite(slope):
        return np.ones_like(arc)
    if kappa == 0:
        return np.zeros_like(arc)
    if slope * arc[-1] < 1e-12 * kappa:
        return np.exp(-arc / kappa)
    return np.exp(-np.log1p(slope * arc / kappa) / slope)
