"""phi-functions and a projected operator on the host: as `flowlift.solvers.phi`, the reference."""

import math
from collections.abc import Callable

import numpy as np

from ..phi import ORDERS, TERMS
from .krylov import norm
from .stepping import Vector


def phi(z: np.ndarray) -> np.ndarray:
    """phi_1(z) .. phi_5(z), to a few roundings relative to phi_k(0) e^max(z, 0).

    Args:
        z: real numbers.

    Returns:
        The values, the order along the first axis.
    """
    small = np.abs(z) < 1
    near = np.where(small, z, 0).astype(z.dtype)
    series = np.full_like(near, 1 / math.factorial(ORDERS + TERMS))
    for j in reversed(range(TERMS)):
        series = near * series + 1 / math.factorial(ORDERS + j)
    down = [series]
    for k in reversed(range(1, ORDERS)):
        down.append(near * down[-1] + 1 / math.factorial(k))
    far = np.where(small, 1, z).astype(z.dtype)
    up = [np.expm1(far) / far]
    for k in range(1, ORDERS):
        up.append((up[-1] - 1 / math.factorial(k)) / far)
    return np.where(small, np.stack(down[::-1]), np.stack(up))


class Projection:
    """A symmetric operator A on a growing orthonormal basis V, m <= M vectors in K chains.

    A V = V T + sum_c tail_c e_{last(c)}^T, see the reference. It grows in place, within one step.

    Attributes:
        basis: V by rows, (M, P), of no meaning beyond m.
        matrix: T, (M, M), zero beyond m.
        others: W^T by rows, (M, 2): what a further operator R makes of V.
        tails: what A V has outside V, (K, P).
        lasts: to which vector each tail belongs, (K,); -1 for none.
        size: m.
        defect: the largest asymmetry seen, relative to the largest product by then.
    """

    def __init__(self, capacity: int, like: Vector, chains: int):
        """Without vectors.

        Args:
            capacity: M, not above P.
            like: a vector of the space.
            chains: K.
        """
        # Memory that is never written costs none.
        self.basis = np.empty((capacity, like.size), like.dtype)
        self.matrix = np.zeros((capacity, capacity), like.dtype)
        self.others = np.zeros((capacity, 2), like.dtype)
        self.tails = np.zeros((chains, like.size), like.dtype)
        self.lasts = np.full(chains, -1)
        self.size = 0
        self.defect = 0.0

    @property
    def symmetric(self) -> bool:
        """Whether the products so far are those of a symmetric operator, to rounding."""
        return not self.defect > float(np.finfo(self.basis.dtype).eps) ** 0.5

    def symmetric_beside(self, rounding: float) -> bool:
        """Whether they are, or where they are not the defect is below a size that is rounding.

        Args:
            rounding: as given by `rounding_of_products`.

        Returns:
            The verdict.
        """
        largest = float(np.linalg.norm(self.matrix)) + max(map(norm, self.tails))
        return self.symmetric or self.defect * largest <= rounding

    @property
    def capacity(self) -> int:
        """M."""
        return len(self.basis)

    def coordinates(self, vector: Vector) -> Vector:
        """V^T b, (m,)."""
        return self.basis[: self.size] @ vector

    def lift(self, coordinates: Vector) -> Vector:
        """V y."""
        return coordinates @ self.basis[: self.size]

    def beside(self, coordinates: Vector) -> Vector:
        """R V y, (2,)."""
        return coordinates @ self.others[: self.size]

    def at_tails(self, coordinates: np.ndarray) -> np.ndarray:
        """The coordinates that the tails belong to: (A V - V T) y is their sum with the tails.

        Args:
            coordinates: y, (..., m).

        Returns:
            They, (..., K); 0 for a chain without vectors.
        """
        absent = np.zeros((*coordinates.shape[:-1], 1), coordinates.dtype)
        return np.concatenate([coordinates, absent], axis=-1)[..., self.lasts]

    def apply(self, coordinates: Vector) -> Vector:
        """A V y, exactly and without a product."""
        inside = self.matrix[: self.size, : self.size] @ coordinates
        return self.lift(inside) + self.at_tails(coordinates) @ self.tails

    def missing(self, vector: Vector) -> Vector:
        """(I - V V^T) b, by Gram-Schmidt twice."""
        for _ in range(2):
            vector = vector - self.lift(self.coordinates(vector))
        return vector

    def extend(
        self, direction: Vector, chain: int, operator: Callable[[Vector], tuple[Vector, Vector]]
    ) -> None:
        """One more vector, along `direction`, which is orthogonal to V. One product.

        Args:
            direction: not zero, not normalised.
            chain: to which chain it belongs: the chain's tail becomes that of the new vector.
            operator: v -> (A v, R v).
        """
        m = self.size
        vector = direction / norm(direction)
        image, other = operator(vector)
        self.basis[m], self.others[m], self.size = vector, other, m + 1
        column = self.coordinates(image)
        along = self.tails @ vector
        defect = self._defect(column[:m], along, image)
        # What is not finite stays so.
        self.defect = defect if math.isnan(defect) else max(self.defect, defect)
        self.tails = self.tails - np.outer(along, vector)
        self.matrix[m, : m + 1] = self.matrix[: m + 1, m] = column
        self.lasts[chain] = m
        self.tails[chain] = self.missing(image)

    def _defect(self, column: Vector, along: Vector, image: Vector) -> float:
        """How far <v_i, A v> are from what symmetry predicts, by the products already made."""
        predicted = np.zeros_like(column)
        grown = self.lasts >= 0
        predicted[self.lasts[grown]] = along[grown]
        lengths = [
            norm(image),
            float(np.abs(self.matrix[: self.size]).max()),
            *map(norm, self.tails),
        ]
        return norm(column - predicted) / max(*lengths, float(np.finfo(image.dtype).tiny))

    def spectrum(self) -> tuple[Vector, np.ndarray]:
        """Eigenvalues of T, (m,), and eigenvectors as columns; NaN where T is not finite."""
        matrix = self.matrix[: self.size, : self.size]
        try:
            values, modes = np.linalg.eigh(matrix)
        except np.linalg.LinAlgError:
            values, modes = np.full_like(matrix[0], np.nan), np.full_like(matrix, np.nan)
        return values, modes
