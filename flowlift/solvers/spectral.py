"""The spectrum of a symmetric operator that is known by its products: ends, top pairs, radius.

One Lanczos process serves all.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..showing import shows_itself
from .lanczos import Krylov, Operator, Ritz, Vector, generic_vector, ritz

# A Ritz value below all that are wanted has settled enough when its residual is this part of the
# gap: by then the process would have turned to a larger eigenvalue, were there one.
_LITTLE = 0.01
# A look for further eigenvalues makes at least so many products more than there are pairs.
_PATIENCE = 4


@shows_itself
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


@shows_itself
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
    above: float | Float[Array, ""] = -jnp.inf,
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
        above: only pairs with larger eigenvalues matter: others need not be accurate, or there.
            Where the first process meets none, copies of none are missing, and it is the last.

    Returns:
        The pairs, with the residuals that were reached, and whether the last process found
        nothing. Memory: at most `max_products` + 1 vectors, and a few times `count`.

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
        search = _Search(found, rtol, above)

        def until(krylov: Krylov) -> Bool[Array, ""]:
            spent = found.products + krylov.size >= limit
            return spent | _now_and_then(search.converged, krylov)

        steps = min(limit, start.size)
        krylov = lanczos(search.deflated(operator), search.without(first), steps, until)
        return search.merged(krylov, turn), turn + 1

    return jax.lax.while_loop(going, look, (nothing, jnp.asarray(0)))[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Search:
    """A process that looks for pairs orthogonal to those that were found, larger than the last.

    Attributes:
        found: the pairs so far, -inf where there are none yet.
        rtol: of residuals, relative to the largest modulus.
        above: only larger eigenvalues matter.
    """

    found: RitzPairs
    rtol: float
    above: float | Array

    @property
    def known(self) -> Array:
        return jnp.isfinite(self.found.values)

    @property
    def modulus(self) -> Array:
        return jnp.max(jnp.where(self.known, jnp.abs(self.found.values), 0))

    def without(self, v: Vector) -> Vector:
        """The part of v orthogonal to what was found."""
        vectors = self.found.vectors
        return v - (vectors @ v) @ vectors

    def deflated(self, operator: Operator) -> Operator:
        """H without what was found, which becomes a small eigenvalue, for when the space closes."""
        vectors, small = self.found.vectors, 2 * self.modulus
        return lambda v: self.without(operator(self.without(v))) - small * (vectors @ v) @ vectors

    def top(self, pairs: Ritz) -> Array:
        """Where the largest Ritz values are, as many as pairs are wanted."""
        return jnp.maximum(pairs.size - 1 - jnp.arange(len(self.found.values)), 0)

    def tolerance(self, pairs: Ritz) -> Array:
        largest = jnp.abs(pairs.values[self.top(pairs)[0]])
        return self.rtol * jnp.maximum(self.modulus, largest)

    def bound(self, tolerance: Array) -> Array:
        """Eigenvalues beyond it belong among the pairs."""
        return jnp.maximum(self.found.values[-1] + tolerance, self.above)

    def converged(self, krylov: Krylov) -> Bool[Array, ""]:
        """Whether all that is larger has settled, and the first that is not tells that it is."""
        pairs = ritz(krylov)
        values, residuals = pairs.values[self.top(pairs)], pairs.residuals[self.top(pairs)]
        tolerance = self.tolerance(pairs)
        least = jnp.maximum(self.found.values[-1], self.above)
        larger = values > self.bound(tolerance)
        gap = jnp.maximum(tolerance, _LITTLE * (least - values))
        first = jnp.cumsum(~larger) == 1
        settled = jnp.where(larger, residuals <= tolerance, ~first | (residuals <= gap))
        count = len(self.found.values)
        some = jnp.where(jnp.any(self.known), count + _PATIENCE, count)
        some = jnp.where(jnp.isfinite(self.above), _PATIENCE, some)
        enough = krylov.size >= jnp.minimum(some, krylov.basis.shape[1])
        return enough & jnp.all(settled)

    def merged(self, krylov: Krylov, turns: Int[Array, ""]) -> RitzPairs:
        """The largest of both, and whether the process has come to its end with nothing new."""
        pairs, found = ritz(krylov), self.found
        chosen, count = self.top(pairs), len(found.values)
        values = jnp.where(jnp.arange(count) < pairs.size, pairs.values[chosen], -jnp.inf)
        whole = krylov.size == krylov.basis.shape[1]
        nothing = jnp.all(values <= self.bound(self.tolerance(pairs)))
        nothing = nothing & ((turns > 0) | jnp.isfinite(self.above))
        fresh = krylov.combined(pairs.coordinates[:, chosen].T)
        together = jnp.concatenate([found.values, values])
        order = jnp.argsort(-together)[:count]
        # NaN is no eigenvalue, and no -inf either.
        broken = jnp.any(jnp.isnan(pairs.values))
        return RitzPairs(
            jnp.where(broken, jnp.nan, together[order]),
            jnp.concatenate([found.vectors, fresh])[order],
            jnp.concatenate([found.residuals, pairs.residuals[chosen]])[order],
            found.products + krylov.size,
            (whole & (turns == 0)) | (nothing & (self.converged(krylov) | whole)),
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
    vectors = krylov.combined(pairs.coordinates[:, both].T)
    low, high = pairs.values[both]
    return SpectralEnds(low, high, pairs.residuals[both], vectors, krylov.size)
