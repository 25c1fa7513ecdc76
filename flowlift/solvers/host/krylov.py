"""The Lanczos process on the host: as `flowlift.solvers.lanczos`, which is the reference."""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from .stepping import Vector

Operator = Callable[[Vector], Vector]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Krylov:
    """H V = V T + beta_m v_{m+1} e_m^T with V^T V = I and T tridiagonal, at most M columns.

    Attributes:
        basis: the vectors v_1 .. v_{m+1} as rows, (M + 1, P), zero beyond.
        alpha: the diagonal of T, (M,).
        beta: beta_j couples v_j and v_{j+1}, (M,); 0 where the process was restarted.
        size: m, the number of products so far.
        defect: how far the products are from those of a symmetric H, see `lanczos.Krylov`.
    """

    basis: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    size: int
    defect: float

    @staticmethod
    def empty(capacity: int, like: Vector) -> "Krylov":
        """A space without a first vector.

        Args:
            capacity: M, at most P.
            like: any vector, for its size and type.

        Returns:
            The space.
        """
        basis = np.zeros((capacity + 1, like.size), like.dtype)
        alpha, beta = (np.zeros(capacity, like.dtype) for _ in range(2))
        return Krylov(basis, alpha, beta, 0, 0.0)

    @property
    def capacity(self) -> int:
        """M."""
        return self.alpha.size

    @property
    def full(self) -> bool:
        """Whether the basis cannot be extended."""
        return self.size >= self.alpha.size

    @property
    def symmetric(self) -> bool:
        """Whether the defect is no more than rounding explains; what is not finite says nothing."""
        return not self.defect > float(np.finfo(self.basis.dtype).eps) ** 0.5

    def symmetric_beside(self, rounding: float) -> bool:
        """Whether it is, or where it is not the defect is below a size that counts as rounding.

        Args:
            rounding: as given by `rounding_of_products`.

        Returns:
            The verdict.
        """
        largest = float(np.abs(self.alpha).max()) + 2 * float(np.abs(self.beta).max())
        return self.symmetric or self.defect * largest <= rounding

    def restarted(self, first: Vector) -> "Krylov":
        """A new space of size 0.

        Args:
            first: its first vector, of any length; a zero vector is replaced by a generic one.

        Returns:
            The space.
        """
        new = Krylov.empty(self.capacity, first)
        unit, _ = orthonormal(new.basis[:0], first, new.alpha[:0], 0)
        new.basis[0] = unit
        return new

    def grown(self, operator: Operator, enough: Callable[["Krylov"], bool]) -> "Krylov":
        """The space extended by one product after another until it is full or enough.

        Where the Krylov space closes early, it goes on from a generic vector orthogonal to it, so
        that multiple eigenvalues are found as often as they occur.

        Args:
            operator: v -> Hv, symmetric.
            enough: whether to stop, asked after every product, of the space so far. Where products
                are not finite it should say so: nothing else ends the process early.

        Returns:
            The space. Memory: one copy of the basis; work: 4 m P multiplications a product.
        """
        if self.full:
            return self
        # Another flow may go on from this space: what is written belongs to the new one alone.
        basis = np.zeros_like(self.basis)
        basis[: self.size + 1] = self.basis[: self.size + 1]
        space = dataclasses.replace(
            self, basis=basis, alpha=self.alpha.copy(), beta=self.beta.copy()
        )
        while True:
            space = space._extended_in_place(operator)
            if space.full or enough(space):
                return space

    def _extended_in_place(self, operator: Operator) -> "Krylov":
        m, basis = self.size, self.basis
        image = operator(basis[m])
        overlaps = basis[: m + 1] @ image
        defect = self._defect(overlaps, image)
        basis[m + 1], beta = orthonormal(basis[: m + 1], image, overlaps, m + 1)
        self.alpha[m], self.beta[m] = overlaps[m], beta
        # What is not finite stays so.
        largest = defect if math.isnan(defect) or defect > self.defect else self.defect
        return Krylov(basis, self.alpha, self.beta, m + 1, largest)

    def _defect(self, overlaps: np.ndarray, image: Vector) -> float:
        """The part of <v_i, H v_m>, i < m, that is not <v_m, H v_i>, relative to |H|."""
        m = self.size
        scale = max(norm(image), float(np.finfo(image.dtype).tiny))
        if m == 0:
            return 0.0 / scale
        scale = max(scale, float(abs(self.alpha[:m]).max()), float(abs(self.beta[:m]).max()))
        # By construction <v_i, H v_m> is beta_{m-1} for i = m - 1, and 0 before.
        difference = overlaps[:m].copy()
        difference[m - 1] -= self.beta[m - 1]
        return norm(difference) / scale


def rounding_of_products(rate: Vector, point: Vector) -> float:
    """The size up to which a product with a unit vector may be nothing but rounding.

    Args:
        rate: F, the field at a point.
        point: theta.

    Returns:
        As `flowlift.solvers.lanczos.rounding_of_products`.
    """
    return float(np.finfo(rate.dtype).eps) ** 0.5 * norm(rate) / (1 + norm(point))


@dataclasses.dataclass(frozen=True)
class Ritz:
    """Eigenpairs (theta_i, s_i) of T, ascending.

    Attributes:
        values: theta_i, (m,).
        coordinates: s_i as columns, (m, m).
        residuals: |H V s_i - theta_i V s_i| = beta_m |e_m^T s_i|, (m,).
    """

    values: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray


def ritz(krylov: Krylov) -> Ritz:
    """The Ritz pairs of a Krylov space, in its coordinates. Cost: one eigh of order m.

    Args:
        krylov: the space, of size 1 at least.

    Returns:
        The pairs, ascending; NaN where T is not finite.
    """
    m = krylov.size
    matrix = np.diag(krylov.alpha[:m])
    matrix[np.arange(1, m), np.arange(m - 1)] = krylov.beta[: m - 1]
    try:
        # Of the lower triangle alone. Dedicated routines gain nothing at these orders.
        values, coordinates = np.linalg.eigh(matrix)
    except np.linalg.LinAlgError:
        values, coordinates = np.full_like(krylov.alpha[:m], np.nan), np.full_like(matrix, np.nan)
    return Ritz(values, coordinates, krylov.beta[m - 1] * np.abs(coordinates[-1]))


def norm(vector: np.ndarray) -> float:
    """|v|."""
    return math.sqrt(float(vector @ vector))


def generic_vector(size: int, dtype, turn: int = 0) -> Vector:
    """The vector of `lanczos.generic_vector`, to the bit.

    Args:
        size: P.
        dtype: its type.
        turn: another one for another number.

    Returns:
        The vector.
    """
    shift = (1 + turn * 0x9E3779B9) % 2**32
    key = np.arange(size, dtype=np.uint32) + np.uint32(shift)
    for factor in (0x7FEB352D, 0x846CA68B):
        key = (key ^ (key >> np.uint32(16))) * np.uint32(factor)
    key = key ^ (key >> np.uint32(16))
    return key.astype(dtype) / np.asarray(2.0**32, dtype) - np.asarray(0.5, dtype)


def orthonormal(
    basis: np.ndarray, vector: Vector, overlaps: np.ndarray, turn: int
) -> tuple[Vector, float]:
    """A unit vector along the part of a vector orthogonal to a basis, and that part's length.

    Args:
        basis: orthonormal rows, (m, P).
        vector: (P,).
        overlaps: the basis times the vector, (m,).
        turn: which generic vector takes its place where only rounding is left.

    Returns:
        Both; the length is 0 in that case.
    """
    # Gram-Schmidt twice is enough (Kahan, in Parlett 1980, section 6-9).
    rest = vector - overlaps @ basis
    rest -= (basis @ rest) @ basis
    length = norm(rest)
    limits = np.finfo(vector.dtype)
    # Where nothing but rounding is left, the direction is generic and the length 0.
    if length > 100 * float(limits.eps) * norm(vector):
        return rest / length, length
    fresh = generic_vector(vector.size, vector.dtype, 3 + turn)
    for _ in range(2):
        fresh -= (basis @ fresh) @ basis
    return fresh / max(norm(fresh), float(limits.tiny)), 0.0
