"""The ends of the Hessian's spectrum at a point, by a few products."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from ..solvers import generic_vector, live_part, spectral_ends
from ..solvers.host.krylov import Krylov, ritz
from ..solvers.host.krylov import generic_vector as generic
from ..solvers.host.stepping import HostField
from .problem import Flat, Problem

# Most Hessian-vector products spent on the ends of the spectrum.
PRODUCTS = 8
# So many show the largest eigenvalue to within its residual, by experience; each one less leaves
# twice as much room above: a generic vector of P numbers holds a part P^(-1/2) of an eigenvector.
_SETTLED = 5
# (largest Ritz value, its residual, products) -> whether no more products are needed.
Enough = Callable[[float, float, int], bool]


class Ends(NamedTuple):
    """The ends of the Hessian's spectrum, from inside.

    Attributes:
        lowest: the least Ritz value.
        highest: the largest.
        products: Hessian-vector products that they took.
    """

    lowest: float
    highest: float
    products: int = 0


def spectrum(problem: Problem, theta: Flat) -> Ends:
    """The ends of the Hessian's spectrum, after `PRODUCTS` Lanczos steps in the graph.

    Args:
        problem: the problem.
        theta: where.

    Returns:
        The least and the largest Ritz value: inside the spectrum, and the largest close to its end.
    """
    lowest, highest = _ends(problem, theta)
    return Ends(float(lowest), float(highest), min(PRODUCTS, problem.dimension))


def spectrum_on_host(
    field: HostField,
    theta: np.ndarray,
    enough: Enough | None = None,
    at: np.ndarray | None = None,
) -> Ends:
    """As `spectrum`, by products that the host calls for.

    Args:
        field: the flow.
        theta: where.
        enough: whether no more products are needed; None: all.
        at: what products are taken at, if that is more than theta, see `HostField.at`.

    Returns:
        The least and the largest Ritz value; NaN where products are not finite.
    """
    start = generic(theta.size, theta.dtype)
    start[field.live :] = 0

    def stop(krylov: Krylov) -> bool:
        pairs = ritz(krylov)
        known = float(pairs.values[-1]), float(pairs.residuals[-1]), krylov.size
        return enough is not None and enough(*known)

    with np.errstate(all="ignore"):
        begun = Krylov.empty(min(PRODUCTS, theta.size), theta).restarted(start)
        krylov = begun.grown(lambda v: field.product(theta if at is None else at, v), stop)
        values = ritz(krylov).values
    return Ends(float(values[0]), float(values[-1]), krylov.size)


def decided(limit: float) -> Enough:
    """Whether what is known of the sharpness says on which side of a limit it is.

    A Ritz value is a lower bound: above the limit one is enough. Below, there must be room.

    Args:
        limit: the limit.

    Returns:
        The question; its answer is yes for what is not finite.
    """

    def enough(top: float, residual: float, products: int) -> bool:
        room = 2.0 ** max(0, _SETTLED - products)
        return not (top <= limit < room * (top + residual))

    return enough


# Without their vectors, which would be compiled as well.
@eqx.filter_jit
def _ends(problem: Problem, theta: Flat) -> tuple[Array, Array]:
    def product(vector: Flat) -> Array:
        return jax.jvp(lambda x: problem.value_and_grad(x)[1], (theta,), (vector,))[1]

    # A tolerance of zero: always all products, so that their number needs no reading back.
    start = live_part(generic_vector(theta.size, theta.dtype), problem.live)
    ends = spectral_ends(product, start, rtol=0.0, max_products=PRODUCTS)
    return ends.lowest, ends.highest
