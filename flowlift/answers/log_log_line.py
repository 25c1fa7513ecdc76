"""A line in log-log, y = c n^a, fitted to random quantities of several sizes, with a band."""

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class LogLogLine:
    """A least-squares line of log y over log n.

    Attributes:
        exponent: a.
        low: lower end of the interval of a.
        high: its upper end.
        constant: c.
        level: of the interval and the band.
        points: how many it rests on.
    """

    exponent: float
    low: float
    high: float
    constant: float
    level: float
    points: int
    _centre: float
    _covariance: Float[np.ndarray, "2 2"]

    def at(self, sizes: ArrayLike) -> Float[np.ndarray, " sizes"]:
        """c n^a.

        Args:
            sizes: n.

        Returns:
            The fitted values: geometric means of y.
        """
        return self.constant * np.asarray(sizes, float) ** self.exponent

    def band(
        self, sizes: ArrayLike
    ) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, " sizes"]]:
        """The confidence band of the line, size by size.

        Args:
            sizes: n.

        Returns:
            Its lower and its upper edge.
        """
        x = np.log(np.asarray(sizes, float)) - self._centre
        design = np.stack([np.ones_like(x), x], axis=-1)
        spread = np.sqrt(np.einsum("...i,ij,...j->...", design, self._covariance, design))
        factor = np.exp(_quantile(self.level, self.points) * spread)
        return self.at(sizes) / factor, self.at(sizes) * factor

    def contains(self, exponent: float) -> bool:
        """Whether an exponent lies in the interval."""
        return self.low <= exponent <= self.high

    def __str__(self) -> str:
        """The exponent with its interval."""
        return f"{self.exponent:.3f} ({self.level:.0%}: {self.low:.3f} .. {self.high:.3f})"


def log_log_line(sizes: ArrayLike, values: ArrayLike, *, level: float = 0.95) -> LogLogLine:
    """Fit y = c n^a to independent random y, several for each n.

    The spread of log y may depend on n: the covariance of the fit is the robust one (HC3 of
    MacKinnon & White 1985), with Student's t of points - 2 degrees of freedom.

    Args:
        sizes: n, broadcast against the values.
        values: y > 0.
        level: of the interval.

    Returns:
        The law.

    Raises:
        ValueError: for values that are not positive and finite, or fewer than three points or two
            sizes.
    """
    y, n = np.broadcast_arrays(np.asarray(values, float), np.asarray(sizes, float))
    y, n = y.reshape(-1), n.reshape(-1)
    bad = np.count_nonzero(~(np.isfinite(y) & (y > 0)))
    if bad:
        raise ValueError(
            f"Argument `values` must be positive and finite, but holds {bad} values that are not; "
            "report those apart, or fit where all are."
        )
    if y.size < 3 or np.unique(n).size < 2:
        raise ValueError(
            "Arguments `sizes` and `values` must hold at least 3 points of 2 sizes, but hold "
            f"{y.size} of {np.unique(n).size}; take more."
        )
    centre = float(np.mean(np.log(n)))
    slope, intercept = weighted_line(np.log(n), np.ones_like(y), np.log(y))
    design = np.stack([np.ones_like(y), np.log(n) - centre], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    deviation = np.log(y) - intercept - slope * np.log(n)
    leverage = np.einsum("pi,ij,pj->p", design, inverse, design)
    weighted = design * (deviation / np.maximum(1 - leverage, 1e-12))[:, None]
    covariance = inverse @ (weighted.T @ weighted) @ inverse
    half = _quantile(level, y.size) * np.sqrt(covariance[1, 1])
    constant = float(np.exp(intercept))
    ends = float(slope - half), float(slope + half)
    return LogLogLine(float(slope), *ends, constant, level, y.size, centre, covariance)


def weighted_line(
    x: Float[np.ndarray, " points"],
    weights: Float[np.ndarray, " points"],
    y: Float[np.ndarray, "points ..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The weighted least-squares line through points.

    Args:
        x: abscissae.
        weights: of the points, at least two of them positive.
        y: ordinates, several lines at once along further axes.

    Returns:
        Slope and intercept.
    """
    share = weights / weights.sum()
    off = x - share @ x
    slope = np.tensordot(share * off, y, 1) / (share @ off**2)
    return slope, np.tensordot(share, y, 1) - slope * (share @ x)


def _quantile(level: float, points: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, points - 2))
