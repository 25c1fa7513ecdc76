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
from ..flow.chunking import chunk_samples
from ..solvers import RitzPairs, SpectralEnds, generic_vector, ritz_pairs, spectral_ends
from ..static import number_kinds
from ..tasks import AbstractObjective, Supervised, Task, resolve_objective, total
from ..tasks.added import data_of
from ..tasks.chunks import Chunked
from .checks import is_traced, whole
from .room import vectors_within
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
        """grad L, one chunk of samples after another."""
        return self._total(jax.grad, theta)

    def product(self, theta: Theta, vector: Theta) -> Theta:
        """H v on the coordinates that count, one chunk after another."""

        def along(loss: Callable) -> Callable:
            return lambda theta, vector: jax.jvp(jax.grad(loss), (theta,), (vector,))[1]

        return self.mask * self._total(along, theta, self.mask * vector)

    @property
    def theta(self) -> Theta:
        """theta as one vector."""
        return ravel_pytree(self.tree)[0]

    def linearise(self) -> tuple[Theta, Callable[[Theta], Theta]]:
        """grad L at theta, and v -> H v on the coordinates that count.

        Products share one forward pass where all samples make one chunk. Where they make several,
        keeping those of all of them would take as many times the memory, and reading them back as
        long as making them anew.

        Returns:
            Both.
        """
        theta = self.theta
        if _in_chunks(self.objective):
            return self.gradient(theta), lambda v: self.product(theta, v)
        gradient, product = jax.linearize(self.gradient, theta)
        return gradient, lambda v: self.mask * product(self.mask * v)

    def _total(self, derive: Callable, *at: Theta) -> Theta:
        arrays, static = eqx.partition(self.rest, eqx.is_array)
        unravel = ravel_pytree(self.tree)[1]

        def of_part(objective: AbstractObjective, given: tuple) -> Theta:
            arrays, *at = given
            loss = lambda theta: objective(eqx.combine(unravel(theta), arrays, static))
            return derive(loss)(*at)

        return total(self.objective, of_part, (arrays, *at))

    @property
    def start(self) -> Theta:
        """A generic direction among the coordinates that count."""
        return self.mask * generic_vector(self.mask.size, self.mask.dtype)


def landscape(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    trainable: Trainable,
    memory: int | None = None,
) -> Landscape:
    """The landscape of a task around a model.

    Args:
        model: the model.
        task: a task, an objective or a callable model -> L.
        trainable: which leaves are theta.
        memory: bytes for the activations of one product, see `flowlift.flow.chunking`; None: as
            many samples at a time as the model says. Without effect where samples cannot be cut.

    Returns:
        The landscape, in the precision of theta.
    """
    keep_compilations()
    tree, rest = eqx.partition(model, trainable)
    objective = in_precision_of(tree, resolve_objective(task))
    objective.check(model)
    # Samples that cannot be cut are taken all at once: the bound is that of the vectors alone.
    data = data_of(objective)
    bound = memory if isinstance(data, Supervised) and data.separable else None
    # Weights of chunks of integers are of no precision yet.
    objective = in_precision_of(tree, chunk_samples(model, objective, bound))
    kinds = number_kinds((rest, objective))
    return Landscape(tree, rest, objective, live(model, trainable), kinds)


def _in_chunks(objective: AbstractObjective) -> bool:
    return isinstance(data_of(objective), Chunked)


def hessian_ends(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    *,
    rtol: float = 1e-6,
    max_products: int = 300,
    memory: int | None = None,
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
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors, fewer products are made.
        trainable: which leaves are theta.

    Returns:
        Both ends with their residuals. Cost: 1 gradient and 2 a product; memory: one vector of
        the size of theta for each of `max_products`, within `memory`.
    """
    max_products = whole("max_products", max_products, 2)
    at = landscape(model, task, trainable, memory)
    # One product is spent on a generic vector.
    most = 1 + vectors_within(memory, at.mask, least=2)
    return _ends(at, rtol, min(max_products, most))


def hessian_top(
    model: PyTree,
    task: Task | AbstractObjective | Callable,
    count: int,
    *,
    rtol: float = 1e-6,
    max_products: int | None = None,
    memory: int | None = None,
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
        memory: bytes for the vectors of the run, 2 GB if None, and, each by itself, for the
            activations of a product. Where it holds fewer vectors, fewer products are made.
        trainable: which leaves are theta.

    Returns:
        The pairs with their residuals. Cost: 1 gradient and 2 a product; memory: two vectors of
        the size of theta for each of `max_products` and for each pair, within `memory`.

    Raises:
        ValueError: if not 1 <= count <= the number of parameters, or the memory holds fewer.
    """
    at = landscape(model, task, trainable, memory)
    live = at.mask.size if is_traced(at.mask) else int(at.mask.sum())
    count = whole("count", count, 1, live)
    limit = 8 * count + 100 if max_products is None else whole("max_products", max_products, 1)
    # The pairs are there besides, found and new.
    limit = min(limit, vectors_within(memory, at.mask, least=2 * count, sets=2) - count + 1)
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
