"""Fibres of several members of an ensemble, side by side, as one fibre.

K lifts of one size have K fibres of equal shapes. Their copies, one member after the other, are the
copies of one larger fibre whose matrix is block diagonal; so a batch of products is one product,
with K times as many rows, on any device: nothing runs member by member.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flowlift.kernels.fibre import Fibre
from flowlift.kernels.slices import Slices


def side_by_side(fibres: Fibre) -> Fibre:
    """One fibre of K fibres of equal shapes.

    Padding of one member stands between its edges and those of the next, where weights have to be
    zero: see `weights_side_by_side`.

    Args:
        fibres: a sparse fibre with one more axis, of the members, in front of each of its arrays.

    Returns:
        The fibre. All of its edges are real.
    """
    members, capacity = fibres.sources.shape
    sources, targets = fibres.n_sources, fibres.n_targets
    # The number of all edges; to the compiler it must not be known, see `trilinear`.
    count = jnp.maximum(members * capacity, jnp.sum(fibres.count)).astype(jnp.int32)
    return Fibre(
        sources=_moved(fibres.sources, sources),
        targets=_moved(fibres.targets, targets),
        indptr=_pointers(fibres.indptr, capacity),
        count=count,
        t_perm=_moved(fibres.t_perm, capacity),
        t_targets=_moved(fibres.t_targets, targets),
        t_indptr=_pointers(fibres.t_indptr, capacity),
        n_sources=members * sources,
        n_targets=members * targets,
        regular=fibres.regular,
        aligned=fibres.aligned,
        by_target=_slices(fibres.by_target, targets, sources, capacity),
        by_source=_slices(fibres.by_source, sources, targets, capacity),
    )


def weights_side_by_side(fibres: Fibre, w: Array) -> Array:
    """Weights of all members in the order of `side_by_side`, zero on padding.

    Args:
        fibres: as for `side_by_side`.
        w: (members, capacity, ...).

    Returns:
        (members x capacity, ...).
    """
    return rows_side_by_side(jax.vmap(Fibre.live)(fibres, w))


def rows_side_by_side(values: Array) -> Array:
    """Values at the copies of all members: (members, copies, ...) -> (members x copies, ...)."""
    return values.reshape(-1, *values.shape[2:])


def _moved(index: Array, size: int) -> Array:
    """Indices of all members, those of each moved beyond those of the ones before."""
    first = jnp.arange(index.shape[0], dtype=index.dtype) * size
    return (index + jnp.expand_dims(first, range(1, index.ndim))).reshape(-1, *index.shape[2:])


def _pointers(pointers: Array, size: int) -> Array:
    """Row pointers of all members; what pads a member belongs to its last row."""
    members = pointers.shape[0]
    end = jnp.full(1, members * size, pointers.dtype)
    return jnp.concatenate([_moved(pointers[:, :-1], size), end])


def _slices(slices: Slices | None, rows: int, columns: int, capacity: int) -> Slices | None:
    if slices is None:
        return None
    head = slices.head_edges.shape[1]
    sizes = [slices.head_indptr.shape[1] - 1, *(c.shape[1] for c in slices.columns)]
    slots = [head, *(c.shape[1] * c.shape[2] for c in slices.columns)]
    edges = lambda index: _edges(index, capacity)
    return Slices(
        order=_by_segments(slices.order, rows, sizes),
        position=_places(slices.position, sizes),
        columns=tuple(_moved(c, columns) for c in slices.columns),
        edges=tuple(edges(e) for e in slices.edges),
        head_indptr=_pointers(slices.head_indptr, head),
        head_columns=_moved(slices.head_columns, columns),
        head_edges=edges(slices.head_edges),
        places=_places(slices.places, slots),
    )


def _edges(index: Array, capacity: int) -> Array:
    """Names of edges; where a slot is empty, the number of all edges."""
    moved = _moved(index, capacity)
    empty = rows_side_by_side(index) == capacity
    return jnp.where(empty, index.shape[0] * capacity, moved)


def _by_segments(index: Array, size: int, segments: Sequence[int]) -> Array:
    """What stands at each place: a segment of all members, then the next segment."""
    cuts = np.cumsum(segments)[:-1]
    return jnp.concatenate([_moved(part, size) for part in jnp.split(index, cuts, axis=1)])


def _places(places: Array, segments: Sequence[int]) -> Array:
    """Where each stands, after the segments of the members have been brought together."""
    members = places.shape[0]
    length = np.repeat(segments, segments).astype(np.int32)
    start = np.repeat(np.cumsum([0, *segments[:-1]]), segments).astype(np.int32)
    member = jnp.arange(members, dtype=places.dtype)[:, None]
    # A place of member k within a segment: (K - 1) x what comes before, k x the segment itself.
    if not length.size:
        return places.reshape(-1)
    moved = (
        places + (members - 1) * jnp.asarray(start)[places] + member * jnp.asarray(length)[places]
    )
    return moved.reshape(-1)
