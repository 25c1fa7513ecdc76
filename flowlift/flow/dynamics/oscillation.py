"""How an optimiser oscillates at the edge of stability: the covariance Sigma of its steps.

Of w' = -P^-1 grad L in steps of length 1, P > 0 diagonal, the time average w moves with

    w' = -P^-1 (grad L + 1/2 grad <Sigma, H>),    0 <= Sigma,  0 <= 2 P - H,  <Sigma, 2 P - H> = 0

(Cohen, Damian, Talwalkar, Kolter, Lee, arXiv 2410.24206, their central flow): Sigma is what keeps
2 P - H >= 0, and lives on its kernel. In coordinates there, U^T P U = I, U^T H U = diag(lambda)
with lambda near 2, Sigma = U X U^T and A = U^T (2 P - H) U = diag(2 - lambda).

Between steps of an integrator A is no exact zero. As the authors' discretisation asks for
A + A' / 4 >= 0 at the end of a quarter of a step, we ask for it at all times, complementary to X:
(2 - lambda)' >= -4 (2 - lambda), so that lambda <= 2 is kept by the differential equation itself,
errors of its integration decay, and the right-hand side is continuous, for any integrator. What it
costs: lambda comes to 2 within a quarter of a step where it would have come there at once, and
explicit methods meet a rate of 4 per step where that of the flow itself is lambda <= 2.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...solvers import complementary, generic_vector, ritz_pairs
from ...solvers.complementarity import to_matrix, to_triangle, triangle_places

Theta = Float[Array, " P"]
# Eigenvalues of P^-1 H beyond it take part (2 is the edge; the authors take 1.95): others would
# have to grow by a twentieth within a quarter of a step to reach it.
NEAR = 1.9
# Steps in which an eigenvalue comes to the edge, the authors' `dt`.
WITHIN = 0.25
# Residuals of eigenpairs, relative to the largest eigenvalue: products gain a digit or two each.
_RTOL = {"float64": 1e-8, "float32": 1e-4}
# So many pairs beyond `NEAR` need no more products than this, times their number, by experience.
_PRODUCTS = 20


class Preconditioner(eqx.Module):
    """P of an optimiser, and how it moves; everything per step.

    Attributes:
        diagonal: P > 0, (P,) or ().
        drift: P' without oscillation.
        gain: P' grows by gain x diag(Sigma).
    """

    diagonal: Array
    drift: Array
    gain: Array


class Oscillation(eqx.Module):
    """Sigma = U X U^T and what follows from it.

    Attributes:
        loss: L.
        slope: grad L, (P,).
        eigenvalues: lambda of P^-1 H, largest first, (k,); accurate where they exceed `NEAR`.
        vectors: U as rows, (k, P).
        covariance: X, (k, k); NaN where no Sigma keeps the edge.
        force: 1/2 grad <Sigma, H>, (P,).
        variance: diag(Sigma), (P,).
        near: how many eigenvalues exceed `NEAR`.
        products: Hessian-vector products spent.
    """

    loss: Float[Array, ""]
    slope: Theta
    eigenvalues: Float[Array, " k"]
    vectors: Float[Array, "k P"]
    covariance: Float[Array, "k k"]
    force: Theta
    variance: Theta
    near: Int[Array, ""]
    products: Int[Array, ""]

    @property
    def excess(self) -> Float[Array, ""]:
        """1/2 tr(Sigma H), by which the mean loss exceeds the loss of the mean."""
        return self._critical @ jnp.diagonal(self.covariance) / 2

    def spread(self, diagonal: Array) -> Float[Array, ""]:
        """tr(H Sigma H), by which the mean of |grad L|^2 exceeds it, for P = diag(diagonal)."""
        image = self._critical[:, None] * self.vectors * diagonal
        return jnp.sum(self.covariance * (image @ image.T))

    @property
    def cost(self) -> Float[Array, ""]:
        """Gradient equivalents: 1, 2 a Hessian-vector product, 4 a third derivative."""
        return 1.0 + 2 * self.products + 4 * (self.near * (self.near + 1) // 2)

    @property
    def _critical(self) -> Float[Array, " k"]:
        inside = jnp.arange(len(self.eigenvalues)) < self.near
        return jnp.where(inside, self.eigenvalues, 0)


def oscillation(
    value_and_grad: Callable[[Theta], tuple[Float[Array, ""], Theta]],
    theta: Theta,
    preconditioner: Callable[[Theta], Preconditioner],
    count: int,
    start: Theta | None = None,
) -> Oscillation:
    """Sigma at a point.

    Cost: one linearised gradient; the products of `ritz_pairs`, two gradients each; and a third
    derivative, of four gradients, for each pair of the m eigenvalues beyond `NEAR`:
    m (m + 1) / 2. Memory: k (k + 1) / 2 vectors of the size of theta, and the Lanczos basis.

    Args:
        value_and_grad: L and grad L, three times differentiable in forward mode.
        theta: the point, (P,).
        preconditioner: P there, from grad L.
        count: k, how many eigenvalues may be at the edge; at most P.
        start: a first direction for Lanczos, zero where coordinates do not count.

    Returns:
        The oscillation.
    """
    gradient = lambda at: value_and_grad(at)[1]
    (loss, slope), tangent = jax.linearize(value_and_grad, theta)
    at = preconditioner(slope)
    root = jnp.sqrt(jnp.broadcast_to(at.diagonal, theta.shape))
    pairs = ritz_pairs(
        lambda v: tangent(v / root)[1] / root,
        generic_vector(theta.size, theta.dtype) if start is None else start,
        count,
        rtol=_RTOL[str(theta.dtype)],
        max_products=_PRODUCTS * (count + 4),
        above=NEAR,
    )
    near = jnp.sum(pairs.values > NEAR)
    vectors = jnp.where(jnp.arange(count)[:, None] < near, pairs.vectors / root, 0)
    cubic = _cubic(gradient, theta, vectors, near)
    # Comparisons do not pass NaN on.
    broken = jnp.where(jnp.any(jnp.isnan(pairs.values)), jnp.nan, 0)
    covariance = _covariance(slope, cubic, vectors, near, pairs.values, at) + broken
    force = to_triangle(covariance) @ cubic / 2
    variance = jnp.einsum("ip,ij,jp->p", vectors, covariance, vectors)
    state = (pairs.values, vectors, covariance, force, variance, near, pairs.products)
    return Oscillation(loss, slope, *state)


def _covariance(slope, cubic, vectors, near, eigenvalues, preconditioner) -> Float[Array, "k k"]:
    """X with 0 <= X, complementary to A + A' >= 0."""
    count = len(eigenvalues)
    inverse = 1 / preconditioner.diagonal
    distance = jnp.where(jnp.arange(count) < near, 2 - eigenvalues, 2)
    drift = jnp.broadcast_to(preconditioner.drift, slope.shape)
    free = 2 * (vectors * drift) @ vectors.T + to_matrix(cubic @ (inverse * slope), count)
    i, j, weight = triangle_places(count)
    both = vectors[i] * vectors[j] * jnp.asarray(weight, slope.dtype)[:, None]
    pulled = (cubic * inverse) @ cubic.T / 2
    raised = 2 * (both * preconditioner.gain) @ both.T
    return complementary(jnp.diag(distance / WITHIN) + free, pulled + raised).primal


def _cubic(gradient, theta, vectors, near) -> Float[Array, "n P"]:
    """grad (u_i^T H u_j) on upper triangles, for the eigenvectors that take part; 0 elsewhere."""
    i, j, weight = triangle_places(len(vectors))
    # Those of the first m vectors come first.
    order = np.lexsort((i, j))
    i, j, weight, order = (jnp.asarray(a[order]) for a in (i, j, weight, np.arange(len(i))))
    along = lambda v: lambda at: jax.jvp(gradient, (at,), (v,))[1]

    def filled(n: Int[Array, ""], rows: Array) -> Array:
        row = jax.jvp(along(vectors[i[n]]), (theta,), (vectors[j[n]],))[1]
        return rows.at[order[n]].set(weight[n].astype(row.dtype) * row)

    rows = jnp.zeros((len(i), theta.size), theta.dtype)
    return jax.lax.fori_loop(0, near * (near + 1) // 2, filled, rows)
