"""States between the ends of steps: by the solver's interpolant, or a polynomial of its own order.

Both must be as accurate as the steps. A step of an error estimate of order q, O(h^q), has an
interpolant that is, if the interpolant's error is of that order too; or a polynomial of degree q
through q + 1 states, each of which a shorter step from the same start gives.
"""

import math
from typing import Any

import diffrax
import numpy as np

from ..solvers import BDF

# Local orders of diffrax's interpolants.
_LOCAL_ORDERS = {
    diffrax.LocalLinearInterpolation: 2,
    diffrax.ThirdOrderHermitePolynomialInterpolation: 4,
    diffrax.FourthOrderPolynomialInterpolation: 5,
}


def has_accurate_interpolant(solver: Any, terms: Any) -> bool:
    """Whether a solver's own interpolant is as accurate as its steps.

    Args:
        solver: the solver.
        terms: its field.

    Returns:
        The verdict; False where nothing is known of it.
    """
    if isinstance(solver, BDF | diffrax.Tsit5):
        # The difference polynomial of the step itself; Tsitouras's own of order 4.
        return True
    made_by = solver.interpolation_cls
    # Some are made by a method of the class.
    kind = getattr(made_by, "__self__", made_by)
    known = [order for of, order in _LOCAL_ORDERS.items() if _is(kind, of)]
    return bool(known) and max(known) >= solver.error_order(terms)


def interior(solver: Any, terms: Any) -> int:
    """How many shorter steps give a polynomial that is as accurate as a step.

    Args:
        solver: the solver.
        terms: its field.

    Returns:
        The number; 0 where a step is not known to be smooth in its length on its scale: an
        exponential method crosses in one what no polynomial follows (on the host it has a dense
        output of its own).
    """
    inner = getattr(solver, "solver", solver)
    smooth = isinstance(inner, diffrax.AbstractRungeKutta)
    return math.ceil(solver.error_order(terms)) - 1 if smooth else 0


def lobatto(count: int) -> np.ndarray:
    """Where to take some states inside of a step: Chebyshev's extrema.

    Args:
        count: how many.

    Returns:
        Fractions of the step, increasing, (count,).
    """
    return _extrema(count)[1:-1]


def polynomial(values: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """The polynomial through the states at both ends of a step and at `lobatto` between them.

    Barycentric, with errors of the states enlarged by about 2 for the degrees in use.

    Args:
        values: states, (m, N).
        fractions: where to evaluate, in [0, 1], (k,).

    Returns:
        States (k, N).
    """
    at, weights = _extrema(len(values) - 2), (-1.0) ** np.arange(len(values))
    weights[[0, -1]] /= 2
    gaps = fractions[:, None] - at
    hit = gaps == 0
    parts = np.where(hit.any(axis=1, keepdims=True), hit, weights / np.where(hit, 1.0, gaps))
    parts = parts / parts.sum(axis=1, keepdims=True)
    return parts.astype(values.dtype) @ values


def _is(kind: Any, of: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def _extrema(count: int) -> np.ndarray:
    return (1 - np.cos(np.pi * np.arange(count + 2) / (count + 1))) / 2
