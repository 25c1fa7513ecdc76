"""A root finder that knows when its corrections are rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, PyTree

# A residual is rounded once per operation of the last sum, and its solution once more.
_ROUNDINGS = 4


class UntilRounding(optx.AbstractRootFinder):
    """Any root finder, which is done, too, where a correction is of the size of rounding.

    Root finders that compare |f| with an absolute tolerance alone ask for the impossible where
    the unknown is so large that its rounding exceeds the tolerance, and would fail there.
    An equation counts as solved if in every leaf max |correction| <= 4 eps max |unknown|.

    Attributes:
        finder: the root finder.
    """

    finder: optx.AbstractRootFinder

    @property
    def rtol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The root finder's."""
        return self.finder.rtol

    @property
    def atol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The root finder's."""
        return self.finder.atol

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The root finder's."""
        return self.finder.norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        """The root finder's memory, and the last correction."""
        inner = self.finder.init(fn, y, args, options, f_struct, aux_struct, tags)
        return inner, jnp.asarray(False)

    def step(self, fn, y, args, options, state, tags):
        """One step of the root finder."""
        new, inner, aux = self.finder.step(fn, y, args, options, state[0], tags)
        return new, (inner, _at_rounding(y, new)), aux

    def terminate(self, fn, y, args, options, state, tags):
        """Where the root finder ends, or can do no better."""
        inner, rounded = state
        done, result = self.finder.terminate(fn, y, args, options, inner, tags)
        return done | rounded, result

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        """The root finder's."""
        return self.finder.postprocess(fn, y, aux, args, options, state[0], tags, result)


def _at_rounding(before: PyTree, after: PyTree) -> Bool[Array, ""]:
    small = jax.tree.map(_is_rounding, before, after)
    return jnp.stack(jax.tree.leaves(small)).all()


def _is_rounding(before: Array, after: Array) -> Bool[Array, ""]:
    room = _ROUNDINGS * jnp.finfo(after.dtype).eps * jnp.max(jnp.abs(after), initial=0)
    return jnp.max(jnp.abs(after - before), initial=0) <= room
