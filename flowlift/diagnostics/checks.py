"""What diagnostics refuse before they compute: one sentence each."""

import math

import jax
from jaxtyping import PyTree

from .. import numbers


def check_concrete(function: str, *trees: PyTree) -> None:
    """Refuse values that are unknown because a transformation of JAX traces the call.

    Args:
        function: who asks.
        trees: its arguments.

    Raises:
        ValueError: inside `jax.jit`, `grad`, `vmap` and the like.
    """
    if any(is_traced(leaf) for leaf in jax.tree.leaves(trees)):
        raise ValueError(
            f"Arguments of `{function}` must hold numbers, but are traced by jax.jit, grad or "
            "vmap; call it outside: it decides on the host."
        )


def is_traced(array: object) -> bool:
    """Whether an array's values are unknown, inside `jax.jit` and the like."""
    return isinstance(array, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def positive(name: str, value: object) -> float:
    """A positive finite number as Python's.

    Args:
        name: of the argument.
        value: a number of Python, NumPy or JAX.

    Returns:
        The number.

    Raises:
        ValueError: for anything else.
    """
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(
            f"Argument `{name}` must be positive and finite, but is {value!r}; give such a number."
        )
    return number


def non_negative(name: str, value: object) -> float:
    """A finite number of at least 0 as Python's.

    Args:
        name: of the argument.
        value: a number of Python, NumPy or JAX.

    Returns:
        The number.

    Raises:
        ValueError: for anything else.
    """
    number = _number(value)
    if not 0 <= number < math.inf:
        raise ValueError(
            f"Argument `{name}` must be finite and at least 0, but is {value!r}; give such a "
            "number."
        )
    return number


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """An integer in a range as Python's.

    Args:
        name: of the argument.
        value: an integer of Python, NumPy or JAX.
        least: the least that is allowed.
        most: the largest, or None.

    Returns:
        The integer.

    Raises:
        ValueError: for anything else.
    """
    number = numbers.whole(value)
    if number is None or number < least or (most is not None and number > most):
        ends = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(
            f"Argument `{name}` must be an integer {ends}, but is {value!r}; give such an integer."
        )
    return number


def _number(value: object) -> float:
    """NaN for what is no real number."""
    number = numbers.real(value)
    return math.nan if number is None else number
