"""The least eigenvalue of the Hessian H of L, between two numbers.

Above it lies the curvature of any direction. That nothing lies below a number needs all of H, or
a random start: a Lanczos process leaves room for a lesser eigenvalue only if its start had next to
no component along that eigenvector (`solvers.exclusion`), which has a known small probability.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..lift import Purpose, stream
from ..showing import shows_itself
from ..solvers.exclusion import Exclusion, component_quantile
from ..solvers.lanczos import Krylov
from ..tasks import AbstractObjective, Task
from .checks import check_concrete, non_negative, whole
from .sharpness import Landscape, landscape
from .tangent import Trainable

# Products between two looks at what is known: each look is a linearisation and a decision on the
# host.
_BLOCK = 16
# Products at once when all of H is made: memory for so many passes.
_COLUMNS = 16
# The second key of the stream of starts; Hutch++ and points of a ball have one key.
_STARTS = 1


@shows_itself
@dataclasses.dataclass(frozen=True)
class LeastCurvature:
    """Where the least eigenvalue of H lies: bound <= least eigenvalue <= lowest.

    Attributes:
        lowest: the curvature of `direction`, which proves that an eigenvalue is no larger.
        bound: no eigenvalue is less, up to `failure`. Rounding is allowed for: of all of H by its
            asymmetry, of a Lanczos run by counting what it cannot tell from 0 as that large.
            NaN where H is not finite, -inf where H is not symmetric or nothing is known yet.
        failure: the probability, over the random start, that `bound` does not hold; 0 where all of
            H was made.
        rounding: what rounding may have done to `lowest`.
        residual: |H u - lowest u|: some eigenvalue lies within it.
        highest: the largest eigenvalue found, itself the curvature of a direction.
        direction: u, a unit vector, (P,).
        products: Hessian products spent.
        gradients: the whole cost in gradients.
    """

    lowest: float
    bound: float
    failure: float
    rounding: float
    residual: float
    highest: float
    direction: Float[np.ndarray, " P"] = dataclasses.field(repr=False)
    products: int
    gradients: int


def least_curvature(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    dense: int = 1000,
    max_products: int = 300,
    rtol: float = 1e-6,
    failure: float = 1e-6,
    seed: int = 0,
    settled: Callable[[LeastCurvature], bool] | None = None,
    trainable: Trainable = eqx.is_inexact_array,
) -> LeastCurvature:
    """The least eigenvalue of H at a model, between a bound and a curvature that was seen.

    Args:
        model: the model, e.g. `solution.model`.
        task: a task, an objective or a callable model -> L.
        dense: up to so many parameters (padding not counted) all of H is made, with eigenvalues
            to rounding; beyond, by Lanczos.
        max_products: of the Lanczos run; about log(sqrt(P) / failure) / (4 sqrt(a)) are needed to
            exclude what lies below the spectrum by a times its width, and fewer the smaller the
            bulk of the spectrum is.
        rtol: the run ends when lowest - bound is at most so much of the largest modulus.
        failure: the probability, over the start, that the bound does not hold.
        seed: of the start.
        settled: or when this holds of what is known so far.
        trainable: which leaves are theta.

    Returns:
        The bounds. Cost: P products or at most `max_products`, 2 gradients each, and one gradient
        for each 16; memory: P^2 numbers, or one vector of P numbers a product.

    Raises:
        ValueError: for an argument out of range, or inside `jax.jit` and the like.
    """
    check_concrete("least_curvature", model)
    dense = whole("dense", dense, 0)
    max_products = whole("max_products", max_products, 2)
    rtol = non_negative("rtol", rtol)
    if not 0 < non_negative("failure", failure) < 1:
        raise ValueError(
            f"Argument `failure` must be a probability between 0 and 1, but is {failure!r}; "
            "give e.g. 1e-6."
        )
    at = landscape(model, task, trainable)
    live = np.flatnonzero(np.asarray(at.mask))
    if live.size <= dense:
        return _of_all(at, live)
    rng = stream(seed, Purpose.PROBE, live.size, _STARTS)
    start = np.zeros(at.mask.size)
    start[live] = rng.standard_normal(live.size)
    component = component_quantile(live.size, float(failure))

    def enough(found: LeastCurvature) -> bool:
        near = found.lowest - found.bound <= rtol * max(abs(found.highest), abs(found.lowest))
        return near or (settled is not None and settled(found))

    steps = min(max_products, live.size)
    return _by_lanczos(at, jnp.asarray(start, at.mask.dtype), component, failure, steps, enough)


def _by_lanczos(
    at: Landscape, start: Array, component: float, failure: float, steps: int, enough: Callable
) -> LeastCurvature:
    krylov, looks = _begun(start, steps), 0
    while True:
        krylov, looks = _extended(at, krylov), looks + 1
        # On the host, where decisions need no compilation.
        found = _seen(krylov, component, failure, looks)
        closed = not np.asarray(krylov.beta)[found.products - 1] > 0
        if closed or found.products >= steps or enough(found):
            return found


@eqx.filter_jit
def _begun(start: Array, steps: int) -> Krylov:
    return Krylov.empty(steps, start).restarted(start)


@eqx.filter_jit
def _extended(at: Landscape, krylov: Krylov) -> Krylov:
    _, product = at.linearise()
    end = jnp.minimum(krylov.size + _BLOCK, krylov.capacity)

    def going(now: Krylov) -> Array:
        # What comes after a closed space is no part of the start's.
        last = jnp.maximum(now.size - 1, 0)
        return (now.size < end) & ((now.size == krylov.size) | (now.beta[last] > 0))

    return jax.lax.while_loop(going, lambda now: now.extended(product), krylov)


def _seen(krylov: Krylov, component: float, failure: float, looks: int) -> LeastCurvature:
    process, size = Exclusion(krylov), int(krylov.size)
    # Of T: about a unit of rounding a row, as in any orthogonal process of so many steps.
    slack = size * float(jnp.finfo(krylov.alpha.dtype).eps) * process.scale
    bound = process.least_bound(component) - slack
    return LeastCurvature(
        lowest=float(process.values[0]),
        bound=bound if bool(krylov.symmetric) or np.isnan(bound) else -np.inf,
        failure=float(failure),
        rounding=slack,
        residual=process.residual,
        highest=float(process.values[-1]),
        direction=process.vector @ np.asarray(krylov.basis)[:size],
        products=size,
        gradients=2 * size + looks,
    )


def _of_all(at: Landscape, live: np.ndarray) -> LeastCurvature:
    columns = np.asarray(_columns(at, jnp.asarray(live)), np.float64)[:, live]
    hessian = (columns + columns.T) / 2
    size, cost = live.size, 2 * live.size + 1
    if not np.isfinite(hessian).all():
        nan, nowhere = np.nan, np.full(at.mask.size, np.nan)
        return LeastCurvature(nan, nan, 0.0, nan, nan, nan, nowhere, size, cost)
    values, vectors = np.linalg.eigh(hessian)
    direction = np.zeros(at.mask.size)
    direction[live] = vectors[:, 0]
    norm = np.linalg.norm(hessian)
    # Rounding of the products shows as asymmetry, up to a few units on the diagonal; that of
    # the eigenvalue problem, in double precision, is at most about P units.
    own = float(jnp.finfo(at.mask.dtype).eps)
    asymmetry = np.linalg.norm(columns - columns.T)
    slack = float(asymmetry + (8 * own + size * np.finfo(float).eps) * norm)
    residual = float(np.linalg.norm(hessian @ vectors[:, 0] - values[0] * vectors[:, 0]))
    low, high = float(values[0]), float(values[-1])
    bound = low - slack if asymmetry <= own**0.5 * norm else -np.inf
    return LeastCurvature(low, bound, 0.0, slack, residual, high, direction, size, cost)


@eqx.filter_jit
def _columns(at: Landscape, live: Array) -> Float[Array, "live P"]:
    _, product = at.linearise()

    def column(i: Array) -> Array:
        return product(jnp.zeros_like(at.mask).at[i].set(1))

    return jax.lax.map(column, live, batch_size=_COLUMNS)
