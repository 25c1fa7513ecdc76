"""Unfoldings (universal covers): the directed paths that end at a vertex (theory, section 6)."""

import dataclasses
import functools

import numpy as np

from ..lift import Lift
from ..modules import PerceptronModule, edge_name
from ..showing import shows_itself
from .in_cones import check_copy


@shows_itself
@dataclasses.dataclass(frozen=True)
class InTree:
    """A node of an unfolding with the subtrees above it.

    Attributes:
        vertex: the base vertex under the node.
        copy: which lifted vertex it unfolds; 0 in the unfolding of a base module.
        children: (base edge, weight or None, subtree) for each entering edge.
    """

    vertex: str
    copy: int
    children: tuple[tuple[str, np.ndarray | None, "InTree"], ...]

    @functools.cached_property
    def n_edges(self) -> int:
        """Number of edges."""
        return sum(1 + child.n_edges for _, _, child in self.children)

    @functools.cached_property
    def shape(self) -> tuple:
        """A canonical form: in-trees are isomorphic over B exactly if their shapes are equal."""
        return self.vertex, tuple(sorted((edge, child.shape) for edge, _, child in self.children))


def unfold(
    graph: PerceptronModule | Lift, vertex: str, copy: int = 0, *, limit: int = 100_000
) -> InTree:
    """The in-tree of a base module, or of a lift with its weights, at a vertex.

    Args:
        graph: the base module, or a lift.
        vertex: a base vertex.
        copy: which copy over it, for a lift.
        limit: the largest number of edges; trees grow exponentially with depth.

    Returns:
        The tree.

    Raises:
        ValueError: for an unknown vertex, or a tree beyond the limit.
    """
    if isinstance(graph, Lift):
        check_copy(graph, vertex, copy)
        entering = functools.partial(_lifted, graph, _rows(graph))
    elif vertex not in graph.by_name:
        raise ValueError(
            f"Argument `vertex` must be a vertex of the module, but is {vertex!r}; use one of "
            f"{', '.join(graph.by_name)}."
        )
    else:
        entering = functools.partial(_based, graph)
    trees: dict[tuple[str, int], InTree] = {}
    _unfold(vertex, copy, entering, trees, limit)
    return trees[vertex, copy]


def _unfold(vertex: str, copy: int, entering, trees: dict, limit: int) -> None:
    """Bottom up, each subtree made once and shared: the depth of the base bounds the recursion."""
    children = []
    for edge, weight, source, parent in entering(vertex, copy):
        if (source, parent) not in trees:
            _unfold(source, parent, entering, trees, limit)
        children.append((edge, weight, trees[source, parent]))
    tree = InTree(vertex, copy, tuple(children))
    if tree.n_edges > limit:
        raise ValueError(
            f"Argument `limit` must be at least the {tree.n_edges} edges of the unfolding at "
            f"{vertex!r}, but is {limit}; raise it, or take a smaller witness."
        )
    trees[vertex, copy] = tree


def _based(module: PerceptronModule, vertex: str, _copy: int):
    return [(edge_name(e), None, e.source, 0) for e in module.entering(vertex)]


def _rows(lift: Lift) -> dict:
    return {name: lift.edges(name) for name in lift.fibres}


def _lifted(lift: Lift, rows: dict, vertex: str, copy: int):
    found = []
    for edge in lift.module.entering(vertex):
        sources, targets, weights = rows[edge_name(edge)]
        low, high = np.searchsorted(targets, [copy, copy + 1])
        found += [
            (edge_name(edge), weights[i], edge.source, int(sources[i])) for i in range(low, high)
        ]
    return found
