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

import numpy as np

from .lanczos import Krylov


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

    Attributes:
        values: the Ritz values, ascending.
        vector: the coordinates of the least Ritz vector.
        residual: of the least Ritz pair.
        scale: a bound of |T|.
    """

    def __init__(self, krylov: Krylov):
        """Read T from a process with at least one product.

        Args:
            krylov: the process; where it was restarted, its first part counts.
        """
        from scipy.linalg import eigh_tridiagonal

        size = int(krylov.size)
        self.alpha = np.asarray(krylov.alpha, float)[:size]
        self.beta = np.asarray(krylov.beta, float)[:size]
        self.scale = float(np.abs(self.alpha).max() + 2 * self.beta.max())
        # A length of less counts as none (see `Krylov.extended`): no polynomial is known better.
        self.floor = 100 * float(np.finfo(krylov.alpha.dtype).eps) * self.scale
        if np.isfinite(self.scale):
            self.values, vectors = eigh_tridiagonal(self.alpha, self.beta[:-1])
            self.vector, self.residual = vectors[:, 0], float(self.beta[-1] * abs(vectors[-1, 0]))
        else:
            self.values, self.vector, self.residual = self.alpha * np.nan, self.alpha, np.nan

    def excludes(self, mu: float, component: float) -> bool:
        """Whether no eigenvector of eigenvalue mu can have |<u, v_1>| >= component.

        Args:
            mu: a number outside the range of the Ritz values; all beyond it are excluded with it.
            component: c > 0.

        Returns:
            Whether the sum of p_j(mu)^2 exceeds 1 / c^2.
        """
        before, here, coupling, total = 0.0, 1.0, 0.0, 1.0
        for alpha, beta in zip(self.alpha, self.beta, strict=True):
            after = ((mu - alpha) * here - coupling * before) / max(beta, self.floor)
            total += after**2
            if total > 1 / component**2 or beta <= self.floor:
                break
            before, here, coupling = here, after, beta
        return bool(total > 1 / component**2)

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
