"""The Rayleigh quotient R(theta) = |J^T grad l|^2 / |grad l|^2, so that |grad L|^2 = R |grad l|^2.

Theory, section 7 (Robin, Scaman & Lelarge, NeurIPS 2022): only the quotient of the tangent kernel
in the residual's direction matters, not its least eigenvalue. For squared loss dL/dt = -4 R L.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..flow.rates import Rates
from ..showing import shows_itself
from ..tasks import AbstractObjective, Task
from .tangent import Tangent, Trainable, tangent


@shows_itself
class Rayleigh(eqx.Module):
    """R with what it is made of; norms of functions in L^2(D).

    Attributes:
        quotient: R, NaN where grad l = 0 (there is no direction).
        loss: L.
        gradient_norm: |grad L|, with rates |D^(1/2) grad L|, as flows record it.
        output_gradient_norm: |grad l|, 2 sqrt(L) for squared loss.
    """

    quotient: Float[Array, ""]
    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    output_gradient_norm: Float[Array, ""]

    @property
    def descent(self) -> Float[Array, ""]:
        """|grad L|^2 / L, the rate -d log L/dt of the flow; 4 R for squared loss."""
        return self.gradient_norm**2 / self.loss


def rayleigh(
    model: PyTree,
    task: Task | AbstractObjective,
    *,
    trainable: Trainable = eqx.is_inexact_array,
    rates: Rates | None = None,
) -> Rayleigh:
    """R(theta) of a model on a task, for any loss. Cost: at most 2 gradients.

    Args:
        model: the model.
        task: a task with samples.
        trainable: which leaves are theta.
        rates: as for `flowlift.solve`: R = |D^(1/2) J^T grad l|^2 / |grad l|^2 then.

    Returns:
        The quotient and its parts.
    """
    return _rayleigh(tangent(model, task, trainable, rates=rates, whole=True))


@eqx.filter_jit
def _rayleigh(at: Tangent) -> Rayleigh:
    linear = at.linearise()
    direction = at.output_gradient(linear.outputs)
    gradient = linear.pull(direction)
    length, norm = jnp.linalg.norm(direction), jnp.linalg.norm(gradient)
    return Rayleigh((norm / length) ** 2, at.loss(linear.outputs), norm, length)
