"""Golub-Kahan bidiagonalisation: the singular values of an operator that is known by its products.

Products with J and J^T in turn give singular values to rounding x |J|. Lanczos on J J^T gives their
squares to rounding x |J|^2, so that those below |J| sqrt(rounding) are lost.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Vector = Float[Array, " n"]


class Bidiagonal(eqx.Module):
    """J V = U B with B lower bidiagonal, (m + 1, m); J^T U = V B^T without the last column of U.

    Attributes:
        basis: the vectors u_1 .. u_{m+1} or v_1 .. v_m, whichever are shorter, as rows; zero
            beyond.
        alpha: the diagonal of B, (M,), zero beyond m.
        beta: below it, (M,), zero beyond m.
        size: m, the number of products with J, and with J^T.
        closed: whether the Krylov space is exhausted: B then holds all of J that the start sees.
    """

    basis: Float[Array, "rows n"]
    alpha: Float[Array, " M"]
    beta: Float[Array, " M"]
    size: Int[Array, ""]
    closed: Bool[Array, ""]

    @property
    def square(self) -> Float[Array, "M M"]:
        """B without its last row, zero beyond m."""
        inside = jnp.arange(self.beta.size) < self.size - 1
        return jnp.diag(self.alpha) + jnp.diag(jnp.where(inside, self.beta, 0)[:-1], -1)

    @property
    def whole(self) -> Float[Array, "M1 M"]:
        """B, zero beyond m."""
        zeros = jnp.zeros((1, self.alpha.size), self.alpha.dtype)
        diagonal = jnp.concatenate([jnp.diag(self.alpha), zeros])
        return diagonal + jnp.concatenate([zeros, jnp.diag(self.beta)])


class _State(eqx.Module):
    """Where the process stands: B and the basis so far, and the two vectors that go on."""

    so_far: Bidiagonal
    u: Float[Array, " rows"]
    v: Float[Array, " columns"]


def bidiagonalise(
    push: Callable[[Vector], Vector],
    pull: Callable[[Vector], Vector],
    start: Vector,
    steps: int,
    until: Callable[[Bidiagonal], Bool[Array, ""]],
) -> Bidiagonal:
    """Golub & Kahan 1965 from u_1 along a start, with one basis kept orthogonal, the shorter one.

    One is enough (Simon & Zha, SIAM J. Sci. Comput. 21, 2000): B is that of a matrix within
    rounding of J. Directions below 100 x rounding x |J| count as none.

    Args:
        push: v -> J v.
        pull: u -> J^T u.
        start: the first direction; zero closes the space at once.
        steps: M, at most so many products with J and with J^T each; no more are made than J has
            rows or columns, and one.
        until: stop when this holds, tested after every pair of products.

    Returns:
        B and the shorter basis. Memory: M vectors of min(rows, columns) numbers.
    """
    rows, columns = start.size, eqx.filter_eval_shape(pull, start).size
    steps, left = min(steps, rows, columns + 1), rows <= columns
    basis = jnp.zeros((steps + left, min(rows, columns)), start.dtype)
    length = jnp.linalg.norm(start)
    first = start / jnp.where(length > 0, length, 1)
    basis = basis.at[0].set(first) if left else basis
    zero = jnp.zeros(steps, start.dtype)
    empty = Bidiagonal(basis, zero, zero, jnp.asarray(0), length == 0)
    state = _State(empty, first, jnp.zeros(columns, start.dtype))

    def going(state: _State):
        process = state.so_far
        stopped = process.closed | ((process.size > 0) & until(process))
        return (process.size < steps) & ~stopped

    def extend(state: _State) -> _State:
        return _extended(state, push, pull, left)

    return jax.lax.while_loop(going, extend, state).so_far


def _extended(state: _State, push: Callable, pull: Callable, left: bool) -> _State:
    process, m = state.so_far, state.so_far.size
    basis, largest = process.basis, jnp.maximum(jnp.max(process.alpha), jnp.max(process.beta))
    before = jnp.where(m > 0, process.beta[m - 1], 0)
    rest = pull(state.u) - before * state.v
    v, alpha = _unit(rest if left else _project_out(basis, rest), largest)
    basis = basis if left else basis.at[m].set(v)
    rest = push(v) - alpha * state.u
    rest = _project_out(basis, rest) if left else rest
    u, beta = _unit(rest, jnp.maximum(largest, alpha))
    basis = basis.at[m + 1].set(u) if left else basis
    closed = (alpha == 0) | (beta == 0)
    numbers = process.alpha.at[m].set(alpha), process.beta.at[m].set(beta)
    return _State(Bidiagonal(basis, *numbers, m + 1, closed), u, v)


def _unit(vector: Vector, largest: Float[Array, ""]) -> tuple[Vector, Float[Array, ""]]:
    """A unit vector and the length, both zero where nothing but rounding is left."""
    length = jnp.linalg.norm(vector)
    nothing = ~(length > 100 * jnp.finfo(vector.dtype).eps * largest)
    unit = jnp.where(nothing, 0, vector / jnp.where(nothing, 1, length))
    return unit, jnp.where(nothing, 0, length)


def _project_out(basis: Array, vector: Vector) -> Vector:
    """Gram-Schmidt twice, which is enough (Kahan, in Parlett 1980, section 6-9)."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector
