"""The probability p that a copy is good for a witness, exactly from the laws (theory, section 5).

Degrees have their exact laws; distinct copies have independent in-neighbourhoods and weights, so p
follows by recursion over the witness, up to the probability O(1/n) that a small in-cone of a sparse
lift is no tree. The number of good copies is then p n, to within O(sqrt(n)). Nothing is fitted.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ..lift import (
    AbstractEdgeLaw,
    AbstractWeightLaw,
    Gaussian,
    GaussianFanIn,
    GaussianWidth,
    LecunNormal,
    Lift,
    OneToOne,
    Uniform,
    Zero,
)
from ..lift.sampling import resolve_copies
from ..modules import Edge, Hidden, edge_name
from .coverage import entering_edges, needed_copies, perfect_matching
from .degrees import degree_laws
from .in_cones import check_copy

# The law of a random set of matched things: probabilities by set; they sum to 1.
SetLaw = dict[frozenset, float]
_TERMS = 200_000


def coverage_rate(
    witness: Lift,
    vertex: str,
    copy: int = 0,
    *,
    copies: int | Mapping[str, int],
    edges: Mapping[str, AbstractEdgeLaw],
    weights: Mapping[str, AbstractWeightLaw],
    eta: float = math.inf,
) -> float:
    """p for a lift drawn by `sample(module, copies=..., edges=..., weights=...)`.

    Args:
        witness: a small lift of the module.
        vertex: a hidden base vertex.
        copy: the witness's copy over it.
        copies: the lift size, as for `sample`.
        edges: the edge law over every base edge in the witness's in-cone, by name.
        weights: likewise the weight laws; not needed if eta is infinite.
        eta: precision of the weights.

    Returns:
        The probability that one copy of `vertex` is good, cycles in its in-cone aside.

    Raises:
        ValueError: for a missing or unsupported law, or a witness with too many coincidences.
    """
    check_copy(witness, vertex, copy)
    sizes = resolve_copies(witness.module, copies)
    needed = needed_copies(witness, vertex, copy)
    laws: dict[str, SetLaw] = {}
    for name, wanted in needed.items():
        law: SetLaw = {frozenset(wanted): 1.0}
        for edge in witness.module.entering(name):
            key = edge_name(edge)
            degree = _named("edges", edges, key)
            weight = None if math.isinf(eta) else _named("weights", weights, key)
            draws = _Edge(witness, edge, sizes[edge.source], sizes[name], degree, weight, eta)
            law = _intersection(law, draws.law(wanted, laws.get(edge.source)))
        laws[name] = law
    return sum(p for matched, p in laws[vertex].items() if copy in matched)


def _named(argument: str, laws: Mapping, key: str):
    if key not in laws:
        raise ValueError(
            f"Argument `{argument}` must name every base edge in the witness's in-cone, but lacks "
            f"{key!r}; add its law."
        )
    return laws[key]


class _Edge:
    """One base edge u -> v: the law of the set of the witness's vertices whose edges it matches."""

    def __init__(self, witness: Lift, edge: Edge, n_sources, n_targets, law, weight, eta):
        self.witness, self.edge, self.n_sources, self.law_of = witness, edge, n_sources, law
        self.fixed = not isinstance(witness.module.by_name[edge.source], Hidden)
        self.degrees = degree_laws(law, n_sources, n_targets)[0]
        self.weight, self.eta = weight, eta

    def law(self, wanted: tuple[int, ...], sources: SetLaw | None) -> SetLaw:
        slots = {w: entering_edges(self.witness, self.edge, [w]) for w in wanted}
        return self._fixed(slots) if self.fixed else self._hidden(slots, sources or {})

    def _fixed(self, slots: dict) -> SetLaw:
        """A fixed fibre: the set of sources is a uniform one of its size (exchangeable laws)."""
        if isinstance(self.law_of, OneToOne):
            raise ValueError(
                f"Argument `edges[{edge_name(self.edge)!r}]` must treat input copies alike, but is "
                "OneToOne; the rate then depends on the copy."
            )
        result: SetLaw = {}
        for sources in {tuple(s.tolist()) for s, _ in slots.values()}:
            k = len(sources)
            chance = float(self.degrees.pmf(k)) / math.comb(self.n_sources, k)
            alike = {w: e[1] for w, e in slots.items() if tuple(e[0].tolist()) == sources}
            law: SetLaw = {frozenset(alike): 1.0}
            for j in range(k):
                law = _intersection(law, self._close({w: e[j] for w, e in alike.items()}))
            _add(result, law, chance)
        return _completed(result)

    def _hidden(self, slots: dict, sources: SetLaw) -> SetLaw:
        """Given its in-degree, a copy's entering edges are independent and alike."""
        result: SetLaw = {}
        for k in {len(s) for s, _ in slots.values()}:
            alike = {w: e for w, e in slots.items() if len(e[0]) == k}
            pairs = {(w, j): e for w, e in alike.items() for j in range(k)}
            close = self._close({key: e[1][key[1]] for key, e in pairs.items()})
            one: SetLaw = {}
            for (near, p), (found, q) in itertools.product(close.items(), sources.items()):
                kept = frozenset(key for key in near if int(pairs[key][0][key[1]]) in found)
                one[kept] = one.get(kept, 0.0) + p * q
            _add(result, _matched_law(one, alike, k), float(self.degrees.pmf(k)))
        return _completed(result)

    def _close(self, points: dict) -> SetLaw:
        """The law of the set of points that a random weight is eta-close to."""
        if self.weight is None:
            return {frozenset(points): 1.0}
        shape = self.witness.module.weight_shape(self.edge)
        fan_in = self.edge.map.fan_in(self.witness.module.shapes[self.edge.source])
        cdf = _distribution(self.weight, fan_in, self.n_sources)
        groups: dict[bytes, list] = {}
        for key, point in points.items():
            groups.setdefault(np.asarray(point, float).tobytes(), []).append(key)
        boxes = [np.frombuffer(b).reshape(shape) for b in groups]
        _check_terms(2.0 ** len(boxes), edge_name(self.edge))
        subsets = [frozenset(c) for r in range(len(boxes) + 1) for c in _choose(len(boxes), r)]
        inside = {s: _box_probability([boxes[i] for i in s], self.eta, cdf) for s in subsets}
        keys = list(groups.values())
        law = {}
        for s in subsets:
            p = sum((-1) ** len(t - s) * inside[t] for t in subsets if s <= t)
            law[frozenset(key for i in s for key in keys[i])] = max(p, 0.0)
        return law


def _choose(n: int, r: int):
    return itertools.combinations(range(n), r)


def _box_probability(points: list, eta: float, cdf) -> float:
    if not points:
        return 1.0
    stack = np.stack(points)
    low, high = stack.max(axis=0) - eta, stack.min(axis=0) + eta
    return float(np.prod(np.where(low <= high, cdf(low, np.maximum(low, high)), 0.0)))


def _distribution(law: AbstractWeightLaw, fan_in: int, n_sources: int):
    """P(low <= weight <= high) of one entry."""
    from scipy.stats import norm, uniform

    match law:
        case Gaussian(scale):
            spread = norm(scale=scale)
        case GaussianFanIn(scale):
            spread = norm(scale=scale / math.sqrt(fan_in))
        case GaussianWidth(scale):
            spread = norm(scale=scale / math.sqrt(n_sources))
        case LecunNormal(scale):
            spread = norm(scale=scale / math.sqrt(n_sources * fan_in))
        case Uniform(bound):
            spread = uniform(-bound, 2 * bound)
        case Zero():
            return lambda low, high: ((low <= 0) & (high >= 0)).astype(float)
        case _:
            raise ValueError(
                f"Argument `weights` must hold laws of this library, but holds {law!r}; their "
                "probabilities are needed."
            )
    return lambda low, high: spread.cdf(high) - spread.cdf(low)


def _matched_law(one: SetLaw, slots: dict, k: int) -> SetLaw:
    """Of k independent edges with patterns `one`: which of the witness's vertices all match."""
    patterns = [(pattern, p) for pattern, p in one.items() if p > 0]
    _check_terms(math.comb(len(patterns) + k - 1, k), "its in-degree")
    result: SetLaw = {}
    for drawn in itertools.combinations_with_replacement(range(len(patterns)), k):
        ways = math.factorial(k)
        for count in Counter(drawn).values():
            ways //= math.factorial(count)
        chance = ways * math.prod(patterns[i][1] for i in drawn)
        matched = frozenset(w for w in slots if _fits(w, [patterns[i][0] for i in drawn]))
        result[matched] = result.get(matched, 0.0) + chance
    return result


def _fits(vertex: int, drawn: list[frozenset]) -> bool:
    k = len(drawn)
    if not k:
        return True
    graph = np.array([[(vertex, j) in pattern for j in range(k)] for pattern in drawn])
    return bool(perfect_matching(graph[None])[0])


def _check_terms(terms: float, where: str) -> None:
    if terms > _TERMS:
        raise ValueError(
            f"Argument `witness` must be small, but {where} makes {terms:.0f} terms; take one with "
            "fewer edges into a vertex."
        )


def _intersection(one: SetLaw, other: SetLaw) -> SetLaw:
    result: SetLaw = {}
    for (a, p), (b, q) in itertools.product(one.items(), other.items()):
        result[a & b] = result.get(a & b, 0.0) + p * q
    return result


def _add(result: SetLaw, law: SetLaw, chance: float) -> None:
    for matched, p in law.items():
        result[matched] = result.get(matched, 0.0) + chance * p


def _completed(law: SetLaw) -> SetLaw:
    """What is left has other degrees or sources and matches nothing."""
    nothing: frozenset = frozenset()
    rest = 1.0 - sum(law.values())
    return law | {nothing: law.get(nothing, 0.0) + max(rest, 0.0)}
