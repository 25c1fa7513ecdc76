"""Numbers as users give them, Python's, NumPy's or JAX's, as Python's own: checked in one place."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


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
        return math.copysign(math.inf, value)


def _scalar(value: Any) -> Any:
    """What an array without axes holds; None for booleans and for what has no value yet."""
    if isinstance(value, Tracer | bool | np.bool_):
        return None
    if isinstance(value, jax.Array | np.ndarray) and value.shape == ():
        # A type of JAX's own, such as bfloat16, is no NumPy number, but turns into Python's.
        kind = jnp.issubdtype(value.dtype, jnp.floating)
        return float(value) if kind else _scalar(np.asarray(value)[()])
    return value
