"""The terms of an imbalance for lifts: weights by fibres, activations by taps."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..kernels import Fibre
from ..lift import Lift
from ..lift.fibre_sums import edge_sum
from ..lift.looped import activation
from ..modules import (
    At,
    Bias,
    Constant,
    Convolution,
    Diagonal,
    Identity,
    InnerProduct,
    Input,
    LowRank,
    Matrix,
    Scalar,
    edge_name,
)
from ..modules.edge_maps import AbstractEdgeMap
from ..tasks import Supervised
from .imbalance_by_leaf import ByLeaf

# The degree in which weights enter; all of these are linear in the activation.
_DEGREES = {Identity: 0, LowRank: 2}
_DEGREES |= dict.fromkeys((Bias, Convolution, Diagonal, InnerProduct, Matrix, Scalar), 1)
# What goes in, what goes out, and the rate.
Terms = dict[str, tuple[Array, Array, Array]]
Taps = Mapping[str, tuple[Array, Array]]


def _degree(edge_map: AbstractEdgeMap) -> int | None:
    """The degree of an edge map in its weight; None where it is not known."""
    inner = edge_map.map if isinstance(edge_map, At) else edge_map
    return _DEGREES.get(type(inner))


def not_covered_of_lift(lift: Lift) -> dict[str, str]:
    """Hidden vertices whose edges are of a kind of one's own, and why they have no law here.

    Args:
        lift: the lift.

    Returns:
        Reasons by vertex.
    """
    found = {}
    for vertex in lift.module.hidden:
        for edge in lift.module.edges:
            if vertex.name in (edge.source, edge.target) and _degree(edge.map) is None:
                kind = type(edge.map).__name__
                found[vertex.name] = f"whose edge {edge_name(edge)} is a {kind} of unknown degree"
    return found


def lift_terms(lift: Lift, data: Supervised, leaves: ByLeaf) -> Terms:
    """Squares of weights into and out of each copy, and the rate of their difference.

    Args:
        lift: the lift.
        data: the samples.
        leaves: what each weight brings.

    Returns:
        By hidden vertex, (copies,) each.
    """
    without = not_covered_of_lift(lift)
    covered = [v.name for v in lift.module.hidden if v.name not in without]
    h = lift.activations(data.inputs)
    # What does not flow has no part in the law.
    flows = leaves.flows.weights
    degrees = {
        name: (_degree(edge.map) or 0) * flows[name]
        for edge in lift.module.edges
        for name in (edge_name(edge),)
    }
    # One for all readers of a copy, one that each reads as often as its weight enters.
    taps = {name: (jnp.zeros_like(h[name]),) * 2 for name in covered}

    def loss(taps: Taps) -> tuple[Array, dict[str, Array]]:
        outputs, lacking = _tapped(lift, h, taps, degrees)
        return jnp.mean(data.loss.per_sample(outputs, data.targets)), lacking

    slopes, lacking = jax.grad(loss, has_aux=True)(taps)
    found = {}
    for name in covered:
        into, out = _at_copies(lift, name, leaves.squares.weights, len(h[name]))
        pulled, pushed = _at_copies(lift, name, leaves.added.weights, len(h[name]))
        whole = tuple(range(1, h[name].ndim))
        gain = jnp.sum(lacking[name] * slopes[name][0] - h[name] * slopes[name][1], axis=whole)
        found[name] = (into, out, 2 * (gain + pulled - pushed))
    return found


def _at_copies(
    lift: Lift, name: str, numbers: Mapping[str, Array], copies: int
) -> tuple[Array, Array]:
    """Sums over the weights into each copy of a vertex, and over those out of it."""
    into, out = (jnp.zeros(copies, next(iter(numbers.values())).dtype) for _ in range(2))
    for edge in lift.module.edges:
        fibre, each = lift.fibres[edge_name(edge)], numbers[edge_name(edge)]
        each = jnp.sum(each, axis=tuple(range(1, each.ndim)))
        if edge.target == name:
            into = into.at[_ends(fibre)[1]].add(each)
        if edge.source == name:
            out = out.at[_ends(fibre)[0]].add(each)
    return into, out


def _ends(fibre: Fibre) -> tuple[Array, Array]:
    """Sources and targets of all places of a weight; padding has weight 0."""
    if not fibre.is_complete:
        return fibre.sources, fibre.targets
    place = jnp.arange(fibre.capacity)
    return place % fibre.n_sources, place // fibre.n_sources


def _tapped(
    lift: Lift, known: Mapping[str, Array], taps: Taps, degrees: Mapping[str, Array]
) -> tuple[Any, dict[str, Array]]:
    """Outputs with taps added to activations, and T'(z) z, degrees counted, of the tapped."""
    module, y, lacking = lift.module, {}, {}
    samples = next(iter(known[v.name].shape[1] for v in module.inputs))
    for name in module.order:
        vertex = module.by_name[name]
        if isinstance(vertex, Input | Constant):
            y[name] = known[name]
            continue
        entering = module.entering(name)
        zs = tuple(_sum(lift, edge, _seen(edge, y, taps, degrees)) for edge in entering)
        y[name] = activation(vertex.map, zs, samples)
        if name in taps:
            along = tuple(degrees[edge_name(e)] * z for e, z in zip(entering, zs, strict=True))
            act = lambda zs, sigma=vertex.map: activation(sigma, zs, samples)
            lacking[name] = jax.jvp(act, (zs,), (along,))[1]
    outputs = {v.name: _to_data(y[v.name], v.copies) for v in module.outputs}
    return (next(iter(outputs.values())) if len(outputs) == 1 else outputs), lacking


def _seen(edge, y: Mapping[str, Array], taps: Taps, degrees: Mapping[str, Array]) -> Array:
    """What an edge reads: the activation with its taps."""
    source = y[edge.source]
    if edge.source not in taps:
        return source
    plain, weighted = taps[edge.source]
    return source + plain + degrees[edge_name(edge)] * weighted


def _sum(lift: Lift, edge, y: Array) -> Array:
    name = edge_name(edge)
    return edge_sum(edge.map, lift.fibres[name], lift.weights[name], y, lift.method)


def _to_data(y: Array, copies: int | None) -> Array:
    return y[0] if copies is None else jnp.moveaxis(y, 0, 1)
