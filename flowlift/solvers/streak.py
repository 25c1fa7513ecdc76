"""Attempts in a row that were no numbers: how they are counted, on the host and in the graph."""

from collections.abc import Callable
from typing import Any

import numpy as np

# A step may overflow where one 2^24 = 2e7 times shorter does not; further halving helps nobody.
NON_FINITE_ATTEMPTS = 24


def streak(before: Any, finite: Any, stands: Any, where: Callable = np.where) -> Any:
    """The count after one more attempt; scalars throughout.

    A step that is accepted without moving theta by a bit says nothing: at an edge such steps lie
    between the others, each longer than the one before, and would begin the count again for ever.

    Args:
        before: the count before.
        finite: whether the attempt was a number.
        stands: whether it was accepted and left theta as it was.
        where: NumPy's, or JAX's where it is traced.

    Returns:
        One more after what is not finite, the same after what stands, else 0.
    """
    return where(finite, where(stands, before, 0), before + 1)
