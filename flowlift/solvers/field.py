"""The field of a step as a function of vectors."""

import dataclasses
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .parts import Layout


@dataclasses.dataclass(frozen=True)
class VectorField:
    """The field on vectors, and products with the Hessian of its coupled part, H = -df/du.

    Of a flow of second order, theta' = v and v' = F(theta) - g v, H = -dF/dtheta.
    """

    layout: Layout
    terms: diffrax.AbstractTerm
    time: Array
    direction: Array
    args: PyTree

    @staticmethod
    def over(t0: Any, t1: Any, layout: Layout, terms: Any, args: PyTree) -> "VectorField":
        """The field of a step, in the direction in which diffrax integrates.

        Args:
            t0: where the step begins.
            t1: where it ends.
            layout: how states are cut into vectors.
            terms: those of diffrax.
            args: as diffrax hands them on.

        Returns:
            The field at t1.
        """
        return VectorField(layout, terms, jnp.asarray(t1), jnp.sign(terms.contr(t0, t1)), args)

    def of(self, vector: Array) -> Array:
        """f."""
        rates = self.terms.vf(self.time, self.layout.state(vector), self.args)
        return self.direction.astype(vector.dtype) * self.layout.ravel(rates)

    def product(self, vector: Array, direction: Array) -> Array:
        """H v at a vector."""
        n = self.layout.size
        coupled = slice(n) if self.layout.momentum is None else slice(n, 2 * n)
        tangent = jnp.zeros_like(vector).at[:n].set(direction)
        return -jax.jvp(self.of, (vector,), (tangent,))[1][coupled]

    def friction(self, vector: Array) -> Array:
        """g of a flow of second order at a vector."""
        assert self.layout.momentum is not None
        return self.layout.momentum.friction(self.layout.state(vector), self.args)
