"""The least losses of linear functions, as facts to compare with."""

import numpy as np


def least_linear_loss(x: np.ndarray, y: np.ndarray) -> float:
    """min over w of the mean of (y_i - <w, x_i>)^2, without a bias.

    Args:
        x: inputs, (samples, d).
        y: targets, (samples,).

    Returns:
        The loss, 0 to rounding where the inputs are independent.
    """
    return float(np.mean((y - x @ np.linalg.lstsq(x, y)[0]) ** 2))


def least_affine_loss(x: np.ndarray, y: np.ndarray) -> float:
    """min over w, b of the mean of (y_i - <w, x_i> - b)^2.

    Args:
        x: inputs, (samples, d).
        y: targets, (samples,).

    Returns:
        The loss.
    """
    return least_linear_loss(np.column_stack([x, np.ones(len(y))]), y)
