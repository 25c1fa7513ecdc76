"""Which floating-point type a computation runs in, said once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PRECISIONS = ("float64", "float32")


def check_precision(precision: str) -> None:
    """Refuse an unknown precision, and float64 while JAX would silently make it float32.

    Args:
        precision: "float64" or "float32".

    Raises:
        ValueError: in either case, with the remedy.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Argument `precision` must be one of {', '.join(PRECISIONS)}, but is {precision!r}; "
            "choose one of them."
        )
    if precision == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore
        raise ValueError(
            "Argument `precision` must be 'float32' while JAX's x64 mode is off, but is "
            "'float64'; call jax.config.update('jax_enable_x64', True) before making any array."
        )


def check_real(argument: str, array: object) -> None:
    """Refuse complex numbers where their imaginary part would be lost.

    Args:
        argument: how the array is called.
        array: an array, or what becomes one.

    Raises:
        ValueError: if it is complex.
    """
    if np.issubdtype(getattr(array, "dtype", None) or np.asarray(array).dtype, np.complexfloating):
        raise ValueError(
            f"Argument `{argument}` must be real, but is complex; give real and imaginary parts "
            "as numbers of their own."
        )


def exact_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose matrix products are traced in the precision of their numbers.

    Devices with fast products of fewer digits (TF32, three decimal digits) take them for products
    in single precision otherwise: an error estimate would be made of their rounding.

    Args:
        function: what is traced.

    Returns:
        The function, under `jax.default_matmul_precision("highest")` whatever the user's default.
    """

    @functools.wraps(function)
    def exact(*given: Any, **named: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*given, **named)

    return exact
