"""What a pure trajectory integrates: theta by the gradient flow, or all that a dynamics carries."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..static import number_kinds
from ..tasks import AbstractObjective
from .coordinates import Coordinates, real_parts
from .dynamics import AbstractDynamics
from .dynamics.base import in_precision_of
from .problem import Problem


class Moving(NamedTuple):
    """A field of one state.

    Attributes:
        field: (t, state, arrays) -> its rate.
        start: the state at t = 0.
        arrays: what the field depends on besides; what is differentiated must be among them.
        norm: of an error of the state, scaled by its tolerance.
        saved: (state, arrays) -> L, and the real parts of the leaves that flow.
    """

    field: Callable[[Any, PyTree, PyTree], PyTree]
    start: PyTree
    arrays: PyTree
    norm: Callable[[PyTree], Float[Array, ""]]
    saved: Callable[[PyTree, PyTree], tuple[Float[Array, ""], PyTree]]


class LiveNorm(eqx.Module):
    """Root mean square over the numbers that count, as `solve` has it.

    Attributes:
        counts: True for those, in the structure of the state; None for all.
    """

    counts: PyTree | None

    def __call__(self, error: PyTree) -> Float[Array, ""]:
        """The norm of an error scaled by its tolerance; 0 / 0 at padding takes no part."""
        if self.counts is None:
            return optx.rms_norm(error)
        live = jax.tree.map(lambda e, counts: jnp.where(counts, e, 0), error, self.counts)
        count = sum(jnp.sum(counts) for counts in jax.tree.leaves(self.counts))
        return optx.two_norm(live) / jnp.sqrt(jnp.asarray(count, jax.tree.leaves(live)[0].dtype))


def _check_pure(dynamics: AbstractDynamics) -> None:
    """Refuse a dynamics whose start is more than zeros."""
    if type(dynamics).start is not AbstractDynamics.start:
        raise ValueError(
            f"Argument `dynamics` of trajectory must begin with zeros, but {dynamics.title} asks "
            "the model on the host what it begins with; take flowlift.solve."
        )


def of_dynamics(
    objective: AbstractObjective,
    leaves: PyTree,
    rest: PyTree,
    found: Sequence[float] | None,
    counts: PyTree | None,
    dynamics: AbstractDynamics,
    precision: str,
) -> Moving:
    """The field of a dynamics: theta, its vectors and its numbers.

    Vectors of a flow with rates D are carried as D^(1/2) v, so that one absolute tolerance serves
    all: that of theta.

    Args:
        objective: L.
        leaves: what flows.
        rest: what does not.
        found: d of each leaf; None for 1.
        counts: which numbers count, see `LiveNorm`.
        dynamics: how theta moves.
        precision: "float64" or "float32".

    Returns:
        The field; a state is (theta (P,), *vectors, *numbers).

    Raises:
        ValueError: for a central flow, one of one's own with a start of its own, or an L that the
            dynamics has no meaning for.
    """
    _check_pure(dynamics)
    dynamics.check(objective)
    theta, unravel = ravel_pytree(real_parts(leaves))
    coordinates = Coordinates(roots=None if found is None else _roots(leaves, found))
    moves = in_precision_of(dynamics, precision)
    kinds = number_kinds((rest, objective))
    problem = Problem(leaves, rest, objective, coordinates, kinds, moves)
    arrays, static = eqx.partition(problem, eqx.is_array)
    count, zeros = len(dynamics.vectors), jnp.zeros_like(theta)
    # No empty tuples in it, which the adjoints of diffrax do not take.
    numbers = (jnp.zeros((), theta.dtype),) * len(dynamics.numbers)

    def field(t, state, arrays):
        here = eqx.combine(arrays, static)
        at, *more = state
        vectors, numbers = more[:count], more[count:]
        to, back = here.coordinates.phi, here.coordinates.theta
        further = here.dynamics.named((*map(to, vectors), *numbers))
        rates = here.dynamics.rates(here, to(at), further)
        moved = (back(rates.further[name]) for name in dynamics.vectors)
        return back(rates.theta), *moved, *(rates.further[name] for name in dynamics.numbers)

    def saved(state, arrays):
        here = eqx.combine(arrays, static)
        return here.loss(here.coordinates.phi(state[0])), unravel(state[0])

    start = theta, *(zeros,) * count, *numbers
    of_one = LiveNorm(None if counts is None else ravel_pytree(counts)[0])
    norm = lambda error: jnp.stack([of_one(part) for part in error[: 1 + count]]).max()
    return Moving(field, start, arrays, norm, saved)


def _roots(leaves: PyTree, found: Sequence[float]) -> Float[Array, " P"]:
    """D^(1/2), in the order of theta."""
    each, structure = jax.tree.flatten(leaves)
    full = [jnp.full_like(jnp.real(z), d**0.5) for z, d in zip(each, found, strict=True)]
    pairs = [
        (root, root) if jnp.iscomplexobj(z) else root for z, root in zip(each, full, strict=True)
    ]
    return ravel_pytree(structure.unflatten(pairs))[0]
