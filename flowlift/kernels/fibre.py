"""The sparsity pattern of the lifts of one base edge."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, Int32
from numpy.typing import ArrayLike

from flowlift.kernels.slices import Slices, as_indices, slice_rows

from ..attributes import read_plainly
from ..showing import shows_itself


@shows_itself
@read_plainly
class Fibre(eqx.Module):
    r"""Lifted edges over one base edge u → v, as a sparse n_v × n_u matrix without its values.

    Edge e joins copy `sources[e]` of u to copy `targets[e]` of v. The first `count` edges are real
    and sorted by (target, source); the others are padding, which no row pointer reaches. All
    integer arrays are data, not static: two fibres of equal shape share one compilation. Weights
    of a scalar edge are a vector of length `capacity` in the same order.

    A complete fibre (every pair is an edge) has empty index arrays: its weights are the n_v × n_u
    matrix itself, flattened by rows.

    Attributes:
        sources: source copy per edge, padding 0.
        targets: target copy per edge, padding n_v - 1.
        indptr: edges entering target v are `indptr[v]:indptr[v + 1]`.
        count: number of real edges.
        t_perm: lists the edges by (source, target); padding stays last.
        t_targets: `targets[t_perm]`.
        t_indptr: edges leaving source u are `t_perm[t_indptr[u]:t_indptr[u + 1]]`.
        n_sources: copies of u.
        n_targets: copies of v.
        regular: the in-degree when the law gives every target the same, else None.
        is_complete: whether every pair is an edge.
        aligned: whether edge e joins copy e to copy e, as the law of the edges says (not as a draw
            happens to be: shapes and programs must not depend on the seed).
        by_target: the rows of the matrix in slices; None where `regular` or the degrees make them
            needless.
        by_source: likewise its columns.
    """

    sources: Int32[Array, " edges"]
    targets: Int32[Array, " edges"]
    indptr: Int32[Array, " targets_plus_1"]
    count: Int32[Array, ""]
    t_perm: Int32[Array, " edges"]
    t_targets: Int32[Array, " edges"]
    t_indptr: Int32[Array, " sources_plus_1"]
    n_sources: int = eqx.field(static=True)
    n_targets: int = eqx.field(static=True)
    regular: int | None = eqx.field(static=True, default=None)
    is_complete: bool = eqx.field(static=True, default=False)
    aligned: bool = eqx.field(static=True, default=False)
    by_target: Slices | None = None
    by_source: Slices | None = None

    @property
    def capacity(self) -> int:
        """Length of the weight vector: real edges and padding."""
        return self.n_sources * self.n_targets if self.is_complete else self.sources.shape[-1]

    @staticmethod
    def build(
        sources: ArrayLike,
        targets: ArrayLike,
        n_sources: int,
        n_targets: int,
        capacity: int | None = None,
        regular: int | None = None,
        compressed: bool = True,
        aligned: bool = False,
        sliced: bool = True,
    ) -> tuple["Fibre", Int[np.ndarray, " count"]]:
        """Check, sort and pad the edges on the host.

        Cost: one sort by (target, source), skipped if sorted already, one counting sort, and passes
        that are linear in the edges.

        Args:
            sources: source copy of each edge, any order.
            targets: target copy of each edge.
            n_sources: number of copies of u.
            n_targets: number of copies of v.
            capacity: length to pad to; the number of edges (at least 1) if None.
            regular: in-degree of every target, when the edge law fixes it.
            compressed: whether rows of large degree stay compressed, best for edges that carry a
                number; the fast sums over edges that carry arrays want them in slices.
            aligned: that edge e joins copy e to copy e, where the edge law says so; `regular` is 1.
            sliced: whether there are slices; without them all shapes follow from the capacity.

        Returns:
            The fibre, and the order into which the given edges were brought: weights given per
            edge follow by `w[order]`.

        Raises:
            ValueError: if an index is out of range, an edge occurs twice, the capacity is too
                small, `regular` is not the in-degree of every target, or edges said to be aligned
                are not.
        """
        src, tgt = _check_edges(sources, targets, n_sources, n_targets)
        src, tgt, order = _sort_edges(src, tgt, n_sources)
        count = src.size
        size = max(count, 1) if capacity is None else capacity
        if size < count:
            raise ValueError(
                f"Argument `capacity` must be at least the number of edges {count}, but is "
                f"{capacity}. Raise it, or leave it out."
            )
        indptr = _row_pointers(tgt, n_targets)
        _check_regular(indptr, regular, size)
        _check_aligned(src, n_sources, n_targets, regular, aligned)
        t_perm, t_indptr = _transpose_order(src, n_sources)
        ragged = sliced and regular is None and n_sources > 1
        cut = functools.partial(slice_rows, capacity=size, compressed=compressed)
        # One call for all: each takes longer than a few dozen numbers do.
        indices = as_indices(
            {
                "sources": _padded(src, size, 0),
                "targets": _padded(tgt, size, n_targets - 1),
                "indptr": indptr,
                "count": count,
                "t_perm": np.append(t_perm, np.arange(count, size)),
                "t_targets": _padded(tgt[t_perm], size, n_targets - 1),
                "t_indptr": t_indptr,
            }
        )
        fibre = Fibre(
            **indices,
            n_sources=n_sources,
            n_targets=n_targets,
            regular=regular,
            aligned=aligned,
            by_target=cut(indptr, src, np.arange(count)) if ragged else None,
            by_source=cut(t_indptr, tgt[t_perm], t_perm) if sliced else None,
        )
        return fibre, order

    @staticmethod
    def complete(n_sources: int, n_targets: int) -> "Fibre":
        """All pairs, without index arrays: weights are the n_v × n_u matrix flattened by rows.

        Args:
            n_sources: number of copies of u.
            n_targets: number of copies of v.

        Returns:
            The complete fibre.

        Raises:
            ValueError: if a number of copies is less than 1.
        """
        _check_copies(n_sources, n_targets)
        device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        return _complete(n_sources, n_targets, device)

    def edges(self) -> tuple[Int[np.ndarray, " count"], Int[np.ndarray, " count"]]:
        """Return the real edges on the host, for graph algorithms.

        Returns:
            Source and target copies, sorted by (target, source).
        """
        if self.is_complete:
            pairs = np.indices((self.n_targets, self.n_sources), dtype=np.int32).reshape(2, -1)
            return pairs[1], pairs[0]
        count = int(self.count)
        return np.asarray(self.sources)[:count], np.asarray(self.targets)[:count]

    def live(self, values: Array) -> Array:
        """Set what stands at padded edges to zero.

        Args:
            values: array (capacity, ...), one entry per edge.

        Returns:
            The same, with exact zeros (and zero derivative) on padding.
        """
        if self.is_complete or self.regular is not None:
            return values
        real = jax.lax.expand_dims(self.real(), range(1, values.ndim))
        return jnp.where(real, values, 0)

    def real(self) -> Bool[Array, " edges"]:
        """True for each edge, False for padding, (capacity,)."""
        if isinstance(self.count, Tracer):
            return jnp.arange(self.capacity, dtype=self.count.dtype) < self.count
        # On the host, where nothing needs compiling for each size.
        return jax.device_put(np.arange(self.capacity) < np.asarray(self.count))


@functools.lru_cache(maxsize=256)
def _complete(n_sources: int, n_targets: int, device: object) -> Fibre:
    """One for all lifts of a size: nothing of it can be changed. The device is where it will be."""
    del device
    with jax.ensure_compile_time_eval():
        none, count = as_indices((np.zeros(0), n_sources * n_targets))
    return Fibre(
        sources=none,
        targets=none,
        indptr=none,
        count=count,
        t_perm=none,
        t_targets=none,
        t_indptr=none,
        n_sources=n_sources,
        n_targets=n_targets,
        regular=n_sources,
        is_complete=True,
    )


def _check_copies(n_sources: int, n_targets: int) -> None:
    for name, n in (("n_sources", n_sources), ("n_targets", n_targets)):
        if n < 1:
            raise ValueError(f"Argument `{name}` must be at least 1, but is {n}.")


def _check_edges(
    sources: ArrayLike, targets: ArrayLike, n_sources: int, n_targets: int
) -> tuple[np.ndarray, np.ndarray]:
    _check_copies(n_sources, n_targets)
    src, tgt = np.asarray(sources), np.asarray(targets)
    if src.shape != tgt.shape or src.ndim != 1:
        raise ValueError(
            "Arguments `sources` and `targets` must be vectors of one length, but have shapes "
            f"{src.shape} and {tgt.shape}."
        )
    for name, ends, n in (("sources", src, n_sources), ("targets", tgt, n_targets)):
        if ends.size and not np.issubdtype(ends.dtype, np.integer):
            raise ValueError(f"Argument `{name}` must hold integers, but has dtype {ends.dtype}.")
        if ends.size and (ends.min() < 0 or ends.max() >= n):
            raise ValueError(
                f"Argument `{name}` must lie in 0..{n - 1}, but spans {ends.min()}..{ends.max()}. "
                f"Correct the indices, or raise `n_{name}`."
            )
    return src.astype(np.int32), tgt.astype(np.int32)


def _sort_edges(
    src: np.ndarray, tgt: np.ndarray, n_sources: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    key = tgt.astype(np.int64) * n_sources + src
    gaps = np.diff(key)
    order = np.arange(src.size)
    if gaps.size and gaps.min() < 0:
        order = np.argsort(key)
        key = key[order]
        src, tgt, gaps = src[order], tgt[order], np.diff(key)
    if gaps.size and gaps.min() == 0:
        twice = int(np.argmin(gaps))
        raise ValueError(
            "Arguments `sources` and `targets` must name each edge once, but the edge "
            f"{src[twice]} -> {tgt[twice]} occurs twice. Remove one, adding their weights."
        )
    return src, tgt, order


def _row_pointers(rows: np.ndarray, n_rows: int) -> np.ndarray:
    return np.append(0, np.cumsum(np.bincount(rows, minlength=n_rows)))


def _transpose_order(src: np.ndarray, n_sources: int) -> tuple[np.ndarray, np.ndarray]:
    # A stable sort of 16-bit digits is numpy's radix sort: linear in the number of edges.
    perm = np.argsort((src & 0xFFFF).astype(np.uint16), kind="stable")
    if n_sources > 0x10000:
        high = (src >> 16).astype(np.uint16)
        perm = perm[np.argsort(high[perm], kind="stable")]
    return perm, _row_pointers(src, n_sources)


def _check_regular(indptr: np.ndarray, regular: int | None, size: int) -> None:
    if regular is None:
        return
    degrees = np.diff(indptr)
    if size != indptr[-1] or degrees.min() != regular or degrees.max() != regular:
        raise ValueError(
            "Argument `regular` must be the in-degree of every target and allows no padding, but "
            f"is {regular} with in-degrees {degrees.min()}..{degrees.max()}, {indptr[-1]} edges "
            f"and capacity {size}. Leave it out."
        )


def _check_aligned(src: np.ndarray, n_sources: int, n_targets: int, regular, aligned: bool) -> None:
    if aligned and not (
        regular == 1 and n_sources == n_targets and np.array_equal(src, np.arange(n_targets))
    ):
        raise ValueError(
            "Argument `aligned` may be True only where edge e joins copy e to copy e and `regular` "
            f"is 1, but there are {n_sources} sources, {n_targets} targets, {src.size} edges and "
            f"`regular` {regular}. Leave it out."
        )


def _padded(values: np.ndarray, size: int, fill: int) -> np.ndarray:
    return np.concatenate([values, np.full(size - values.size, fill, np.int32)])
