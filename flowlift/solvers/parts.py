"""The part of a state that flows by itself: its symmetric Jacobian is the one that matters.

Integrals along a flow are carried with it as further components. They do not act back, so that
the Jacobian of the whole is block-triangular: symmetric on the flow's part, zero eigenvalues else.
"""

import dataclasses
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

Select = Callable[[PyTree], PyTree]
Rate = Callable[..., PyTree]


def flow_part(select: Select | None, state: PyTree) -> Float[Array, " P"]:
    """The flow's own part of a state (or rate, or tangent), as one vector.

    Args:
        select: state -> one of its leaves or subtrees; None for all of it.
        state: the state.

    Returns:
        The vector.
    """
    return ravel_pytree(state if select is None else select(state))[0]


def with_flow_part(select: Select | None, state: PyTree, part: Float[Array, " P"]) -> PyTree:
    """The state with another flow part.

    Args:
        select: as for `flow_part`.
        state: the state.
        part: the new vector.

    Returns:
        The new state.
    """
    if select is None:
        return ravel_pytree(state)[1](part)
    return eqx.tree_at(select, state, ravel_pytree(select(state))[1](part))


def split(
    select: Select | None, state: PyTree
) -> tuple[Float[Array, " P"], Float[Array, " Q"], Callable[[Array, Array], PyTree]]:
    """The flow's own part, the rest, and how to join two such vectors to a state.

    Args:
        select: as for `flow_part`.
        state: the state.

    Returns:
        Both parts as vectors, and the function that joins.
    """
    part = flow_part(select, state)
    if select is None:
        unravel = ravel_pytree(state)[1]
        return part, jnp.zeros(0, part.dtype), lambda x, q: unravel(x)
    unravel = ravel_pytree(select(state))[1]
    rest, unravel_rest = ravel_pytree(eqx.tree_at(select, state, None))

    def join(x, q):
        return eqx.tree_at(select, unravel_rest(q), unravel(x), is_leaf=lambda leaf: leaf is None)

    return part, rest, join


def live_part(vector: Float[Array, " P"], live: Int[Array, ""] | None) -> Float[Array, " P"]:
    """The vector with zeros from the coordinate `live` on.

    Args:
        vector: a vector.
        live: how many of its leading coordinates count; None for all.

    Returns:
        The vector.
    """
    return (
        vector
        if live is None
        else jnp.where(jnp.arange(vector.size, dtype=live.dtype) < live, vector, 0)
    )


def live_scale(size: int, live: Int[Array, ""] | None, dtype) -> Float[Array, ""]:
    """sqrt(live / P): a root mean square over P coordinates, divided by it, is one over the live.

    Args:
        size: P.
        live: as for `live_part`.
        dtype: of the result.

    Returns:
        The number; 1 for None.
    """
    return jnp.ones((), dtype) if live is None else jnp.sqrt(live.astype(dtype) / size)


@dataclasses.dataclass(frozen=True)
class Momentum:
    """That a flow is of second order: theta' = v, v' = F(theta) - g v, dF/dtheta symmetric.

    Attributes:
        velocity: state -> v, one of its nodes.
        friction: (state, the field's further arguments) -> g.
    """

    velocity: Select
    friction: Callable[[PyTree, PyTree], Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a state and one vector correspond, the flow's part first; made while tracing.

    Attributes:
        size: length n of the flow's part.
        select: as for `flow_part`.
        join: (flow's part, rest) -> state.
        momentum: of a flow of second order, whose velocity is the vector's second part, n to 2 n.
    """

    size: int
    select: Select | None
    join: Callable[[Array, Array], PyTree]
    momentum: Momentum | None = None

    @staticmethod
    def of(select: Select | None, state: PyTree, momentum: Momentum | None = None) -> "Layout":
        """The layout of states like this one.

        Args:
            select: as for `flow_part`; of a flow of second order it is no `None`.
            state: the state.
            momentum: that of a flow of second order.

        Returns:
            The layout.
        """
        vectors, join = _vectors(select, momentum, state)
        return Layout(vectors[0].size, select, join, momentum)

    def ravel(self, state: PyTree) -> Float[Array, " N"]:
        """The vector of a state."""
        return jnp.concatenate(_vectors(self.select, self.momentum, state)[0])

    def state(self, vector: Float[Array, " N"]) -> PyTree:
        """The state of a vector."""
        return self.join(vector[: self.size], vector[self.size :])


def _vectors(
    select: Select | None, momentum: Momentum | None, state: PyTree
) -> tuple[list[Array], Callable[[Array, Array], PyTree]]:
    """The parts of a state's vector, and how to join the first and all others to a state."""
    part, rest, join = split(select, state)
    if momentum is None or select is None:
        return [part, rest], join
    unravel = ravel_pytree(select(state))[1]
    velocity, others, beside = split(momentum.velocity, eqx.tree_at(select, state, None))

    def joined(x, q):
        without = beside(q[: velocity.size], q[velocity.size :])
        return eqx.tree_at(select, without, unravel(x), is_leaf=lambda leaf: leaf is None)

    return [part, velocity, others], joined


def rate_of(terms: diffrax.AbstractTerm, t0, t1, args) -> Rate:
    """(t, y) -> the rate in the direction of integration, which diffrax reverses by its terms.

    Args:
        terms: an `ODETerm`, maybe wrapped.
        t0: start of the step.
        t1: its end.
        args: the field's further arguments.

    Returns:
        The rate.
    """
    direction = jnp.sign(terms.contr(t0, t1))

    def rate(t, state):
        return jax.tree.map(lambda k: direction.astype(k.dtype) * k, terms.vf(t, state, args))

    return rate


def curvature_operator(
    select: Select | None, rate: Rate, t, state: PyTree
) -> Callable[[Float[Array, " P"]], Float[Array, " P"]]:
    """v -> -Jv on the flow's part: v -> Hv where the rate is -grad L. One product a call.

    Args:
        select: as for `flow_part`.
        rate: the field.
        t: time.
        state: where.

    Returns:
        The operator.
    """

    def own_rate(part):
        return flow_part(select, rate(t, with_flow_part(select, state, part)))

    here = flow_part(select, state)
    return lambda v: -jax.jvp(own_rate, (here,), (v,))[1]
