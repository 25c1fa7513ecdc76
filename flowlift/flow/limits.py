"""Stopping rules as the integration sees them: thresholds, tested at every accepted step."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..attributes import read_plainly
from .problem import Problem, State


@read_plainly
class Limits(eqx.Module):
    """Thresholds of the stopping rules that are tested at every accepted step; None: no such rule.

    Attributes:
        loss: stop when L is at most this.
        gradient_norm: stop when |grad L| is at most this.
    """

    loss: Float[Array, ""] | None
    gradient_norm: Float[Array, ""] | None


def any_holds(state: State, args: tuple[Problem, Limits]) -> Bool[Array, ""]:
    """Whether a rule holds. One loss, or one gradient where its norm has a threshold.

    Args:
        state: theta and the integrals.
        args: the problem and the thresholds.

    Returns:
        The verdict.
    """
    (problem, limits), theta = args, state[0]
    held = jnp.asarray(False)
    if limits.gradient_norm is not None:
        loss, gradient = problem.value_and_grad(theta)
        held = jnp.linalg.norm(gradient) <= limits.gradient_norm
        return held if limits.loss is None else held | (loss <= limits.loss)
    return held if limits.loss is None else problem.loss(theta) <= limits.loss
