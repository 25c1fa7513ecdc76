"""A Lanczos process in a bounded number of vectors: where they are full, Ritz vectors stay.

Thick restart (Wu & Simon, SIAM J. Matrix Anal. Appl. 22, 2000): of a full basis the Ritz vectors
y_i at both ends of the spectrum are kept, with the vector v that would come next. They span a part
of the same Krylov space, and H y_i = theta_i y_i + sigma_i v, so that the process goes on with v.
"""

import dataclasses

import numpy as np

from .krylov import Operator, norm, orthonormal
from .stepping import Vector

# Of a full basis these parts stay at the lower and at the upper end. The lower end is asked for,
# but outliers at the other one that had settled would have to be found again: of 100 vectors or
# more, keeping 0.2 and 0.5 saves up to a quarter of the products; of fewer it costs some
# (benchmarks/restarts.py).
_OF_MANY, _OF_FEW, _MANY = (0.2, 0.5), (0.4, 0.1), 100
# A part of at least so much of a vector that is nearly orthogonal already is orthogonal to rounding
# after one pass (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30, 1976).
_ENOUGH = 0.5**0.5
# Numbers of a block in which a basis is turned in place: 32 MB in double precision.
_BLOCK = 4_000_000


@dataclasses.dataclass(frozen=True)
class Cycle:
    """What lies between two restarts: all that is known of it, without its vectors.

    Attributes:
        values: theta_i of the vectors that were kept, (k,), ascending.
        couplings: sigma_i, (k,).
        alpha: the diagonal of the others, (n,).
        beta: what couples each of them to the next, (n,).
    """

    values: np.ndarray
    couplings: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """T of its vectors, (k + n, k + n)."""
        k, alpha, beta = len(self.values), self.alpha, self.beta[:-1]
        matrix = np.diag(np.concatenate([self.values, alpha]))
        matrix[k, :k] = matrix[:k, k] = self.couplings
        here = np.arange(k, k + len(beta))
        matrix[here + 1, here] = matrix[here, here + 1] = beta
        return matrix


class Restarted:
    """H W = W T + beta_m v e_m^T for an orthonormal basis W of at most M vectors, in place.

    Attributes:
        basis: W and v by rows, (M + 1, P), of no meaning beyond.
        size: m, how many vectors W has now.
        products: how many products were made.
        cycles: those that are over.
        defect: how far products are from those of a symmetric H, see `lanczos.Krylov`.
    """

    def __init__(self, first: Vector, capacity: int):
        """Begin.

        Args:
            first: the first direction, not zero.
            capacity: M, at least 4 and at most P.
        """
        # Memory that is never written costs none.
        self.basis = np.empty((capacity + 1, first.size), first.dtype)
        self.basis[0] = first / norm(first)
        self.size = self.products = 0
        self.cycles: list[Cycle] = []
        self.defect = 0.0
        nothing = np.zeros(0, first.dtype)
        self._kept = nothing, nothing
        self._alpha: list[float] = []
        self._beta: list[float] = []

    @property
    def cycle(self) -> Cycle:
        """The one that goes on."""
        numbers = (np.asarray(each, self.basis.dtype) for each in (self._alpha, self._beta))
        return Cycle(*self._kept, *numbers)

    @property
    def closed(self) -> bool:
        """Whether the last product led nowhere new."""
        return bool(self._beta) and not self._beta[-1] > 0

    @property
    def finite(self) -> bool:
        """Whether the last product was."""
        return bool(np.isfinite(self._alpha[-1]) and np.isfinite(self._beta[-1]))

    @property
    def symmetric(self) -> bool:
        """Whether the defect is no more than rounding explains; what is not finite says nothing."""
        return not self.defect > float(np.finfo(self.basis.dtype).eps) ** 0.5

    def extend(self, operator: Operator) -> None:
        """One more vector. Cost: one product and, as a rule, 2 m P multiplications.

        What symmetry says of the image is subtracted first, so that rounding alone is left of its
        components along the basis and one pass over the basis removes them.

        Args:
            operator: v -> H v, symmetric.
        """
        if self.size == len(self.basis) - 1:
            self._restart()
        m, basis = self.size, self.basis
        image = operator(basis[m])
        along = basis[m] @ image
        rest = image - along * basis[m] - self._coupled()
        before, overlaps = norm(rest), basis[: m + 1] @ rest
        self._look_at(overlaps[:m], image)
        rest -= overlaps @ basis[: m + 1]
        beta = norm(rest)
        # The same floor as in `orthonormal`, which says what comes where only rounding is left.
        floor = 100 * float(np.finfo(image.dtype).eps) * norm(image)
        if beta >= _ENOUGH * before and beta > floor:
            basis[m + 1] = rest / beta
        else:
            overlaps, along = basis[: m + 1] @ image, 0.0
            basis[m + 1], beta = orthonormal(basis[: m + 1], image, overlaps, self.products + 1)
        self._alpha.append(float(along + overlaps[m]))
        self._beta.append(beta)
        self.size, self.products = m + 1, self.products + 1

    def _coupled(self) -> Vector:
        """The part of H w_m along the vectors before it, by symmetry."""
        if self._alpha:
            return self._beta[-1] * self.basis[self.size - 1]
        return self._kept[1] @ self.basis[: self.size]

    def _look_at(self, defects: np.ndarray, image: Vector) -> None:
        """The part of <w_i, H w_m>, i < m, that is not <w_m, H w_i>, relative to |H|."""
        seen = [norm(image), float(np.finfo(image.dtype).tiny)]
        seen += [
            float(np.max(np.abs(each)))
            for each in (self._kept[0], self._alpha, self._beta)
            if len(each)
        ]
        defect = norm(defects) / max(seen)
        self.defect = defect if np.isnan(defect) else max(defect, self.defect)

    def _restart(self) -> None:
        """Keep the ends of the spectrum, and go on from the vector that would have come next."""
        done, m = self.cycle, self.size
        self.cycles.append(done)
        values, coordinates = np.linalg.eigh(done.matrix)
        low, high = (max(1, int(part * m)) for part in (_OF_MANY if m >= _MANY else _OF_FEW))
        kept = np.r_[0:low, m - high : m]
        turned = np.ascontiguousarray(coordinates[:, kept].T)
        columns = max(1, _BLOCK // m)
        for first in range(0, self.basis.shape[1], columns):
            part = slice(first, first + columns)
            self.basis[: kept.size, part] = turned @ self.basis[:m, part]
        self.basis[kept.size] = self.basis[m]
        self._kept = values[kept], done.beta[-1] * coordinates[-1, kept]
        self._alpha, self._beta, self.size = [], [], kept.size
