"""Edge laws: which pairs of copies a base edge (u, v) joins (theory, section 3 [choice]).

The paper's own law is not known to us; these are ours, with n_u source and n_v target copies.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np

from ..numbers import real, whole
from ..registry import register

Pairs = tuple[np.ndarray, np.ndarray]


class AbstractEdgeLaw(abc.ABC):
    """A law of the random bipartite graph over one base edge."""

    # What a sentence of a page says of it, its fields in braces; empty: its name and fields.
    phrase: ClassVar[str] = ""

    @abc.abstractmethod
    def draw(self, n_sources: int, n_targets: int, rng: np.random.Generator) -> Pairs:
        """Sources and targets of the edges (int64), sorted by target, then source."""

    @abc.abstractmethod
    def capacity(self, n_sources: int, n_targets: int) -> int:
        """The array length that practically every draw fits: equal shapes for all seeds."""

    @abc.abstractmethod
    def check(self, n_sources: int, n_targets: int, edge: str) -> None:
        """Raise ValueError if the law cannot serve these numbers of copies."""

    def in_degree(self, n_sources: int) -> int | None:
        """The in-degree when it is the same for every target, else None."""
        return None


class AbstractBernoulli(AbstractEdgeLaw):
    """Each pair is kept independently with one probability p(n_u, n_v)."""

    @abc.abstractmethod
    def probability(self, n_sources: int, n_targets: int) -> float:
        """The probability p of a pair."""

    def draw(self, n_sources: int, n_targets: int, rng: np.random.Generator) -> Pairs:
        """All kept pairs, by geometric gaps: O(edges), not O(pairs)."""
        return _bernoulli_pairs(n_sources, n_targets, self.probability(n_sources, n_targets), rng)

    def capacity(self, n_sources: int, n_targets: int) -> int:
        """Mean + 6 standard deviations of the number of edges, rounded up to a multiple of 64."""
        pairs, p = n_sources * n_targets, self.probability(n_sources, n_targets)
        size = pairs * p + 6 * math.sqrt(pairs * p * (1 - p))
        return min(pairs, 64 * math.ceil(size / 64))

    def check(self, n_sources: int, n_targets: int, edge: str) -> None:
        """Every number of copies will do: p is at most 1 by definition."""


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class BernoulliInDegree(AbstractBernoulli):
    """Each pair independently with probability min(1, mean / n_u): in-degrees are binomial.

    Theory, section 3 [choice], the law meant where none is discussed. A copy with in-degree 0 is
    legal: its pre-activation is the empty sum, 0.

    Attributes:
        mean: the mean in-degree lambda > 0 (n_u when n_u is smaller).
    """

    phrase: ClassVar[str] = "binomial in-degrees of mean {mean:g}"

    mean: float

    def __post_init__(self):
        mean = _positive("mean", self.mean, type(self).__name__)
        object.__setattr__(self, "mean", mean)

    def probability(self, n_sources: int, n_targets: int) -> float:
        """min(1, mean / n_u)."""
        return min(1.0, self.mean / n_sources)


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class BernoulliOutDegree(AbstractBernoulli):
    """Each pair independently with probability min(1, mean / n_v): out-degrees are binomial.

    Theory, section 3 [choice]; this law punishes widths that shrink with depth.

    Attributes:
        mean: the mean out-degree lambda > 0 (n_v when n_v is smaller).
    """

    phrase: ClassVar[str] = "binomial out-degrees of mean {mean:g}"

    mean: float

    def __post_init__(self):
        mean = _positive("mean", self.mean, type(self).__name__)
        object.__setattr__(self, "mean", mean)

    def probability(self, n_sources: int, n_targets: int) -> float:
        """min(1, mean / n_v)."""
        return min(1.0, self.mean / n_targets)


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class FixedInDegree(AbstractEdgeLaw):
    """Every copy of v draws `degree` distinct copies of u, uniformly (theory, section 3 [choice]).

    Attributes:
        degree: the in-degree k >= 1, at most n_u.
    """

    phrase: ClassVar[str] = "in-degree {degree}"

    degree: int

    def __post_init__(self):
        degree = whole(self.degree)
        if degree is None or degree < 1:
            raise ValueError(
                f"Argument `degree` of FixedInDegree must be an integer of at least 1, but is "
                f"{self.degree!r}; give the in-degree."
            )
        object.__setattr__(self, "degree", degree)

    def draw(self, n_sources: int, n_targets: int, rng: np.random.Generator) -> Pairs:
        """k distinct sources for each target."""
        sources = np.sort(_distinct_rows(n_sources, n_targets, self.degree, rng), axis=1)
        return sources.reshape(-1), np.repeat(np.arange(n_targets), self.degree)

    def capacity(self, n_sources: int, n_targets: int) -> int:
        """Exactly k n_v."""
        return self.degree * n_targets

    def check(self, n_sources: int, n_targets: int, edge: str) -> None:
        """Refuse k > n_u.

        Args:
            n_sources: copies of u.
            n_targets: copies of v.
            edge: name of the base edge.

        Raises:
            ValueError: if the in-degree exceeds the number of source copies.
        """
        if self.degree > n_sources:
            raise ValueError(
                f"Argument `edges[{edge!r}]` must have an in-degree of at most the number of "
                f"source copies, {n_sources}, but has {self.degree}; lower the degree or add "
                "copies."
            )

    def in_degree(self, n_sources: int) -> int | None:
        """k."""
        return self.degree


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class Complete(AbstractEdgeLaw):
    """All pairs: the dense control, and the law of read-outs (theory, section 3 [choice])."""

    phrase: ClassVar[str] = "all edges"

    def draw(self, n_sources: int, n_targets: int, rng: np.random.Generator) -> Pairs:
        """Every pair."""
        targets, sources = np.divmod(np.arange(n_sources * n_targets), n_sources)
        return sources, targets

    def capacity(self, n_sources: int, n_targets: int) -> int:
        """Exactly n_u n_v."""
        return n_sources * n_targets

    def check(self, n_sources: int, n_targets: int, edge: str) -> None:
        """Every number of copies will do."""

    def in_degree(self, n_sources: int) -> int | None:
        """n_u."""
        return n_sources


@register("edge_law")
@dataclasses.dataclass(frozen=True)
class OneToOne(AbstractEdgeLaw):
    """Copy i of u feeds copy i of v: residual connections [choice]."""

    phrase: ClassVar[str] = "edges one to one"

    def draw(self, n_sources: int, n_targets: int, rng: np.random.Generator) -> Pairs:
        """The diagonal."""
        return np.arange(n_targets), np.arange(n_targets)

    def capacity(self, n_sources: int, n_targets: int) -> int:
        """Exactly n_v."""
        return n_targets

    def check(self, n_sources: int, n_targets: int, edge: str) -> None:
        """Refuse unequal numbers of copies.

        Args:
            n_sources: copies of u.
            n_targets: copies of v.
            edge: name of the base edge.

        Raises:
            ValueError: if they differ.
        """
        if n_sources != n_targets:
            raise ValueError(
                f"Argument `edges[{edge!r}]` = OneToOne needs equal numbers of copies, but the "
                f"source has {n_sources} and the target {n_targets}; make `copies` equal."
            )

    def in_degree(self, n_sources: int) -> int | None:
        """One."""
        return 1


def expected_pairs(law: AbstractEdgeLaw, n_sources: int, n_targets: int) -> float:
    """The expected number of edges of a law.

    Args:
        law: the law.
        n_sources: copies of u.
        n_targets: copies of v.

    Returns:
        n_u n_v p for a Bernoulli law, the law's own number otherwise.
    """
    if isinstance(law, AbstractBernoulli):
        return n_sources * n_targets * law.probability(n_sources, n_targets)
    return float(law.capacity(n_sources, n_targets))


def _positive(name: str, value: float, owner: str) -> float:
    """The number as Python's own: an integer stays one, as identities of runs hold it."""
    number = whole(value)
    number = real(value) if number is None else number
    if number is None or not 0 < number < math.inf:
        raise ValueError(
            f"Argument `{name}` of {owner} must be a positive finite number, but is {value!r}; "
            "give the mean degree."
        )
    return number


def _bernoulli_pairs(n_sources: int, n_targets: int, p: float, rng) -> Pairs:
    pairs = n_sources * n_targets
    kept = np.arange(pairs) if p >= 1.0 else _bernoulli_indices(pairs, p, rng)
    targets, sources = np.divmod(kept, n_sources)
    return sources, targets


def _bernoulli_indices(size: int, p: float, rng) -> np.ndarray:
    """Indices of successes among `size` Bernoulli(p) trials: gaps between them are geometric."""
    chunks, last = [], -1
    while last < size:
        remaining = size - last
        guess = int(remaining * p + 6 * math.sqrt(remaining * p) + 16)
        # A gap beyond `size` ends the row in any case; capping it keeps the sum within int64.
        gaps = np.minimum(rng.geometric(p, guess), size + 1)
        chunks.append(last + np.cumsum(gaps))
        last = int(chunks[-1][-1])
    kept = np.concatenate(chunks)
    return kept[kept < size]


def _distinct_rows(n: int, rows: int, k: int, rng) -> np.ndarray:
    """`rows` uniform k-subsets of range(n), as rows in random order."""
    if k * k > n:
        block = max(1, 2**22 // n)
        starts = range(0, rows, block)
        parts = [_smallest_keys(n, min(block, rows - start), k, rng) for start in starts]
        return np.concatenate(parts)
    drawn = rng.integers(0, n, (rows, k))
    bad = _with_repeats(drawn)
    while bad.size:
        # Redrawing whole rows until distinct is uniform over k-subsets.
        drawn[bad] = rng.integers(0, n, (bad.size, k))
        bad = bad[_with_repeats(drawn[bad])]
    return drawn


def _smallest_keys(n: int, rows: int, k: int, rng) -> np.ndarray:
    if k == n:
        return np.tile(np.arange(n), (rows, 1))
    return np.argpartition(rng.random((rows, n)), k, axis=1)[:, :k]


def _with_repeats(rows: np.ndarray) -> np.ndarray:
    ordered = np.sort(rows, axis=1)
    return np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
