"""How long runs will take, from how long others of their study took."""

import dataclasses
import datetime
import math
import statistics
from collections.abc import Container, Iterable, Mapping
from typing import Any, Protocol

from ..showing import Card, shows_itself
from ..studies.rows import Row
from .entry import Entry

Shape = tuple[tuple[tuple[str, Any], ...], int]


class Work(Protocol):
    """Runs of one shape: a cell, or what is missing of a row."""

    @property
    def variant(self) -> tuple[tuple[str, Any], ...]:
        """Values along the further axes."""
        ...

    @property
    def size(self) -> int:
        """The lift size."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """A seed for each run."""
        ...


@dataclasses.dataclass(frozen=True)
class _Price:
    """What a shape costs: once in each process, and for each run."""

    compilation: float
    run: float


@shows_itself
class Rates:
    """Seconds of a run by shape, and of its compilation apart: a shape compiles once a process.

    Other sizes by a power law through the known ones, its exponent that of least squares in
    log-log, between 0 and 3; with one known size it is 1: work grows at least with the number of
    edges. Compilation hardly depends on the size: it is the mean of the known shapes. What one
    machine took says little of another.
    """

    def __init__(self, rows: Iterable[Row], done: Mapping[str, tuple[Entry, int]]):
        """Learn from finished runs.

        Args:
            rows: the study's runs.
            done: where each finished run stands in the index.
        """
        self._prices: dict[Shape, _Price] = {}
        self._done: list[tuple[Entry, int]] = []
        by_size: dict[int, tuple[int, float]] = {}
        for row in rows:
            found = list(filter(None, map(done.get, row.runs)))
            if found:
                self._done += found
                price = _price(found)
                self._prices[row.variant, row.size] = price
                count, seconds = by_size.get(row.size, (0, 0.0))
                by_size[row.size] = count + len(found), seconds + price.run * len(found)
        known = [price.compilation for price in self._prices.values()]
        self._mean_compilation = sum(known) / len(known) if known else 0.0
        means = {n: seconds / count for n, (count, seconds) in by_size.items()}
        self._by_size = {n: seconds for n, seconds in means.items() if seconds > 0}
        self._exponent = _slope(self._by_size)

    def _card_(self) -> Card:
        rows = [(f"size {n}", f"{duration(s)} a run") for n, s in sorted(self._by_size.items())]
        title = f"Rates: {len(self._done)} finished runs, a power law of {self._exponent:.3g}"
        return Card(title, [*rows, ("compilation", duration(self._mean_compilation))])

    @property
    def known(self) -> bool:
        """Whether there is any run to learn from."""
        return bool(self._by_size)

    def first_begin(self, since: float) -> float | None:
        """When the first run began that began later than a time.

        Args:
            since: seconds since 1970.

        Returns:
            Seconds since 1970; None if no finished run did.
        """
        # A run that began later ended later: the texts of times are in the order of the times.
        first = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat()
        begins = (_begin(found) for found in self._done if found[0].ended[found[1]] >= first[:19])
        return min((begin for begin in begins if begin and begin > since), default=None)

    def seconds(self, variant: tuple, size: int) -> float:
        """Expected seconds of a run, once its shape is compiled.

        Args:
            variant: values along the further axes.
            size: the lift size.

        Returns:
            The expectation; without anything to learn from, the size as a weight.
        """
        if (variant, size) in self._prices:
            return self._prices[variant, size].run
        if not self.known:
            return float(size)
        near = min(self._by_size, key=lambda n: abs(math.log(n / size)))
        return self._by_size[near] * (size / near) ** self._exponent

    def compilation(self, variant: tuple, size: int) -> float:
        """Expected seconds until a shape is compiled, in a process that begins it.

        Args:
            variant: values along the further axes.
            size: the lift size.

        Returns:
            The expectation; 0 without anything to learn from.
        """
        if (variant, size) in self._prices:
            return self._prices[variant, size].compilation
        return self._mean_compilation

    def of_cell(self, work: Work) -> float:
        """Expected seconds of some runs, their shape being compiled; a weight as for `seconds`."""
        return self.seconds(work.variant, work.size) * len(work.seeds)

    def total(self, work: Iterable[Work]) -> float:
        """Expected seconds of one process for some work: runs, and each shape compiled once.

        Args:
            work: cells or rows, with their seeds.

        Returns:
            The expectation.
        """
        counts: dict[Shape, int] = {}
        for part in work:
            shape = (part.variant, part.size)
            counts[shape] = counts.get(shape, 0) + len(part.seeds)
        return self.expected(counts)

    def expected(self, counts: Mapping[Shape, int], compiled: Container[Shape] = ()) -> float:
        """Expected seconds of one process for numbers of runs.

        Args:
            counts: runs by shape.
            compiled: shapes that are compiled already.

        Returns:
            The expectation.
        """
        return sum(
            self.compilation(*shape) * (count > 0 and shape not in compiled)
            + self.seconds(*shape) * count
            for shape, count in counts.items()
        )


def duration(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _begin(found: tuple[Entry, int]) -> float | None:
    """When a run began, in seconds since 1970; None where an old file does not say."""
    entry, place = found
    if not (entry.whole and entry.ended[place]):
        return None
    ended = datetime.datetime.fromisoformat(entry.ended[place])
    return ended.timestamp() - entry.whole[place]


def _price(found: list[tuple[Entry, int]]) -> _Price:
    """The price of one shape, from its finished runs."""
    told = [(e.whole[i], e.compiling[i]) for e, i in found if e.whole and e.whole[i] > 0]
    if told:
        runs = [max(0.0, whole - compiling) for whole, compiling in told]
        return _Price(max(compiling for _, compiling in told), sum(runs) / len(runs))
    # Older files tell the sum: of most runs of a shape the first alone compiled.
    seconds = [e.seconds[i] for e, i in found]
    run = statistics.median(seconds)
    return _Price(max(seconds) - run, run)


def _slope(known: Mapping[int, float]) -> float:
    if len(known) < 2:
        return 1.0
    x, y = [math.log(n) for n in known], [math.log(s) for s in known.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return min(3.0, max(0.0, covariance / sum((a - mean_x) ** 2 for a in x)))
