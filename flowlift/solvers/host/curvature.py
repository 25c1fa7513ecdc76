"""A symmetric low-rank model B of the Hessian, on the host: see `flowlift.solvers.curvature`."""

import dataclasses
import math

import jax
import numpy as np

from ..curvature import LEAST, NEGLIGIBLE, RESIDUAL, TURN
from ..learner import ALIGNED, CREDIBLE, DEFINITE, MATTERS
from .krylov import Krylov, Operator, generic_vector, norm, ritz
from .stepping import Vector

_SECANTS = ("secants", "strengths", "coupling", "gram")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Curvature:
    """B = V S diag(theta_+) S^T V^T + sum_j w_j w_j^T / omega_j.

    Attributes:
        krylov: the Krylov space, with its basis V.
        point: the lagged point.
        values: Ritz values theta, (capacity,), zero beyond the size of the space.
        coordinates: S, (capacity, capacity), zero beyond.
        residuals: residual norms of the Ritz pairs, (capacity,), zero beyond.
        secants: w_j, (secants, n), zero where unused.
        strengths: omega_j, (secants,), one where unused.
        coupling: S^T V W, (capacity, secants).
        gram: W^T W, (secants, secants).
        count: secants ever added since the last Lanczos step; the oldest is overwritten.
        spent: products that conjugate gradients have taken since the basis was begun.
    """

    krylov: Krylov
    point: Vector
    values: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray
    secants: np.ndarray
    strengths: np.ndarray
    coupling: np.ndarray
    gram: np.ndarray
    count: int
    spent: int

    @staticmethod
    def empty(capacity: int, secants: int, point: Vector) -> "Curvature":
        """B = 0.

        Args:
            capacity: largest Lanczos basis.
            secants: number of secants kept.
            point: any point, for its size and type.

        Returns:
            The model, with an empty basis.
        """
        space = Krylov.empty(capacity, point)
        values, residuals = (np.zeros(capacity, point.dtype) for _ in range(2))
        coordinates = np.zeros((capacity, capacity), point.dtype)
        kept = _no_secants(capacity, secants, point)
        return Curvature(space, point, values, coordinates, residuals, *kept, 0, 0)

    @staticmethod
    def dense(hessian: np.ndarray, secants: int, point: Vector, live: int) -> "Curvature":
        """B = H_+, from all eigenpairs.

        Args:
            hessian: H, (n, n).
            secants: number of secants kept.
            point: where H was taken.
            live: how many leading coordinates count; H is zero beyond.

        Returns:
            The model.
        """
        n, empty = point.size, Curvature.empty(point.size, secants, point)
        basis = np.eye(n + 1, n, dtype=point.dtype)
        # The space is that of the coordinates that count: so much is what another one would cost.
        space = dataclasses.replace(empty.krylov, basis=basis, size=live)
        values, coordinates = np.zeros_like(empty.values), np.zeros_like(hessian)
        part = hessian[:live, :live]
        try:
            pairs = np.linalg.eigh((part + part.T) / 2)
        except np.linalg.LinAlgError:
            pairs = np.nan, np.nan
        values[:live], coordinates[:live, :live] = pairs
        return dataclasses.replace(empty, krylov=space, values=values, coordinates=coordinates)

    def restarted(self, point: Vector, rich: Vector, live: int) -> "Curvature":
        """B = 0 at a new point, ready to be extended.

        Args:
            point: where H is taken from now on.
            rich: a vector rich in the directions that B should know. A random vector of equal
                length is added, so that none is missed.
            live: how many leading coordinates count.

        Returns:
            The model.
        """
        noise = generic_vector(point.size, point.dtype, TURN)
        noise[live:] = 0
        first, length = noise / norm(noise), norm(rich)
        if math.isfinite(length) and length > 0:
            first += rich / length
        new = Curvature.empty(self.krylov.capacity, self.strengths.size, point)
        return dataclasses.replace(new, krylov=new.krylov.restarted(first))

    def knows(self, c: float, contraction: float) -> bool:
        """Whether every Ritz value with c theta > contraction, and the largest, has converged.

        Args:
            c: h / alpha.
            contraction: at most 1; the less, the faster the chord iteration will contract.

        Returns:
            The verdict; False while all Ritz values are that large.
        """
        size, n = self.krylov.size, self.point.size
        if size < min(LEAST, n):
            return False
        scaled = c * self.values
        asked = scaled > NEGLIGIBLE * contraction
        if size < n and np.count_nonzero(asked) >= size:
            return False
        # Where all are negative it is one of the zeros beyond the size.
        asked[np.argmax(scaled)] = True
        scaled, residuals = scaled[asked], self.residuals[asked]
        bounds = RESIDUAL * contraction * np.sqrt(1 + np.maximum(scaled, 0))
        return bool(np.all(c * residuals <= bounds))

    @property
    def full(self) -> bool:
        """Whether the basis cannot be extended."""
        return self.krylov.full

    @property
    def wanting(self) -> bool:
        """Whether the basis is full and smaller than the space: what is stiff may be missing."""
        return self.full and self.krylov.capacity < self.point.size

    @property
    def affordable(self) -> bool:
        """Whether conjugate gradients have taken less than a new basis of this size would."""
        return self.spent < self.krylov.size

    def extended(self, product: Operator, c: float, contraction: float) -> tuple["Curvature", int]:
        """Extend the basis at the lagged point until it knows enough for c, or is full.

        New Ritz pairs make the secants obsolete: they are dropped.

        Args:
            product: v -> H v at the lagged point.
            c: h / alpha.
            contraction: as for `knows`.

        Returns:
            The model, and the number of products.
        """
        if self.full or self.knows(c, contraction) or not _healthy(self.krylov):
            return self, 0

        def enough(space: Krylov) -> bool:
            return not _healthy(space) or self._with_pairs_of(space).knows(c, contraction)

        space = self.krylov.grown(product, enough)
        kept = _no_secants(space.capacity, self.strengths.size, self.point)
        changes = dict(zip(_SECANTS, kept, strict=True))
        new = dataclasses.replace(self._with_pairs_of(space), **changes, count=0)
        return new, space.size - self.krylov.size

    def _with_pairs_of(self, space: Krylov) -> "Curvature":
        """With the Ritz pairs of a space; the secants are left as they are, and obsolete."""
        m, pairs = space.size, ritz(space)
        values, residuals = np.zeros_like(self.values), np.zeros_like(self.residuals)
        coordinates = np.zeros_like(self.coordinates)
        values[:m], residuals[:m] = pairs.values, pairs.residuals
        coordinates[:m, :m] = pairs.coordinates
        return dataclasses.replace(
            self, krylov=space, values=values, coordinates=coordinates, residuals=residuals
        )


class Learner:
    """I + c B for one c, learning in arrays of its own: the model that it began with stays.

    Of the model it takes views without what is beyond the size of the space, and of its secants
    those that are used.

    Attributes:
        c: h / alpha.
        stiffest: 1 + c times the largest Ritz value.
    """

    def __init__(self, curvature: Curvature, c: float) -> None:
        """Begin with a model.

        Args:
            curvature: the model.
            c: h / alpha.
        """
        m = curvature.krylov.size
        self.c = c
        self._model, self._owned = curvature, False
        self._count, self._kept = curvature.count, [getattr(curvature, name) for name in _SECANTS]
        self._basis = curvature.krylov.basis[:m]
        self._coordinates = curvature.coordinates[:m, :m]
        self._largest = float(curvature.values.max())
        self.stiffest = 1 + c * self._largest
        self._positive = np.maximum(curvature.values[:m], 0)
        self._shrink = c * self._positive / (1 + c * self._positive)
        self._use()

    def _use(self) -> None:
        secants, strengths, coupling, gram = self._kept
        used = self._used = min(self._count, strengths.size)
        self._secants, self._strengths = secants[:used], strengths[:used]
        coupling = self._coupling = coupling[: self._shrink.size, :used]
        shrunk = coupling.T @ (self._shrink[:, None] * coupling)
        capacitance = self.c * (gram[:used, :used] - shrunk)
        capacitance.flat[:: used + 1] += self._strengths
        # Small, and used twice at least, in conjugate gradients often.
        self._inner = _inverted(capacitance)

    @property
    def curvature(self) -> Curvature:
        """The model with what was learnt."""
        if not self._owned:
            return self._model
        learnt = dict(zip(_SECANTS, self._kept, strict=True))
        return dataclasses.replace(self._model, **learnt, count=self._count)

    def product(self, vector: Vector) -> Vector:
        """B v."""
        image = self._lifted(self._positive * self._modes(vector))
        if self._used:
            image += ((self._secants @ vector) / self._strengths) @ self._secants
        return image

    def inverse(self, vector: Vector) -> tuple[Vector, Vector]:
        """(I + c B)^-1 v, and B times it, which costs nothing more.

        Args:
            vector: v.

        Returns:
            The solution, and B times the solution.
        """
        shrink, modes = self._shrink, self._modes(vector)
        if not self._used:
            change = self._lifted(shrink * modes)
            return vector - change, change / self.c
        inner = self._secants @ vector - self._coupling.T @ (shrink * modes)
        weights = self.c * (self._inner @ inner)
        change = self._lifted(shrink * (modes - self._coupling @ weights))
        change += weights @ self._secants
        return vector - change, change / self.c

    def learn(self, step: Vector, known: Vector, image: Vector) -> None:
        """The symmetric rank-one update with H step = image, where it matters and is sound.

        See `flowlift.solvers.learner.Learner.taught`.

        Args:
            step: s.
            known: B s.
            image: y.
        """
        w = image - known
        omega, size, length = float(w @ step), norm(w), norm(step)
        if not (
            math.isfinite(omega)
            and self.c * size > MATTERS * length
            and abs(omega) > ALIGNED * size * length
            and size * size <= CREDIBLE * (max(self._largest, 0.0) + 1 / self.c) * abs(omega)
        ):
            return
        modes, overlaps = self._modes(w), self._secants @ w
        # w^T (I + c B)^-1 w, from products at hand.
        shrunk = self._shrink * modes
        energy = size * size - float(shrunk @ modes)
        if self._used:
            inner = overlaps - self._coupling.T @ shrunk
            energy -= self.c * float(inner @ self._inner @ inner)
        if 1 + self.c * energy / omega > DEFINITE:
            self._write(w, omega, modes, overlaps)

    def _write(self, w: Vector, omega: float, modes: np.ndarray, overlaps: np.ndarray) -> None:
        """A secant in place of the oldest, in arrays that no other model has."""
        if not self._owned:
            self._kept, self._owned = [array.copy() for array in self._kept], True
        secants, strengths, coupling, gram = self._kept
        slot, used = self._count % strengths.size, self._used
        secants[slot], strengths[slot] = w, omega
        coupling[: modes.size, slot] = modes
        gram[slot, :used] = gram[:used, slot] = overlaps
        gram[slot, slot] = float(w @ w)
        self._count += 1
        self._use()

    def _modes(self, vector: Vector) -> np.ndarray:
        return (self._basis @ vector) @ self._coordinates

    def _lifted(self, modes: np.ndarray) -> Vector:
        return (self._coordinates @ modes) @ self._basis


def _no_secants(
    capacity: int, secants: int, point: Vector
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Secants, strengths, coupling and Gram matrix of none."""
    dtype = point.dtype
    return (
        np.zeros((secants, point.size), dtype),
        np.ones(secants, dtype),
        np.zeros((capacity, secants), dtype),
        np.zeros((secants, secants), dtype),
    )


def _healthy(space: Krylov) -> bool:
    return space.size == 0 or math.isfinite(space.alpha[space.size - 1])


def _inverted(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)
