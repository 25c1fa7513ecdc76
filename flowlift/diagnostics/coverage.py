"""Coverage: which lifted vertices carry a given witness (theory, section 6).

A witness is a small lift of the same module, with one of its vertices. A lifted vertex is
*covered* when its in-cone is a tree isomorphic over B to the witness's in-tree (inputs matched
coordinate by coordinate), and *good at precision eta* when some isomorphism also brings every entry
of every weight within eta [choice: the largest entry, not a norm of the whole].
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool

from ..lift import Lift
from ..modules import Edge, Hidden, edge_name
from .in_cones import check_copy, tree_copies

_SUBSETS = 12


def good_copies(
    lift: Lift, witness: Lift, vertex: str, copy: int = 0, *, eta: float = math.inf
) -> Bool[np.ndarray, " copies"]:
    """Which copies of a hidden vertex are good at precision eta for a witness.

    One pass in topological order: whether a copy matches a vertex of the witness depends on its
    entering edges and on which vertices their sources match. Where several edges enter over one
    base edge, they must match the witness's one to one (a perfect matching).

    Args:
        lift: the lift.
        witness: a small lift of the same module.
        vertex: a hidden base vertex, usually the last one.
        copy: the witness's copy over it.
        eta: precision of the weights; infinite asks for the graph alone: coverage.

    Returns:
        A mask over the copies of `vertex` in the lift. Cost: linear in the lift's edges, for
        each vertex of the witness; 2^k k for in-degree k of the witness.

    Raises:
        ValueError: if the modules differ, the vertex is not hidden, or eta is negative.
    """
    _check(lift, witness, vertex, copy, eta)
    needed = needed_copies(witness, vertex, copy)
    matches: dict[str, np.ndarray] = {}
    for name, wanted in needed.items():
        columns = [_match(lift, witness, name, one, needed, matches, eta) for one in wanted]
        matches[name] = np.stack(columns, axis=1)
    among = {v.name: np.zeros(lift.copies[v.name], bool) for v in lift.module.hidden}
    for name, matched in matches.items():
        among[name] |= matched.any(axis=1)
    return matches[vertex][:, 0] & tree_copies(lift, among)[vertex]


def covered(lift: Lift, witness: Lift, vertex: str, copy: int = 0) -> Bool[np.ndarray, " copies"]:
    """Which copies are covered: `good_copies` without regard to weights.

    Args:
        lift: the lift.
        witness: a small lift of the same module.
        vertex: a hidden base vertex.
        copy: the witness's copy over it.

    Returns:
        A mask over the copies of `vertex`.
    """
    return good_copies(lift, witness, vertex, copy)


def needed_copies(witness: Lift, vertex: str, copy: int) -> dict[str, tuple[int, ...]]:
    """The hidden vertices in a witness's in-cone, by base vertex in topological order.

    Args:
        witness: the witness.
        vertex: where the cone ends.
        copy: which copy.

    Returns:
        Copies by base vertex.
    """
    needed: dict[str, set[int]] = {vertex: {copy}}
    for name in reversed(witness.module.order):
        for edge in witness.module.entering(name) if name in needed else ():
            if isinstance(witness.module.by_name[edge.source], Hidden):
                sources = entering_edges(witness, edge, needed[name])[0]
                needed.setdefault(edge.source, set()).update(sources.tolist())
    return {n: tuple(sorted(needed[n])) for n in witness.module.order if needed.get(n)}


def entering_edges(lift: Lift, edge: Edge, copies: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Sources and weights of the edges over a base edge that enter some copies.

    Args:
        lift: the lift.
        edge: the base edge.
        copies: copies of its target.

    Returns:
        Sources (edges,) and weights (edges, *W_e).
    """
    sources, targets, weights = lift.edges(edge_name(edge))
    chosen = np.isin(targets, list(copies))
    return sources[chosen], weights[chosen]


def _match(lift, witness, name, copy, needed, matches, eta) -> np.ndarray:
    """Which copies over `name` match one vertex of the witness, cycles aside."""
    alive = np.ones(lift.copies[name], bool)
    for edge in lift.module.entering(name):
        fibre = lift.fibres[edge_name(edge)]
        sources, weights = entering_edges(witness, edge, [copy])
        if fibre.is_complete:
            alive &= fibre.n_sources == len(sources)
        else:
            alive &= np.diff(np.asarray(fibre.indptr)) == len(sources)
        rows = np.flatnonzero(alive)
        if rows.size and len(sources):
            known = (needed.get(edge.source), matches.get(edge.source))
            alive[rows] = _edges_match(lift, edge, rows, sources, weights, known, eta)
    return alive


def _edges_match(lift: Lift, edge: Edge, rows, sources, weights, known, eta) -> np.ndarray:
    fibre, k = lift.fibres[edge_name(edge)], len(sources)
    ours, heads, values = lift.edges(edge_name(edge))
    starts = rows * k if fibre.is_complete else np.searchsorted(heads, rows)
    index = starts[:, None] + np.arange(k)
    compatible = np.empty((rows.size, k, k), bool)
    for j in range(k):
        if known[0] is None:
            compatible[:, :, j] = ours[index] == sources[j]
        else:
            compatible[:, :, j] = known[1][ours[index], known[0].index(sources[j])]
        if eta < math.inf:
            gap = np.abs(values[index] - weights[j]).reshape(rows.size, k, -1)
            compatible[:, :, j] &= gap.max(axis=2, initial=0) <= eta
    return perfect_matching(compatible)


def perfect_matching(compatible: Bool[np.ndarray, "m k k"]) -> Bool[np.ndarray, " m"]:
    """Whether each of m bipartite graphs on k + k vertices has a perfect matching.

    Args:
        compatible: which pairs may be matched.

    Returns:
        One answer a graph. Cost: 2^k k a graph up to k = 12, Hopcroft-Karp beyond.
    """
    m, k = compatible.shape[:2]
    if k > _SUBSETS:
        return np.array([_matched(graph) for graph in compatible], bool)
    reached = np.zeros((m, 1 << k), bool)
    reached[:, 0] = True
    subsets = np.arange(1 << k)
    for i in range(k):
        following = np.zeros_like(reached)
        for j in range(k):
            free = subsets[subsets >> j & 1 == 0]
            following[:, free | 1 << j] |= reached[:, free] & compatible[:, i, j, None]
        reached = following
    return reached[:, -1]


def _matched(graph: np.ndarray) -> bool:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return bool((maximum_bipartite_matching(csr_array(graph)) >= 0).all())


def _check(lift: Lift, witness: Lift, vertex: str, copy: int, eta: float) -> None:
    if lift.module != witness.module:
        raise ValueError(
            "Argument `witness` must be a lift of the same module, but its module differs; build "
            "it by from_edges(lift.module, ...)."
        )
    check_copy(witness, vertex, copy)
    if not isinstance(lift.module.by_name[vertex], Hidden):
        raise ValueError(
            f"Argument `vertex` must be hidden, but {vertex!r} is not; name the vertex before the "
            "read-out."
        )
    if not eta >= 0:
        raise ValueError(
            f"Argument `eta` must be a precision of at least 0, but is {eta!r}; give e.g. 0.1."
        )
