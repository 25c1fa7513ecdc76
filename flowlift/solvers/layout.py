"""A state as one vector: first what the field depends on, then what is only integrated."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

Select = Callable[[PyTree], PyTree] | None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a state y and its vector correspond; made while tracing.

    Attributes:
        size: length of the coupled part, which comes first.
        select: y -> its coupled part; None: all of y.
        unravel: vector -> (coupled part, rest).
    """

    size: int
    select: Select
    unravel: Callable

    @staticmethod
    def of(select: Select, state: PyTree) -> "Layout":
        """The layout of states like this one.

        Args:
            select: y -> its coupled part, a node of y; None: all of y.
            state: y.

        Returns:
            The layout.
        """
        parts = _split(select, state)
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(parts[0]))
        return Layout(size, select, ravel_pytree(parts)[1])

    def ravel(self, state: PyTree):
        """The vector of a state."""
        return ravel_pytree(_split(self.select, state))[0]

    def state(self, vector) -> PyTree:
        """The state of a vector."""
        coupled, rest = self.unravel(vector)
        if self.select is None:
            return coupled
        return eqx.tree_at(self.select, rest, coupled, is_leaf=lambda leaf: leaf is None)


def _split(select: Select, state: PyTree) -> tuple[PyTree, PyTree]:
    if select is None:
        return state, None
    return select(state), eqx.tree_at(select, state, replace=None)
