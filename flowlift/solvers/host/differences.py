"""Numerical differentiation formulas on the host: see `flowlift.solvers.differences`."""

import numpy as np

from ..differences import ALPHA, GAMMA, ratio_matrix

# Python's numbers: NumPy's would turn 32-bit vectors into 64-bit ones.
_ALPHA = ALPHA.tolist()
_SHIFT = ratio_matrix(np.float64(1.0), np)


def rescaled(differences: np.ndarray, order: int, factor: float) -> np.ndarray:
    """The differences of the same polynomial for the step factor * h.

    Args:
        differences: those for h, (8, N).
        order: degree of the polynomial; rows beyond it are kept as they are.
        factor: ratio of the steps.

    Returns:
        Those for factor * h; the same array for the same step.
    """
    # U is its own inverse.
    if factor == 1:
        return differences
    used = slice(order + 1)
    change = ratio_matrix(np.float64(factor), np)[used, used] @ _SHIFT[used, used]
    new = differences.copy()
    new[used] = change.T.astype(differences.dtype) @ differences[used]
    return new


def predicted(differences: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """The prediction for t + h, and psi = sum_m gamma_m nabla^m y / alpha_order.

    Args:
        differences: for the step h.
        order: k.

    Returns:
        prediction (N,), psi (N,).
    """
    used = differences[: order + 1]
    weights = (GAMMA[: order + 1] / _ALPHA[order]).astype(differences.dtype)
    return used.sum(axis=0), weights @ used


def alpha(order: int) -> float:
    """alpha_k = (1 - kappa_k) gamma_k, so that c = h / alpha_k."""
    return _ALPHA[order]


def updated(differences: np.ndarray, order: int, correction: np.ndarray) -> np.ndarray:
    """The differences after a step, from y_new - prediction = nabla^(k + 1) y_new.

    Args:
        differences: before the step, for its h.
        order: k.
        correction: d (N,).

    Returns:
        Those at the new time.
    """
    new = differences.copy()
    np.subtract(correction, differences[order + 1], out=new[order + 2])
    new[order + 1] = correction
    for j in range(order, -1, -1):
        new[j] += new[j + 1]
    return new


def evaluated(differences: np.ndarray, order: int, fractions: np.ndarray) -> np.ndarray:
    """The polynomial of degree k through y_n, ..., y_{n-k}.

    Args:
        differences: those at the end of the step, for its h.
        order: k.
        fractions: of the step, (m,).

    Returns:
        The values, (m, N).
    """
    j = np.arange(order)
    along = np.asarray(fractions, np.float64)[:, None] - 1
    weights = np.cumprod((along + j) / (1 + j), axis=1).astype(differences.dtype)
    # Row by row: a state must not depend, by rounding, on which others are asked for.
    return differences[0] + np.stack([row @ differences[1 : order + 1] for row in weights])
