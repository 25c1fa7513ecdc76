"""Numbers as users give them, Python's, NumPy's or JAX's, as Python's own: checked in one place."""

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Given = ParamSpec("Given")
Result = TypeVar("Result")


def whole(value: Any) -> int | None:
    """An integer of Python, NumPy or JAX as Python's.

    Args:
        value: anything.

    Returns:
        The integer; None for all else, booleans, floating-point numbers and traced values included.
    """
    value = _scalar(value)
    return int(value) if isinstance(value, int | np.integer) else None


def real(value: Any) -> float | None:
    """A real number of Python, NumPy or JAX as Python's float, whether finite or not.

    Args:
        value: anything.

    Returns:
        The number; None for all else, booleans, complex numbers and traced values included.
    """
    value = _scalar(value)
    if not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain_numbers(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function that takes numbers of NumPy and JAX wherever it takes Python's.

    Args:
        function: any function whose arguments, and values of mappings among them, may be numbers.

    Returns:
        The same function of the same signature, which sees Python's numbers alone.
    """

    @functools.wraps(function)
    def taking(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        named = {name: _plain(value) for name, value in kwargs.items()}
        return function(*map(_plain, args), **named)  # pyright: ignore[reportCallIssue]

    return taking


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    integer = whole(value)
    number = real(value) if integer is None else integer
    return value if number is None or isinstance(value, int | float) else number


def _scalar(value: Any) -> Any:
    """What an array without axes holds; None for booleans and for what has no value yet."""
    if isinstance(value, Tracer | bool | np.bool_):
        return None
    if isinstance(value, jax.Array | np.ndarray) and value.shape == ():
        # A type of JAX's own, such as bfloat16, is no NumPy number, but turns into Python's.
        kind = jnp.issubdtype(value.dtype, jnp.floating)
        return float(value) if kind else _scalar(np.asarray(value)[()])
    return value
