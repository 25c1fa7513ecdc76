"""Named random streams of a seed, on the host: the same numbers on any device and JAX version.

[choice] Every draw uses NumPy's PCG64 seeded by SeedSequence(seed, spawn_key=(purpose, *key)), so
graphs, weights and data are independent, and so are different edges and different sizes.
"""

import enum
import operator

import numpy as np


class Purpose(enum.IntEnum):
    """What a stream is for: the first entry of its spawn key (never renumber)."""

    GRAPH = 0
    WEIGHTS = 1
    DATA = 2
    TEACHER = 3
    PROBE = 4
    PROJECTIONS = 5
    HELD_OUT = 6
    LABEL_NOISE = 7


def stream(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """The generator for one purpose.

    Args:
        seed: the user's seed, a non-negative integer.
        purpose: what it is for.
        key: further non-negative integers, e.g. the edge's index and the numbers of copies.

    Returns:
        A PCG64 generator, independent of those of other seeds, purposes and keys.
    """
    sequence = np.random.SeedSequence(check_seed(seed), spawn_key=(int(purpose), *key))
    return np.random.Generator(np.random.PCG64(sequence))


def check_seed(seed: int) -> int:
    """Refuse a seed that is no integer in [0, 2^63).

    Args:
        seed: the candidate.

    Returns:
        The seed as a Python integer.

    Raises:
        ValueError: if it is something else.
    """
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if isinstance(seed, bool) or not 0 <= value < 2**63:
        raise ValueError(
            f"Argument `seed` must be an integer from 0 to 2**63 - 1, but is {seed!r}; "
            "give such an integer."
        )
    return value
