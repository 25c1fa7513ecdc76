"""A symmetric low-rank model B of the Hessian H, and (I + c B)^-1 for any c at once."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .lanczos import Krylov, Vector, generic_vector, ritz
from .parts import live_part

# A Ritz value with c theta beyond this must have converged where the iteration may contract slowly:
# what is left out is for the secants to learn. Both are less where many digits are asked for.
NEGLIGIBLE = 1.0
RESIDUAL = 0.3
# Lanczos steps before "converged" is believed: a start nearly orthogonal to a stiff direction
# looks converged after one.
LEAST = 2
# Which generic vector: any, but the same for every length of the basis.
TURN = 64


class Curvature(eqx.Module):
    """B = V S diag(theta_+) S^T V^T + sum_j w_j w_j^T / omega_j.

    The first part holds the positive Ritz pairs of H at a lagged point. The second corrects it for
    free: every Newton correction s with its difference y of gradients tells H s = y, as does every
    product y = H s of conjugate gradients, and the symmetric rank-one update w = y - B s,
    omega = <w, s>, makes B s = y (Davidon 1968; Conn, Gould, Toint 1991). Both parts do not depend
    on c = h / alpha, so that a change of step size costs no Hessian-vector product. (I + c B)^-1
    follows from the Ritz pairs in closed form and from the secants by the Woodbury formula.

    Attributes:
        krylov: the Krylov space, with its basis V.
        point: the lagged point.
        values: Ritz values theta, (capacity,).
        coordinates: S, (capacity, capacity).
        residuals: residual norms of the Ritz pairs.
        secants: w_j, (secants, n), zero where unused.
        strengths: omega_j, one where unused.
        coupling: S^T V W, (capacity, secants).
        gram: W^T W, (secants, secants).
        inner: the inverse of the capacitance for one c, see `flowlift.solvers.learner`.
        scale: that c; without secants any.
        count: secants ever added since the last Lanczos step; the oldest is overwritten.
        spent: products that conjugate gradients have taken since the basis was begun.
    """

    krylov: Krylov
    point: Vector
    values: Float[Array, " capacity"]
    coordinates: Float[Array, "capacity capacity"]
    residuals: Float[Array, " capacity"]
    secants: Float[Array, "secants n"]
    strengths: Float[Array, " secants"]
    coupling: Float[Array, "capacity secants"]
    gram: Float[Array, "secants secants"]
    inner: Float[Array, "secants secants"]
    scale: Float[Array, ""]
    count: Int[Array, ""]
    spent: Int[Array, ""]

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
        n, dtype = point.size, point.dtype
        return Curvature(
            Krylov.empty(capacity, point),
            point,
            jnp.zeros(capacity, dtype),
            jnp.eye(capacity, dtype=dtype),
            jnp.zeros(capacity, dtype),
            jnp.zeros((secants, n), dtype),
            jnp.ones(secants, dtype),
            jnp.zeros((capacity, secants), dtype),
            jnp.zeros((secants, secants), dtype),
            jnp.eye(secants, dtype=dtype),
            jnp.zeros((), dtype),
            jnp.zeros((), int),
            jnp.zeros((), int),
        )

    @staticmethod
    def dense(
        hessian: Float[Array, "n n"],
        secants: int,
        point: Vector,
        live: Int[Array, ""] | None = None,
    ) -> "Curvature":
        """B = H_+, from all eigenpairs.

        Args:
            hessian: H.
            secants: number of secants kept.
            point: where H was taken.
            live: how many leading coordinates count, None for all; H is zero beyond.

        Returns:
            The model.
        """
        n = point.size
        empty = Curvature.empty(n, secants, point)
        rows = jnp.eye(n + 1, n, dtype=point.dtype)
        # The space is that of the coordinates that count: so much is what another one would cost.
        size = jnp.full((), n) if live is None else live.astype(empty.krylov.size.dtype)
        space = eqx.tree_at(lambda k: (k.basis, k.size), empty.krylov, (rows, size))
        inside = jnp.arange(n) < size
        symmetric = (hessian + hessian.T) / 2
        # Padding gets an eigenvalue above all others (row sums bound them): its pairs come last.
        above = jnp.where(inside, 0, 2 * jnp.max(jnp.sum(jnp.abs(symmetric), axis=1)))
        values, coordinates = jnp.linalg.eigh(symmetric + jnp.diag(above.astype(point.dtype)))
        values, coordinates = jnp.where(inside, values, 0), jnp.where(inside, coordinates, 0)
        return eqx.tree_at(
            lambda b: (b.krylov, b.values, b.coordinates), empty, (space, values, coordinates)
        )

    def restarted(
        self, point: Vector, rich: Vector, live: Int[Array, ""] | None = None
    ) -> "Curvature":
        """B = 0 at a new point, ready to be extended.

        Args:
            point: where H is taken from now on.
            rich: a vector rich in the directions that B should know. A random vector of equal
                length is added, so that none is missed.
            live: how many leading coordinates count, see `live_part`.

        Returns:
            The model.
        """
        capacity, secants = self.krylov.capacity, self.strengths.size
        new = Curvature.empty(capacity, secants, point)
        noise = live_part(generic_vector(point.size, point.dtype, TURN), live)
        length = jnp.linalg.norm(rich)
        known = jnp.where(jnp.isfinite(length) & (length > 0), rich / length, 0.0)
        space = self.krylov.restarted(noise / jnp.linalg.norm(noise) + known)
        return eqx.tree_at(lambda b: b.krylov, new, space)

    def knows(self, c: Float[Array, ""], contraction: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether every Ritz value with c theta > contraction, and the largest, has converged.

        Args:
            c: h / alpha.
            contraction: at most 1; the less, the faster the chord iteration will contract.

        Returns:
            The verdict; False while all Ritz values are that large.
        """
        scaled = c * self.values
        stiff = scaled > NEGLIGIBLE * contraction
        bound = RESIDUAL * contraction * jnp.sqrt(1 + jnp.maximum(scaled, 0))
        converged = c * self.residuals <= bound
        largest = jnp.arange(scaled.size) == jnp.argmax(scaled)
        size, n = self.krylov.size, self.point.size
        complete = (jnp.sum(stiff) < size) | (size == n)
        return jnp.all(converged | ~(stiff | largest)) & complete & (size >= min(LEAST, n))

    @property
    def full(self) -> Bool[Array, ""]:
        """Whether the basis cannot be extended."""
        return self.krylov.size >= self.krylov.capacity

    @property
    def wanting(self) -> Bool[Array, ""]:
        """Whether the basis is full and smaller than the space: what is stiff may be missing."""
        return self.full & (self.krylov.capacity < self.point.size)

    @property
    def affordable(self) -> Bool[Array, ""]:
        """Whether conjugate gradients have taken less than a new basis of this size would."""
        return self.spent < self.krylov.size

    def extended(
        self,
        product: Callable[[Vector], Vector],
        c: Float[Array, ""],
        contraction: Float[Array, ""],
        wanted: Bool[Array, ""] | bool = True,
    ) -> tuple["Curvature", Int[Array, ""]]:
        """Extend the basis at the lagged point until it knows enough for c, or is full.

        New Ritz pairs make the secants obsolete: they are dropped.

        Args:
            product: v -> H v at the lagged point.
            c: h / alpha.
            contraction: as for `knows`.
            wanted: whether to extend it at all.

        Returns:
            The model, and the number of products.
        """

        def goes_on(new):
            healthy = jnp.isfinite(new.krylov.alpha[new.krylov.size - 1])
            goes_on = ~new.full & ~new.knows(c, contraction) & (healthy | (new.krylov.size == 0))
            return goes_on & wanted

        def extend(new):
            space = new.krylov.extended(product)
            pairs = ritz(space)
            inside = jnp.arange(space.capacity) < space.size
            empty = Curvature.empty(space.capacity, new.strengths.size, new.point)
            # Beyond the size there is no curvature; no vector of the basis takes part there.
            values, residuals = (jnp.where(inside, of, 0) for of in (pairs.values, pairs.residuals))
            return eqx.tree_at(
                lambda b: (b.krylov, b.values, b.coordinates, b.residuals, b.spent),
                empty,
                (space, values, pairs.coordinates, residuals, new.spent),
            )

        new = jax.lax.while_loop(goes_on, extend, self)
        return new, new.krylov.size - self.krylov.size

    def with_secant(self, good, w, omega, modes, overlaps) -> "Curvature":
        """A secant in place of the oldest, if it is good; selected row by row, without copies.

        Args:
            good: whether it is.
            w: what it adds, (n,).
            omega: its strength.
            modes: S^T V w, (capacity,).
            overlaps: W^T w with the new w, (secants,).

        Returns:
            The model; its `inner` is left as it is.
        """
        slot = self.count % self.strengths.size
        row = jnp.where(good, overlaps, self.gram[slot])
        return eqx.tree_at(
            lambda b: (b.secants, b.strengths, b.coupling, b.gram, b.count),
            self,
            (
                self.secants.at[slot].set(jnp.where(good, w, self.secants[slot])),
                self.strengths.at[slot].set(jnp.where(good, omega, self.strengths[slot])),
                self.coupling.at[:, slot].set(jnp.where(good, modes, self.coupling[:, slot])),
                self.gram.at[slot].set(row).at[:, slot].set(row),
                self.count + good.astype(int),
            ),
        )

    def modes(self, vector: Vector) -> Float[Array, " capacity"]:
        """S^T V v.

        Args:
            vector: v.

        Returns:
            Its part along each Ritz vector.
        """
        # The last row of the basis takes no part: it is cut here, where it is one number.
        return (self.krylov.basis @ vector)[:-1] @ self.coordinates

    def lifted(self, modes: Float[Array, " capacity"]) -> Vector:
        """V S m.

        Args:
            modes: m.

        Returns:
            The vector.
        """
        return jnp.append(self.coordinates @ modes, 0) @ self.krylov.basis
