"""In-degrees and out-degrees of a lift against the laws that drew it (theory, sections 3 and 6)."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from ..lift import (
    AbstractBernoulli,
    AbstractEdgeLaw,
    Complete,
    FixedInDegree,
    Lift,
    OneToOne,
)
from ..showing import shows_itself


@shows_itself
@dataclasses.dataclass(frozen=True)
class Degrees:
    """Degrees over one base edge u -> v.

    Attributes:
        inward: edges entering each copy of v, (n_v,).
        outward: edges leaving each copy of u, (n_u,).
    """

    inward: Int[np.ndarray, " n_v"]
    outward: Int[np.ndarray, " n_u"]


def degrees(lift: Lift) -> dict[str, Degrees]:
    """The degrees over every base edge. Cost: one pass over the edges.

    Args:
        lift: the lift.

    Returns:
        Degrees by base edge.
    """
    result = {}
    for name, fibre in lift.fibres.items():
        sources, targets = fibre.edges()
        result[name] = Degrees(
            np.bincount(targets, minlength=fibre.n_targets),
            np.bincount(sources, minlength=fibre.n_sources),
        )
    return result


def degree_laws(law: AbstractEdgeLaw, n_sources: int, n_targets: int) -> tuple[Any, Any]:
    """The exact laws of one copy's in-degree and out-degree.

    In-degree and out-degree are binomial, (n_u, p) and (n_v, p), where p is the probability of a
    pair: the law's own for Bernoulli laws, k / n_u for `FixedInDegree(k)`, whose in-degree is k.

    Args:
        law: the edge law.
        n_sources: n_u.
        n_targets: n_v.

    Returns:
        Two frozen scipy.stats distributions: in-degree, out-degree.

    Raises:
        ValueError: for a law whose degrees are not known.
    """
    from scipy.stats import binom

    match law:
        case AbstractBernoulli():
            p = law.probability(n_sources, n_targets)
            return binom(n_sources, p), binom(n_targets, p)
        case FixedInDegree(degree):
            return binom(degree, 1.0), binom(n_targets, degree / n_sources)
        case Complete():
            return binom(n_sources, 1.0), binom(n_targets, 1.0)
        case OneToOne():
            return binom(1, 1.0), binom(1, 1.0)
    raise ValueError(
        f"Argument `law` must be an edge law with known degrees, but is {law!r}; compare with "
        "`degrees` yourself."
    )


@shows_itself
@dataclasses.dataclass(frozen=True)
class DegreeTest:
    """p-values of the observed degrees under the laws; small ones speak against them.

    Attributes:
        inward: of the in-degrees.
        outward: of the out-degrees. Under `FixedInDegree` they are slightly dependent, their sum
            being fixed, and the p-value is on the safe side.
    """

    inward: float
    outward: float


def degree_test(lift: Lift, edge: str, law: AbstractEdgeLaw) -> DegreeTest:
    """Pearson's chi-square test of both degrees over one base edge.

    Args:
        lift: the lift.
        edge: the base edge.
        law: the law to test.

    Returns:
        Both p-values; for a degree without randomness, 1 if all copies have it and 0 if not.

    Raises:
        ValueError: for an unknown edge or law.
    """
    if edge not in lift.fibres:
        raise ValueError(
            f"Argument `edge` must name a base edge, but is {edge!r}; use one of "
            f"{', '.join(lift.fibres)}."
        )
    fibre, seen = lift.fibres[edge], degrees(lift)[edge]
    inward, outward = degree_laws(law, fibre.n_sources, fibre.n_targets)
    return DegreeTest(_p_value(seen.inward, inward), _p_value(seen.outward, outward))


def _p_value(observed: np.ndarray, law) -> float:
    from scipy.stats import chisquare

    n, top = observed.size, int(max(observed.max(), law.ppf(1 - 1e-12)))
    expected = n * law.pmf(np.arange(top + 1))
    counts = np.bincount(observed, minlength=top + 1)
    bins = _pooled(expected)
    expected, counts = np.add.reduceat(expected, bins), np.add.reduceat(counts, bins)
    if len(bins) == 1:
        return float(np.all(law.pmf(observed) > 0))
    return float(chisquare(counts, expected * counts.sum() / expected.sum()).pvalue)


def _pooled(expected: np.ndarray, least: float = 5.0) -> np.ndarray:
    """Where bins start so that each expects at least 5, as the chi-square law asks."""
    starts, mass, rest = [0], 0.0, expected.sum()
    for i, value in enumerate(expected):
        if mass >= least and rest >= least:
            starts.append(i)
            mass = 0.0
        mass += value
        rest -= value
    return np.asarray(starts)
