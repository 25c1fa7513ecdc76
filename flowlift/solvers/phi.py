"""phi-functions, and the symmetric matrix functions of a projected operator.

phi_k(z) = sum_{j>=0} z^j / (j + k)! = int_0^1 e^((1 - s) z) s^(k-1) / (k - 1)! ds, phi_0 = exp.
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

ORDERS = 5
TERMS = 18
_SIZES = (16, 32, 64, 128, 256, 512)


def phi(z: Float[Array, "*n"]) -> Float[Array, "5 *n"]:
    """phi_1(z) .. phi_5(z), to a few roundings relative to phi_k(0) e^max(z, 0).

    Args:
        z: real numbers.

    Returns:
        The values, the order along the first axis.
    """
    small = jnp.abs(z) < 1
    near = jnp.where(small, z, 0)
    series = jnp.full_like(near, 1 / math.factorial(ORDERS + TERMS))
    for j in reversed(range(TERMS)):
        series = near * series + 1 / math.factorial(ORDERS + j)
    down = [series]
    for k in reversed(range(1, ORDERS)):
        down.append(near * down[-1] + 1 / math.factorial(k))
    far = jnp.where(small, 1, z)
    up = [jnp.expm1(far) / far]
    for k in range(1, ORDERS):
        up.append((up[-1] - 1 / math.factorial(k)) / far)
    return jnp.where(small, jnp.stack(down[::-1]), jnp.stack(up))


class Projection(eqx.Module):
    """A symmetric operator A on a growing orthonormal basis V, m <= M vectors in K chains.

    A V = V T + sum_c tail_c e_{last(c)}^T, the tails orthogonal to V: Lanczos chains from several
    starts, each started orthogonal to what is there and ended when it has served, share one T.
    Further rows W = R V, of an operator R onto other components, are kept beside.

    Attributes:
        basis: V by rows, (M, P), zero beyond m.
        matrix: T, (M, M), zero beyond m.
        others: W^T by rows, (M, Q).
        tails: what A V has outside V, (K, P).
        lasts: to which vector each tail belongs, (K,); M for none.
        size: m.
        defect: the largest asymmetry seen, relative to the largest product by then.
    """

    basis: Float[Array, "M P"]
    matrix: Float[Array, "M M"]
    others: Float[Array, "M Q"]
    tails: Float[Array, "K P"]
    lasts: Int[Array, " K"]
    size: Int[Array, ""]
    defect: Float[Array, ""]

    @staticmethod
    def empty(capacity: int, like: Float[Array, " P"], others: int, chains: int) -> "Projection":
        """Without vectors.

        Args:
            capacity: M, not above P.
            like: a vector of the space.
            others: Q.
            chains: K.

        Returns:
            The projection.
        """
        zeros = lambda *shape: jnp.zeros(shape, like.dtype)
        return Projection(
            zeros(capacity, like.size),
            zeros(capacity, capacity),
            zeros(capacity, others),
            zeros(chains, like.size),
            jnp.full(chains, capacity),
            jnp.asarray(0),
            zeros(),
        )

    @property
    def symmetric(self) -> Bool[Array, ""]:
        """Whether the products so far are those of a symmetric operator, to rounding."""
        return ~(self.defect > jnp.finfo(self.defect.dtype).eps ** 0.5)

    def symmetric_beside(self, rounding: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether they are, or where they are not the defect is below a size that is rounding.

        Args:
            rounding: as given by `rounding_of_products`.

        Returns:
            The verdict.
        """
        largest = jnp.linalg.norm(self.matrix) + jnp.max(jnp.linalg.norm(self.tails, axis=1))
        return self.symmetric | (self.defect * largest <= rounding)

    @property
    def capacity(self) -> int:
        """M."""
        return len(self.basis)

    def coordinates(self, vector: Float[Array, " P"]) -> Float[Array, " M"]:
        """V^T b."""
        return self._by_size(
            lambda n, v: jnp.pad(self.basis[:n] @ v, (0, self.capacity - n)), vector
        )

    def lift(self, coordinates: Float[Array, " M"]) -> Float[Array, " P"]:
        """V y."""
        return self._by_size(lambda n, y: y[:n] @ self.basis[:n], coordinates)

    def at_tails(self, coordinates: Float[Array, "*n M"]) -> Float[Array, "*n K"]:
        """The coordinates that the tails belong to: (A V - V T) y is their sum with the tails."""
        absent = jnp.zeros((*coordinates.shape[:-1], 1), coordinates.dtype)
        return jnp.concatenate([coordinates, absent], axis=-1)[..., self.lasts]

    def apply(self, coordinates: Float[Array, " M"]) -> Float[Array, " P"]:
        """A V y, exactly and without a product."""
        return self.lift(self.matrix @ coordinates) + self.at_tails(coordinates) @ self.tails

    def missing(self, vector: Float[Array, " P"]) -> Float[Array, " P"]:
        """(I - V V^T) b, by Gram-Schmidt twice."""
        for _ in range(2):
            vector = vector - self.lift(self.coordinates(vector))
        return vector

    def extend(
        self,
        direction: Float[Array, " P"],
        chain: Int[Array, ""],
        operator: Callable[[Array], tuple[Array, Array]],
    ) -> "Projection":
        """One more vector, along `direction`, which is orthogonal to V. One product.

        Args:
            direction: not zero, not normalised.
            chain: to which chain it belongs: the chain's tail becomes that of the new vector.
            operator: v -> (A v, R v).

        Returns:
            The larger projection.
        """
        m = self.size
        vector = direction / jnp.linalg.norm(direction)
        image, other = operator(vector)
        basis = self.basis.at[m].set(vector)
        # What symmetry predicts of <v_i, A v>, i < m, from the products already made.
        predicted = jnp.zeros(self.capacity + 1, vector.dtype)
        predicted = predicted.at[self.lasts].set(self.tails @ vector)[:-1]
        seen = eqx.tree_at(lambda s: (s.basis, s.size), self, (basis, m + 1))
        column = seen.coordinates(image)
        earlier = jnp.arange(self.capacity) < m
        # Relative to the largest product so far, as for `Krylov`.
        lengths = jnp.stack([jnp.linalg.norm(image), jnp.max(jnp.abs(self.matrix))])
        scale = jnp.maximum(jnp.max(lengths), jnp.max(jnp.linalg.norm(self.tails, axis=1)))
        scale = jnp.maximum(scale, jnp.finfo(vector.dtype).tiny)
        defect = jnp.linalg.norm(jnp.where(earlier, column - predicted, 0)) / scale
        tails = self.tails - jnp.outer(self.tails @ vector, vector)
        grown = Projection(
            basis,
            self.matrix.at[m].set(column).at[:, m].set(column),
            self.others.at[m].set(other),
            tails,
            self.lasts.at[chain].set(m),
            m + 1,
            jnp.maximum(self.defect, defect),
        )
        return eqx.tree_at(lambda g: g.tails, grown, tails.at[chain].set(grown.missing(image)))

    def spectrum(self) -> tuple[Float[Array, " M"], Float[Array, "M M"]]:
        """Eigenvalues of T, zero beyond m, and eigenvectors as columns.

        Returns:
            Both. Cost: one eigh of order 2 m at most.
        """

        def solve(n: int, matrix):
            values, vectors = jnp.linalg.eigh(matrix[:n, :n])
            rest = self.capacity - n
            identity = jnp.eye(rest, dtype=vectors.dtype)
            return jnp.pad(values, (0, rest)), jax.scipy.linalg.block_diag(vectors, identity)

        return self._by_size(solve, self.matrix)

    def _by_size(self, function: Callable, operand: Array):
        """function(n, operand) with the least n of a few that holds m: m is small as a rule."""
        sizes = [n for n in _SIZES if n < self.capacity] + [self.capacity]
        branches = [functools.partial(function, n) for n in sizes]
        return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), self.size), branches, operand)
