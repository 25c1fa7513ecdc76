"""How many vectors of the size of theta a solver keeps: as many as a number of bytes holds.

The number is the solver's own, never the machine's: what a flow computes must not depend on how
much memory happens to be free.
"""

from typing import Any

# Bytes for the vectors of one solver, unless it is given another number. In double precision all
# 64 + 40 vectors of a BDF fit up to two million parameters.
KEPT = 4_000_000_000
# Of a BDF beside its bases and secants: three sets of eight differences, and what an attempt makes.
_BESIDE_BDF = 34
# Of the exponential method beside its basis: tails and vectors of four chains, three times.
_BESIDE_EXPRB = 24
# With fewer than these a BDF knows next to nothing of the Hessian.
_LEAST_CAPACITY, _LEAST_SECANTS = 8, 5
# So small a basis still knows the dozen stiff directions that most flows have.
_WORTH_WHILE = 16


def of_bdf(solver: Any, point: Any) -> tuple[int, int]:
    """How large a Lanczos basis a BDF has, and how many secants, within its memory.

    While one is made the old one is still there, since a step may be rejected; so do secants. Both
    shrink in proportion.

    Args:
        solver: a `BDF` or its description on the host: the most that it may have, and its memory.
        point: theta, for its size and type.

    Returns:
        Both numbers. All coordinates where H is dense.

    Raises:
        ValueError: if not even a small basis fits.
    """
    size, one = point.size, point.size * point.dtype.itemsize
    if solver.dense:
        return size, solver.secants
    capacity, secants = min(solver.capacity, size), solver.secants
    pairs = (solver.memory // one - _BESIDE_BDF) // 2
    if capacity + 1 + secants <= pairs:
        return capacity, secants
    least = min(_LEAST_CAPACITY, capacity) + 1 + min(_LEAST_SECANTS, secants)
    if pairs < least:
        raise ValueError(
            f"Argument `memory` of the BDF must hold {_BESIDE_BDF + 2 * least} vectors of {one} "
            f"bytes, but is {solver.memory}; raise it, or take 'rkc2', which keeps a dozen."
        )
    fewer = max(min(_LEAST_CAPACITY, capacity), (pairs - 1) * capacity // (capacity + secants))
    fewer = min(fewer, capacity, pairs - 1 - min(_LEAST_SECANTS, secants))
    return fewer, min(secants, pairs - 1 - fewer)


def of_exprb(most: int, memory: int, point: Any) -> int:
    """How large a basis an exponential method has within its memory.

    Args:
        most: the most that it may have.
        memory: bytes for all vectors of a step.
        point: theta, for its size and type.

    Returns:
        The number, at least 1: the method refuses steps that so few do not serve.
    """
    fits = memory // (point.size * point.dtype.itemsize) - _BESIDE_EXPRB
    return max(1, min(most, point.size, fits))


def bdf_worth_while(size: int, itemsize: int) -> bool:
    """Whether the bases of a BDF, in its usual memory, are large enough to be worth their products.

    Args:
        size: P.
        itemsize: bytes of a number.

    Returns:
        The verdict.
    """
    return size * itemsize * (_BESIDE_BDF + 2 * (_WORTH_WHILE * 13 // 8 + 1)) <= KEPT
