"""The kind of point a run has reached, said only as far as a bound proves it.

Of a critical point, the Hessian H decides at second order: positive eigenvalues alone make a strict
minimum, one negative eigenvalue a saddle (or a maximum), and with zero ones it does not decide.
What is proved of a point with |grad L| <= g and no eigenvalue below -c is that it is second-order
stationary to (g, c) (Nesterov & Polyak, Math. Program. 108, 2006).
"""

import dataclasses
import enum
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..showing import shows_itself
from ..tasks import AbstractObjective, Task
from .checks import check_concrete, positive
from .least_curvature import LeastCurvature, least_curvature
from .sharpness import Landscape, landscape
from .tangent import Trainable


class Kind(enum.Enum):
    """What a point is, to within the tolerances given."""

    MOVING = "still moving"
    SADDLE = "saddle"
    MINIMUM = "minimum"
    STATIONARY = "second-order stationary"
    NOT_RESOLVED = "not resolved"


@shows_itself
@dataclasses.dataclass(frozen=True)
class CriticalPoint:
    """A point with the facts that decide its kind.

    Attributes:
        kind: "still moving" if |grad L| exceeds its tolerance; else "saddle" if the curvature of
            `direction` is below -tolerance, which proves it; "minimum" if bound > 0: all
            eigenvalues are positive; "second-order stationary" if bound >= -tolerance: no
            direction goes down by more than that, and none need go down (flat directions, of
            which overparametrisation makes many, end here: H cannot tell); else, and where
            anything is not finite, "not resolved".
        gradient_norm: |grad L|.
        curvature: the least curvature, with its bound and what that rests on.
        tolerance: c >= 0, the curvature that counts as none.
    """

    kind: Kind
    gradient_norm: float
    curvature: LeastCurvature
    tolerance: float

    @property
    def least(self) -> float:
        """The curvature of `direction`, not below the least eigenvalue of H."""
        return self.curvature.lowest

    @property
    def bound(self) -> float:
        """No eigenvalue of H is less, up to the probability `curvature.failure`."""
        return self.curvature.bound

    @property
    def residual(self) -> float:
        """Some eigenvalue lies within so much of `least`."""
        return self.curvature.residual

    @property
    def sharpness(self) -> float:
        """The largest eigenvalue found."""
        return self.curvature.highest

    @property
    def direction(self) -> Float[np.ndarray, " P"]:
        """A unit vector of curvature `least`."""
        return self.curvature.direction

    @property
    def products(self) -> int:
        """Hessian products spent."""
        return self.curvature.products

    @property
    def message(self) -> str:
        """The verdict in one sentence, with the numbers that prove it."""
        seen = (
            f"|grad L| = {self.gradient_norm:.3g}, least curvature seen {self.least:.3g}, no "
            f"eigenvalue below {self.bound:.3g}"
        )
        failure = self.curvature.failure
        risk = f" (but for a probability of {failure:.0e})" if failure else ""
        return f"{self.kind.value}: {seen}{risk}, tolerance {self.tolerance:.3g}."


def critical_point(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    gradient_norm: float,
    curvature: float = 1e-4,
    dense: int = 1000,
    max_products: int = 300,
    failure: float = 1e-6,
    seed: int = 0,
    memory: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
) -> CriticalPoint:
    """The kind of point that a model is at.

    Choose `gradient_norm` well below c^2 / rho, where c is the curvature that shall count and rho
    the Lipschitz constant of H (about sharpness / scale of the parameters): a point with
    |grad L| = g may be g / c away from a critical one, and H differs by rho g / c there. A larger
    one calls points critical whose small negative curvatures are only those of a slope.

    Args:
        model: the model, e.g. `solution.model`.
        task: a task, an objective or a callable model -> L.
        gradient_norm: up to this |grad L| the point counts as critical.
        curvature: relative to the largest modulus of an eigenvalue found: the tolerance c is so
            much of it.
        dense: up to so many parameters all of H is made, and nothing rests on chance.
        max_products: beyond that, at most so many Hessian products, 2 gradients each; see
            `least_curvature` for how many are needed.
        failure: the probability, over a random start, that the bound does not hold.
        seed: of the start.
        memory: as for `least_curvature`.
        trainable: which leaves are theta.

    Returns:
        The kind, with what decided it.

    Raises:
        ValueError: if a tolerance is not positive, or inside `jax.jit` and the like.
    """
    check_concrete("critical_point", model)
    largest_gradient = positive("gradient_norm", gradient_norm)
    relative = positive("curvature", curvature)
    norm = float(_gradient_norm(landscape(model, task, trainable, memory)))

    def decided(found: LeastCurvature) -> bool:
        c = _tolerance(found, relative)
        kind = _second_order(found, c)
        # Where no small curvature was seen, a few products more may tell a minimum.
        flat = kind is Kind.STATIONARY and found.lowest <= c
        return flat or kind in (Kind.SADDLE, Kind.MINIMUM)

    found = least_curvature(
        model,
        task,
        dense=dense,
        max_products=max_products,
        failure=failure,
        seed=seed,
        settled=decided,
        memory=memory,
        trainable=trainable,
    )
    c = _tolerance(found, relative)
    if norm > largest_gradient:
        kind = Kind.MOVING
    else:
        kind = _second_order(found, c) if np.isfinite(norm) else Kind.NOT_RESOLVED
    return CriticalPoint(kind, norm, found, c)


def _tolerance(found: LeastCurvature, relative: float) -> float:
    return relative * max(abs(found.highest), abs(found.lowest))


def _second_order(found: LeastCurvature, tolerance: float) -> Kind:
    if found.lowest + found.rounding < -tolerance:
        return Kind.SADDLE
    if found.bound > 0:
        return Kind.MINIMUM
    return Kind.STATIONARY if found.bound >= -tolerance else Kind.NOT_RESOLVED


@eqx.filter_jit
def _gradient_norm(at: Landscape) -> Array:
    return jnp.linalg.norm(at.mask * at.linearise()[0])
