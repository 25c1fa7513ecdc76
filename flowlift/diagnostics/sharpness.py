"""Sharpness and curvature: both ends and the top of the spectrum of the Hessian H of L.

The sharpness is the largest eigenvalue of H; a gradient descent step eta is stable while
eta x sharpness < 2. Works for any loss, with or without samples. Products H v come from the
linearised gradient, at the cost of two gradients each.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..compilations import keep_compilations
from ..solvers import RitzPairs, SpectralEnds, generic_vector, ritz_pairs, spectral_ends
from ..static import number_kinds
from ..tasks import AbstractObjective, Task, resolve_objective
from .checks import is_traced, whole
from .tangent import Theta, Trainable, in_precision_of, live


class Landscape(eqx.Module):
    """L as a function of theta, with the padding of lifts marked.

    Attributes:
        tree: the trainable leaves.
        rest: all other leaves.
        objective: L.
        mask: 1 for coordinates that count, 0 for padding, (P,).
        kinds: types and values of the numbers that are no arrays, see `flowlift.static`.
    """

    tree: PyTree
    rest: PyTree
    objective: AbstractObjective
    mask: Float[Array, " P"]
    kinds: tuple[str, ...] = eqx.field(static=True)

    def gradient(self, theta: Theta) -> Theta:
        """grad L."""
        unravel = ravel_pytree(self.tree)[1]

        def loss(theta: Theta) -> Array:
            return self.objective(eqx.combine(unravel(theta), self.rest))

        return jax.grad(loss)(theta)

    def linearise(self) -> tuple[Theta, Callable[[Theta], Theta]]:
        """grad L at theta, and v -> H v on the coordinates that count."""
        theta = ravel_pytree(self.tree)[0]
        gradient, product = jax.linearize(self.gradient, theta)
        return gradient, lambda v: self.mask * product(self.mask * v)

    @property
    def start(self) -> Theta:
        """A generic direction among the coordinates that count."""
        return self.mask * generic_vector(self.mask.size, self.mask.dtype)


def landscape(
    model: PyTree, task: Task | AbstractObjective | Callable, trainable: Trainable
) -> Landscape:
    """The landscape of a task around a model.

    Args:
        model: the model.
        task: a task, an objective or a callable model -> L.
        trainable: which leaves are theta.

    Returns:
        The landscape, in the precision of theta.
    """
    keep_compilations()
    tree, rest = eqx.partition(model, trainable)
    objective = in_precision_of(tree, resolve_objective(task))
    objective.check(model)
    kinds = number_kinds((rest, objective))
    return Landscape(tree, rest, objective, live(model, trainable), kinds)


def hessian_ends(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    rtol: float = 1e-6,
    max_products: int = 300,
    trainable: Trainable = eqx.is_inexact_array,
) -> SpectralEnds:
    """The least and the largest eigenvalue of H, by Lanczos; the largest is the sharpness.

    An eigenvalue lies within its residual of each, so that the sharpness is at least the number
    given; that no eigenvalue lies beyond is what `least_curvature` proves of the lower end.

    Args:
        model: the model.
        task: a task, an objective or a callable model -> L.
        rtol: stop when both residuals are at most rtol times the larger modulus.
        max_products: at most so many products; where they are spent first, the residuals say so.
        trainable: which leaves are theta.

    Returns:
        Both ends with their residuals. Cost: 1 gradient and 2 a product; memory: one vector of
        the size of theta for each of `max_products`.
    """
    max_products = whole("max_products", max_products, 2)
    return _ends(landscape(model, task, trainable), rtol, max_products)


def hessian_top(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    count: int,
    *,
    rtol: float = 1e-6,
    max_products: int | None = None,
    trainable: Trainable = eqx.is_inexact_array,
) -> RitzPairs:
    """The `count` largest eigenvalues of H with their eigenvectors.

    Args:
        model: the model.
        task: a task, an objective or a callable model -> L.
        count: k, at most the number of parameters.
        rtol: stop when all residuals are at most rtol times the largest eigenvalue.
        max_products: at most so many products, by default 8 k + 100; 59 keep the cost at 119
            gradients. Where they are spent first, the residuals tell which pairs have settled, and
            `complete` is false: others may be missing among them.
        trainable: which leaves are theta.

    Returns:
        The pairs with their residuals. Cost: 1 gradient and 2 a product; memory: two vectors of
        the size of theta for each of `max_products`.

    Raises:
        ValueError: if not 1 <= count <= the number of parameters.
    """
    at = landscape(model, task, trainable)
    live = at.mask.size if is_traced(at.mask) else int(at.mask.sum())
    count = whole("count", count, 1, live)
    limit = 8 * count + 100 if max_products is None else whole("max_products", max_products, 1)
    # One product is spent on a bound of |H|.
    return _top(at, count, rtol, max(count, limit - 1))


@eqx.filter_jit
def _ends(at: Landscape, rtol: float, max_products: int) -> SpectralEnds:
    _, product = at.linearise()
    start = at.start
    # Padding gets an eigenvalue inside the spectrum: it is no end, should the space close.
    inside = (start @ product(start)) / (start @ start)
    padded = lambda v: product(v) + inside * (1 - at.mask) * v
    return spectral_ends(padded, start, rtol=rtol, max_products=max(2, max_products - 1))


@eqx.filter_jit
def _top(at: Landscape, count: int, rtol: float, max_products: int) -> RitzPairs:
    _, product = at.linearise()
    start = at.start
    # |H|_F^2 = P E|H s|^2 for a random unit s; padding goes far below every eigenvalue.
    size = jnp.linalg.norm(product(start)) / jnp.linalg.norm(start) * at.mask.size**0.5
    padded = lambda v: product(v) - 10 * size * (1 - at.mask) * v
    return ritz_pairs(padded, start, count, rtol=rtol, max_products=max_products)
