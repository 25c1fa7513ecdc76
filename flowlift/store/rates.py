"""How long runs will take, from how long others of their study took."""

import math
from collections.abc import Iterable, Mapping

from ..studies.rows import Row
from .index import Entry


class Rates:
    """Mean wall seconds of a run by shape; other sizes by a power law through the known ones.

    The exponent is that of least squares in log-log, between 0 and 3; with one known size it is 1:
    work grows at least with the number of edges. What one machine took says little of another.
    """

    def __init__(self, rows: Iterable[Row], done: Mapping[str, tuple[Entry, int]]):
        """Learn from finished runs.

        Args:
            rows: the study's runs.
            done: where each finished run stands in the index.
        """
        self._by_row: dict[tuple, float] = {}
        by_size: dict[int, list[float]] = {}
        for row in rows:
            seconds = [_seconds(done[run]) for run in row.runs if run in done]
            if seconds:
                self._by_row[row.variant, row.size] = sum(seconds) / len(seconds)
                by_size.setdefault(row.size, []).extend(seconds)
        self._by_size = {n: sum(s) / len(s) for n, s in by_size.items()}
        self._exponent = _slope({n: s for n, s in self._by_size.items() if s > 0})

    @property
    def known(self) -> bool:
        """Whether there is any run to learn from."""
        return any(seconds > 0 for seconds in self._by_size.values())

    def seconds(self, variant: tuple, size: int) -> float:
        """Expected seconds of a run; without anything to learn from, its size as a weight.

        Args:
            variant: values along the further axes.
            size: the lift size.

        Returns:
            The expectation.
        """
        if (variant, size) in self._by_row:
            return self._by_row[variant, size]
        if not self.known:
            return float(size)
        known = {n: s for n, s in self._by_size.items() if s > 0}
        near = min(known, key=lambda n: abs(math.log(n / size)))
        return known[near] * (size / near) ** self._exponent


def duration(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _seconds(found: tuple[Entry, int]) -> float:
    entry, place = found
    return entry.seconds[place]


def _slope(known: Mapping[int, float]) -> float:
    if len(known) < 2:
        return 1.0
    x, y = [math.log(n) for n in known], [math.log(s) for s in known.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return min(3.0, max(0.0, covariance / sum((a - mean_x) ** 2 for a in x)))
