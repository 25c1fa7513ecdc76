"""The step-size controller of stabilised and exponential methods: predictive, and told of limits.

Such methods know the longest step that they can make at all, by their stages or their Krylov
space; an error estimate cannot say that, so they return an `Estimate`.
"""

from collections.abc import Callable
from typing import cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree, Real

from ..showing import shows_itself


@shows_itself
class Estimate(eqx.Module):
    """What the solver knows of a step.

    Attributes:
        error: the estimated local error.
        limit: the longest step that the solver can make here; a longer one is rejected, whatever
            its error.
    """

    error: PyTree
    limit: Float[Array, ""]


class Memory(eqx.Module):
    """The last accepted step.

    Attributes:
        error: its scaled error; 0 before the first.
        step: its size.
    """

    error: Float[Array, ""]
    step: Float[Array, ""]


@shows_itself
class PredictiveController(diffrax.AbstractStepSizeController[Memory, float | None]):
    """Accept when e = |error / (atol + rtol max(|y_0|, |y_1|))| <= 1, and predict the next error.

    After an accepted step h / h' = min(10, max(1/10, 0.8 e^(-1/k) max(1, ...))) with Watts's and
    Gustafsson's extrapolation of the trend,

        h_next = 0.8 h (h / h_old) (e_old / e)^(1/k) e^(-1/k),

    after a rejected one h_next = 0.8 h e^(-1/k), at least h / 10; k is the order of the estimate.
    Sommeijer, Shampine, Verwer 1998, section 3.2. The step never exceeds the solver's `limit`.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance: one number, or a tree like the state of numbers or arrays.
        norm: of the scaled error.
    """

    rtol: Real[Array, ""] | float
    atol: PyTree[Real[Array, "..."] | float]
    norm: Callable[[PyTree], Float[Array, ""]] = optx.rms_norm

    def wrap(self, direction) -> "PredictiveController":
        """Nothing to wrap: the sign of a step plays no part."""
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """The first step by Hairer, Nørsett, Wanner 1993, section II.4. Two evaluations."""
        rtol, atol, norm = self.rtol, self.atol, self.norm
        if not _is_number(atol):
            # diffrax takes one number: the errors come scaled.
            scale = jax.tree.map(lambda a, y: a + self.rtol * jnp.abs(y), atol, y0)
            norm = lambda error: self.norm(jax.tree.map(jnp.divide, error, scale))
            rtol, atol = 0.0, 1.0
        start = diffrax.PIDController(rtol=rtol, atol=atol, norm=norm)
        tnext, _ = start.init(terms, t0, t1, y0, dt0, args, func, error_order)
        zero = jnp.zeros_like(tnext - t0)
        return tnext, Memory(zero, zero)

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """The verdict on a step, and the next one."""
        step, estimate = jnp.asarray(t1 - t0), cast(Estimate, y_error)
        keep, following, memory = self.verdict(
            step, y0, y1_candidate, estimate, error_order, controller_state
        )
        next0 = jnp.where(keep, t1, t0)
        result = diffrax.RESULTS.successful
        return keep, next0, next0 + following, jnp.asarray(False), memory, result

    def verdict(self, step, before, after, estimate: Estimate, order, old: Memory):
        """The same, without a place in time.

        Args:
            step: the length of the attempt.
            before: the state before it.
            after: the candidate.
            estimate: what the solver knows of it.
            order: k.
            old: the last accepted step.

        Returns:
            Whether to accept, the length of the next attempt, and the memory after this one.
        """
        possible = step <= estimate.limit
        atol = self.atol
        if _is_number(atol):
            atol = jax.tree.map(lambda _: self.atol, estimate.error)
        scaled = jax.tree.map(self._scale, before, after, estimate.error, atol)
        error = jnp.asarray(self.norm(scaled), step.dtype)
        keep = possible & (error <= 1)
        factor = self._factor(error, step, keep, order, old)
        proposed = jnp.where(possible, factor * step, step)
        # A little below the limit, where the rounding of t + h does not matter.
        following = jnp.minimum(proposed, 0.99 * estimate.limit)
        memory = Memory(jnp.where(keep, error, old.error), jnp.where(keep, step, old.step))
        return keep, following, memory

    def _scale(self, before, after, error, atol):
        return error / (atol + self.rtol * jnp.maximum(jnp.abs(before), jnp.abs(after)))

    def _factor(self, error, step, keep: Bool[Array, ""], order, old: Memory):
        # An error of zero may let the step grow tenfold, no more.
        error = jnp.maximum(error, jnp.finfo(step.dtype).tiny)
        plain = 0.8 * error ** (-1 / order)
        trend = (step / old.step) * (old.error / error) ** (1 / order)
        predicted = jnp.where(old.error > 0, plain * trend, plain)
        return jnp.where(keep, jnp.clip(predicted, 0.1, 10.0), jnp.clip(plain, 0.1, 0.8))


def _is_number(atol: PyTree) -> bool:
    return jax.tree.structure(atol) == jax.tree.structure(0.0)
