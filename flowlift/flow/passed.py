"""Save times that steps have passed: what a march hands on to be recorded."""

import dataclasses
from bisect import bisect_right

import jax
import numpy as np

from .host_position import Place


@dataclasses.dataclass(frozen=True)
class Passed:
    """Save times that steps have passed, to be recorded.

    Attributes:
        times: (m,), increasing.
        states: as the steps' interpolants give them, (m, N).
        drifts: the drift there, see `flowlift.flow.host_position.Place`, (m, 2).
        places: where those steps began, each with the number of its first time.
    """

    times: np.ndarray
    states: np.ndarray
    drifts: np.ndarray
    places: list[tuple[int, Place]]

    def before(self, i: int) -> Place:
        """Where the step of a time began."""
        return self.places[bisect_right(self.places, i, key=lambda each: each[0]) - 1][1]

    @property
    def numbers(self) -> int:
        """How many numbers are kept for it."""
        memories = jax.tree.leaves([place.memory for _, place in self.places])
        return self.states.size + sum(np.size(leaf) for leaf in memories)


def joined(parts: list[Passed]) -> Passed:
    """Several as one.

    Args:
        parts: in the order of time.

    Returns:
        All of them.
    """
    firsts = np.cumsum([0, *(len(part.times) for part in parts)]).tolist()
    places = [(f + k, at) for f, part in zip(firsts, parts, strict=False) for k, at in part.places]
    times = np.concatenate([part.times for part in parts])
    states, drifts = ([getattr(p, name) for p in parts] for name in ("states", "drifts"))
    return Passed(times, np.concatenate(states), np.concatenate(drifts), places)
