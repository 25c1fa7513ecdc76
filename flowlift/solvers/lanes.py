"""Branches of programs that run for several flows side by side, each a lane of `jax.vmap`.

Under `jax.vmap` both branches of `jax.lax.cond` are computed at all times, and one of them is
chosen for each lane: a branch that is rare and dear would be paid at every step.
"""

from collections.abc import Callable

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def where_any(wanted: Bool[Array, ""], make: Callable[[], PyTree], other: PyTree) -> PyTree:
    """What a function makes where it is wanted, another value elsewhere.

    Under `jax.vmap` it is called only if any lane wants it. Loops inside of it should end at once
    in lanes that do not.

    Args:
        wanted: of this lane.
        make: () -> a tree.
        other: a tree of the same shapes and types.

    Returns:
        One of both.
    """
    chosen = lambda: jax.tree.map(lambda new, old: jnp.where(wanted, new, old), make(), other)
    return jax.lax.cond(eqxi.unvmap_any(wanted), chosen, lambda: other)
