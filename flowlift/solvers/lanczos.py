"""The Lanczos process: a basis that can be extended later, in arrays of fixed size.

Full reorthogonalisation (Lanczos 1950; Paige 1972 on why it is needed). Operators act on flat
vectors, as v -> Hv; a product is the unit of cost.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Vector = Float[Array, " P"]
Operator = Callable[[Vector], Vector]
# Orders of the eigenvalue problems that stand in for the largest one.
_SIZES = (16, 32, 64, 128)


class Krylov(eqx.Module):
    """H V = V T + beta_m v_{m+1} e_m^T with V^T V = I and T tridiagonal, at most M columns.

    Attributes:
        basis: the vectors v_1 .. v_{m+1} as rows, (M + 1, P), zero beyond.
        alpha: the diagonal of T, (M,).
        beta: beta_j couples v_j and v_{j+1}, (M,); 0 where the process was restarted.
        size: m, the number of products so far.
        defect: the largest |<v_i, H v_j> - <v_j, H v_i>|, i < j, so far, relative to the largest
            |H v_i|, i <= j, then: rounding, if H is symmetric; of order 1 if it is not at all.
    """

    basis: Float[Array, "M1 P"]
    alpha: Float[Array, " M"]
    beta: Float[Array, " M"]
    size: Int[Array, ""]
    defect: Float[Array, ""]

    @staticmethod
    def empty(capacity: int, like: Vector) -> "Krylov":
        """A space without a first vector.

        Args:
            capacity: M, at most P.
            like: any vector, for its size and type.

        Returns:
            The space.
        """
        zeros = jnp.zeros(capacity, like.dtype)
        basis = jnp.zeros((capacity + 1, like.size), like.dtype)
        return Krylov(basis, zeros, zeros, jnp.zeros((), int), jnp.zeros((), like.dtype))

    @property
    def capacity(self) -> int:
        """M."""
        return self.alpha.shape[0]

    @property
    def symmetric(self) -> Bool[Array, ""]:
        """Whether the defect is no more than rounding explains; what is not finite says nothing."""
        return ~(self.defect > jnp.finfo(self.defect.dtype).eps ** 0.5)

    def symmetric_beside(self, rounding: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether it is, or where it is not the defect is below a size that counts as rounding.

        Args:
            rounding: as given by `rounding_of_products`.

        Returns:
            The verdict.
        """
        largest = jnp.max(jnp.abs(self.alpha)) + 2 * jnp.max(jnp.abs(self.beta))
        return self.symmetric | (self.defect * largest <= rounding)

    def restarted(self, first: Vector) -> "Krylov":
        """A new space of size 0.

        Args:
            first: its first vector, of any length; a zero vector is replaced by a generic one.

        Returns:
            The space.
        """
        new = Krylov.empty(self.capacity, first)
        unit, _ = _orthonormal(new.basis, first, new.basis @ first, jnp.asarray(0))
        return eqx.tree_at(lambda k: k.basis, new, new.basis.at[0].set(unit))

    def extended(self, operator: Operator) -> "Krylov":
        """The space with one more vector. Work: one product and 4 M P multiplications.

        Where the Krylov space closes early, it goes on from a generic vector orthogonal to it, so
        that multiple eigenvalues are found as often as they occur.

        Args:
            operator: v -> Hv, symmetric.

        Returns:
            The space, with size m + 1.
        """
        m = self.size
        image = operator(self.basis[m])
        overlaps = self.basis @ image
        following, beta = _orthonormal(self.basis, image, overlaps, m + 1)
        return Krylov(
            self.basis.at[m + 1].set(following),
            self.alpha.at[m].set(overlaps[m]),
            self.beta.at[m].set(beta),
            m + 1,
            jnp.maximum(self.defect, self._defect(overlaps, image)),
        )

    def combined(self, coordinates: Float[Array, "*k M"]) -> Float[Array, "*k P"]:
        """Combinations of v_1 .. v_M.

        Args:
            coordinates: of each vector, one number for each of M.

        Returns:
            The vectors.
        """
        # v_{M+1} has the coordinate 0: without its row the basis would be copied for the product.
        last = [(0, 0)] * (coordinates.ndim - 1) + [(0, 1)]
        return jnp.pad(coordinates, last) @ self.basis

    def _defect(self, overlaps, image: Vector) -> Float[Array, ""]:
        """The part of <v_i, H v_m>, i < m, that is not <v_m, H v_i>, relative to |H|."""
        m = self.size
        # By construction <v_m, H v_i> is beta_{m-1} for i = m - 1, and 0 before.
        before = jnp.maximum(m - 1, 0)
        expected = jnp.zeros_like(overlaps).at[before].set(self.beta[before])
        difference = jnp.where(jnp.arange(overlaps.size) < m, overlaps - expected, 0)
        # Rounding is relative to the largest product: in the null space of H nothing else is left.
        entries = jnp.concatenate([jnp.abs(self.alpha), jnp.abs(self.beta)])
        scale = jnp.maximum(jnp.linalg.norm(image), jnp.max(entries))
        scale = jnp.maximum(scale, jnp.finfo(image.dtype).tiny)
        return jnp.linalg.norm(difference) / scale


def rounding_of_products(rate: Vector, point: Vector) -> Float[Array, ""]:
    """The size up to which a product with a unit vector may be nothing but rounding.

    Where units saturate, H falls below what the derivatives that it is made of are rounded to, and
    that rounding is not symmetric. An asymmetry of sqrt(eps) |F| / (1 + |theta|) changes F by
    sqrt(eps) |F| where theta moves by its own length, or by 1, and says nothing.

    Args:
        rate: F, the field at a point.
        point: theta.

    Returns:
        The size.
    """
    small = jnp.finfo(rate.dtype).eps ** 0.5
    return small * jnp.linalg.norm(rate) / (1 + jnp.linalg.norm(point))


class Ritz(eqx.Module):
    """Eigenpairs (theta_i, s_i) of T, ascending; columns beyond `size` hold no meaning.

    Attributes:
        values: theta_i, (M,); beyond `size` they exceed all others.
        coordinates: s_i as columns, (M, M).
        residuals: |H V s_i - theta_i V s_i| = beta_m |e_m^T s_i|, (M,).
        size: how many are meant.
    """

    values: Float[Array, " M"]
    coordinates: Float[Array, "M M"]
    residuals: Float[Array, " M"]
    size: Int[Array, ""]


def ritz(krylov: Krylov) -> Ritz:
    """The Ritz pairs of a Krylov space, in its coordinates. Cost: one eigh of order 2 m at most.

    Args:
        krylov: the space.

    Returns:
        The pairs, ascending.
    """
    count = krylov.alpha.size
    inside = jnp.arange(count) < krylov.size
    coupled = jnp.arange(count - 1) < krylov.size - 1
    beta = jnp.where(coupled, krylov.beta[:-1], 0)
    # By Gershgorin no Ritz value is larger, so that the rows beyond sort last and do not mix.
    beyond = 1 + 2 * jnp.max(jnp.abs(krylov.alpha)) + 4 * jnp.max(jnp.abs(krylov.beta))
    alpha = jnp.where(inside, krylov.alpha, beyond)
    values, coordinates = _eigenpairs(alpha, beta, krylov.size)
    last = jnp.maximum(krylov.size - 1, 0)
    residuals = krylov.beta[last] * jnp.abs(coordinates[last])
    return Ritz(values, coordinates, residuals, krylov.size)


@jax.custom_jvp
def _eigh(matrix: Float[Array, "n n"]) -> tuple[Array, Array]:
    # Of a symmetric matrix, differentiable in both modes: a batching rule alone is not.
    return _eigh_alone(matrix)


@_eigh.defjvp
def _eigh_derivative(primals, tangents):
    # dw = diag(V^T dA V), dV = V F with F_ij = (V^T dA V)_ij / (w_j - w_i) off the diagonal.
    values, vectors = _eigh(*primals)
    inner = vectors.T @ tangents[0] @ vectors
    one = jnp.eye(values.size, dtype=values.dtype)
    inverse = 1 / (one + values[None] - values[:, None]) - one
    return (values, vectors), (jnp.diag(inner), vectors @ (inverse * inner))


@jax.custom_batching.custom_vmap
def _eigh_alone(matrix: Float[Array, "n n"]) -> tuple[Array, Array]:
    # Of many on a CPU one after another: JAX hands the parts of a batched decomposition to XLA's
    # pool of threads, and waits. With flows side by side all threads of the pool could be waiting
    # so, for parts that none was left to take.
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@_eigh_alone.def_vmap
def _eigh_of_lanes(size: int, batched: list, matrices: Float[Array, "k n n"]):
    del size, batched
    one_by_one = lambda all_: jax.lax.map(_eigh_alone, all_)
    at_once = lambda all_: tuple(jnp.linalg.eigh(all_))
    found = jax.lax.platform_dependent(matrices, cpu=one_by_one, default=at_once)
    return found, (True, True)


def _eigenpairs(alpha: Array, beta: Array, size: Int[Array, ""]) -> tuple[Array, Array]:
    """Of the tridiagonal matrix, which is diagonal beyond the size."""
    count = alpha.size
    sizes = [n for n in _SIZES if n < count] + [count]

    def leading(n: int):
        coupling = beta[: n - 1]
        matrix = jnp.diag(alpha[:n]) + jnp.diag(coupling, 1) + jnp.diag(coupling, -1)
        values, vectors = _eigh(matrix)
        rest = jnp.eye(count - n, dtype=vectors.dtype)
        both = jnp.concatenate([values, alpha[n:]])
        return both, jax.scipy.linalg.block_diag(vectors, rest)

    least = jnp.searchsorted(jnp.asarray(sizes), size)
    return jax.lax.switch(least, [functools.partial(leading, n) for n in sizes])


def generic_vector(size: int, dtype, turn: Int[Array, ""] | int = 0) -> Vector:
    """A fixed vector with entries spread over (-1/2, 1/2), the same on every machine.

    An integer hash, not a random stream: a start vector needs no statistics, only no structure;
    it compiles much faster than JAX's generator, and its bits do not change between versions.

    Args:
        size: P.
        dtype: its type.
        turn: another one for another number.

    Returns:
        The vector.
    """
    key = jnp.arange(size, dtype=jnp.uint32) + jnp.uint32(1)
    key = key + jnp.asarray(turn).astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    for factor in (0x7FEB352D, 0x846CA68B):
        key = (key ^ (key >> 16)) * jnp.uint32(factor)
    key = key ^ (key >> 16)
    return key.astype(dtype) / jnp.asarray(2.0**32, dtype) - jnp.asarray(0.5, dtype)


def _orthonormal(basis: Array, vector: Vector, overlaps, turn) -> tuple[Vector, Float[Array, ""]]:
    """A unit vector along the part of `vector` orthogonal to the basis, and that part's length."""
    # Gram-Schmidt twice is enough (Kahan, in Parlett 1980, section 6-9).
    rest = vector - overlaps @ basis
    rest = rest - (basis @ rest) @ basis
    length = jnp.linalg.norm(rest)
    # Where nothing but rounding is left, the direction is generic and the length 0.
    closed = ~(length > 100 * jnp.finfo(vector.dtype).eps * jnp.linalg.norm(vector))

    def restart(_):
        fresh = generic_vector(vector.size, vector.dtype, 3 + turn)
        for _ in range(2):
            fresh = fresh - (basis @ fresh) @ basis
        return fresh / jnp.maximum(jnp.linalg.norm(fresh), jnp.finfo(vector.dtype).tiny)

    unit = jax.lax.cond(closed, restart, lambda rest: rest / length, rest)
    return unit, jnp.where(closed, 0, length)
