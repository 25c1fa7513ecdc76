"""The sum over a fibre of edges that carry more than a number."""

import functools
import itertools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from flowlift.kernels import taps
from flowlift.kernels.choice import choose_array
from flowlift.kernels.fibre import Fibre
from flowlift.kernels.trilinear import tapped_push

_BLOCK_BYTES = 1 << 22


def fibre_sum_map(
    fibre: Fibre,
    edge_fn: Callable[[Array, Array], Array],
    w: Float[Array, "edges *W"],
    y: Float[Array, "n_u b *Y"],
    *,
    block_bytes: int = _BLOCK_BYTES,
) -> Float[Array, "n_v b *Z"]:
    r"""Sum mapped values over the lifted edges that enter each copy of the target.

    z[v] = Σ_{e : target(e) = v} M(w[e], y[source(e)]). Edges are taken in blocks, whose inputs and
    outputs together fit `block_bytes`; reverse mode recomputes a block rather than keeping it.
    With a single source copy (a bias, an input vector) nothing is gathered.

    Args:
        fibre: the edges u → v.
        edge_fn: M: one weight (*W) and a batch (b, *Y) to a batch (b, *Z).
        w: one weight per edge, in the fibre's order; padding is ignored.
        y: activations per source copy.
        block_bytes: memory bound of one block.

    Returns:
        Pre-activations per target copy.
    """
    if fibre.n_sources == 1:
        return _from_one_source(fibre, edge_fn, w, y)
    out = jax.eval_shape(edge_fn, _row(w), _row(y))
    per_edge = _bytes(_row(y)) + _bytes(out)
    size = int(max(1, min(block_bytes // max(per_edge, 1), fibre.capacity)))
    if fibre.regular is not None:
        return _by_targets(fibre, edge_fn, w, y, max(1, size // fibre.regular))
    return _by_edges(fibre, edge_fn, w, y, size, out)


def array_method(
    fibre: Fibre, method: str, numbers: int, columns: int, *, sliding: bool = False
) -> str:
    """How edges that carry arrays are summed.

    Args:
        fibre: the edges.
        method: the caller's wish, as for `fibre_sum`.
        numbers: entries of an edge's array.
        columns: see `choose_array`.
        sliding: whether the arrays are kernels that slide.

    Returns:
        'dense', also for complete fibres; 'padded', where all rows lie in slices; or 'blocks', by
        the edge map itself (`fibre_sum_map`).
    """
    if method == "auto":
        method = choose_array(fibre, numbers, columns, sliding=sliding)
    if fibre.is_complete or method == "dense":
        return "dense"
    return "padded" if method == "padded" and taps.applies(fibre) else "blocks"


def fibre_sum_matrix(
    fibre: Fibre,
    w: Float[Array, "edges m d"],
    y: Float[Array, "n_u *b d"],
    *,
    method: str = "auto",
) -> Float[Array, "n_v *b m"]:
    r"""Sum over a fibre of matrix edges: z[v] = Σ_{e : target(e) = v} w[e] y[source(e)].

    An inner-product edge is the case m = 1.

    Args:
        fibre: the edges u → v.
        w: an m × d matrix per edge.
        y: d-dimensional activations per source copy, any axes (samples, tokens) before the last.
        method: see `array_method`.

    Returns:
        m-dimensional pre-activations per target copy.
    """
    if fibre.is_complete:
        shape = (fibre.n_targets, fibre.n_sources, *w.shape[1:])
        return jnp.einsum("vumd,u...d->v...m", w.reshape(shape), y, precision=lax.Precision.HIGHEST)
    dtype, batch = jnp.result_type(w, y), y.shape[1:-1]
    how = array_method(fibre, method, math.prod(w.shape[1:]), math.prod(batch))
    if how == "blocks":
        return fibre_sum_map(fibre, _matrix_edge, w, y)
    w, rows = w.astype(dtype), jnp.moveaxis(y, -1, 1).astype(dtype)
    if how == "dense":
        rows = rows.reshape(y.shape[0] * y.shape[-1], -1)
        matrix = taps.block_matrices(fibre, w[..., None])[0]
        z = jnp.matmul(matrix, rows, precision=lax.Precision.HIGHEST)
    else:
        rows = rows.reshape(y.shape[0], y.shape[-1], -1)
        z = tapped_push(fibre, w[..., None], rows, (0,), "padded")
    return jnp.moveaxis(z.reshape(fibre.n_targets, w.shape[1], *batch), 1, -1)


def fibre_sum_convolution(
    fibre: Fibre,
    w: Float[Array, "edges *kernel"],
    y: Float[Array, "n_u b *space"],
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    method: str = "padded",
) -> Float[Array, "n_v b *space_after"]:
    r"""Sum over a fibre of sliding kernels: z[v]_i = Σ_e Σ_j w[e]_j y[source(e)]_{s i + j - p}.

    Maps are flattened with zeros between their rows, so that every tap of the kernel reads
    contiguous memory at an offset of its own. With strides s, maps and kernels are taken apart by
    their indices modulo s first; the parts, each of which slides by ones, are the rows of one
    product wherever their kernels have equally many taps (at most 2 products for each axis).

    Args:
        fibre: the edges u → v.
        w: a kernel per edge.
        y: a map per source copy and sample.
        strides: s, per axis.
        pads: zeros before and after, per axis.
        method: 'dense' or 'padded', see `array_method`.

    Returns:
        A map per target copy and sample.
    """
    kernel, space = w.shape[1:], y.shape[2:]
    after = tuple(
        (n + sum(p) - k) // s + 1 for n, p, k, s in zip(space, pads, kernel, strides, strict=True)
    )
    if set(strides) == {1}:
        before = tuple(first for first, _ in pads)
        return _slide(fibre, w[:, None], y[:, None], before, after, method)
    padded = jnp.pad(y, [(0, 0), (0, 0), *pads])
    maps, kernels = _by_phase(jnp.moveaxis(padded, 1, 0), strides), _by_phase(w[None], strides)
    terms = []
    for group in itertools.product(*map(_phases, kernel, strides)):
        taps = tuple(t for _, _, t in group)
        weights = _phases_of(kernels, group, taps)[0]
        rows = _phases_of(maps, group, tuple(a + t - 1 for a, t in zip(after, taps, strict=True)))
        none = (0,) * len(taps)
        terms.append(_slide(fibre, weights, jnp.moveaxis(rows, 0, 2), none, after, method))
    return functools.reduce(operator.add, terms)


def _phases(size: int, stride: int) -> list[tuple[int, int, int]]:
    """The phases from .. to of a kernel's axis at which it has equally many taps, and how many."""
    whole, rest = divmod(size, stride)
    ranges = [(0, rest, whole + 1), (rest, stride, whole)]
    return [(start, end, taps) for start, end, taps in ranges if end > start and taps]


def _by_phase(x: Float[Array, "b n *space"], strides: tuple[int, ...]) -> Array:
    """Indices modulo the strides, as axes before those of what is left: (b, n, *s, *space / s)."""
    fill = [(0, -n % s) for n, s in zip(x.shape[2:], strides, strict=True)]
    x = jnp.pad(x, [(0, 0), (0, 0), *fill])
    parts = ((n // s, s) for n, s in zip(x.shape[2:], strides, strict=True))
    x, axes = x.reshape(*x.shape[:2], *itertools.chain(*parts)), len(strides)
    phases = range(3, 3 + 2 * axes, 2)
    return jnp.moveaxis(x, tuple(phases), tuple(range(2, 2 + axes)))


def _phases_of(
    split: Array, group: tuple[tuple[int, int, int], ...], sizes: tuple[int, ...]
) -> Float[Array, "b n phases *sizes"]:
    """The maps at the phases of a group, as rows, each cropped."""
    each = (slice(start, end) for start, end, _ in group)
    part = split[(slice(None), slice(None), *each, *(slice(0, size) for size in sizes))]
    return part.reshape(*part.shape[:2], -1, *sizes)


def _slide(
    fibre: Fibre,
    w: Float[Array, "edges rows *kernel"],
    y: Float[Array, "n_u rows b *space"],
    before: tuple[int, ...],
    after: tuple[int, ...],
    method: str,
) -> Float[Array, "n_v b *after"]:
    """The sum over rows and taps for unit strides, cropped to the map `after`."""
    copies, rows, batch, *space = y.shape
    # Zeros after a row serve as the zeros before the next one.
    reach = [
        max(p, a + k - 1 - n - p, a - n)
        for p, a, k, n in zip(before, after, w.shape[2:], space, strict=True)
    ]
    grid = [n + g for n, g in zip(space, reach, strict=True)]
    steps = [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]
    at = lambda index: sum(i * step for i, step in zip(index, steps, strict=True))
    offsets = tuple(at(tap) for tap in itertools.product(*map(range, w.shape[2:])))
    margin = [(0, 0), (0, 0), (0, 0), *((0, g) for g in reach)]
    flat = jnp.pad(y, margin).reshape(copies, rows, -1)
    first, length = at(before), flat.shape[-1]
    flat = jnp.pad(flat, [(0, 0), (0, 0), (first, max(0, max(offsets) - first))])
    dtype = jnp.result_type(w, y)
    weights = w.reshape(w.shape[0], 1, rows, -1).astype(dtype)
    z = tapped_push(fibre, weights, flat.astype(dtype), offsets, method)
    z = z[..., :length].reshape(fibre.n_targets, batch, *grid)
    return z[(slice(None), slice(None), *(slice(0, a) for a in after))]


def _matrix_edge(w: Float[Array, "m d"], y: Float[Array, "*b d"]) -> Float[Array, "*b m"]:
    return jnp.einsum("md,...d->...m", w, y, precision=lax.Precision.HIGHEST)


def _row(x: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape[1:], x.dtype)


def _bytes(x: jax.ShapeDtypeStruct) -> int:
    return int(np.prod(x.shape)) * x.dtype.itemsize


def _from_one_source(fibre, edge_fn, w, y):
    """At most one edge enters each target: no sum, and one input for all."""
    if fibre.regular == 1:
        return jax.vmap(edge_fn, in_axes=(0, None))(w, y[0])
    degree = jnp.diff(fibre.indptr)
    safe = jnp.minimum(fibre.indptr[:-1], fibre.capacity - 1)
    z = jax.vmap(edge_fn, in_axes=(0, None))(w[safe], y[0])
    return jnp.where(lax.expand_dims(degree > 0, range(1, z.ndim)), z, 0)


def _by_targets(fibre, edge_fn, w, y, size):
    """Blocks of targets, each with the same number of edges: the sum is a reshape."""
    k, n_v = fibre.regular, fibre.n_targets
    size = min(size, n_v)
    sources = _sources(fibre).reshape(n_v, k)
    mapped = jax.vmap(jax.vmap(edge_fn))

    @jax.checkpoint
    def one(weights, index):
        return jnp.sum(mapped(weights, y[index]), axis=1)

    weights = w.reshape(n_v, k, *w.shape[1:])
    whole = n_v - n_v % size
    split = lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:])
    z = lax.map(lambda x: one(*x), (split(weights), split(sources)))
    z = z.reshape(whole, *z.shape[2:])
    if whole == n_v:
        return z
    return jnp.concatenate([z, one(weights[whole:], sources[whole:])])


def _sources(fibre: Fibre) -> Array:
    if not fibre.is_complete:
        return fibre.sources
    return jnp.tile(jnp.arange(fibre.n_sources), fibre.n_targets)


def _by_edges(fibre, edge_fn, w, y, size, out):
    """Blocks of edges, added to their targets one block after the other."""
    n_blocks = -(-fibre.capacity // size)
    extra = n_blocks * size - fibre.capacity
    split = lambda x: jnp.pad(x, [(0, extra)] + [(0, 0)] * (x.ndim - 1)).reshape(
        n_blocks, size, *x.shape[1:]
    )
    real = split(jnp.arange(fibre.capacity) < fibre.count)

    @jax.checkpoint
    def terms(weights, index, keep):
        z = jax.vmap(edge_fn)(weights, y[index])
        return jnp.where(lax.expand_dims(keep, range(1, z.ndim)), z, 0)

    def add(z, x):
        weights, s, t, keep = x
        return z.at[t].add(terms(weights, s, keep)), None

    zero = jnp.zeros((fibre.n_targets, *out.shape), out.dtype)
    xs = (split(w), split(fibre.sources), split(fibre.targets), real)
    return lax.scan(add, zero, xs)[0]
