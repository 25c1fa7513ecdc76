"""Where a Lanczos process leaves no room for an eigenvalue that it has not seen.

Ritz values and residuals prove that there are eigenvalues, never that there are no others. The
start does more: let u be a unit eigenvector of H with eigenvalue mu, c = <u, v_1>, and p_j the
Lanczos polynomials, v_{j+1} = p_j(H) v_1. Then <u, v_{j+1}> = c p_j(mu), and by Bessel

    c^2 sum_{j <= m} p_j(mu)^2 <= 1.

Beyond the Ritz values the sum grows with the distance, so that an eigenvalue there needs a start
with a tiny component c. For a start uniform on the sphere of R^P, c^2 has the law of
Beta(1/2, (P - 1)/2), which makes it a bound with a stated probability (van Dorsselaer, Hochstenbach
& van der Vorst, SIAM J. Matrix Anal. Appl. 22, 2000; a priori bounds: Kuczynski & Wozniakowski,
SIAM J. Matrix Anal. Appl. 13, 1992).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .host.restarted import Cycle


def component_quantile(dimension: int, failure: float) -> float:
    """The c >= 0 with P(|<u, b>| < c) = failure, u fixed and b uniform on the unit sphere.

    Args:
        dimension: P.
        failure: a probability in (0, 1).

    Returns:
        The quantile; 1 in dimension 1, where |<u, b>| = 1.
    """
    from scipy.special import betaincinv

    return 1.0 if dimension == 1 else float(betaincinv(0.5, (dimension - 1) / 2, failure)) ** 0.5


class Exclusion:
    """The polynomials of one Lanczos process, on the host: which numbers are no eigenvalues.

    After a restart the basis is W = (y_1 .. y_k, v_{k+1} ..), orthonormal too, and every vector in
    it still a polynomial in H times v_1. From H y_i = theta_i y_i + sigma_i v_{k+1} follows

        <u, y_i> = sigma_i <u, v_{k+1}> / (mu - theta_i),

    and <u, v_{k+1}> is known from the cycle before, so that the recursion goes on, and Bessel's
    inequality holds of the vectors of each cycle.

    Attributes:
        values: the Ritz values of the last cycle, ascending.
        vector: the coordinates of the least Ritz vector in its basis.
        residual: of the least Ritz pair.
        scale: a bound of |T|.
    """

    def __init__(self, cycles: Sequence[Cycle]):
        """Read T from a process with at least one product.

        Args:
            cycles: all of them, in order; where the last one was restarted from a generic vector,
                its first part counts.
        """
        self.cycles = [_in_double(cycle) for cycle in cycles]
        last, largest = self.cycles[-1], lambda numbers: float(np.abs(numbers).max(initial=0))
        self.scale = max(
            max(largest(c.alpha), largest(c.values)) + 2 * largest(c.beta) for c in self.cycles
        )
        # A length of less counts as none (see `Krylov.extended`): no polynomial is known better.
        self.floor = 100 * float(np.finfo(cycles[-1].alpha.dtype).eps) * self.scale
        if np.isfinite(self.scale):
            self.values, vectors = np.linalg.eigh(last.matrix)
            self.vector = vectors[:, 0]
            self.residual = float(last.beta[-1] * abs(vectors[-1, 0]))
        else:
            self.values = self.vector = np.full(len(last.values) + len(last.alpha), np.nan)
            self.residual = np.nan

    def excludes(self, mu: float, component: float) -> bool:
        """Whether no eigenvector of eigenvalue mu can have |<u, v_1>| >= component.

        Args:
            mu: a number below the Ritz values; all that is less is excluded with it.
            component: c > 0.

        Returns:
            Whether the sum of <u, w>^2 over the vectors w of a cycle exceeds 1 / c^2, with
            <u, v_1> = 1.
        """
        limit, amplitude = 1 / component**2, 1.0
        for cycle in self.cycles:
            total, amplitude, open_ = self._followed(cycle, mu, amplitude, limit)
            if total > limit or not open_:
                return bool(total > limit)
        return False

    def _followed(
        self, cycle: Cycle, mu: float, here: float, limit: float
    ) -> tuple[float, float, bool]:
        """A cycle's sum, up to a limit, <u, v> for the next, and whether there can be one."""
        gaps = cycle.values - mu
        if not (gaps > 0).all():
            # To rounding it is a Ritz value.
            return 0.0, here, False
        total = here**2 + float(np.sum((cycle.couplings * here / gaps) ** 2))
        # What is not known better than the floor is taken for it, wherever that excludes less.
        coupled = float(np.sum(np.maximum(np.abs(cycle.couplings), self.floor) ** 2 / gaps))
        if not coupled < cycle.alpha[0] - mu:
            return total, here, False
        back = -coupled * here
        for alpha, beta in zip(cycle.alpha, cycle.beta, strict=True):
            if total > limit:
                break
            after = ((mu - alpha) * here - back) / max(beta, self.floor)
            total += after**2
            if beta <= self.floor:
                return total, after, False
            back, here = beta * here, after
        return total, here, True

    def least_bound(self, component: float) -> float:
        """The largest number found that is excluded with all that is less.

        Args:
            component: c > 0.

        Returns:
            The bound, at most the least Ritz value; -inf where nothing is excluded yet, NaN where
            T is not finite.
        """
        least = float(self.values[0])
        if self.scale == 0 or not np.isfinite(self.scale):
            return least
        # Logarithms of the distance relative to |T|: from below rounding to beyond any spectrum.
        low, high = -40.0, 8.0
        if not self.excludes(least - self.scale * np.exp(high), component):
            return -np.inf
        # 48 halved 20 times: the distance to within 5e-5 of itself.
        for _ in range(20):
            middle = (low + high) / 2
            out = self.excludes(least - self.scale * np.exp(middle), component)
            low, high = (low, middle) if out else (middle, high)
        return float(least - self.scale * np.exp(high))


def _in_double(cycle: Cycle) -> Cycle:
    return Cycle(*(np.asarray(each, float) for each in dataclasses.astuple(cycle)))
