"""The flow inside of a compiled loop on the host."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class TracedField(NamedTuple):
    """The flow inside of a compiled loop.

    Attributes:
        rates: y -> (L, |grad L|, dy/dt). One gradient.
        norm: root mean square over the coordinates of theta that count, see `HostField.norm`.
        roots: as in `HostField`.
        size: P.
        measured: as for `HostField`.
    """

    rates: Callable[[Any], tuple[Any, Any, Any]]
    norm: Callable[[Any], Any]
    roots: Any
    size: int
    measured: int

    def absolute(self, atol, size: int):
        """An absolute tolerance of theta as one of the leading coordinates of y.

        Args:
            atol: that of theta.
            size: how many coordinates.

        Returns:
            One number, or one for each of them.
        """
        return atol if self.roots is None else atol / self.roots[:size]

    def drift(self, error):
        """What a step may have put wrong into the arc length, see `HostField.drift`, (2,)."""
        own = error[: self.size]
        moved = own if self.roots is None else self.roots[: self.size] * own
        return jnp.stack([jnp.abs(error[-2]), jnp.linalg.norm(moved)])

    def gradient_norm(self, rates):
        """|grad L| from dy/dt."""
        return rates[-2] if self.roots is None else jnp.sqrt(rates[-1])


def traced_field(
    evaluate: Callable, live, roots, length: int, carried: tuple[int, int] | None
) -> TracedField:
    """The flow inside of a compiled loop.

    Args:
        evaluate: theta -> (L, grad L), or y -> (L, |grad L|, dy/dt) where more is carried.
        live: how many leading coordinates of theta count.
        roots: as in `HostField`.
        length: N.
        carried: P and the number of vectors, where more is carried.

    Returns:
        The field.
    """

    def rates(y):
        loss, gradient = evaluate(y[:-2])
        squared = gradient @ gradient
        norm = speed = jnp.sqrt(squared + jnp.finfo(y.dtype).tiny)
        if roots is not None:
            moved = roots[:-2] * gradient
            speed = jnp.sqrt(moved @ moved + jnp.finfo(y.dtype).tiny)
        # A loss over data of its own may come in their precision.
        return loss.astype(y.dtype), norm, jnp.concatenate([-gradient, speed[None], squared[None]])

    def whole(y):
        loss, norm, rates = evaluate(y)
        return loss.astype(y.dtype), norm.astype(y.dtype), rates

    def norm(vector):
        # What does not count is zero.
        return jnp.sqrt(jnp.sum(vector * vector) / live.astype(vector.dtype))

    def largest(vector):
        if vector.size <= size:
            return norm(vector)
        return jnp.max(jax.vmap(norm)(vector.reshape(-1, size)))

    if carried is None:
        return TracedField(rates, norm, roots, length - 2, length - 2)
    size, vectors = carried
    return TracedField(whole, largest, roots, size, size * (1 + vectors))
