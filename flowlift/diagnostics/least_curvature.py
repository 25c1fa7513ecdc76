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
from ..solvers.host.restarted import Restarted
from ..tasks import AbstractObjective, Task
from .checks import check_concrete, non_negative, whole
from .room import vectors_within
from .sharpness import Landscape, landscape
from .tangent import Trainable

# Products between two looks at what is known: each is an eigenvalue problem.
_BLOCK = 16
# Fewer vectors gain hardly anything between two restarts.
_LEAST_VECTORS = 8
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
    memory: int | None = None,
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
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors than products are made, the run
            is restarted with those that matter: the bound holds as it is, and needs some more
            products to come as near.
        trainable: which leaves are theta.

    Returns:
        The bounds. Cost: P products and a gradient, or at most `max_products`, 2 gradients each;
        memory: P^2 numbers, or one vector of P numbers a product within `memory`, and the
        activations of one chunk of samples.

    Raises:
        ValueError: for an argument out of range, less memory than eight vectors take or one
            sample, or inside `jax.jit` and the like.
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
    at = landscape(model, task, trainable, memory)
    live = np.flatnonzero(np.asarray(at.mask))
    if live.size <= dense:
        return _of_all(at, live)
    rng = stream(seed, Purpose.PROBE, live.size, _STARTS)
    start = np.zeros(at.mask.size)
    start[live] = rng.standard_normal(live.size)
    start = start.astype(at.mask.dtype)
    capacity = vectors_within(memory, at.mask, least=_LEAST_VECTORS)
    bound = float(failure), component_quantile(live.size, float(failure))

    def enough(found: LeastCurvature) -> bool:
        near = found.lowest - found.bound <= rtol * max(abs(found.highest), abs(found.lowest))
        return near or (settled is not None and settled(found))

    return _by_lanczos(at, start, bound, (min(max_products, live.size), capacity), enough)


def _by_lanczos(
    at: Landscape, start: np.ndarray, bound: tuple[float, float], room: tuple[int, int], enough
) -> LeastCurvature:
    """By a process from a start.

    Args:
        at: the landscape.
        start: the first direction.
        bound: the probability that the bound fails, and the component that belongs to it.
        room: at most so many products, and so many vectors at a time.
        enough: whether to stop, asked of what is known at every 16th product.

    Returns:
        What is known at the end.
    """
    steps, capacity = room
    process = Restarted(start, min(steps, capacity))
    product = lambda v: np.asarray(_product(at, v))
    with np.errstate(all="ignore"):
        while True:
            process.extend(product)
            # What comes after a closed space is no part of the start's.
            ended = process.closed or process.products >= steps or not process.finite
            if not ended and process.products % _BLOCK:
                continue
            found = _seen(process, *bound)
            if ended or enough(found):
                return found


@eqx.filter_jit
def _product(at: Landscape, vector: Array) -> Array:
    return at.product(at.theta, vector)


def _seen(process: Restarted, failure: float, component: float) -> LeastCurvature:
    cycle, size, products = process.cycle, process.size, process.products
    known = Exclusion([*process.cycles, cycle])
    # Of T: about a unit of rounding a row, as in any orthogonal process of so many steps.
    slack = products * float(np.finfo(process.basis.dtype).eps) * known.scale
    bound = known.least_bound(component) - slack
    return LeastCurvature(
        lowest=float(known.values[0]),
        bound=bound if process.symmetric or np.isnan(bound) else -np.inf,
        failure=float(failure),
        rounding=slack,
        residual=known.residual,
        highest=float(known.values[-1]),
        direction=known.vector.astype(process.basis.dtype) @ process.basis[:size],
        products=products,
        gradients=2 * products,
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
