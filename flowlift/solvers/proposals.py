"""The controller of solvers that choose their own steps."""

from typing import cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..showing import shows_itself
from .parts import Select, live_scale


@shows_itself
class Proposal(eqx.Module):
    """A solver's verdict on its own attempt.

    Attributes:
        error: accepted if at most 1; infinite if not finite.
        factor: the next step divided by this one.
    """

    error: Float[Array, ""]
    factor: Float[Array, ""]


@shows_itself
class ProposedSteps(diffrax.AbstractStepSizeController[None, float | None]):
    """Takes the steps that the solver proposes; the first by Hairer, Norsett & Wanner, II.4.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance, of all or of each coordinate of the selected part.
        select: y -> the part whose error counts; None: all of y.
        live: how many leading coordinates of the flow's part count, the others being zeros that
            never move; None for all.
    """

    rtol: Float[Array, ""] | float
    atol: Float[Array, "..."] | float
    select: Select | None = eqx.field(static=True, default=None)
    live: Int[Array, ""] | None = None

    def wrap(self, direction):
        """Nothing to do: steps are positive in either direction."""
        del direction
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """The first step, of an error of about the tolerance at order 1; two evaluations."""
        del error_order
        if dt0 is not None:
            return t0 + dt0, None
        direction = jnp.sign(terms.contr(t0, t1))
        first = func(terms, t0, y0, args)
        norm = self._scaled(y0)
        size, speed = norm(y0), norm(first)
        h = jnp.where((size > 1e-5) & (speed > 1e-5), 0.01 * size / speed, 1e-6)
        h = jnp.minimum(h, t1 - t0)
        moved = jax.tree.map(lambda y, f: y + h * direction * f, y0, first)
        second = func(terms, t0 + h, moved, args)
        curve = norm(jax.tree.map(jnp.subtract, second, first)) / h
        h = jnp.minimum(100 * h, jnp.sqrt(0.5 / jnp.maximum(curve, 1e-30)))
        return t0 + jnp.where(jnp.isfinite(h), jnp.minimum(h, t1 - t0), 1e-6), None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """As proposed."""
        proposal = cast(Proposal, y_error)
        keep = proposal.error <= 1
        step = (t1 - t0) * proposal.factor
        next0 = jnp.where(keep, t1, t0)
        return keep, next0, next0 + step, False, None, diffrax.RESULTS.successful

    def norm(self, y: PyTree):
        """Root mean square of the selected part."""
        leaves = jax.tree.leaves((self.select or _all)(y))
        squares, size = sum(jnp.sum(leaf**2) for leaf in leaves), sum(leaf.size for leaf in leaves)
        return jnp.sqrt(squares / size) / live_scale(size, self.live, jnp.result_type(squares))

    def _scaled(self, y0: PyTree):
        scale = jax.tree.map(lambda y: self.atol + self.rtol * jnp.abs(y), y0)
        return lambda y: self.norm(jax.tree.map(jnp.divide, y, scale))


def _all(state: PyTree) -> PyTree:
    return state
