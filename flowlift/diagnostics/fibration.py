"""Fibration test: over each lifted vertex, exactly one lift of each entering base edge.

Theory, sections 2 and 6: then, with copied weights, every lifted vertex computes exactly what its
base vertex does, y_{v'} = y_{pi(v')}.
"""

import numpy as np
from jaxtyping import Int

from ..lift import Lift
from .degrees import degrees


def fibration_defects(lift: Lift) -> dict[str, Int[np.ndarray, "..."]]:
    """For each base edge u -> v, the copies of v without exactly one lift of it.

    Args:
        lift: the lift.

    Returns:
        Copies by base edge; all empty for a fibration.
    """
    return {name: np.flatnonzero(seen.inward != 1) for name, seen in degrees(lift).items()}


def is_fibration(lift: Lift) -> bool:
    """Whether the lift's homomorphism to its base graph is a fibration.

    Args:
        lift: the lift.

    Returns:
        Whether no copy has a defect.
    """
    return all(copies.size == 0 for copies in fibration_defects(lift).values())
