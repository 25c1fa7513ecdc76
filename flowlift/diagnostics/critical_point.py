"""The kind of point a run has reached: a minimum, a saddle, or none yet."""

import dataclasses
import enum
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..tasks import AbstractObjective, Task
from .sharpness import hessian_ends, landscape
from .tangent import Trainable


class Kind(enum.Enum):
    """What a point is, to within the tolerances given."""

    MOVING = "still moving"
    SADDLE = "saddle"
    MINIMUM = "minimum"
    UNDECIDED = "undecided"


@dataclasses.dataclass(frozen=True)
class CriticalPoint:
    """A point with the facts that decide its kind.

    Attributes:
        kind: "still moving" if |grad L| exceeds its tolerance; "saddle" if some direction has
            curvature below -tolerance x sharpness, which is proved by that direction; "minimum"
            if the least eigenvalue is known to exceed this; else "undecided".
        gradient_norm: |grad L|.
        least: the least Ritz value of the Hessian, not below its least eigenvalue.
        residual: an eigenvalue lies within so much of `least`.
        sharpness: the largest Ritz value.
        direction: a unit vector of curvature `least`, (P,).
        products: Hessian products spent.
    """

    kind: Kind
    gradient_norm: float
    least: float
    residual: float
    sharpness: float
    direction: Float[np.ndarray, " P"] = dataclasses.field(repr=False)
    products: int = 0


def critical_point(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    gradient_norm: float,
    curvature: float = 1e-4,
    max_products: int = 120,
    trainable: Trainable = eqx.is_inexact_array,
) -> CriticalPoint:
    """The kind of point that a model is at.

    Flat directions (overparametrisation makes many) count as a minimum's. Whether the least
    eigenvalue was found rests on the start's having a component along it, as in any Lanczos run.

    Args:
        model: the model, e.g. `solution.model`.
        task: a task, an objective or a callable model -> L.
        gradient_norm: below this |grad L| the point counts as critical.
        curvature: relative to the sharpness: curvatures above -curvature x sharpness count as 0.
        max_products: at most so many Hessian products, 2 gradients each.
        trainable: which leaves are theta.

    Returns:
        The kind, with what decided it.

    Raises:
        ValueError: if a tolerance is not positive.
    """
    for name, value in (("gradient_norm", gradient_norm), ("curvature", curvature)):
        if not value > 0:
            raise ValueError(
                f"Argument `{name}` must be positive, but is {value!r}; give a tolerance."
            )
    norm = float(_gradient_norm(landscape(model, task, trainable)))
    ends = hessian_ends(
        model, task, rtol=curvature / 2, max_products=max_products, trainable=trainable
    )
    least, residual = float(ends.lowest), float(ends.residuals[0])
    threshold = -curvature * max(abs(float(ends.highest)), abs(least))
    return CriticalPoint(
        kind=_kind(norm > gradient_norm, least, residual, threshold),
        gradient_norm=norm,
        least=least,
        residual=residual,
        sharpness=float(ends.highest),
        direction=np.asarray(ends.vectors[0]),
        products=int(ends.products) + 1,
    )


def _kind(moving: bool, least: float, residual: float, threshold: float) -> Kind:
    if moving:
        return Kind.MOVING
    if least < threshold:
        return Kind.SADDLE
    return Kind.MINIMUM if least - residual >= threshold else Kind.UNDECIDED


@eqx.filter_jit
def _gradient_norm(at) -> Array:
    return jnp.linalg.norm(at.linearise()[0])
