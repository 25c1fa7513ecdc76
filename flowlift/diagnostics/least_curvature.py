"""The least eigenvalue of the Hessian H of L, as a number that it does not fall below."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..tasks import AbstractObjective, Task
from .sharpness import Landscape, hessian_ends, landscape
from .tangent import Trainable


@dataclasses.dataclass(frozen=True)
class LeastCurvature:
    """A lower end of the spectrum of H.

    Attributes:
        value: the least eigenvalue; of a Lanczos run its least Ritz value minus the residual.
        products: Hessian products spent, 2 gradients each.
    """

    value: float
    products: int


def least_curvature(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    dense: int = 1000,
    max_products: int = 120,
    trainable: Trainable = eqx.is_inexact_array,
) -> LeastCurvature:
    """The least eigenvalue of H at a model.

    From all of H, to rounding (about eps |H|), or for many parameters by Lanczos: an eigenvalue
    lies within the residual of the least Ritz value, and their difference is given; that there is
    no lesser one rests on the start's having a component along it.

    Args:
        model: the model, e.g. `solution.model`.
        task: a task, an objective or a callable model -> L.
        dense: up to so many parameters all of H is made, a fraction of a second for 1000.
        max_products: of the Lanczos run.
        trainable: which leaves are theta.

    Returns:
        The value and its cost: P products, or at most `max_products`. Memory: P^2 numbers, or
        `max_products` vectors.
    """
    at = landscape(model, task, trainable)
    if at.mask.size <= dense:
        return LeastCurvature(float(_least(at)), at.mask.size)
    ends = hessian_ends(model, task, rtol=1e-6, max_products=max_products, trainable=trainable)
    return LeastCurvature(float(ends.lowest - ends.residuals[0]), int(ends.products))


@eqx.filter_jit
def _least(at: Landscape) -> Float[Array, ""]:
    _, product = at.linearise()
    hessian = jax.vmap(product)(jnp.eye(at.mask.size, dtype=at.mask.dtype))
    # Padding gets an eigenvalue that is no end.
    padding = jnp.diag((1 - at.mask) * jnp.linalg.norm(hessian))
    return jnp.linalg.eigvalsh((hessian + hessian.T) / 2 + padding)[0]
