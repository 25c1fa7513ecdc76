"""Probabilists' Hermite polynomials, normalised: orthonormal functions of a Gaussian number."""

import math
from collections.abc import Callable

import numpy as np


def hermite(degree: int, z: np.ndarray) -> np.ndarray:
    """he_k(z) = He_k(z) / sqrt(k!), so that E he_j(z) he_k(z) = 1 if j = k, else 0, z ~ N(0, 1).

    By sqrt(k + 1) he_{k+1} = z he_k - sqrt(k) he_{k-1}, which never overflows where He_k would.

    Args:
        degree: k >= 0.
        z: any array.

    Returns:
        The values.
    """
    before, now = np.zeros_like(z), np.ones_like(z)
    for k in range(degree):
        before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now


def hermite_coefficients(
    function: Callable[[np.ndarray], np.ndarray], degree: int, *, nodes: int = 200
) -> np.ndarray:
    """c_k = E f(z) he_k(z) for k = 0 .. degree, z ~ N(0, 1), by Gauss-Hermite quadrature.

    Exact to rounding for polynomials of degree below 2 nodes - degree; of a function with a kink,
    relu say, off by about 1 / nodes.

    Args:
        function: f, elementwise on arrays.
        degree: of the last coefficient.
        nodes: of the quadrature.

    Returns:
        The coefficients, (degree + 1,).
    """
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    values = weights / math.sqrt(2 * math.pi) * function(z)
    return np.array([values @ hermite(k, z) for k in range(degree + 1)])
