"""A Lanczos basis of a symmetric matrix that can be extended later, in arrays of fixed size."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Vector = Float[Array, " n"]


class Lanczos(eqx.Module):
    """H V = V T + beta_m v_{m+1} e_m^T: the rows of `vectors` are V^T, orthonormal.

    Full reorthogonalisation (two passes of classical Gram-Schmidt), so that Ritz values do not
    repeat; Paige 1972, Parlett 1980, chapter 13. When the Krylov space is exhausted, it goes on
    with a random vector and beta = 0. Rows beyond `size` are zero, but for the next vector.

    Attributes:
        vectors: the basis and the next vector, (capacity + 1, n).
        diagonal: alpha, zero beyond `size`.
        offdiagonal: beta; beta_j couples rows j and j + 1.
        size: m.
    """

    vectors: Float[Array, "capacity_plus_1 n"]
    diagonal: Float[Array, " capacity"]
    offdiagonal: Float[Array, " capacity"]
    size: Int[Array, ""]

    @staticmethod
    def empty(capacity: int, like: Vector) -> "Lanczos":
        """A basis without a first vector.

        Args:
            capacity: largest size, at most n.
            like: any vector, for its size and type.

        Returns:
            The basis.
        """
        zeros = jnp.zeros(capacity, like.dtype)
        vectors = jnp.zeros((capacity + 1, like.size), like.dtype)
        return Lanczos(vectors, zeros, zeros, jnp.zeros((), int))

    @property
    def capacity(self) -> int:
        """Largest size."""
        return self.diagonal.shape[0]

    def restarted(self, first: Vector) -> "Lanczos":
        """A new basis of size 0.

        Args:
            first: its first vector, of any length.

        Returns:
            The basis.
        """
        new = Lanczos.empty(self.capacity, first)
        unit = first / jnp.linalg.norm(first)
        return eqx.tree_at(lambda b: b.vectors, new, new.vectors.at[0].set(unit))

    def extended(self, product: Callable[[Vector], Vector]) -> "Lanczos":
        """The basis with one more vector; 2 capacity n multiplications twice, and one product.

        Args:
            product: v -> H v.

        Returns:
            The basis, with size m + 1.
        """
        m, rows = self.size, self.vectors
        image = product(rows[m])
        alpha = image @ rows[m]
        rest = _orthogonal(rows, image)
        beta = jnp.linalg.norm(rest)
        scale = jnp.maximum(jnp.max(jnp.abs(self.diagonal)), jnp.abs(alpha))
        exhausted = beta <= 100 * jnp.finfo(beta.dtype).eps * scale
        rest = jax.lax.cond(
            exhausted, lambda: _orthogonal(rows, random_like(m, rest)), lambda: rest
        )
        return Lanczos(
            rows.at[m + 1].set(rest / jnp.linalg.norm(rest)),
            self.diagonal.at[m].set(alpha),
            self.offdiagonal.at[m].set(jnp.where(exhausted, 0.0, beta)),
            m + 1,
        )

    def ritz(self) -> tuple[Float[Array, " capacity"], Float[Array, "capacity capacity"], Array]:
        """Ritz values, ascending, their coordinates in the basis, and their residual norms.

        Unused capacity shows as Ritz values 0 with residual 0; no vector of the basis takes part
        in them. Residuals are beta_m |S_mi|.

        Returns:
            values (capacity,), coordinates S (capacity, capacity), residuals (capacity,).
        """
        inner = jnp.arange(self.capacity) + 1 < self.size
        beta = jnp.where(inner, self.offdiagonal, 0.0)[:-1]
        tridiagonal = jnp.diag(self.diagonal) + jnp.diag(beta, 1) + jnp.diag(beta, -1)
        values, coordinates = jnp.linalg.eigh(tridiagonal)
        last = self.size - 1
        residuals = self.offdiagonal[last] * jnp.abs(coordinates[last])
        return values, coordinates, residuals


def random_like(stream: Int[Array, ""] | int, like: Vector) -> Vector:
    """A vector without any pattern, uniform on [-1, 1]^n, the same for the same stream.

    A hash of the index (the finaliser of MurmurHash3): it compiles much faster than JAX's
    generator, and its bits do not change between versions.

    Args:
        stream: which one.
        like: a vector of its size and type.

    Returns:
        The vector.
    """
    bits = jnp.arange(like.size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits ^= (jnp.asarray(stream, jnp.uint32) + jnp.uint32(1)) * jnp.uint32(0x85EBCA6B)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return (bits.astype(like.dtype) / 2**31 - 1).astype(like.dtype)


def _orthogonal(rows, vector: Vector) -> Vector:
    for _ in range(2):
        vector = vector - rows.T @ (rows @ vector)
    return vector
