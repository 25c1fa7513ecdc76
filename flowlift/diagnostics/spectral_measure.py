r"""The spectral measure of a residual, sum_i <r, e_i>^2 delta(l_i) with K e_i = l_i e_i, in brief.

Golub-Kahan bidiagonalisation J V = U B from u_1 = r / |r| gives two discrete measures: Gauss's,
from B without its last row, and Gauss-Radau's with a node at 0, from B (Golub & Meurant, Matrices,
Moments and Quadrature, 2010, chapter 6). Nodes are squared singular values of B, weights |r|^2
times the squares of the first components of its left singular vectors.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..showing import shows_itself
from ..solvers.bidiagonal import Bidiagonal


@shows_itself
class SpectralMeasure(eqx.Module):
    """A discrete measure sum_i w_i delta(l - l_i) on the spectrum of K.

    Attributes:
        nodes: l_i >= 0, (M,).
        weights: w_i >= 0, (M,), with sum |r|^2.
    """

    nodes: Float[Array, " M"]
    weights: Float[Array, " M"]

    @property
    def floor(self) -> Float[Array, ""]:
        """rho(mu -> 0): the weight at 0, the least linearised residual."""
        return jnp.sum(jnp.where(self.nodes > 0, 0, self.weights))

    def residual(self, mu: Float[Array, ""]) -> Float[Array, ""]:
        """rho(mu), increasing in mu."""
        return jnp.sum(self.weights * (mu / (self.nodes + mu)) ** 2)

    def multiplier(self, eps: Float[Array, ""]) -> Float[Array, ""]:
        """mu with rho(mu) = eps, by bisection of log mu to rounding."""
        scale = jnp.maximum(jnp.max(self.nodes), jnp.finfo(self.nodes.dtype).tiny ** 0.5)
        low, high = jnp.log(scale) - 80.0, jnp.log(scale) + 40.0

        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            below = self.residual(jnp.exp(middle)) <= eps
            return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

        return jnp.exp(jax.lax.fori_loop(0, 60, halve, (low, high))[0])

    def kappa(self, eps: Float[Array, ""]) -> Float[Array, ""]:
        """The radius at one level: 0 from |r|^2 on, infinite below the floor."""
        mu = self.multiplier(eps)
        squared = jnp.sum(self.weights * (self.nodes / (self.nodes + mu)) / (self.nodes + mu))
        # In this order NaN is no radius 0.
        kappa = jnp.where(eps >= jnp.sum(self.weights), 0, jnp.sqrt(squared))
        kappa = jnp.where(jnp.isnan(jnp.sum(self.weights)), jnp.nan, kappa)
        return jnp.where(eps < self.floor, jnp.inf, kappa)


def measures(
    process: Bidiagonal, mass: Float[Array, ""], rows: int
) -> tuple[SpectralMeasure, SpectralMeasure]:
    """The Gauss measure and the Gauss-Radau measure with a node at 0.

    Args:
        process: the bidiagonalisation of J from r.
        mass: |r|^2.
        rows: of J: singular values below rows x rounding x the largest count as 0.

    Returns:
        Both measures, (M,) and (M + 1,). Cost: two singular value decompositions of order M.
    """
    return _measure(process.square, mass, rows), _measure(process.whole, mass, rows)


def _measure(matrix: Array, mass: Array, rows: int) -> SpectralMeasure:
    left, values, _ = jnp.linalg.svd(matrix)
    values = jnp.append(values, jnp.zeros(len(left) - len(values), values.dtype))
    least = rows * jnp.finfo(values.dtype).eps * values[0]
    return SpectralMeasure(jnp.where(values > least, values, 0) ** 2, mass * left[0] ** 2)
