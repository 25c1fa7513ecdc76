"""Flows of lifts whose graph changes at given times: pruned by magnitude, regrown."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..lift import Lift, Purpose, densified, rewirable, stream, with_edges
from ..lift.rewiring import Edges
from ..memory import check_memory
from ..numbers import real
from ..showing import shows_itself
from ..tasks import AbstractObjective, Task, resolve_objective
from .problem import make_problem
from .programs import host_field

GROWTHS = ("gradient", "random")


@shows_itself
@dataclasses.dataclass(frozen=True)
class Change:
    """What one rewiring did over one base edge.

    Attributes:
        dropped: sources and targets of the edges that left, (2, k), smallest magnitude first.
        magnitudes: |w| of each when it left: the Euclidean norm of its weight in W_e.
        grown: sources and targets of the edges that entered, (2, k); by gradient the largest first.
        slopes: |dL/dw| of each at w = 0, after all dropped edges have left; NaN if grown at random.
    """

    dropped: np.ndarray
    magnitudes: np.ndarray
    grown: np.ndarray
    slopes: np.ndarray


def rewire(
    lift: Lift,
    task: Task | AbstractObjective | Callable,
    *,
    drop: float,
    grow: str,
    seed: int,
    edges: Sequence[str] | None = None,
    turn: int = 0,
    precision: str = "float64",
    memory: int | None = None,
) -> tuple[Lift, dict[str, Change]]:
    """Drop the edges of smallest weight over each base edge, and let as many others grow from 0.

    Over a base edge with m lifted edges floor(drop m) leave, those of least |w|. As many enter
    among the pairs that are then absent (those that just left included), with weight 0: L does not
    change by them. "gradient" takes the pairs of largest |dL/dw| at 0, of the **pruned** network
    [choice]: no others let L fall as fast at first (RigL, Evci et al., ICML 2020, arXiv 1911.11134,
    takes the gradient before the pruning). "random" takes any, all equally likely (sparse
    evolutionary training, Mocanu et al., Nature Communications 9 (2018)). Of equals the first by
    target, then source, is taken.

    Cost: by gradient, one gradient of the lift with all pairs over these base edges.

    Args:
        lift: the lift.
        task: whose L.
        drop: the fraction, above 0 and below 1.
        grow: "gradient" or "random".
        seed: of the random pairs.
        edges: base edges; None for all that are sparse, see `lift.rewirable`.
        turn: how many rewirings of this seed came before.
        precision: "float64" or "float32".
        memory: as for `solve`.

    Returns:
        The lift, in arrays of the same shapes, see `lift.with_edges`; and what changed, by base
        edge.

    Raises:
        ValueError: for a model that is no lift, base edges that cannot change, or an unknown way to
            grow; for fractions that drop nothing; or if the pairs exceed the machine's memory.
    """
    names = check_rewiring(lift, edges, (drop,), grow)
    return exchange(
        lift, task, names, drop=drop, grow=grow, seed=seed, turn=turn, precision=precision,
        memory=memory,
    )  # fmt: skip


def exchange(
    lift: Lift,
    task: Task | AbstractObjective | Callable,
    names: Sequence[str],
    *,
    drop: float,
    grow: str,
    seed: int,
    turn: int,
    precision: str = "float64",
    memory: int | None = None,
) -> tuple[Lift, dict[str, Change]]:
    """As `rewire`, of arguments that are known to be right; less than an edge is none.

    Args:
        lift: as for `rewire`, like all that follow.
        task: whose L.
        names: the base edges.
        drop: the fraction.
        grow: how edges enter.
        seed: of the random pairs.
        turn: how many rewirings came before.
        precision: of the derivatives.
        memory: bound on their gradient.

    Returns:
        The lift, and what changed.
    """
    gone = {name: _smallest(lift, name, drop) for name in names}
    pruned = {name: _without(lift.edges(name), at) for name, at in gone.items()}
    slopes = {}
    if grow == "gradient":
        less = with_edges(lift, pruned)
        slopes = slopes_of_pairs(less, task, names, precision=precision, memory=memory)
    changes, new = {}, {}
    for name, at in gone.items():
        fibre, count = lift.fibres[name], len(at)
        taken = pruned[name][1].astype(np.int64) * fibre.n_sources + pruned[name][0]
        if grow == "gradient":
            places = _steepest(slopes[name], taken, count)
        else:
            # Two numbers, where the stream that drew the graph has three.
            at_edge = lift.module.edges.index(lift.module.edge_by_name[name])
            rng = stream(seed, Purpose.GRAPH, at_edge, turn)
            places = absent_at_random(fibre.n_sources * fibre.n_targets, taken, count, rng)
        grown = np.stack(np.divmod(places, fibre.n_sources)[::-1])
        sources, targets, weights = lift.edges(name)
        steep = slopes[name][places] if slopes else np.full(count, np.nan)
        dropped = np.stack([sources[at], targets[at]])
        changes[name] = Change(dropped, _norms(weights)[at], grown, steep)
        new[name] = _joined(pruned[name], grown)
    return with_edges(lift, new), changes


def slopes_of_pairs(
    lift: Lift,
    task: Task | AbstractObjective | Callable,
    names: Sequence[str],
    *,
    precision: str = "float64",
    memory: int | None = None,
) -> dict[str, np.ndarray]:
    """|dL/dw| for every pair of copies over some base edges, joined by an edge or not.

    Args:
        lift: the lift.
        task: whose L.
        names: base edges.
        precision: "float64" or "float32".
        memory: as for `solve`.

    Returns:
        For each base edge the Euclidean norms of the derivatives, (n_v n_u,), the pair (u', v') at
        place v' n_u + u'. Cost: one gradient of the lift with all these pairs.

    Raises:
        ValueError: if the pairs exceed the machine's memory.
    """
    check_pairs(lift, names)
    dense = densified(lift, tuple(names))
    problem = make_problem(dense, resolve_objective(task), precision, memory=memory)
    gradient = host_field(problem).value_and_grad(problem.start_on_host)[1]
    found = problem.coordinates.leaves_on_host(gradient, problem.theta0)
    return {name: _norms(np.asarray(found.weights[name])) for name in names}


def check_pairs(lift: Lift, names: Sequence[str]) -> None:
    """Refuse derivatives by more weights of pairs than the memory holds.

    Args:
        lift: the lift.
        names: base edges.

    Raises:
        ValueError: if they are too many.
    """
    fibres, weights = lift.fibres, lift.weights
    pairs = sum(
        fibres[n].n_sources * fibres[n].n_targets * int(np.prod(weights[n].shape[1:], dtype=int))
        for n in names
    )
    # theta and its gradient, on the host and beside it.
    check_memory("edges", tuple(names), 32 * pairs, f"derivatives by {pairs} weights of pairs")


def check_rewiring(
    lift: Lift, edges: Sequence[str] | None, drop: Sequence[float], grow: str
) -> tuple[str, ...]:
    """Refuse rewirings without sense, before anything is computed.

    Args:
        lift: the model.
        edges: as for `rewire`.
        drop: fractions, of which one at least has to drop an edge.
        grow: as for `rewire`.

    Returns:
        The base edges.

    Raises:
        ValueError: as for `rewire`.
    """
    if not isinstance(lift, Lift):
        raise ValueError(
            f"Argument `model` must be a lift, whose graph can change, but is "
            f"{type(lift).__name__}; sample one."
        )
    if grow not in GROWTHS:
        raise ValueError(
            f"Argument `grow` must be one of {', '.join(GROWTHS)}, but is {grow!r}; choose one."
        )
    can = rewirable(lift)
    names = can if edges is None else tuple(edges)
    if not names or set(names) - set(can) or len(set(names)) < len(names):
        raise ValueError(
            f"Argument `edges` must name base edges that are sparse, each once, {can}, but is "
            f"{edges!r}; give their law fewer than all pairs, or correct the names."
        )
    known = [real(share) for share in drop]
    for share, number in zip(drop, known, strict=True):
        # One share of a falling schedule may be less than an edge.
        if number is None or not 0 < number < 1 or not _drops(lift, names, known):
            raise ValueError(
                "Argument `drop` must be a fraction above 0 and below 1 that drops an edge, but is "
                f"{share!r}; change it."
            )
    return names


def _drops(lift: Lift, names: Sequence[str], shares: Sequence[float | None]) -> bool:
    most = max((share for share in shares if share is not None), default=0.0)
    return any(_count(lift, name, most) for name in names)


def _count(lift: Lift, name: str, drop: float) -> int:
    return int(drop * int(lift.fibres[name].count))


def _smallest(lift: Lift, name: str, drop: float) -> np.ndarray:
    norms = _norms(lift.edges(name)[2])
    return np.argsort(norms, kind="stable")[: _count(lift, name, drop)]


def _norms(weights: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each edge's weight."""
    if weights.ndim == 1:
        return np.abs(weights)
    return np.linalg.norm(weights.reshape(len(weights), -1), axis=1)


def _without(edges: Edges, at: np.ndarray) -> Edges:
    sources, targets, weights = (np.delete(part, at, axis=0) for part in edges)
    return sources, targets, weights


def _joined(edges: Edges, grown: np.ndarray) -> Edges:
    sources, targets, weights = edges
    zeros = np.zeros((grown.shape[1], *weights.shape[1:]), weights.dtype)
    return (
        np.append(sources, grown[0]),
        np.append(targets, grown[1]),
        np.concatenate([weights, zeros]),
    )


def _steepest(slopes: np.ndarray, present: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest slopes among absent pairs."""
    absent = slopes.copy()
    absent[present] = -np.inf
    return np.argsort(-absent, kind="stable")[:count]


def absent_at_random(
    pairs: int, taken: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Distinct numbers below `pairs` that are not taken, uniform: drawn again until they are.

    Args:
        pairs: how many numbers there are.
        taken: those that are not to be drawn.
        count: how many to draw, at most as many as are left.
        rng: the stream.

    Returns:
        The numbers. Cost: linear in the taken and the drawn, and not in `pairs` where these are
        fewer than half of them.
    """
    if 2 * (len(taken) + count) > pairs:
        absent = np.setdiff1d(np.arange(pairs), taken)
        return rng.choice(absent, count, replace=False)
    found = np.empty(0, np.int64)
    while len(found) < count:
        drawn = np.append(found, rng.integers(0, pairs, 2 * count))
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)]
        found = drawn[~np.isin(drawn, taken)]
    return found[:count]
