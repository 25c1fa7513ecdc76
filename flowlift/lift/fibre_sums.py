"""The sum over the lifted edges of one base edge, by the kernel that its edge map calls for."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import (
    Fibre,
    array_method,
    fibre_sum,
    fibre_sum_convolution,
    fibre_sum_map,
    fibre_sum_matrix,
)
from ..modules import At, Convolution, Identity, InnerProduct, Matrix, Scalar
from ..modules.edge_maps import AbstractEdgeMap


def edge_sum(
    edge_map: AbstractEdgeMap,
    fibre: Fibre,
    w: Float[Array, "edges *W"],
    y: Float[Array, "n_u b *Y"],
    method: str,
) -> Float[Array, "n_v b *Z"]:
    """z[v] = sum over the lifted edges e that enter v of M(w[e], y[source(e)]).

    Numbers, matrices, inner products, convolutions and identities go through products whose
    derivatives of any order are again these products; other maps run as they are, over blocks of
    edges. Identities that join each copy to its namesake are no product at all.

    Args:
        edge_map: M.
        fibre: the lifted edges.
        w: a weight per edge.
        y: activations (copies, samples, *Y).
        method: as for `flowlift.kernels.fibre_sum`; edges that carry arrays have products of their
            own for 'auto', 'padded' and 'dense'.

    Returns:
        Pre-activations (copies, samples, *Z).
    """
    if isinstance(edge_map, At):
        return edge_sum(edge_map.map, fibre, w, y[:, :, edge_map.index], method)
    if isinstance(edge_map, Scalar):
        return _numbers(fibre, w, y, method)
    if isinstance(edge_map, Identity):
        if fibre.aligned:
            return y
        return _numbers(fibre, jnp.ones(fibre.capacity, y.dtype), y, method)
    if isinstance(edge_map, Matrix):
        return fibre_sum_matrix(fibre, w, y, method=method)
    if isinstance(edge_map, InnerProduct):
        return _inner_products(edge_map.axes, fibre, w, y, method)
    if isinstance(edge_map, Convolution):
        columns = math.prod(y.shape[1:])
        how = array_method(fibre, method, math.prod(w.shape[1:]), columns, sliding=True)
        if how != "blocks":
            return fibre_sum_convolution(fibre, w, y, *edge_map.geometry(y.shape[2:]), how)
    return fibre_sum_map(fibre, jax.vmap(edge_map, in_axes=(None, 0)), w, y)


def _numbers(fibre: Fibre, w: Array, y: Array, method: str) -> Array:
    columns = y.reshape(y.shape[0], -1)
    z = fibre_sum(fibre, w, columns, method="complete" if fibre.is_complete else method)
    return z.reshape(fibre.n_targets, *y.shape[1:])


def _inner_products(axes: int, fibre: Fibre, w: Array, y: Array, method: str) -> Array:
    size = math.prod(y.shape[y.ndim - axes :])
    vectors = y.reshape(*y.shape[: y.ndim - axes], size)
    return fibre_sum_matrix(fibre, w.reshape(-1, 1, size), vectors, method=method)[..., 0]
