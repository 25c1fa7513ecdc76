"""The records of a flow while it runs, on the host."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from .forecast import Mark
from .observers import COST


class TraceMark(NamedTuple):
    """How far a trace has come: its numbers, and how many records and snapshots it holds."""

    time: float
    records: int
    observation_gradients: int
    legs: int
    seconds: float
    judged: Mark
    snapshots: int


@dataclasses.dataclass
class Trace:
    """Grows leg by leg; `resume` goes on with a copy.

    Attributes:
        time: the flow time reached.
        times: save times so far.
        records: recorded quantities, one chunk per leg.
        snapshots: models by time.
        observation_gradients: gradients spent on records and stopping rules.
        legs: how often the solver came back to be judged.
        seconds: wall time.
        judged: where the solver stood when it was last judged.
    """

    time: float = 0.0
    times: list[float] = dataclasses.field(default_factory=list)
    records: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    snapshots: dict[float, PyTree] = dataclasses.field(default_factory=dict)
    observation_gradients: int = 0
    legs: int = 0
    seconds: float = 0.0
    judged: Mark = Mark()

    def copy(self) -> "Trace":
        """An independent copy; arrays are shared, they never change."""
        records = {name: list(chunks) for name, chunks in self.records.items()}
        return dataclasses.replace(
            self, times=list(self.times), records=records, snapshots=dict(self.snapshots)
        )

    def append(self, times: Iterable[float], records: Mapping[str, ArrayLike] | None) -> None:
        """Add records at some times.

        Args:
            times: increasing times, (n,).
            records: arrays (n, ...) by name, with their cost in gradients as `COST`; None where
                there are no times.
        """
        before = len(self.times)
        self.times.extend(float(t) for t in times)
        if records is None or len(self.times) == before:
            return
        for name, values in records.items():
            if name == COST:
                self.observation_gradients += int(np.sum(values))
            else:
                self.records.setdefault(name, []).append(np.asarray(values))

    def append_one(self, time: float, records: Mapping[str, ArrayLike]) -> None:
        """Add records at one time, without a time axis."""
        self.append([time], {name: np.asarray(value)[None] for name, value in records.items()})

    def mark(self) -> "TraceMark":
        """Where the records stand, for `back_to`."""
        counts = (self.observation_gradients, self.legs, self.seconds)
        return TraceMark(self.time, len(self.times), *counts, self.judged, len(self.snapshots))

    def back_to(self, mark: "TraceMark") -> None:
        """Take back all that came after a mark, whatever broke it off.

        Args:
            mark: of this trace; what was recorded then is still there.
        """
        self.time, self.judged = mark.time, mark.judged
        self.observation_gradients, self.legs = mark.observation_gradients, mark.legs
        self.seconds = mark.seconds
        del self.times[mark.records :]
        for chunks in self.records.values():
            surplus = sum(map(len, chunks)) - mark.records
            while surplus > 0:
                last = chunks.pop()
                chunks.extend([last[:-surplus]] * (len(last) > surplus))
                surplus -= len(last)
        for time in list(self.snapshots)[mark.snapshots :]:
            del self.snapshots[time]

    def drop_last(self) -> None:
        """Take the last record back; what it cost stays counted."""
        self.times.pop()
        for chunks in self.records.values():
            last = chunks.pop()[:-1]
            chunks.extend([last] * bool(len(last)))

    @property
    def stands(self) -> bool:
        """Whether the last record is of the time reached."""
        return bool(self.times) and self.times[-1] == self.time

    def series(self, name: str, first: int = 0) -> np.ndarray:
        """A recorded quantity from some record on, (times, ...)."""
        parts, missing = [], len(self.times) - first
        for chunk in reversed(self.records[name]):
            if missing <= 0:
                break
            parts.append(chunk[-missing:])
            missing -= len(chunk)
        return np.concatenate(parts[::-1]) if parts else np.empty(0)

    def first(self, name: str) -> float:
        """A recorded scalar at the first time."""
        return float(self.records[name][0][0])

    def last(self, name: str) -> float:
        """A recorded scalar at the last time."""
        return float(self.records[name][-1][-1])
