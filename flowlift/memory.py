"""How much memory this machine has, and the refusal of what cannot fit, before it is built."""

import contextlib
import os
from pathlib import Path

# The bound of a container (cgroup v2), where there is one.
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """The memory that a process of this machine, or of this container, can have at most.

    Returns:
        Bytes.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        return min(physical, int(_CONTAINER.read_text()))
    return physical


def check_memory(argument: str, value: object, least: float, why: str) -> None:
    """Refuse an argument whose result needs more memory than the machine has.

    Args:
        argument: its name.
        value: its value.
        least: the bytes that the result takes at least, estimated without building it.
        why: what takes them, for the sentence.

    Raises:
        ValueError: if it does not fit.
    """
    if least > machine_memory():
        raise ValueError(
            f"Argument `{argument}` must fit into this machine's memory of "
            f"{in_gigabytes(machine_memory())}, but {value!r} takes at least "
            f"{in_gigabytes(least)}: {why}; lower it."
        )


def in_gigabytes(amount: float) -> str:
    """Bytes in words: 16 GB.

    Args:
        amount: bytes, of any size.

    Returns:
        The words.
    """
    # Integers may exceed every float.
    return f"{amount / 1e9:.2g} GB" if amount < 1e300 else "more than 1e+291 GB"
