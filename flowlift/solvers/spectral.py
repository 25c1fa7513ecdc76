"""The spectrum of a symmetric operator that is known by its products: ends, top pairs, radius.

One Lanczos process serves all.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .lanczos import Krylov, Operator, Ritz, Vector, generic_vector, ritz

# A Ritz value below all that are wanted has settled enough when its residual is this part of the
# gap: by then the process would have turned to a larger eigenvalue, were there one.
_LITTLE = 0.01
# A look for further eigenvalues makes at least so many products more than there are pairs.
_PATIENCE = 4


class RitzPairs(eqx.Module):
    """Approximate eigenpairs; an eigenvalue lies within `residuals[i]` of `values[i]`.

    Attributes:
        values: Ritz values, largest first, (k,).
        vectors: unit Ritz vectors as rows, (k, P).
        residuals: |H x - theta x|, (k,).
        products: products spent.
        complete: whether a process from another start found no eigenvalue that belongs among
            these: copies of multiple ones are then there too. Where the products ran out before,
            the pairs are pairs, but larger ones than the last may be missing.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "k P"]
    residuals: Float[Array, " k"]
    products: Int[Array, ""]
    complete: Bool[Array, ""]


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
    """The `count` largest eigenvalues of H with their eigenvectors, multiple ones included.

    One Lanczos process sees one vector of each eigenspace, so that the copies of a multiple
    eigenvalue are missing from it with every residual small. Further processes follow, from other
    starts and with the pairs found so far taken out of H, until one finds nothing larger.

    Args:
        operator: v -> Hv, symmetric.
        start: first direction, e.g. a sum of former Ritz vectors, or `generic_vector(P, dtype)`.
        count: k.
        rtol: stop when all k residuals are at most rtol times the largest modulus among them.
        max_products: at most so many products in all, by default 8 k + 100.

    Returns:
        The pairs, with the residuals that were reached, and whether the last process found
        nothing. Memory: two sets of at most `max_products` vectors.

    Raises:
        ValueError: if not 1 <= count <= P.
    """
    if not 1 <= count <= start.size:
        raise ValueError(
            f"Argument `count` must be from 1 to the dimension {start.size}, but is {count}; "
            "lower it."
        )
    limit = max(count, 8 * count + 100 if max_products is None else max_products)
    nothing = RitzPairs(
        jnp.full(count, -jnp.inf, start.dtype),
        jnp.zeros((count, start.size), start.dtype),
        jnp.zeros(count, start.dtype),
        jnp.asarray(0),
        jnp.asarray(False),
    )

    def going(state: tuple[RitzPairs, Array]) -> Bool[Array, ""]:
        return ~state[0].complete & (state[0].products < limit)

    def look(state: tuple[RitzPairs, Array]) -> tuple[RitzPairs, Array]:
        found, turn = state
        # Turns 1 and 2 stay free for other uses of generic vectors; 3 and on are restarts.
        fresh = generic_vector(start.size, start.dtype, 1000 + turn)
        first = jnp.where(turn > 0, fresh, start)
        return _further(operator, first, found, rtol, limit), turn + 1

    return jax.lax.while_loop(going, look, (nothing, jnp.asarray(0)))[0]


def _further(
    operator: Operator, start: Vector, found: RitzPairs, rtol: float, limit: int
) -> RitzPairs:
    """The pairs after one more process, orthogonal to those that were found."""
    count, known = len(found.values), jnp.isfinite(found.values)
    vectors, least = found.vectors, found.values[-1]
    modulus = jnp.max(jnp.where(known, jnp.abs(found.values), 0))

    def without(v: Vector) -> Vector:
        return v - (vectors @ v) @ vectors

    def deflated(v: Vector) -> Vector:
        # What was found is no eigenvalue here but a small one, for when the space closes.
        return without(operator(without(v))) - 2 * modulus * (vectors @ v) @ vectors

    def top(pairs: Ritz):
        return jnp.maximum(pairs.size - 1 - jnp.arange(count), 0)

    def tolerance(pairs: Ritz) -> Array:
        return rtol * jnp.maximum(modulus, jnp.abs(pairs.values[top(pairs)[0]]))

    def converged(krylov: Krylov) -> Bool[Array, ""]:
        pairs = ritz(krylov)
        values, residuals = pairs.values[top(pairs)], pairs.residuals[top(pairs)]
        larger = values > least + tolerance(pairs)
        # The first that is not larger tells that the search is over, if it has settled a little.
        gap = jnp.maximum(tolerance(pairs), _LITTLE * (least - values))
        first = jnp.cumsum(~larger) == 1
        settled = jnp.where(larger, residuals <= tolerance(pairs), ~first | (residuals <= gap))
        enough = krylov.size >= jnp.minimum(count + _PATIENCE * jnp.any(known), start.size)
        return enough & jnp.all(settled)

    def until(krylov: Krylov) -> Bool[Array, ""]:
        spent = found.products + krylov.size >= limit
        return spent | _now_and_then(converged, krylov)

    krylov = lanczos(deflated, without(start), min(limit, start.size), until)
    pairs = ritz(krylov)
    chosen = top(pairs)
    meant = jnp.arange(count) < pairs.size
    values = jnp.where(meant, pairs.values[chosen], -jnp.inf)
    fresh = pairs.coordinates[:, chosen].T @ krylov.basis[:-1]
    whole = krylov.size == start.size
    nothing = jnp.all(values <= least + tolerance(pairs)) | whole & ~jnp.any(known)
    complete = nothing & (converged(krylov) | whole)
    merged = jnp.concatenate([found.values, values])
    order = jnp.argsort(-merged)[:count]
    return RitzPairs(
        merged[order],
        jnp.concatenate([vectors, fresh])[order],
        jnp.concatenate([found.residuals, pairs.residuals[chosen]])[order],
        found.products + krylov.size,
        complete,
    )


def _now_and_then(condition: Callable[[Krylov], Bool[Array, ""]], krylov: Krylov):
    """A condition that costs an eigenvalue problem: beyond 32 products, at every eighth."""
    due = (krylov.size <= 32) | (krylov.size % 8 == 0)
    return jax.lax.cond(due, condition, lambda _: jnp.asarray(False), krylov)


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

    def until(krylov: Krylov) -> Bool[Array, ""]:
        return _now_and_then(converged, krylov)

    krylov = lanczos(operator, start, max_products, until if rtol else None)
    pairs = ritz(krylov)
    both = ends(pairs)
    vectors = pairs.coordinates[:, both].T @ krylov.basis[:-1]
    low, high = pairs.values[both]
    return SpectralEnds(low, high, pairs.residuals[both], vectors, krylov.size)
