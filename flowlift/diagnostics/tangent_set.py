"""How often a random point lies in A(kappa, eps) = { theta : kappa_theta(eps) <= kappa }.

Theory, section 5 [paper: the set; read: the ball]. Points are starts of several seeds, or uniform
points of a ball B(theta_0, R).
"""

import dataclasses
from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..precision import check_real
from ..showing import shows_itself
from ..streams import Purpose, stream
from ..tasks import AbstractObjective, Task
from .checks import check_concrete, non_negative
from .tangent import Trainable, in_precision_of, live
from .tangent_approximation import MAX_PRODUCTS, tangent_radius


@shows_itself
@dataclasses.dataclass(frozen=True)
class Membership:
    """Counts of points inside and outside A(kappa, eps).

    Attributes:
        inside: points with an upper bound of kappa(eps) at most kappa.
        outside: points with a lower bound above it.
        undecided: all others; more products would tell.
    """

    inside: int
    outside: int
    undecided: int

    @property
    def total(self) -> int:
        """All points."""
        return self.inside + self.outside + self.undecided

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """An exact (Clopper-Pearson) interval of the probability of A(kappa, eps).

        Undecided points widen it: they count as outside for its lower end, inside for its upper.

        Args:
            level: of confidence.

        Returns:
            Both ends.
        """
        from scipy.stats import binomtest

        def bounds(successes: int):
            return binomtest(successes, self.total).proportion_ci(level, method="exact")

        low, high = bounds(self.inside), bounds(self.inside + self.undecided)
        return float(low.low), float(high.high)


def membership(
    models: Iterable[PyTree],
    task: Task | AbstractObjective,
    kappa: float,
    eps: float,
    *,
    max_products: int = MAX_PRODUCTS,
    trainable: Trainable = eqx.is_inexact_array,
) -> Membership:
    """How many models lie in A(kappa, eps).

    Args:
        models: points theta, e.g. lifts of several seeds; equal shapes share one compilation.
        task: a task with samples and squared loss.
        kappa: the radius.
        eps: the level.
        max_products: as for `tangent_curve`, for each point.
        trainable: which leaves are theta.

    Returns:
        The counts.

    Raises:
        ValueError: as for `tangent_curve`, or for a radius that is none.
    """
    kappa, counts = non_negative("kappa", kappa), [0, 0, 0]
    for model in models:
        check_concrete("membership", model)
        radius = tangent_radius(model, task, eps, max_products=max_products, trainable=trainable)
        inside, outside = float(radius.kappa) <= kappa, float(radius.lower) > kappa
        counts[0 if inside else 1 if outside else 2] += 1
    return Membership(*counts)


def ball_point(
    model: PyTree,
    radius: float,
    seed: int,
    *,
    trainable: Trainable = eqx.is_inexact_array,
) -> PyTree:
    """The model at a uniform point of B(theta_0, radius).

    Args:
        model: the model at theta_0.
        radius: R >= 0, in the Euclidean norm of theta.
        seed: seeds the draw, on the host.
        trainable: which leaves are theta.

    Returns:
        The model; the padding of lifts stays 0.

    Raises:
        ValueError: for a negative or infinite radius, or a model without real parameters.
    """
    check_concrete("ball_point", model)
    radius = non_negative("radius", radius)
    in_precision_of(eqx.filter(model, trainable), None)
    mask = np.asarray(live(model, trainable)) > 0
    tree, rest = eqx.partition(model, trainable)
    for leaf in jax.tree.leaves(tree):
        check_real("model", leaf)
    theta, unravel = ravel_pytree(tree)
    rng = stream(seed, Purpose.PROBE, mask.size)
    direction = np.zeros(mask.size)
    direction[mask] = rng.standard_normal(mask.sum())
    # The part of the ball within a radius s R is s^dimension.
    length = radius * rng.uniform() ** (1 / mask.sum())
    shift = jnp.asarray(length * direction / np.linalg.norm(direction), theta.dtype)
    return eqx.combine(jax.tree.map(jnp.asarray, unravel(theta + shift)), rest)
