r"""The trilinear form of edges that carry arrays: small matrices, and kernels that slide.

An edge e = (s → t) with weights w[e] (m, d, taps) maps y[s] (d, columns) to (m, columns - span),

    z[i, c] = Σ_{l, o} w[e, i, l, o] y[l, c + offset_o],

so that matrices are one tap at offset 0, and convolutions of flattened maps are m = d = 1. The
transpose has the same form with m and d exchanged and offsets counted from the other end. As in
`products`, nothing here is differentiated: `trilinear` knows that the three are each other's
transposes.
"""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from flowlift.kernels import blocks
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.slices import WIDEST, Slices

Offsets = tuple[int, ...]


def span(offsets: Offsets) -> int:
    """By how many columns z is shorter than y."""
    return max(offsets)


def applies(fibre: Fibre) -> bool:
    """Whether all rows of the fibre, in both directions, are in slices of moderate width."""
    if fibre.is_complete or fibre.by_source is None:
        return False
    slices = [fibre.by_source]
    if fibre.regular is None:
        if fibre.by_target is None:
            return False
        slices.append(fibre.by_target)
    elif fibre.regular > WIDEST:
        return False
    widths = [columns.shape[1] for s in slices for columns in s.columns]
    return max(widths) <= 2 * WIDEST and not any(s.n_head for s in slices)


def tapped_push(
    fibre: Fibre, offsets: Offsets, w: Float[Array, "e m d o"], y: Float[Array, "u d b"]
) -> Float[Array, "v m c"]:
    """z = A(w) y, over the rows of targets."""
    columns = y.shape[-1] - span(offsets)
    if fibre.regular:
        shape = (fibre.n_targets, fibre.regular)
        weights = w.reshape(*shape, *w.shape[1:])
        return _rows(fibre.sources.reshape(shape), weights, y, offsets, columns)
    return _sliced_rows(cast(Slices, fibre.by_target), w, y, offsets, columns)


def tapped_pull(
    fibre: Fibre, offsets: Offsets, w: Float[Array, "e m d o"], z: Float[Array, "v m c"]
) -> Float[Array, "u d b"]:
    """y = A(w)ᵀ z: the same form with the fibre, m and d transposed, on z between zeros."""
    reach = span(offsets)
    between = jnp.pad(z, [(0, 0), (0, 0), (reach, reach)])
    back = tuple(reach - o for o in offsets)
    slices = cast(Slices, fibre.by_source)
    return _sliced_rows(slices, w.swapaxes(1, 2), between, back, z.shape[-1] + reach)


def tapped_edge(
    fibre: Fibre, offsets: Offsets, z: Float[Array, "v m c"], y: Float[Array, "u d b"]
) -> Float[Array, "e m d o"]:
    """w[e, i, l, o] = ⟨z[t_e, i], y[s_e, l] from offset_o⟩, window by window."""
    (n, m, columns), d = z.shape, y.shape[1]
    width = fibre.regular or 1
    sources = jnp.repeat(fibre.sources.reshape(-1, width), m, axis=0)
    targets = None
    if fibre.regular is None:
        targets = (fibre.targets[:, None] * m + jnp.arange(m, dtype=jnp.int32)[None]).reshape(-1)
    rows = z.reshape(n * m, columns)

    def product(row, offset):
        along = lax.dynamic_slice_in_dim(y, offset, columns, axis=2)
        window = lax.dynamic_index_in_dim(along, row, axis=1, keepdims=False)
        return blocks.edge_products(targets, sources, rows, window)

    out = lax.map(lambda at: product(*at), _places(d, offsets))
    out = out.reshape(d, len(offsets), -1, m, width).transpose(2, 4, 3, 0, 1)
    return fibre.live(out.reshape(fibre.capacity, m, d, len(offsets)))


def _places(d: int, offsets: Offsets) -> tuple[Array, Array]:
    """Row and offset of every window."""
    row, offset = np.meshgrid(np.arange(d), offsets, indexing="ij")
    return jnp.asarray(row.ravel(), jnp.int32), jnp.asarray(offset.ravel(), jnp.int32)


def _rows(
    index: Int[Array, "rows width"],
    weights: Float[Array, "rows width m d o"],
    y: Float[Array, "u d b"],
    offsets: Offsets,
    columns: int,
) -> Float[Array, "rows m c"]:
    """Rows of equal width: a fused loop over the slots, one window of y after the other."""
    # Unrolling the windows as well is no faster, and compiles more slowly.
    n, width, m, d, _ = weights.shape
    # One row for each target and i: a gathered row with two uses would be written to memory.
    index = jnp.repeat(index, m, axis=0)
    by_window = jnp.moveaxis(weights, (3, 4, 2), (0, 1, 3)).reshape(-1, n * m, width)

    def add(z, window):
        weight, (row, offset) = window
        for j in range(width):
            z = z + weight[:, j, None] * _part(y, index[:, j], row, offset, columns)
        return z, None

    zero = jnp.zeros((n * m, columns), y.dtype)
    z, _ = lax.scan(add, zero, (by_window, _places(d, offsets)))
    return z.reshape(n, m, columns)


def _part(
    y: Float[Array, "u d b"], index: Int[Array, " n"], row: Array, offset: Array, columns: int
) -> Float[Array, "n c"]:
    """y[index, row, offset : offset + columns], read where it lies."""
    start = jnp.stack(jnp.broadcast_arrays(index, row, offset), -1)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(1,), collapsed_slice_dims=(0, 1), start_index_map=(0, 1, 2)
    )
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(y, start, numbers, (1, 1, columns), mode=mode)


def _sliced_rows(
    slices: Slices, w: Array, y: Array, offsets: Offsets, columns: int
) -> Float[Array, "rows m c"]:
    parts = []
    for index, edges in zip(slices.columns, slices.edges, strict=True):
        weights = w.at[edges].get(mode="fill", fill_value=0)
        parts.append(_rows(index, weights, y, offsets, columns))
    return jnp.concatenate(parts).at[slices.position].get(mode="promise_in_bounds")


def dense_push(
    fibre: Fibre, offsets: Offsets, w: Float[Array, "e m d o"], y: Float[Array, "u d b"]
) -> Float[Array, "v m c"]:
    """z = A(w) y as one dense product for each tap."""
    z = _add_taps(block_matrices(fibre, w), y, offsets, y.shape[-1] - span(offsets))
    return z.reshape(fibre.n_targets, w.shape[1], -1)


def dense_pull(
    fibre: Fibre, offsets: Offsets, w: Float[Array, "e m d o"], z: Float[Array, "v m c"]
) -> Float[Array, "u d b"]:
    """y = A(w)ᵀ z, by the transposed matrices, on z between zeros."""
    reach = span(offsets)
    between = jnp.pad(z, [(0, 0), (0, 0), (reach, reach)])
    back = tuple(reach - o for o in offsets)
    matrices = block_matrices(fibre, w).swapaxes(1, 2)
    y = _add_taps(matrices, between, back, z.shape[-1] + reach)
    return y.reshape(fibre.n_sources, w.shape[2], -1)


def dense_edge(
    fibre: Fibre, offsets: Offsets, z: Float[Array, "v m c"], y: Float[Array, "u d b"]
) -> Float[Array, "e m d o"]:
    """The inner products of all pairs of copies, tap by tap, of which the edges' are picked."""
    (n_v, m, columns), (n_u, d, _) = z.shape, y.shape
    flat, rows = z.reshape(n_v * m, columns), y.reshape(n_u * d, -1)

    def product(offset):
        window = lax.dynamic_slice_in_dim(rows, offset, columns, axis=1)
        return jnp.matmul(flat, window.T, precision=lax.Precision.HIGHEST)

    out = lax.map(product, jnp.asarray(offsets, jnp.int32)).reshape(-1, n_v, m, n_u, d)
    if fibre.is_complete:
        return out.transpose(1, 3, 2, 4, 0).reshape(fibre.capacity, m, d, len(offsets))
    at = out.at[:, fibre.targets, :, fibre.sources, :]
    return fibre.live(jnp.moveaxis(at.get(mode="promise_in_bounds"), 1, -1))


def block_matrices(fibre: Fibre, w: Float[Array, "e m d o"]) -> Float[Array, "taps rows columns"]:
    """For each tap the matrix whose block (v, u) is w[e] for the edge e = (u, v), and else zero.

    Args:
        fibre: the edges.
        w: (m, d, taps) numbers per edge; what stands on padding is ignored.

    Returns:
        The matrices.
    """
    (m, d, taps), n_v, n_u = w.shape[1:], fibre.n_targets, fibre.n_sources
    if fibre.is_complete:
        blocks = w.reshape(n_v, n_u, m, d, taps).transpose(4, 0, 2, 1, 3)
    else:
        at = jnp.zeros((taps, n_v, m, n_u, d), w.dtype).at[:, fibre.targets, :, fibre.sources, :]
        blocks = at.add(jnp.moveaxis(fibre.live(w), -1, 1), mode="promise_in_bounds")
    return blocks.reshape(taps, n_v * m, n_u * d)


def _add_taps(
    matrices: Float[Array, "o r s"], y: Float[Array, "u d b"], offsets: Offsets, columns: int
) -> Float[Array, "r c"]:
    rows = y.reshape(matrices.shape[-1], -1)

    def add(z, tap):
        matrix, offset = tap
        window = lax.dynamic_slice_in_dim(rows, offset, columns, axis=1)
        return z + jnp.matmul(matrix, window, precision=lax.Precision.HIGHEST), None

    zero = jnp.zeros((matrices.shape[1], columns), y.dtype)
    return lax.scan(add, zero, (matrices, jnp.asarray(offsets, jnp.int32)))[0]


TAPPED: dict[str, dict[str, Callable[..., jax.Array]]] = {
    "padded": {"push": tapped_push, "pull": tapped_pull, "edge": tapped_edge},
    "dense": {"push": dense_push, "pull": dense_pull, "edge": dense_edge},
}
