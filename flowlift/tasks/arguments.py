"""Arguments that tasks share, refused in a sentence each."""

import math
from collections.abc import Mapping

import numpy as np

from ..numbers import real, whole


def count(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """An integer within bounds, as Python's own.

    Args:
        name: of the argument.
        value: what was given.
        least: the least that it may be.
        most: the most, None for no bound.

    Returns:
        The integer.

    Raises:
        ValueError: if it is none, or outside.
    """
    number = whole(value)
    if number is None or number < least or (most is not None and number > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(
            f"Argument `{name}` must be an integer {bounds}, but is {value!r:.60}; give such an "
            "integer."
        )
    return number


def number(name: str, value: object, least: float = -math.inf, *, above: bool = False) -> float:
    """A finite real number, as Python's own.

    Args:
        name: of the argument.
        value: what was given.
        least: the least that it may be.
        above: whether it must exceed `least`.

    Returns:
        The number.

    Raises:
        ValueError: if it is none, not finite, or too small.
    """
    found = real(value)
    low = found is not None and (found <= least if above else found < least)
    if found is None or not math.isfinite(found) or low:
        bound = f" {'above' if above else 'of at least'} {least:g}" if least > -math.inf else ""
        raise ValueError(
            f"Argument `{name}` must be a finite number{bound}, but is {value!r:.60}; give one."
        )
    return found


def mapping(name: str, value: object, example: str) -> Mapping:
    """Refuse what is no mapping.

    Args:
        name: of the argument.
        value: what was given.
        example: one that is.

    Returns:
        The mapping.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(
            f"Argument `{name}` must be a mapping, but is {value!r:.60}; give e.g. {example}."
        )
    return value


def several(name: str, value: object, example: str) -> tuple:
    """Refuse what is neither a list nor a tuple.

    Args:
        name: of the argument.
        value: what was given.
        example: one that is.

    Returns:
        Its items.

    Raises:
        ValueError: if it is something else.
    """
    if not isinstance(value, list | tuple | np.ndarray):
        raise ValueError(
            f"Argument `{name}` must be a list, but is {value!r:.60}; give e.g. {example}."
        )
    return tuple(value)


def one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones.

    Args:
        name: of the argument.
        value: what was given.
        known: the words.

    Raises:
        ValueError: if it is another.
    """
    if value not in known:
        raise ValueError(
            f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r:.60}; choose "
            "one."
        )


def with_noise(
    targets: np.ndarray, noise: float, rng: np.random.Generator, precision: str
) -> np.ndarray:
    """Targets with independent Gaussian noise, in a precision.

    Args:
        targets: any array of float64.
        noise: its standard deviation; 0 draws nothing.
        rng: the stream.
        precision: "float64" or "float32".

    Returns:
        The array.
    """
    if noise:
        targets = targets + noise * rng.standard_normal(targets.shape)
    return targets.astype(precision)
