"""Refusals that the builders share."""

from ...memory import check_memory

# What compiling one gradient takes for each hidden vertex: 6 MB were measured between 20 and 80
# layers of an mlp, and it grows with their number; a third of that refuses nothing that fits.
_BYTES_PER_VERTEX = 2_000_000
# And for each base edge beyond a few a vertex: 0.3 MB measured with 170 edges of skips.
_BYTES_PER_EDGE = 100_000


def check_sizes(**sizes: int) -> None:
    """Refuse a size that is no integer of at least 1.

    Args:
        **sizes: the arguments by name.

    Raises:
        ValueError: for the first such size.
    """
    for name, value in sizes.items():
        _check_size(name, value)


def check_depth(name: str, value: int, edges: int | None = None) -> None:
    """Refuse a number of layers, blocks or steps that could not be compiled, before building it.

    Args:
        name: the argument.
        value: so many layers, each one hidden vertex at least.
        edges: how many base edges they have; None for a few each.

    Raises:
        ValueError: if compiling, or the base graph itself, exceeds the machine's memory.
    """
    least = value * _BYTES_PER_VERTEX + (edges or 0) * _BYTES_PER_EDGE
    check_memory(name, value, least, f"compiling a gradient through {value} layers")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones.

    Args:
        name: the argument.
        value: the word.
        known: the words it may be.

    Raises:
        ValueError: if it is another.
    """
    if value not in known:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r}; choose one."
        )


def _check_size(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1, but is {value!r}; "
            "give the dimension."
        )
