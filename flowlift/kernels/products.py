"""The three partial products of a fibre, each computed in several ways.

None of these functions is differentiated: `trilinear` wraps them in primitives whose derivatives
are again these functions. All take and return the layout (copies, columns).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.sparse import BCSR
from jaxtyping import Array, Float

from flowlift.kernels.fibre import Fibre

_HIGHEST = lax.Precision.HIGHEST
_BLOCK_BYTES = 1 << 18


def csr_push(fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]) -> Float[Array, "v b"]:
    """Compiled CSR product: Eigen's on a CPU, cuSPARSE's where JAX is told to use it."""
    matrix = BCSR((w, fibre.sources, fibre.indptr), shape=(fibre.n_targets, fibre.n_sources))
    return matrix @ y


def csr_pull(fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]) -> Float[Array, "u b"]:
    """Compiled CSR product with the transposed structure, found once by the host."""
    values = w[fibre.t_perm]
    shape = (fibre.n_sources, fibre.n_targets)
    return BCSR((values, fibre.t_targets, fibre.t_indptr), shape=shape) @ z


def block_edge(fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]) -> Float[Array, " e"]:
    """Edge products in blocks of edges that stay in the cache."""
    size = max(1, min(_BLOCK_BYTES // (y.shape[1] * y.dtype.itemsize), fibre.capacity))
    n_blocks = -(-fibre.capacity // size)
    starts = jnp.minimum(jnp.arange(n_blocks) * size, fibre.capacity - size)

    def one(start):
        s = lax.dynamic_slice_in_dim(fibre.sources, start, size)
        t = lax.dynamic_slice_in_dim(fibre.targets, start, size)
        return jnp.einsum("eb,eb->e", _rows(z, t), _rows(y, s), precision=_HIGHEST)

    def write(i, out):
        return lax.dynamic_update_slice_in_dim(out, one(starts[i]), starts[i], 0)

    out = lax.fori_loop(0, n_blocks, write, jnp.zeros(fibre.capacity, y.dtype))
    return fibre.live(out)


def padded_push(fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]) -> Float[Array, "v b"]:
    """One gather of n_v rows per entering edge: nothing of size edges × columns exists."""
    k = _in_degree(fibre)
    columns, weights = fibre.sources.reshape(-1, k), w.reshape(-1, k)

    def add(j, z):
        s = lax.dynamic_index_in_dim(columns, j, 1, keepdims=False)
        c = lax.dynamic_index_in_dim(weights, j, 1)
        return z + c * _rows(y, s)

    return lax.fori_loop(0, k, add, jnp.zeros((fibre.n_targets, y.shape[1]), y.dtype))


def padded_edge(fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]) -> Float[Array, " e"]:
    """One gather of n_v rows per entering edge, and one row-wise product."""
    k = _in_degree(fibre)

    def one(s):
        return jnp.einsum("vb,vb->v", z, _rows(y, s), precision=_HIGHEST)

    return lax.map(one, fibre.sources.reshape(-1, k).T).T.reshape(-1)


def segment_push(
    fibre: Fibre, w: Float[Array, " e"], y: Float[Array, "u b"]
) -> Float[Array, "v b"]:
    """The meaning itself: gather, multiply, segment sum. XLA fuses it well on a GPU."""
    terms = fibre.live(w)[:, None] * _rows(y, fibre.sources)
    return jax.ops.segment_sum(terms, fibre.targets, fibre.n_targets, indices_are_sorted=True)


def segment_pull(
    fibre: Fibre, w: Float[Array, " e"], z: Float[Array, "v b"]
) -> Float[Array, "u b"]:
    """The transposed meaning, an unsorted segment sum."""
    terms = fibre.live(w)[:, None] * _rows(z, fibre.targets)
    return jax.ops.segment_sum(terms, fibre.sources, fibre.n_sources)


def segment_edge(
    fibre: Fibre, z: Float[Array, "v b"], y: Float[Array, "u b"]
) -> Float[Array, " e"]:
    """Two gathers and a row-wise product."""
    rows = _rows(z, fibre.targets) * _rows(y, fibre.sources)
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


def _rows(values: Float[Array, "n b"], index: Array) -> Float[Array, "e b"]:
    return values.at[index].get(mode="promise_in_bounds")


def _in_degree(fibre: Fibre) -> int:
    if fibre.regular is None:
        raise ValueError(
            "Argument `method` may be 'padded' only for a fibre with a fixed in-degree, but "
            "`fibre.regular` is None. Use 'csr'."
        )
    return fibre.regular


_CSR = {"push": csr_push, "pull": csr_pull, "edge": block_edge}
_DENSE = {"push": dense_push, "pull": dense_pull, "edge": dense_edge}
PRODUCTS: dict[str, dict[str, Callable[..., Array]]] = {
    "csr": _CSR,
    "padded": {"push": padded_push, "pull": csr_pull, "edge": padded_edge},
    "dense": _DENSE,
    "complete": _DENSE,
    "naive": {"push": segment_push, "pull": segment_pull, "edge": segment_edge},
}
