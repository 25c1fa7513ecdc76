"""How many vectors an instrument keeps, by bytes: the same on every machine."""

from typing import Any

# Bytes for the vectors of one call, unless it is given another number: 250 of a million numbers in
# double precision.
KEPT = 2_000_000_000


def vectors_within(memory: int | None, like: Any, *, least: int, sets: int = 1) -> int:
    """How many vectors the memory of a call holds.

    Args:
        memory: bytes; None for 2 GB.
        like: one of them, for its size and type.
        least: with fewer nothing can be done.
        sets: how many times as many there are.

    Returns:
        Their number, of one set, without the one that comes next in a Lanczos process.

    Raises:
        ValueError: if it holds fewer than the least.
    """
    one = like.size * like.dtype.itemsize * sets
    bytes_ = KEPT if memory is None else memory
    count = bytes_ // one - 1
    if count < least:
        raise ValueError(
            f"Argument `memory` must hold at least {least + 1} vectors of {one} bytes each, but "
            f"is {bytes_}; raise it."
        )
    return int(count)
