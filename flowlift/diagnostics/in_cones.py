"""In-cones of lifted vertices, and whether they are trees (theory, section 6).

The fibres over inputs and constants are fixed, every copy of a hidden vertex may share them, so
they count as leaves that each path ends in on its own [read]: an in-cone is a tree when every
**hidden** ancestor is reached by exactly one path. For sparse laws the fraction of such vertices
tends to 1 as n grows; for the complete law it is 0 from the third hidden layer on.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from ..lift import Lift
from ..modules import Hidden, edge_name
from ..showing import shows_itself

_BLOCK = 1 << 23


@shows_itself
@dataclasses.dataclass(frozen=True)
class InCone:
    """All ancestors of a lifted vertex, itself included, with the edges among them.

    Attributes:
        copies: for each base vertex, the ancestors over it, ascending.
        edges: for each base edge, positions in `lift.edges(name)`.
        is_tree: whether each hidden ancestor is reached by exactly one path.
    """

    copies: dict[str, Int[np.ndarray, "..."]]
    edges: dict[str, Int[np.ndarray, "..."]]
    is_tree: bool


def in_cone(lift: Lift, vertex: str, copy: int) -> InCone:
    """The in-cone of one lifted vertex.

    Args:
        lift: the lift.
        vertex: the base vertex under it.
        copy: which copy.

    Returns:
        The in-cone. Cost: one pass over the row pointers, then the size of the cone.

    Raises:
        ValueError: for an unknown vertex or copy.
    """
    check_copy(lift, vertex, copy)
    members = {name: np.zeros(0, int) for name in lift.module.order}
    members[vertex] = np.array([copy])
    edges = {name: np.zeros(0, int) for name in lift.fibres}
    tree = True
    for name in reversed(lift.module.order):
        for edge in lift.module.entering(name):
            sources, targets = lift.fibres[edge_name(edge)].edges()
            starts = np.searchsorted(targets, members[name])
            counts = np.searchsorted(targets, members[name], side="right") - starts
            chosen = ragged(starts, counts)
            edges[edge_name(edge)] = chosen
            found = np.concatenate([members[edge.source], sources[chosen]])
            members[edge.source] = np.unique(found)
            hidden = isinstance(lift.module.by_name[edge.source], Hidden)
            tree &= not hidden or members[edge.source].size == found.size
    return InCone(members, edges, tree)


def tree_copies(
    lift: Lift, among: Mapping[str, Bool[np.ndarray, "..."]] | None = None
) -> dict[str, Bool[np.ndarray, "..."]]:
    """Which copies of each hidden vertex have a tree as in-cone.

    A vertex qualifies when its parents do and their cones are disjoint. A cone that would count
    more vertices than there are is no tree and is not built.

    Args:
        lift: the lift.
        among: restrict to these copies (and to cones made of them); all others get False.

    Returns:
        A mask for each hidden vertex. Cost: linear in the edges and the total size of the cones
        whose parents are trees (sorting aside).
    """
    offsets, total = {}, 0
    for vertex in lift.module.hidden:
        offsets[vertex.name] = total
        total += lift.copies[vertex.name]
    cones: dict[str, _Cones] = {}
    for name in lift.module.order:
        if name in offsets:
            allowed = np.ones(lift.copies[name], bool) if among is None else among[name]
            cones[name] = _grow(lift, name, cones, offsets, total, allowed)
    return {name: cones[name].tree for name in offsets}


def tree_fractions(lift: Lift) -> dict[str, float]:
    """The fraction of copies of each hidden vertex whose in-cone is a tree, in topological order.

    Args:
        lift: the lift.

    Returns:
        Fractions by vertex, the shallow ones first.
    """
    return {name: float(np.mean(mask)) for name, mask in tree_copies(lift).items()}


def check_copy(lift: Lift, vertex: str, copy: int) -> None:
    """Refuse what is no vertex of a lift.

    Args:
        lift: the lift.
        vertex: the base vertex.
        copy: the copy.

    Raises:
        ValueError: if there is no such vertex.
    """
    if vertex not in lift.copies or not 0 <= copy < lift.copies[vertex]:
        raise ValueError(
            f"Arguments `vertex` and `copy` must name a lifted vertex, but are {vertex!r} and "
            f"{copy!r}; the lift has {lift.copies}."
        )


def ragged(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The ranges starts[i] .. starts[i] + counts[i] one after the other.

    Args:
        starts: where they start.
        counts: how long they are.

    Returns:
        All their members.
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


@dataclasses.dataclass(frozen=True)
class _Cones:
    """Hidden ancestors of each copy that has a tree, as rows of a ragged array."""

    tree: np.ndarray
    indptr: np.ndarray
    members: np.ndarray


def _grow(lift: Lift, name: str, cones: dict, offsets: dict, total: int, allowed) -> _Cones:
    n = lift.copies[name]
    parents = [
        (cones[edge.source], *lift.fibres[edge_name(edge)].edges())
        for edge in lift.module.entering(name)
        if edge.source in cones
    ]
    size, tree = np.ones(n, np.int64), allowed.copy()
    for cone, sources, targets in parents:
        size += np.bincount(targets, np.diff(cone.indptr)[sources], n).astype(np.int64)
        tree[targets[~cone.tree[sources]]] = False
    tree &= size <= total
    cost = np.where(tree, size, 0)
    blocks = np.searchsorted(np.cumsum(cost), np.arange(_BLOCK, cost.sum() + _BLOCK, _BLOCK))
    bounds = np.unique(np.concatenate([[0], blocks + 1, [n]]).clip(0, n))
    rows = [
        _rows(parents, tree, low, high, offsets[name])
        for low, high in itertools.pairwise(bounds.tolist())
    ]
    tree = np.concatenate([good for good, _ in rows])
    indptr = np.append(0, np.cumsum(np.where(tree, size, 0)))
    return _Cones(tree, indptr, np.concatenate([members for _, members in rows]))


def _rows(parents, tree: np.ndarray, low: int, high: int, offset: int):
    """The cones of the copies low .. high that are trees, and which are."""
    own = np.arange(low, high)[tree[low:high]]
    targets, members = [own], [own + offset]
    for cone, sources, heads in parents:
        edges = np.arange(*np.searchsorted(heads, [low, high]))
        edges = edges[tree[heads[edges]]]
        starts = cone.indptr[sources[edges]]
        counts = cone.indptr[sources[edges] + 1] - starts
        targets.append(np.repeat(heads[edges], counts))
        members.append(cone.members[ragged(starts, counts)])
    row, member = np.concatenate(targets), np.concatenate(members)
    order = np.lexsort((member, row))
    row, member = row[order], member[order]
    twice = (np.diff(row) == 0) & (np.diff(member) == 0)
    good = tree[low:high].copy()
    good[row[1:][twice] - low] = False
    return good, member[good[row - low]]
