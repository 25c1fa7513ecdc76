"""The three partial products of a fibre, each computed in several ways.

None of these functions is differentiated: `trilinear` wraps them in primitives whose derivatives
are again these functions. All take and return the layout (copies, columns).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flowlift.kernels import blocks
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.slices import WIDEST, Slices

_HIGHEST = lax.Precision.HIGHEST
# Multiply-adds from which weights in slots are worth the loops that write them.
_WORTH_A_BRANCH = 1 << 22


def _csr(data: tuple[Array, Array, Array], shape: tuple[int, int], y: Array) -> Array:
    """A matrix (values, columns, row pointers) times y."""
    # Imported where it is used: it brings SciPy along.
    from jax.experimental.sparse import BCSR

    return BCSR(data, shape=shape) @ y


def csr_push(fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]) -> Float[Array, "v b"]:
    """Compiled CSR product: Eigen's on a CPU, cuSPARSE's where JAX is told to use it."""
    return _csr((w, fibre.sources, fibre.indptr), (fibre.n_targets, fibre.n_sources), y)


def csr_pull(fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]) -> Float[Array, "u b"]:
    """Compiled CSR product with the transposed structure, found once by the host."""
    values = w[fibre.t_perm]
    shape = (fibre.n_sources, fibre.n_targets)
    return _csr((values, fibre.t_targets, fibre.t_indptr), shape, z)


def csr_edge(fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]) -> Float[Array, " e"]:
    """Edge products in blocks of edges that stay in the cache."""
    return fibre.live(blocks.edge_products(fibre.targets, fibre.sources[:, None], z, y)[:, 0])


def padded_push(fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]) -> Float[Array, "v b"]:
    """Rows of equal width in one fused pass: nothing of size edges × columns exists."""
    if fibre.regular and fibre.regular <= WIDEST:
        shape = (fibre.n_targets, fibre.regular)
        return blocks.weighted_rows(fibre.sources.reshape(shape), w.reshape(shape), y)
    if fibre.by_target is None:
        return csr_push(fibre, w, y)
    return _sliced_product(fibre, fibre.by_target, w, y)


def padded_pull(fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]) -> Float[Array, "u b"]:
    """The same with the transposed structure, whose rows are sorted and sliced."""
    if fibre.by_source is None:
        return csr_pull(fibre, w, z)
    return _sliced_product(fibre, fibre.by_source, w, z)


def padded_edge(fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]) -> Float[Array, " e"]:
    """Edge products in blocks of targets, whose rows are read once for all their edges."""
    if fibre.regular:
        sources = fibre.sources.reshape(fibre.n_targets, fibre.regular)
        return blocks.edge_products(None, sources, z, y).reshape(-1)
    if fibre.by_target is None:
        return csr_edge(fibre, z, y)
    return fibre.live(_sliced_edges(fibre.by_target, fibre.targets, z, y))


def _sliced_product(
    fibre: Fibre, slices: Slices, w: Float[Array, " e"], y: Float[Array, "u b"]
) -> Array:
    weight = lambda edges: w.at[edges].get(mode="fill", fill_value=0)
    parts = []
    if slices.n_head:
        data = (weight(slices.head_edges), slices.head_columns, slices.head_indptr)
        parts.append(_csr(data, (slices.n_head, y.shape[0]), y))
    weights = lambda w: tuple(w.at[e].get(mode="fill", fill_value=0) for e in slices.edges)
    if fibre.capacity * y.shape[1] < _WORTH_A_BRANCH:
        in_slots = weights(w)
    else:
        # In a branch of its own, as in `trilinear`: else every number of a row looks its weight up.
        none = lambda w: tuple(jnp.zeros(e.shape, w.dtype) for e in slices.edges)
        in_slots = lax.cond(fibre.count > 0, weights, none, w)
    for columns, each in zip(slices.columns, in_slots, strict=True):
        parts.append(blocks.weighted_rows(columns, each, y))
    return blocks.rows(jnp.concatenate(parts), slices.position)


def _sliced_edges(slices: Slices, targets: Array, z: Float[Array, "v b"], y: Float[Array, "u b"]):
    head = jnp.minimum(slices.head_edges, targets.size - 1)
    parts, start = [], slices.n_head
    if slices.n_head:
        parts.append(blocks.edge_products(targets[head], slices.head_columns[:, None], z, y))
    for columns in slices.columns:
        order = lax.slice_in_dim(slices.order, start, start + columns.shape[0])
        parts.append(blocks.edge_products(order, columns, z, y))
        start += columns.shape[0]
    return jnp.concatenate([part.reshape(-1) for part in parts])[slices.places]


def segment_push(
    fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]
) -> Float[Array, "v b"]:
    """The meaning itself: gather, multiply, segment sum. XLA fuses it well on a GPU."""
    terms = fibre.live(w)[:, None] * blocks.rows(y, fibre.sources)
    return jax.ops.segment_sum(terms, fibre.targets, fibre.n_targets, indices_are_sorted=True)


def segment_pull(
    fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]
) -> Float[Array, "u b"]:
    """The transposed meaning, an unsorted segment sum."""
    terms = fibre.live(w)[:, None] * blocks.rows(z, fibre.targets)
    return jax.ops.segment_sum(terms, fibre.sources, fibre.n_sources)


def segment_edge(
    fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]
) -> Float[Array, " e"]:
    """Two gathers and a row-wise product."""
    rows = blocks.rows(z, fibre.targets) * blocks.rows(y, fibre.sources)
    return fibre.live(jnp.sum(rows, axis=1))


def matrix(fibre: Fibre, w: Float[Array, " e"]) -> Float[Array, "v u"]:
    """Write the weights into a dense n_v × n_u matrix.

    Args:
        fibre: the edges.
        w: weight per edge; what stands on padding is ignored.

    Returns:
        The matrix A(w), zero where no edge is.
    """
    shape = (fibre.n_targets, fibre.n_sources)
    if fibre.is_complete:
        return w.reshape(shape)
    return jnp.zeros(shape, w.dtype).at[fibre.targets, fibre.sources].add(fibre.live(w))


def dense_push(fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]) -> Float[Array, "v b"]:
    """A dense product; a scatter first, unless the fibre is complete."""
    return jnp.matmul(matrix(fibre, w), y, precision=_HIGHEST)


def dense_pull(fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]) -> Float[Array, "u b"]:
    """A dense transposed product."""
    return jnp.matmul(matrix(fibre, w).T, z, precision=_HIGHEST)


def dense_edge(fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]) -> Float[Array, " e"]:
    """All n_v × n_u inner products; the edges' are picked, unless the fibre is complete."""
    products = jnp.matmul(z, y.T, precision=_HIGHEST)
    if fibre.is_complete:
        return products.reshape(-1)
    return fibre.live(products[fibre.targets, fibre.sources])


_CSR = {"push": csr_push, "pull": csr_pull, "edge": csr_edge}
_DENSE = {"push": dense_push, "pull": dense_pull, "edge": dense_edge}
PRODUCTS: dict[str, dict[str, Callable[..., Array]]] = {
    "csr": _CSR,
    "padded": {"push": padded_push, "pull": padded_pull, "edge": padded_edge},
    "dense": _DENSE,
    "complete": _DENSE,
    "naive": {"push": segment_push, "pull": segment_pull, "edge": segment_edge},
}
