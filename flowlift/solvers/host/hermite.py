"""Dense output by the cubic of Hermite."""

import numpy as np

from .stepping import Dense, Vector


def hermite(before: Vector, after: Vector, h: float, rates: Vector, new: Vector) -> Dense:
    """The cubic through the ends of a step, with the rates there: of third order.

    Args:
        before: the state at its start.
        after: the state at its end.
        h: its length.
        rates: dy/dt at its start.
        new: dy/dt at its end.

    Returns:
        The interpolant.
    """
    start, end, gain = h * rates, h * new, after - before
    square, cube = 3 * gain - 2 * start - end, start + end - 2 * gain

    def states(fractions: Vector) -> np.ndarray:
        x = np.asarray(fractions, before.dtype)[:, None]
        return before + x * (start + x * (square + x * cube))

    return states
