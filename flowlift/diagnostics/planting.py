"""Planting a witness: the lift is changed so that it covers a vertex (theory, section 6)."""

import numpy as np

from ..lift import Lift, Purpose, from_edges, stream
from ..modules import Hidden
from .in_cones import check_copy
from .unfolding import InTree, unfold

_Planted = dict[str, list[tuple[int, int, np.ndarray]]]


def plant_in_tree(
    lift: Lift, witness: Lift, vertex: str, copy: int = 0, *, at: int = 0, seed: int = 0
) -> Lift:
    """Plant a witness's in-tree, weights included, at a hidden vertex of a lift.

    Every node of the tree takes a copy of its own: `at` at the top, distinct random ones above.
    Their entering edges are replaced by the tree's; all other edges stay.

    Args:
        lift: the lift.
        witness: a small lift of the same module.
        vertex: a hidden base vertex.
        copy: the witness's copy over it.
        at: the lift's copy over it.
        seed: seeds the choice of the other copies.

    Returns:
        A new lift, its seed -1: good for the witness at precision 0 at this vertex. Its arrays
        have lengths of their own, so that it does not share the old one's compilation.

    Raises:
        ValueError: for unknown vertices, different modules, or more nodes than copies.
    """
    check_copy(lift, vertex, at)
    if lift.module != witness.module or not isinstance(lift.module.by_name[vertex], Hidden):
        raise ValueError(
            f"Arguments `witness` and `vertex` must be a lift of the same module and a hidden "
            f"vertex of it, but are a lift of {len(witness.module.vertices)} vertices and "
            f"{vertex!r}; build the witness by from_edges(lift.module, ...)."
        )
    free = _free_copies(lift, vertex, at, seed)
    planted: _Planted = {name: [] for name in lift.fibres}
    taken = {v.name: [] for v in lift.module.hidden}
    _place(unfold(witness, vertex, copy), at, lift, free, planted, taken)
    edges = {name: _edges(lift, name, planted[name], taken) for name in lift.fibres}
    return from_edges(
        lift.module,
        copies={v.name: lift.copies[v.name] for v in lift.module.hidden},
        edges=edges,
        precision=str(np.asarray(next(iter(lift.weights.values()))).dtype),
        method=lift.method,
    )


def _free_copies(lift: Lift, vertex: str, at: int, seed: int) -> dict[str, list[int]]:
    rng = stream(seed, Purpose.PROBE)
    free = {v.name: rng.permutation(lift.copies[v.name]).tolist() for v in lift.module.hidden}
    free[vertex].remove(at)
    return free


def _place(tree: InTree, at: int, lift: Lift, free, planted: _Planted, taken) -> None:
    taken[tree.vertex].append(at)
    for edge, weight, child in tree.children:
        source = child.copy
        if isinstance(lift.module.by_name[child.vertex], Hidden):
            if not free[child.vertex]:
                raise ValueError(
                    f"Argument `lift` must have a copy of {child.vertex!r} for each node of the "
                    f"witness's in-tree, but has only {lift.copies[child.vertex]}; enlarge it."
                )
            source = free[child.vertex].pop()
            _place(child, source, lift, free, planted, taken)
        planted[edge].append((source, at, np.asarray(weight)))


def _edges(lift: Lift, name: str, planted: list, taken: dict):
    sources, targets, weights = lift.edges(name)
    target = lift.module.edge_by_name[name].target
    keep = ~np.isin(targets, taken.get(target, []))
    columns = [sources[keep]], [targets[keep]], [weights[keep]]
    for source, at, weight in planted:
        for column, value in zip(columns, (source, at, weight), strict=True):
            column.append(np.asarray(value)[None])
    sources, targets, weights = (np.concatenate(column) for column in columns)
    return sources, targets, weights
