"""The spectrum of a symmetric operator that is known by its products: ends, top pairs, radius.

One Lanczos process serves all.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .lanczos import Krylov, Operator, Ritz, Vector, ritz


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


def lanczos(
    operator: Operator,
    start: Vector,
    steps: int,
    until: Callable[[Krylov], Bool[Array, ""]] | None = None,
) -> Krylov:
    """The Lanczos process from a start, until a condition holds.

    Args:
        operator: v -> Hv, symmetric.
        start: the first direction.
        steps: M, at most so many products; no more than P are made.
        until: stop when this holds, tested after every product; None: never.

    Returns:
        The basis and T. Memory: M + 1 vectors; work: m products and 4 m^2 P operations.
    """
    steps = min(steps, start.size)

    def going(krylov: Krylov):
        more = krylov.size < steps
        return more if until is None else more & ~((krylov.size > 0) & until(krylov))

    first = Krylov.empty(steps, start).restarted(start)
    return jax.lax.while_loop(going, lambda krylov: krylov.extended(operator), first)


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
        rtol: stop when both residuals are at most rtol times the larger modulus; at 0 all products
            are made, and nothing is tested.
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

    krylov = lanczos(operator, start, max_products, converged if rtol else None)
    pairs = ritz(krylov)
    both = ends(pairs)
    vectors = pairs.coordinates[:, both].T @ krylov.basis[:-1]
    low, high = pairs.values[both]
    return SpectralEnds(low, high, pairs.residuals[both], vectors, krylov.size)
