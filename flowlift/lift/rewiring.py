"""Lifts whose graph changes: edges leave and enter over a base edge, shapes stay as they are."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..kernels import Fibre
from .lift import Lift, graph_digest

# Sources (edges,), targets (edges,) and weights (edges, *W_e) over one base edge.
Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


def rewirable(lift: Lift) -> tuple[str, ...]:
    """The base edges whose lifted edges can change: sparse by law, with trained weights.

    Args:
        lift: the lift.

    Returns:
        Their names.
    """
    return tuple(
        name
        for name, fibre in lift.fibres.items()
        if not (fibre.is_complete or fibre.aligned) and lift.weights[name].size
    )


def with_edges(lift: Lift, edges: Mapping[str, Edges]) -> Lift:
    """The lift with other edges over some base edges, in arrays of the same length.

    In-degrees are then free, and sums over these fibres use no slices, whose shapes depend on
    degrees: lifts that differ by calls of this function alone share all programs.

    Args:
        lift: the lift.
        edges: for some base edges, all edges over them, in any order.

    Returns:
        The lift, with the digest of its new graph.

    Raises:
        ValueError: if an edge occurs twice, has no such copies, or there are more than the arrays
            hold.
    """
    fibres, weights = dict(lift.fibres), dict(lift.weights)
    for name, (sources, targets, values) in edges.items():
        before, old = fibres[name], weights[name]
        sizes = before.n_sources, before.n_targets, before.capacity
        fibre, order = Fibre.build(sources, targets, *sizes, sliced=False)
        fibres[name] = fibre
        padding = [(0, fibre.capacity - len(order))] + [(0, 0)] * (old.ndim - 1)
        weights[name] = jnp.asarray(np.pad(values[order], padding), old.dtype)
    new = graph_digest(fibres, lift.copies)
    return eqx.tree_at(lambda it: (it.weights, it.fibres, it.digest), lift, (weights, fibres, new))


def flexible(lift: Lift, names: tuple[str, ...]) -> Lift:
    """The same network in the layout of `with_edges`.

    Args:
        lift: the lift.
        names: base edges whose lifted edges are to change.

    Returns:
        The lift.
    """
    return with_edges(lift, {name: lift.edges(name) for name in names})


def densified(lift: Lift, names: tuple[str, ...]) -> Lift:
    """The same function as a lift with all pairs over some base edges, zero where there was none.

    So the derivative of L by the weight of an edge that is absent is one of this lift's.

    Args:
        lift: the lift.
        names: base edges.

    Returns:
        The lift; n_u n_v weights over each of these base edges, the pair (u', v') at place
        v' n_u + u'.
    """
    fibres, weights = dict(lift.fibres), dict(lift.weights)
    for name in names:
        fibre, old = fibres[name], weights[name]
        sources, targets, values = lift.edges(name)
        dense = np.zeros((fibre.n_targets * fibre.n_sources, *old.shape[1:]), old.dtype)
        dense[targets.astype(np.int64) * fibre.n_sources + sources] = values
        fibres[name] = Fibre.complete(fibre.n_sources, fibre.n_targets)
        weights[name] = jnp.asarray(dense)
    new = graph_digest(fibres, lift.copies)
    return eqx.tree_at(lambda it: (it.weights, it.fibres, it.digest), lift, (weights, fibres, new))
