"""The rows of a sparse matrix in slices of equal width, for products without index arithmetic."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int32

from ..attributes import read_plainly

# Rows wider than this gain nothing from being unrolled.
WIDEST = 64
# Slices start at these fractions of the rows, sorted by decreasing degree; before the first one
# lies the head, whose degrees differ too much.
_CUTS = (0.125, 0.25, 0.5)


@read_plainly
class Slices(eqx.Module):
    r"""Rows sorted by decreasing degree: a head in compressed form, then slices of equal width.

    A slice holds, for each of its rows, `width` slots; a row of fewer edges leaves the last ones
    empty. Sorting makes the widths tight (about 10% of the slots are empty for Poisson degrees).
    The shapes follow from the numbers of rows and edges alone, by tail bounds of the Poisson law
    that a uniform draw exceeds less than once in 10^6; a graph that does exceed them gets shapes
    of its own.

    Attributes:
        order: the row at each place.
        position: the place of each row, inverse to `order`.
        columns: for each slice, (rows, width), the column of each slot; an empty slot repeats one.
        edges: likewise the edge of each slot; the number of edges where the slot is empty.
        head_indptr: row pointers of the head.
        head_columns: columns of the head's edges, then padding.
        head_edges: the head's edges; the number of edges on padding.
        places: where each edge stands in the concatenation of `head_edges` and the slices.
    """

    order: Int32[Array, " rows"]
    position: Int32[Array, " rows"]
    columns: tuple[Int32[Array, "_ _"], ...]
    edges: tuple[Int32[Array, "_ _"], ...]
    head_indptr: Int32[Array, " head_rows_plus_1"]
    head_columns: Int32[Array, " head"]
    head_edges: Int32[Array, " head"]
    places: Int32[Array, " edges"]

    @property
    def n_head(self) -> int:
        """Rows of the head."""
        return self.head_indptr.shape[-1] - 1


def slice_rows(
    indptr: np.ndarray,
    columns: np.ndarray,
    edges: np.ndarray,
    capacity: int,
    compressed: bool = True,
) -> Slices | None:
    """Cut the rows of a compressed sparse matrix into slices, on the host.

    Cost: linear in the edges.

    Args:
        indptr: row pointers.
        columns: column of each entry, by rows.
        edges: name of each entry, by rows.
        capacity: number of edges, padding included; it decides the shapes.
        compressed: whether the rows of largest degree stay compressed, rather than being slices.

    Returns:
        The slices; None without edges, and where rows are too wide to be worth unrolling.
    """
    n = len(indptr) - 1
    mean = capacity / n
    if not 0 < mean <= WIDEST or n == 1:
        return None
    degree = np.diff(indptr)
    order = np.argsort(-degree, kind="stable")
    starts = sorted({int(cut * n) for cut in (_CUTS if compressed else (0.0, *_CUTS))})
    ends = [*starts[1:], n]
    places = np.zeros(capacity, np.int32)
    head = _head(indptr, columns, edges, order[: starts[0]], capacity, places)
    offset, slots = head[1].size, []
    for start, end in zip(starts, ends, strict=True):
        width = _width(n, mean, start, int(degree[order[start]]))
        slots.append(_slots(indptr, columns, edges, order[start:end], width, capacity))
        real = slots[-1][1].ravel() < capacity
        places[slots[-1][1].ravel()[real]] = offset + np.flatnonzero(real)
        offset += real.size
    position = np.empty(n, np.int32)
    position[order] = np.arange(n, dtype=np.int32)
    indices = {
        "order": order,
        "position": position,
        "columns": tuple(c for c, _ in slots),
        "edges": tuple(e for _, e in slots),
        "head_indptr": head[0],
        "head_columns": head[1],
        "head_edges": head[2],
        "places": places,
    }
    return Slices(**as_indices(indices))


def as_indices(tree: Any) -> Any:
    """Integers as arrays of JAX, put on the device in one call.

    Args:
        tree: of numbers or arrays of NumPy's, which nobody changes afterwards.

    Returns:
        The tree, of int32.
    """
    return jax.device_put(jax.tree.map(lambda x: np.asarray(x, np.int32), tree))


def _width(n: int, mean: float, start: int, largest: int) -> int:
    """Slots per row from rank `start` on: a bound from the law, or what this graph needs."""
    width = _width_by_law(n, mean, start)
    return width if largest <= width else 4 * math.ceil(largest / 4)


@functools.lru_cache(maxsize=1024)
def _width_by_law(n: int, mean: float, start: int) -> int:
    width = 0
    while not _rarely_exceeded(n * float(_exceeding(width, mean)), start):
        width += 1
    return width


def _rarely_exceeded(expected: float, allowed: int) -> bool:
    """Whether a Poisson number of this expectation exceeds the allowed one with odds of 10^-6."""
    return expected <= 1e-6 if allowed == 0 else float(_exceeding(allowed, expected)) <= 1e-6


def _exceeding(number, mean: float):
    """P(a Poisson number of this mean > number)."""
    # Imported where a lift needs it: flows of other models do without SciPy.
    from scipy.special import pdtrc

    return pdtrc(number, mean)


def _head(indptr, columns, edges, rows, capacity: int, places):
    degree = np.diff(indptr)[rows]
    pointers = np.append(0, np.cumsum(degree))
    count = int(pointers[-1])
    entries = np.repeat(indptr[rows] - pointers[:-1], degree) + np.arange(count)
    size = _head_size(len(indptr) - 1, len(rows), capacity)
    size = size if count <= size else 64 * math.ceil(1.05 * count / 64)
    padding = (0, size - count)
    places[edges[entries]] = np.arange(count, dtype=np.int32)
    return (
        pointers,
        np.pad(columns[entries], padding),
        np.pad(edges[entries], padding, constant_values=capacity),
    )


@functools.lru_cache(maxsize=1024)
def _head_size(n: int, n_head: int, capacity: int) -> int:
    """The sum of the n_head largest of n Poisson degrees, with a tenth to spare."""
    if n_head == 0:
        return 0
    levels = n * _exceeding(np.arange(4 * WIDEST), capacity / n)
    return min(capacity, 64 * math.ceil(1.1 * np.minimum(levels, n_head).sum() / 64 + 1))


def _slots(indptr, columns, edges, rows, width: int, capacity: int):
    degree = np.diff(indptr)[rows][:, None]
    slot = np.arange(width)
    last = max(len(columns) - 1, 0)
    entry = np.minimum(indptr[rows][:, None] + np.minimum(slot, np.maximum(degree - 1, 0)), last)
    if not len(columns):
        return np.zeros_like(entry), np.full_like(entry, capacity)
    return columns[entry], np.where(slot < degree, edges[entry], capacity)
