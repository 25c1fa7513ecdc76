"""The stages of RKC2 on the host: as `flowlift.solvers.chebyshev`, the reference."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..chebyshev import DAMPING
from .stepping import HostField, Vector


class Stage(NamedTuple):
    """What takes stage j to stage j + 1.

    Attributes:
        weight: b_j.
        twice: 2 (w_0 - 1).
        pull: 2 w_1 / b_j.
        shift: a_j.
    """

    weight: float
    twice: float
    pull: float
    shift: float


def first_weight(stages: int) -> float:
    """w_1.

    Args:
        stages: s.

    Returns:
        The weight; 0 for s = 1, where T_s'' is zero.
    """
    if stages == 1:
        return 0.0
    excess = DAMPING / stages**2
    root = math.sqrt(excess * (2 + excess))
    angle = stages * math.log1p(excess + root)
    sinh, cosh = math.sinh(angle), math.cosh(angle)
    return root**2 * sinh / (stages * root * cosh - (1 + excess) * sinh)


def weights(stages: int) -> Iterator[Stage]:
    """Of the stages 1 .. s, by T_j(w_0) and its derivatives, with their last increments.

    Args:
        stages: s.

    Yields:
        The weights of one stage after the other.
    """
    excess, w1 = DAMPING / stages**2, first_weight(stages)
    t, slope, bend = 1 + excess, 1.0, 0.0
    t_growth, slope_growth, bend_growth = excess, 1.0, 0.0
    b = 1 / (4 * (1 + excess) ** 2)
    for _ in range(stages):
        yield Stage(b, 2 * excess, 2 * w1 / b, 1 - b * t)
        t_growth, slope_growth, bend_growth = (
            t_growth + 2 * excess * t,
            slope_growth + 2 * excess * slope + 2 * t,
            bend_growth + 2 * excess * bend + 4 * slope,
        )
        t, slope, bend = t + t_growth, slope + slope_growth, bend + bend_growth
        b = bend / slope**2


def chebyshev_step(
    field: HostField, y: Vector, rates: Vector, h: float, stages: int
) -> tuple[Vector, Vector, float]:
    """One step of s stages. s gradients.

    Args:
        field: the flow.
        y: the state.
        rates: dy/dt there.
        h: the step.
        stages: s >= 2; for s = 1, which is no method, the increment is zero.

    Returns:
        The increment y_1 - y, dy/dt at y_1, and L there.
    """
    growth = first_weight(stages) * h * rates
    total, increment, slope, loss = growth, growth, rates, math.nan
    for stage in weights(stages):
        increment = stage.weight * total
        loss, slope = field.rates(y + increment)
        # At the last stage, one too many.
        growth = growth + stage.twice * total
        growth += stage.pull * h * slope
        growth -= stage.pull * stage.shift * h * rates
        total = total + growth
    return increment, slope, loss


def stages_needed(z: float) -> int:
    """The least s >= 2 that is stable for h rho = z.

    Args:
        z: h rho.

    Returns:
        s.
    """
    return max(2, 1 + math.floor(math.sqrt(1 + 1.54 * z)))


def longest_step(stages: int, radius: float, tiny: float) -> float:
    """The longest step that s stages can make.

    Args:
        stages: s.
        radius: rho.
        tiny: the least normal number of the flow's precision.

    Returns:
        h.
    """
    return (stages**2 - 1) / (1.54 * max(radius, tiny * stages**2))
