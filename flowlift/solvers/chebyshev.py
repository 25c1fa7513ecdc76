"""The stages of RKC2: the second-order Runge-Kutta-Chebyshev step, and how many it takes.

Source: Sommeijer, Shampine, Verwer 1998, see `rkc`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .parts import Rate

# w_0 - 1 = DAMPING / s^2: all stages but the first are damped to about 1 - DAMPING / 3.
DAMPING = 2 / 13
_MAX_STAGES = 20_000
_MAX_STAGES_SINGLE = 400


def chebyshev_step(
    field: Rate, t0, h, y0: PyTree, rate: PyTree, stages: Int[Array, ""]
) -> tuple[PyTree, PyTree]:
    """One step of s stages.

    On y' = lambda y, with z = h lambda,

        y_1 / y_0 = a_s + b_s T_s(w_0 + w_1 z),    w_0 = 1 + (2/13) / s^2.

    The stages are Y_j = y_0 + b_j E_j with E_j = E_{j-1} + G_j and

        G_j = G_{j-1} + 2 (w_0 - 1) E_{j-1} + (2 w_1 / b_{j-1}) h (F(Y_{j-1}) - a_{j-1} F_0),

    which is the method's three-term recurrence with its cancellation taken out.

    Args:
        field: (t, y) -> the rate.
        t0: time.
        h: the step.
        y0: the state.
        rate: the field at (t0, y0).
        stages: s >= 2; for s = 1, which is no method, the increment is zero.

    Returns:
        The increment y_1 - y_0, and the field at (t0 + h, y_1). Cost: s evaluations.
    """
    weights = _Weights.make(stages, jnp.asarray(h).dtype)
    first = combine((weights.w1 * h,), (rate,))

    def going(carry):
        return carry[0].index <= stages

    def stage(carry):
        weights, (e, growth), _, (c, c_growth), _ = carry
        increment = combine((weights.b,), (e,))
        slope = field(t0 + weights.b * c * h, jax.tree.map(jnp.add, y0, increment))
        new, twice, pull, shift = weights.next()
        coefficients = (1, twice, pull * h, -pull * shift * h)
        growth = combine(coefficients, (growth, e, slope, rate))
        c_growth = c_growth + twice * c + pull * (1 - shift)
        e = jax.tree.map(jnp.add, e, growth)
        return new, (e, growth), increment, (c + c_growth, c_growth), slope

    carry = (weights, (first, first), rate, (weights.w1, weights.w1), rate)
    # The last pass evaluates the field at y_1; what it makes of it is one stage too many.
    _, _, increment, _, new_rate = jax.lax.while_loop(going, stage, carry)
    return increment, new_rate


class _Weights(eqx.Module):
    """b_j and what it needs: T_j(w_0) and its derivatives, with their last increments.

    T_{j+1} - T_j = (T_j - T_{j-1}) + 2 (w_0 - 1) T_j, and likewise for T', T'': sums of positive
    terms, where the three-term recurrences would lose j^2 roundings.
    """

    excess: Float[Array, ""]
    w1: Float[Array, ""]
    index: Int[Array, ""]
    value: Float[Array, "3"]
    growth: Float[Array, "3"]
    b: Float[Array, ""]

    @staticmethod
    def make(stages: Int[Array, ""], dtype) -> "_Weights":
        """At stage 1, where b_1 = b_2."""
        s = stages.astype(dtype)
        excess = DAMPING / s**2
        root = jnp.sqrt(excess * (2 + excess))
        angle = s * jnp.log1p(excess + root)
        sinh, cosh = jnp.sinh(angle), jnp.cosh(angle)
        bend = s * root * cosh - (1 + excess) * sinh
        # T_1'' is zero: what rounding leaves of it would make anything of an impossible step.
        w1 = jnp.where(stages > 1, root**2 * sinh / jnp.where(stages > 1, bend, 1), 0)
        zero, one = jnp.zeros_like(s), jnp.ones_like(s)
        value, growth = jnp.stack([1 + excess, one, zero]), jnp.stack([excess, one, zero])
        return _Weights(excess, w1, jnp.asarray(1), value, growth, 1 / (4 * (1 + excess) ** 2))

    def next(self):
        """The weights at the next stage; 2 (w_0 - 1), 2 w_1 / b_j and a_j."""
        below = jnp.stack([jnp.zeros_like(self.b), self.value[0], 2 * self.value[1]])
        growth = self.growth + 2 * self.excess * self.value + 2 * below
        value = self.value + growth
        b = value[2] / value[1] ** 2
        new = _Weights(self.excess, self.w1, self.index + 1, value, growth, b)
        return new, 2 * self.excess, 2 * self.w1 / self.b, 1 - self.b * self.value[0]


def stages_needed(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The least s >= 2 that is stable for h rho = z."""
    return jnp.maximum(2, 1 + jnp.floor(jnp.sqrt(1 + 1.54 * z)))


def longest_step(stages: int, radius: Float[Array, ""]) -> Float[Array, ""]:
    """The longest step that s stages can make."""
    floor = jnp.finfo(radius.dtype).tiny * stages**2
    return (stages**2 - 1) / (1.54 * jnp.maximum(radius, floor))


def most_stages(asked: int | None, dtype) -> int:
    """The cap of s.

    Args:
        asked: what the user asks for; None for what the precision allows.
        dtype: the precision.

    Returns:
        The cap.
    """
    if asked is not None:
        return asked
    return _MAX_STAGES_SINGLE if jnp.finfo(dtype).bits < 64 else _MAX_STAGES


def combine(coefficients, trees) -> PyTree:
    """sum_i c_i y_i, each coefficient brought to the leaf's type."""

    def leaf(*leaves):
        return sum(jnp.asarray(c, x.dtype) * x for c, x in zip(coefficients, leaves, strict=True))

    return jax.tree.map(leaf, *trees)
