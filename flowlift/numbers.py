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
Class = TypeVar("Class")


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
        function: any function; numbers may be its arguments, or stand in tuples, lists and dicts.

    Returns:
        The same function of the same signature, which sees Python's numbers alone.
    """

    @functools.wraps(function)
    def taking(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        named = {name: plain(value) for name, value in kwargs.items()}
        return function(*map(plain, args), **named)  # pyright: ignore[reportCallIssue]

    return taking


def plain_fields(cls: type[Class]) -> type[Class]:
    """A class whose fields are Python's numbers where NumPy's or JAX's are given.

    Fields are compared, hashed, written into files and texts, and take part in the types of others:
    there a number must be the same whichever library made it. Traced values stay what they are.

    Args:
        cls: a dataclass, or a module of equinox.

    Returns:
        The same class.
    """
    cls.__init__ = plain_numbers(cls.__init__)
    return cls


# What is as it must be, and most of what is given.
_AS_IT_IS = (str, int, float, bool, type(None))


def plain(value: Any) -> Any:
    """A value with Python's numbers in place of NumPy's and JAX's, in tuples, lists and dicts too.

    Args:
        value: anything.

    Returns:
        The value; what is no real number, and what is traced, as it is.
    """
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if kind in (tuple, list):
        return kind(map(plain, value))
    integer = whole(value)
    number = real(value) if integer is None else integer
    return value if number is None else number


def _scalar(value: Any) -> Any:
    """What an array without axes holds; None for booleans and for what has no value yet."""
    if isinstance(value, Tracer | bool | np.bool_):
        return None
    if isinstance(value, jax.Array | np.ndarray) and value.shape == ():
        # A type of JAX's own, such as bfloat16, is no NumPy number, but turns into Python's.
        kind = jnp.issubdtype(value.dtype, jnp.floating)
        return float(value) if kind else _scalar(np.asarray(value)[()])
    return value
