"""The spectrum of a symmetric operator that is known by its products: ends, top pairs, radius.

One Lanczos process with full reorthogonalisation (Lanczos 1950; Paige 1972 on why it is needed)
serves all. Operators act on flat vectors, as v -> Hv; a product is the unit of cost.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Vector = Float[Array, " P"]
Operator = Callable[[Vector], Vector]


class Krylov(eqx.Module):
    """H V = V T + beta_m v_{m+1} e_m^T with V^T V = I and T tridiagonal, at most M columns.

    Attributes:
        basis: the vectors v_1 .. v_{m+1} as rows, (M + 1, P), zero beyond.
        alpha: the diagonal of T, (M,).
        beta: beta_j couples v_j and v_{j+1}, (M,); 0 where the process was restarted.
        size: m, the number of products so far.
        defect: the largest |<v_i, H v_j> - <v_j, H v_i>| / |H v_j| so far: rounding, if H is
            symmetric; of order 1 if it is not at all.
    """

    basis: Float[Array, "M1 P"]
    alpha: Float[Array, " M"]
    beta: Float[Array, " M"]
    size: Int[Array, ""]
    defect: Float[Array, ""]

    @property
    def symmetric(self) -> Bool[Array, ""]:
        """Whether the defect is no more than rounding explains."""
        return self.defect <= jnp.finfo(self.defect.dtype).eps ** 0.5


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


class RitzPairs(eqx.Module):
    """Approximate eigenpairs; an eigenvalue lies within `residuals[i]` of `values[i]`.

    Attributes:
        values: Ritz values, largest first, (k,).
        vectors: unit Ritz vectors as rows, (k, P).
        residuals: |H x - theta x|, (k,).
        products: products spent.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "k P"]
    residuals: Float[Array, " k"]
    products: Int[Array, ""]


class SpectralEnds(eqx.Module):
    """Both ends of a spectrum.

    Attributes:
        lowest: the least Ritz value, not below the least eigenvalue.
        highest: the largest Ritz value, not above the largest eigenvalue.
        residuals: of the two Ritz pairs, (2,).
        vectors: their unit Ritz vectors, (2, P).
        products: products spent.
    """

    lowest: Float[Array, ""]
    highest: Float[Array, ""]
    residuals: Float[Array, "2"]
    vectors: Float[Array, "2 P"]
    products: Int[Array, ""]

    @property
    def radius(self) -> Float[Array, ""]:
        """The largest modulus, residuals included."""
        return jnp.maximum(self.highest + self.residuals[1], self.residuals[0] - self.lowest)


def generic_vector(size: int, dtype, turn: Int[Array, ""] | int = 0) -> Vector:
    """A fixed vector with entries spread over (-1/2, 1/2), the same on every machine.

    An integer hash, not a random stream: a start vector needs no statistics, only no structure.

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


def lanczos(
    operator: Operator,
    start: Vector,
    steps: int,
    until: Callable[[Krylov], Bool[Array, ""]] = lambda krylov: jnp.asarray(False),
) -> Krylov:
    """The Lanczos process with full reorthogonalisation.

    Where the Krylov space closes early, it goes on from a generic vector orthogonal to it, so that
    multiple eigenvalues are found as often as they occur. A zero start is replaced likewise.

    Args:
        operator: v -> Hv, symmetric.
        start: the first direction.
        steps: M, at most so many products; no more than P are made.
        until: stop when this holds, tested after every product.

    Returns:
        The basis and T. Memory: M + 1 vectors; work: m products and 4 m^2 P operations.
    """
    steps = min(steps, start.size)
    empty = jnp.zeros((steps + 1, start.size), start.dtype)
    zero = jnp.zeros(steps, start.dtype)
    first = _orthonormal(empty, start, jnp.asarray(0))[0]
    nothing = jnp.zeros((), start.dtype)
    krylov = Krylov(empty.at[0].set(first), zero, zero, jnp.asarray(0), nothing)

    def going(krylov: Krylov):
        return (krylov.size < steps) & ~((krylov.size > 0) & until(krylov))

    def extend(krylov: Krylov) -> Krylov:
        m = krylov.size
        image = operator(krylov.basis[m])
        alpha = image @ krylov.basis[m]
        following, beta = _orthonormal(krylov.basis, image, m + 1)
        return Krylov(
            krylov.basis.at[m + 1].set(following),
            krylov.alpha.at[m].set(alpha),
            krylov.beta.at[m].set(beta),
            m + 1,
            jnp.maximum(krylov.defect, _defect(krylov, image)),
        )

    return jax.lax.while_loop(going, extend, krylov)


def ritz(krylov: Krylov) -> Ritz:
    """The Ritz pairs of a Krylov space, in its coordinates. Cost: one eigh of order M.

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
    values, coordinates = jnp.linalg.eigh(jnp.diag(alpha) + jnp.diag(beta, 1) + jnp.diag(beta, -1))
    last = jnp.maximum(krylov.size - 1, 0)
    residuals = krylov.beta[last] * jnp.abs(coordinates[last])
    return Ritz(values, coordinates, residuals, krylov.size)


def ritz_pairs(
    operator: Operator,
    start: Vector,
    count: int,
    *,
    rtol: float = 1e-3,
    max_products: int | None = None,
) -> RitzPairs:
    """The `count` largest eigenvalues of H with their eigenvectors.

    A Krylov space holds one copy of a multiple eigenvalue; further copies come when it has closed.

    Args:
        operator: v -> Hv, symmetric.
        start: first direction, e.g. a sum of former Ritz vectors, or `generic_vector(P, dtype)`.
        count: k.
        rtol: stop when all k residuals are at most rtol times the largest Ritz value.
        max_products: at most so many products, by default 4 k + 32.

    Returns:
        The pairs, with the residuals that were reached.

    Raises:
        ValueError: if not 1 <= count <= P.
    """
    if not 1 <= count <= start.size:
        raise ValueError(
            f"Argument `count` must be from 1 to the dimension {start.size}, but is {count}; "
            "lower it."
        )
    limit = max(count, 4 * count + 32 if max_products is None else max_products)

    def top(pairs: Ritz):
        return jnp.maximum(pairs.size - 1 - jnp.arange(count), 0)

    def converged(krylov: Krylov):
        pairs = ritz(krylov)
        largest = jnp.abs(pairs.values[top(pairs)[0]])
        settled = jnp.all(pairs.residuals[top(pairs)] <= rtol * largest)
        return (krylov.size >= count) & settled

    krylov = lanczos(operator, start, limit, converged)
    pairs = ritz(krylov)
    chosen = top(pairs)
    vectors = pairs.coordinates[:, chosen].T @ krylov.basis[:-1]
    return RitzPairs(pairs.values[chosen], vectors, pairs.residuals[chosen], krylov.size)


def spectral_ends(
    operator: Operator, start: Vector, *, rtol: float = 1e-3, max_products: int = 64
) -> SpectralEnds:
    """The least and the largest eigenvalue of H.

    Args:
        operator: v -> Hv, symmetric.
        start: first direction: former extreme vectors, or `generic_vector(P, dtype)`.
        rtol: stop when both residuals are at most rtol times the larger modulus.
        max_products: at most so many products.

    Returns:
        Both ends with the residuals that were reached: by Rayleigh's principle they lie inside
        the spectrum, and an eigenvalue lies within the residual of each.
    """

    def ends(pairs: Ritz):
        return jnp.stack([jnp.asarray(0), jnp.maximum(pairs.size - 1, 0)])

    def converged(krylov: Krylov):
        pairs = ritz(krylov)
        both = ends(pairs)
        modulus = jnp.max(jnp.abs(pairs.values[both]))
        # One product gives one Ritz value for both ends.
        return (krylov.size > 1) & jnp.all(pairs.residuals[both] <= rtol * modulus)

    krylov = lanczos(operator, start, max_products, converged)
    pairs = ritz(krylov)
    both = ends(pairs)
    vectors = pairs.coordinates[:, both].T @ krylov.basis[:-1]
    low, high = pairs.values[both]
    return SpectralEnds(low, high, pairs.residuals[both], vectors, krylov.size)


def _defect(krylov: Krylov, image: Vector) -> Float[Array, ""]:
    """The part of <v_i, H v_m>, i < m, that is not <v_m, H v_i>, relative to |H v_m|."""
    m = krylov.size
    earlier = jnp.arange(len(krylov.basis)) < m
    # By construction <v_m, H v_i> is beta_{m-1} for i = m - 1, and 0 before.
    expected = jnp.zeros(len(krylov.basis), image.dtype)
    expected = expected.at[jnp.maximum(m - 1, 0)].set(krylov.beta[jnp.maximum(m - 1, 0)])
    difference = jnp.where(earlier, krylov.basis @ image - expected, 0)
    scale = jnp.maximum(jnp.linalg.norm(image), jnp.finfo(image.dtype).tiny)
    return jnp.linalg.norm(difference) / scale


def _orthonormal(basis: Array, vector: Vector, size) -> tuple[Vector, Float[Array, ""]]:
    """A unit vector along the part of `vector` orthogonal to the basis, and that part's length."""
    scale = jnp.linalg.norm(vector)
    rest = _project_out(basis, vector)
    length = jnp.linalg.norm(rest)
    # Where nothing but rounding is left, the direction is generic and the length 0.
    closed = ~(length > 100 * jnp.finfo(vector.dtype).eps * scale)

    def restart(_):
        fresh = _project_out(basis, generic_vector(vector.size, vector.dtype, 3 + size))
        return fresh / jnp.maximum(jnp.linalg.norm(fresh), jnp.finfo(vector.dtype).tiny)

    unit = jax.lax.cond(closed, restart, lambda rest: rest / length, rest)
    return unit, jnp.where(closed, 0, length)


def _project_out(basis: Array, vector: Vector) -> Vector:
    """Gram-Schmidt twice, which is enough (Kahan, in Parlett 1980, section 6-9)."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector
