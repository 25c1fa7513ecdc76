"""The semidefinite complementarity problem 0 <= X, 0 <= A + B[X], <X, A + B[X]> = 0.

With B symmetric and positive semidefinite these are the conditions of the least value of
<A, X> + 1/2 <X, B[X]> over X >= 0, a convex problem. A primal-dual interior-point method with the
scaling of Nesterov and Todd (Math. Oper. Res. 22, 1997) and a second-order correction (Mehrotra
1992; Toh, Todd, Tutuncu 1999 for this cone) solves it to rounding, whatever the rank of X.

Symmetric matrices are vectors of their upper triangle, row by row, off-diagonal entries times
sqrt(2), so that <X, Y> is the product of the vectors.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..showing import shows_itself

Matrix = Float[Array, "k k"]
Triangle = Float[Array, " n"]
# Such a method takes some ten to twenty-five iterations; one that takes more has stalled.
_MOST = 60
# The part of the way to the boundary of the cone that a step goes at most (usual: 0.9 to 0.99).
_INSIDE = 0.95
# Units of rounding that products of two matrices leave in the gap.
_ROUNDING = 32


@shows_itself
class Complementary(eqx.Module):
    """A pair of complementary matrices.

    Attributes:
        primal: X >= 0, (k, k); NaN where there is no solution, or none was found.
        dual: A + B[X], (k, k).
        gap: <X, A + B[X]> / k, relative to the sizes of both.
        iterations: of the method; 0 where X = 0.
    """

    primal: Matrix
    dual: Matrix
    gap: Float[Array, ""]
    iterations: Int[Array, ""]


class _Iterate(eqx.Module):
    primal: Matrix
    dual: Matrix
    gap: Float[Array, ""]
    defect: Float[Array, ""]
    count: Int[Array, ""]
    going: Bool[Array, ""]


def complementary(offset: Matrix, operator: Float[Array, "n n"]) -> Complementary:
    """Solve 0 <= X, 0 <= A + B[X], <X, A + B[X]> = 0.

    Where A >= 0 the solution is X = 0, exactly. Where B is singular there may be several, or none:
    A must not be negative on a matrix X >= 0 with B[X] = 0.

    Cost: O(k^6) operations an iteration, those of a linear system of order n = k (k + 1) / 2.

    Args:
        offset: A, symmetric, (k, k).
        operator: B, symmetric and positive semidefinite, on upper triangles, (n, n).

    Returns:
        The pair.
    """
    if offset.shape == (1, 1):
        return _of_order_one(offset, operator)
    tiny = jnp.finfo(offset.dtype).tiny
    # X ~ |A| / |B|: both are scaled to 1.
    size, strength = (jnp.maximum(jnp.max(jnp.abs(m)), tiny) for m in (offset, operator))
    problem = offset / size, operator / strength
    none = jnp.linalg.eigvalsh(offset)[0] >= 0
    begun = _begun(offset, ~none)
    last = jax.lax.while_loop(lambda it: it.going, lambda it: _stepped(it, *problem), begun)
    bound = jnp.sqrt(jnp.finfo(offset.dtype).eps)
    solved = (last.gap <= bound) & (last.defect <= bound)
    found = jnp.where(solved, last.primal * (size / strength), jnp.nan)
    primal = jnp.where(none, 0, found)
    dual = offset + to_matrix(operator @ to_triangle(primal), len(offset))
    return Complementary(primal, dual, jnp.where(none, 0, last.gap), last.count)


def _of_order_one(offset: Matrix, operator: Matrix) -> Complementary:
    """X = max(0, -A / B); none where A < 0 = B."""
    safe = jnp.where(operator > 0, operator, 1)
    found = jnp.where(operator > 0, -offset / safe, jnp.nan)
    primal = jnp.where(offset >= 0, 0, found)
    zero = jnp.zeros((), offset.dtype)
    return Complementary(primal, offset + operator * primal, zero, jnp.asarray(0))


def _begun(like: Matrix, going: Bool[Array, ""]) -> _Iterate:
    unit = jnp.eye(len(like), dtype=like.dtype)
    one = jnp.ones((), like.dtype)
    return _Iterate(unit, unit, one, one, jnp.asarray(0), going)


def _stepped(it: _Iterate, offset: Matrix, operator: Array) -> _Iterate:
    """One predictor-corrector step; where it leaves the numbers, the method ends where it was."""
    k = len(offset)
    eps = jnp.finfo(offset.dtype).eps
    scaling, d = _scaling(it.primal, it.dual)
    carry = _congruence(scaling)
    residual = offset + to_matrix(operator @ to_triangle(it.primal), k) - it.dual
    missing = scaling.T @ residual @ scaling
    system = jnp.eye(len(operator), dtype=offset.dtype) + carry.T @ operator @ carry
    factor = jax.scipy.linalg.cho_factor(system)
    gap = (d @ d) / k

    def direction(target: Matrix) -> tuple[Matrix, Matrix]:
        """The scaled changes with (D dX + dX D + D dZ + dZ D) / 2 = target."""
        both = 2 * target / (d[:, None] + d[None, :])
        right = to_triangle(both - missing)
        change = to_matrix(jax.scipy.linalg.cho_solve(factor, right), k)
        return change, both - change

    ahead = direction(-jnp.diag(d**2))
    room = _room(d, *ahead)
    # Mehrotra's rule: the more of the way was free, the less centring.
    centring = (1 - room) ** 3
    crossed = ahead[0] @ ahead[1]
    target = centring * gap * jnp.eye(k) - jnp.diag(d**2) - (crossed + crossed.T) / 2
    change = direction(target.astype(offset.dtype))
    length = _room(d, *change)
    further = _even(length * scaling @ change[0] @ scaling.T)
    primal = it.primal + further
    # Not by `change[1]`: the scaling is ill-conditioned near the end, and Z would drift away.
    image = to_matrix(operator @ to_triangle(further), k)
    dual = it.dual + length * residual + image
    new_gap = jnp.sum(primal * dual) / k / (jnp.max(jnp.abs(primal)) * (1 + jnp.max(jnp.abs(dual))))
    left = jnp.max(jnp.abs(residual)) * (1 - length)
    worst = jnp.maximum(new_gap, left)
    fine = jnp.isfinite(worst) & (length > eps)
    going = (worst > _ROUNDING * eps) & (it.count + 1 < _MOST)
    new = _Iterate(primal, dual, new_gap, left, it.count + 1, going)
    kept = eqx.tree_at(lambda it: it.going, it, jnp.asarray(False))
    return jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, kept)


def _scaling(primal: Matrix, dual: Matrix) -> tuple[Matrix, Float[Array, " k"]]:
    """G, d with G^-1 X G^-T = G^T Z G = diag(d)."""
    lower, other = jnp.linalg.cholesky(primal), jnp.linalg.cholesky(dual)
    _, d, right = jnp.linalg.svd(other.T @ lower)
    return lower @ right.T / jnp.sqrt(d), d


def _room(d: Array, *changes: Matrix) -> Float[Array, ""]:
    """The longest step, at most 1, that keeps diag(d) + step x change inside the cone."""
    root = jnp.sqrt(d)
    scaled = jnp.stack([change / root[:, None] / root[None, :] for change in changes])
    least = jnp.min(jnp.linalg.eigvalsh(scaled))
    return jnp.minimum(1.0, _INSIDE / jnp.maximum(-least, jnp.finfo(d.dtype).tiny))


def _even(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def to_triangle(matrix: Matrix) -> Triangle:
    """A symmetric matrix as the vector of its upper triangle, with <X, Y> = x @ y."""
    i, j, weight = triangle_places(len(matrix))
    return matrix[i, j] * jnp.asarray(weight, matrix.dtype)


def to_matrix(triangle: Triangle, order: int) -> Matrix:
    """The symmetric matrix of an upper triangle."""
    i, j, weight = triangle_places(order)
    entries = triangle / jnp.asarray(weight, triangle.dtype)
    upper = jnp.zeros((order, order), triangle.dtype).at[i, j].set(entries)
    return upper.at[j, i].set(entries)


def triangle_places(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the entries of an upper triangle, and what they are multiplied by."""
    i, j = np.triu_indices(order)
    return i, j, np.where(i == j, 1.0, 2.0**0.5)


def _congruence(scaling: Matrix) -> Float[Array, "n n"]:
    """X -> G X G^T on upper triangles."""
    i, j, weight = triangle_places(len(scaling))
    a, b = scaling[i], scaling[j]
    both = a[:, i] * b[:, j] + a[:, j] * b[:, i]
    # A diagonal entry is met once, an off-diagonal one, stored times sqrt(2), twice.
    factors = np.outer(weight, np.where(i == j, 0.5, 0.5**0.5))
    return both * jnp.asarray(factors, scaling.dtype)
