"""The certificate of convergence of theory, section 5 [proved], checked along a run.

With s the arc length and kappa(s) = kappa(eps) measured at the visited points,

    d sqrt(L)/ds = -|grad L| / (2 sqrt(L)) <= -(sqrt(L) - sqrt(eps)) / kappa(s)   (point by point)
    sqrt(L(s)) <= sqrt(eps) + (sqrt(L_0) - sqrt(eps))_+ (1 + c s / kappa_0)^(-1/c)     (integrated)

where kappa <= kappa_0 + c |theta - theta_0| along the run; exp(-s / kappa_0) for c = 0. With rates
d theta/dt = -D grad L, kappa measured by |D^(-1/2) u|: the first holds with |D^(1/2) grad L|, the
norm that is recorded, and in place of s; the arc length of phi = D^(-1/2) theta is at least that of
theta over r, r^2 the largest rate, so that the power -1/c becomes -1/(c r). The first
is a fact about each single theta: no solver error can break it, only a bug can.
"""

import dataclasses
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..showing import shows_itself
from .checks import positive


class Records(Protocol):
    """Records of one flow at increasing times: a `FlowSolution`, or one run of a study's results.

    Attributes:
        loss: L.
        gradient_norm: |grad L|.
        arc_length: s.
        distance: |theta - theta_0|.
    """

    @property
    def loss(self) -> ArrayLike:
        """L."""
        ...

    @property
    def gradient_norm(self) -> ArrayLike:
        """|grad L|."""
        ...

    @property
    def arc_length(self) -> ArrayLike:
        """s."""
        ...

    @property
    def distance(self) -> ArrayLike:
        """|theta - theta_0|."""
        ...


@shows_itself
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
    run: Records,
    eps: float,
    kappa: ArrayLike,
    *,
    tolerance: float = 1e-5,
    largest_rate: float | None = None,
) -> Certificate:
    """Check both inequalities along a flow with squared loss.

    Args:
        run: the flow, or its records at the times where kappa is known: from a study's results,
            `results.sel(size=..., seed=..., time=results.observation_time.values)`.
        eps: the level at which kappa was measured.
        kappa: kappa(eps) at these times, upper bounds: `solution.observations[...]` of the
            observer "tangent radius". Infinite values assert nothing.
        tolerance: relative; above the solver's own error, since the arc length carries it.
        largest_rate: r^2; None takes it from a `FlowSolution`, 1 where it has no rates. `kappa`
            must be measured with the same rates, `observer("tangent_radius", task, rates=...)`.

    Returns:
        The certificate. Between save times kappa is assumed to keep to
        kappa_0 + c |theta - theta_0| as well.

    Raises:
        ValueError: if eps is negative, kappa has another length than the records, these do not
            begin where the flow does, or their arc length is not resolved.
    """
    radii, loss, norm = (np.asarray(x, float) for x in (kappa, run.loss, run.gradient_norm))
    distance, arc = np.asarray(run.distance, float), np.asarray(run.arc_length, float)
    if not eps >= 0 or radii.shape != loss.shape:
        raise ValueError(
            f"Arguments `eps` and `kappa` must be a loss of at least 0 and one radius for each of "
            f"{loss.size} save times, but are {eps!r} and of shape {radii.shape}; "
            "record kappa by an observer of the same flow."
        )
    if not arc[0] == 0:
        raise ValueError(
            f"Argument `run` must begin at the start of the flow, where the arc length is 0, but "
            f"begins at {arc[0]:g}; keep its first record, also where kappa is infinite."
        )
    if np.isnan(arc).any():
        raise ValueError(
            "Argument `run` must have resolved arc lengths, but some are NaN, since their errors "
            "are too large; solve with a lower `rtol`."
        )
    root, aim = np.sqrt(loss), np.sqrt(eps)
    speed = np.divide(norm, 2 * root, out=np.zeros_like(root), where=root > 0)
    needed = np.divide(np.maximum(root - aim, 0), radii, out=np.zeros_like(root), where=radii > 0)
    # Where L <= eps kappa is 0 and nothing is asserted.
    margin = 1 - np.divide(needed, speed, out=np.where(needed > 0, np.inf, 0), where=speed > 0)
    slope = _slope(radii, distance)
    decay = _decay(arc, radii[0], slope) ** (1 / _root(run, largest_rate))
    bound = (aim + max(root[0] - aim, 0) * decay) ** 2
    bound = np.maximum(bound, eps) if root[0] > aim else np.full_like(root, loss[0])
    return Certificate(eps, margin, slope, bound, 1 - loss / np.maximum(bound, 1e-300), tolerance)


def _root(run: Records, largest: float | None) -> float:
    if largest is None:
        largest = max((getattr(run, "rates", None) or {}).values(), default=1.0)
    return positive("largest_rate", largest) ** 0.5


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
