"""The Kurdyka-Lojasiewicz exponent of a run: |grad L| ~ c (L - L*)^a as L falls to L*.

a = 1/2 gives exponential convergence (a Rayleigh quotient bounded below), 1/2 < a < 1 gives
L - L* ~ t^(-1/(2a - 1)); a flow of finite length has a < 1 (theory, section 7; Lojasiewicz 1963).
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class KLFit:
    """A least-squares line of log |grad L| over log(L - L*).

    Attributes:
        exponent: a.
        constant: c.
        spread: root mean square deviation of log |grad L| from the line.
        points: how many points it rests on.
    """

    exponent: float
    constant: float
    spread: float
    points: int


def kl_exponent(
    loss: ArrayLike,
    gradient_norm: ArrayLike,
    *,
    least: float = 0.0,
    below: float = np.inf,
    above: float = 0.0,
) -> KLFit:
    """Fit the exponent along a run.

    Args:
        loss: L at the save times.
        gradient_norm: |grad L| there.
        least: L*, the loss approached.
        below: use only points with L - L* at most this, the tail of the run.
        above: and at least this, where rounding does not yet rule.

    Returns:
        The fit.

    Raises:
        ValueError: if fewer than three points with positive L - L* and |grad L| remain.
    """
    gap = np.asarray(loss, float) - least
    norm = np.asarray(gradient_norm, float)
    used = (gap > 0) & (norm > 0) & (gap <= below) & (gap >= above)
    if np.unique(gap[used]).size < 3:
        raise ValueError(
            "Arguments `below` and `above` must leave at least 3 points with L > `least`, but "
            f"leave {np.unique(gap[used]).size}; widen them or save more often."
        )
    x, y = np.log(gap[used]), np.log(norm[used])
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.sqrt(np.mean((y - slope * x - intercept) ** 2))
    return KLFit(float(slope), float(np.exp(intercept)), float(spread), int(used.sum()))
