"""Dense output by the cubic of Hermite."""

import numpy as np

from .stepping import Dense, Vector


def within(before, after, h, rates, new, x):
    """The cubic through the ends of a step, with the rates there: of third order.

    Args:
        before: the state at its start, of NumPy's arrays or of JAX's.
        after: the state at its end.
        h: its length.
        rates: dy/dt at its start.
        new: dy/dt at its end.
        x: the fraction of the step.

    Returns:
        The state there.
    """
    start, end, gain = h * rates, h * new, after - before
    square, cube = 3 * gain - 2 * start - end, start + end - 2 * gain
    return before + x * (start + x * (square + x * cube))


def hermite(before: Vector, after: Vector, h: float, rates: Vector, new: Vector) -> Dense:
    """The same on the host, at many fractions at once.

    Args:
        before: the state at its start.
        after: the state at its end.
        h: its length.
        rates: dy/dt at its start.
        new: dy/dt at its end.

    Returns:
        The interpolant.
    """

    def states(fractions: Vector) -> np.ndarray:
        x = np.asarray(fractions, before.dtype)[:, None]
        return within(before, after, h, rates, new, x)

    return states
