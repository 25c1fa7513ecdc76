"""Numerical differentiation formulas in backward differences, orders 1 to 5.

Shampine & Reichelt 1997, "The MATLAB ODE suite", section 2, in the arrangement that SciPy's `BDF`
made known. Arrays of differences hold nabla^j y_n in row j, j = 0, ..., MAX_ORDER + 2.
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

MAX_ORDER = 5
ROWS = MAX_ORDER + 3
Differences = Float[Array, "8 N"]
Scalar = Float[Array, ""] | float
# Equation (8) and Table 1: kappa trades stability for a smaller error constant.
_KAPPA = np.array([0.0, -0.1850, -1 / 9, -0.0823, -0.0415, 0.0])
GAMMA = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, MAX_ORDER + 1))])
ALPHA = (1 - _KAPPA) * GAMMA
ERROR = _KAPPA * GAMMA + 1 / np.arange(1, MAX_ORDER + 2)


def _shift_matrix() -> np.ndarray:
    """U: the change of step by factor 1, its own inverse (Shampine & Reichelt, section 2.1)."""
    return ratio_matrix(np.float64(1.0), np)


def ratio_matrix(factor, xp):
    """R of Shampine & Reichelt, section 2.1; R(factor) U changes the step by that factor.

    Args:
        factor: ratio of the steps, with a type.
        xp: NumPy or JAX's.

    Returns:
        The matrix (8, 8).
    """
    i = np.arange(1, ROWS).astype(factor.dtype)[:, None]
    j = i.T
    steps = (i - 1 - factor * j) / i
    top = xp.ones((1, ROWS), steps.dtype)
    below = xp.concatenate([xp.zeros((ROWS - 1, 1), steps.dtype), steps], axis=1)
    return xp.cumprod(xp.concatenate([top, below]), axis=0)


def rescaled(differences: Differences, order: Int[Array, ""], factor) -> Differences:
    """The differences of the same polynomial for the step factor * h.

    Args:
        differences: those for h.
        order: degree of the polynomial; rows beyond it are kept as they are.
        factor: ratio of the steps.

    Returns:
        Those for factor * h.
    """
    used = np.arange(ROWS) <= order
    both = used[:, None] & used[None, :]
    dtype = differences.dtype
    ratio = jnp.where(both, ratio_matrix(jnp.asarray(factor, dtype), jnp), 0)
    shift = jnp.where(both, jnp.asarray(_shift_matrix(), dtype), 0)
    return jnp.where(used[:, None], (ratio @ shift).T @ differences, differences)


def predicted(differences: Differences, order: Int[Array, ""]) -> tuple[Array, Array]:
    """The prediction for t + h, and psi = sum_m gamma_m nabla^m y / alpha_order.

    Args:
        differences: for the step h.
        order: k.

    Returns:
        prediction (N,), psi (N,).
    """
    used = np.arange(ROWS) <= order
    dtype = differences.dtype
    gamma = jnp.concatenate([jnp.asarray(GAMMA, dtype), jnp.zeros(ROWS - len(GAMMA), dtype)])
    ones = jnp.where(used, jnp.ones(ROWS, dtype), 0)
    return ones @ differences, jnp.where(used, gamma, 0) @ differences / alpha(order, dtype)


def alpha(order: Int[Array, ""], dtype) -> Float[Array, ""]:
    """alpha_k = (1 - kappa_k) gamma_k, so that c = h / alpha_k."""
    return jnp.asarray(ALPHA, dtype)[order]


def error_constant(order: Int[Array, ""], dtype) -> Float[Array, ""]:
    """The leading error of order k is this times nabla^(k + 1) y; order 0 to 5."""
    return jnp.asarray(ERROR, dtype)[order]


def updated(differences: Differences, order: Int[Array, ""], correction: Array) -> Differences:
    """The differences after a step, from y_new - prediction = nabla^(k + 1) y_new.

    Args:
        differences: before the step, for its h.
        order: k.
        correction: d (N,).

    Returns:
        Those at the new time.
    """
    rows = np.arange(ROWS)[:, None]
    new = jnp.where(rows == order + 2, (correction - differences[order + 1])[None, :], differences)
    new = jnp.where(rows == order + 1, correction[None, :], new)
    # D_j + D_{j+1} + ... + D_{k+1} for j <= k.
    summed = jnp.cumsum(jnp.where(rows <= order + 1, new, 0)[::-1], axis=0)[::-1]
    return jnp.where(rows <= order, summed, new)


class DifferenceInterpolation(diffrax.AbstractLocalInterpolation):
    """The polynomial of degree k through y_n, ..., y_{n-k}: as accurate as the steps.

    Attributes:
        t0: start of the step.
        t1: its end t_n.
        differences: those at t1, for h = t1 - t0, a leading axis on each leaf of y.
        order: k.
    """

    t0: Scalar  # pyright: ignore[reportIncompatibleVariableOverride]
    t1: Scalar  # pyright: ignore[reportIncompatibleVariableOverride]
    differences: PyTree
    order: Int[Array, ""]

    def evaluate(self, t0, t1=None, left: bool = True) -> PyTree:
        """The value at t0, or the increment from t0 to t1."""
        del left
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        dtype = jnp.result_type(*jax.tree.leaves(self.differences))
        rows = np.arange(ROWS - 1)
        along = jnp.asarray((t0 - self.t1) / (self.t1 - self.t0))
        j = rows.astype(along.dtype)
        weights = jnp.where(rows < self.order, jnp.cumprod((along + j) / (1 + j)), 0)
        weights = jnp.concatenate([jnp.ones(1, along.dtype), weights]).astype(dtype)
        return jax.tree.map(lambda d: jnp.tensordot(weights, d, axes=1), self.differences)
