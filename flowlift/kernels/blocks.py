"""Sums over rows of equal width: what the compiled loops of XLA do well.

A row holds as many edges as the slices are wide; the columns (samples) lie contiguous in memory.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

BLOCK_BYTES = 1 << 20
_HALF, _FEW, _CHUNKS = 32, 128, 32


def rows(values: Float[Array, "n b"], index: Int[Array, "..."]) -> Float[Array, "... b"]:
    """Rows of a matrix by index, all of them in bounds.

    Args:
        values: the matrix.
        index: which rows.

    Returns:
        The rows.
    """
    return values.at[index].get(mode="promise_in_bounds")


def weighted_rows(
    columns: Int[Array, "m width"], weights: Float[Array, "m width"], y: Float[Array, "u b"]
) -> Float[Array, "m b"]:
    """z[i] = Σ_j weights[i, j] y[columns[i, j]].

    The sum over j is unrolled, so that XLA fuses it into one loop whose inner loop runs over
    contiguous memory with its sum in registers: nothing but the result is written.

    Args:
        columns: the row of y at each slot.
        weights: its weight.
        y: values (rows, columns).

    Returns:
        The sums.
    """
    z = jnp.zeros((columns.shape[0], y.shape[1]), y.dtype)
    for j in range(columns.shape[1]):
        z = z + weights[:, j, None] * rows(y, columns[:, j])
    return z


def edge_products(
    index: Int[Array, " m"] | None,
    columns: Int[Array, "m width"],
    z: Float[Array, "v b"],
    y: Float[Array, "u b"],
) -> Float[Array, "m width"]:
    """w[i, j] = ⟨z[index[i]], y[columns[i, j]]⟩, block of rows by block of rows.

    XLA does not reorder a sum, so that one along contiguous memory is slow. Here lanes of 8 or
    more numbers are summed over their strides first, in one fused loop, and the lanes by a product
    with a vector of ones. Only a block of lanes of `BLOCK_BYTES` exists at a time.

    Args:
        index: the row of z that each row belongs to; None if it is the row itself.
        columns: the row of y at each slot.
        z: values (rows, columns).
        y: values (rows, columns).

    Returns:
        The inner products.
    """
    m, width = columns.shape
    lanes = _lanes(y.shape[1])
    size = max(1, min(m, BLOCK_BYTES // (lanes * max(width, 1) * y.dtype.itemsize)))
    n_blocks = -(-m // size)

    def write(i, out):
        start = jnp.minimum(i * size, m - size)
        take = lambda x: lax.dynamic_slice_in_dim(x, start, size)
        left = take if index is None else lambda z: rows(z, take(index))
        products = _inner(left, z, y, take(columns), lanes)
        return lax.dynamic_update_slice_in_dim(out, products, start, 0)

    return lax.fori_loop(0, n_blocks, write, jnp.zeros((m, width), y.dtype))


def _lanes(n_columns: int) -> int:
    """Measured: few columns are best multiplied at once, more in two lanes, many in short ones."""
    if n_columns < _FEW:
        return min(n_columns, _HALF)
    return 8 * math.ceil(n_columns / (8 * _CHUNKS))


def _inner(left: Callable[[Array], Array], z: Array, y: Array, columns: Array, lanes: int) -> Array:
    # Lanes are cut before rows are taken: rows that are used more than once would be copied.
    b = y.shape[1]
    partial = jnp.zeros((*columns.shape, lanes), y.dtype)
    for start in range(0, b, lanes):
        first = min(start, b - lanes)
        cut = lambda x, first=first: x[:, first : first + lanes]
        part = left(cut(z))[:, None] * rows(cut(y), columns)
        if first < start:
            # The last lanes overlap the ones before: count only what is new.
            part = jnp.where(jnp.arange(lanes) >= start - first, part, 0)
        partial = partial + part
    return jnp.matmul(partial, jnp.ones(lanes, y.dtype), precision=lax.Precision.HIGHEST)
