"""When and how the graph of a study's lifts changes along their flows."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from ..flow import LogTimes
from ..flow.rewiring import GROWTHS
from ..flow.schedule import snapped
from ..flow.solve_rewired import fractions
from ..numbers import plain_fields
from ..showing import shows_itself

# A multiple that equals the end but for rounding is the end.
_SAME = 1e-12
# Each time is a leg with a solver begun anew: so many are a mistake.
_MOST = 100_000


@shows_itself
@plain_fields
@dataclasses.dataclass(frozen=True, kw_only=True)
class RewirePlan:
    """At given times edges of small weight leave and as many enter: `flow.solve_rewired`.

    The pairs that grow at random are drawn from the seed of the run.
    """

    times: tuple[float, ...] | None = None
    """When the graph changes, increasing, between 0 and the horizon; or ..."""
    every: float | None = None
    """... at all multiples of this time; or ..."""
    per_decade: int | None = None
    """... so often a decade of t, evenly in log t."""
    first_time: float | None = None
    """With `every` or `per_decade`: not before this time, which `per_decade` needs."""
    last_time: float | None = None
    """With `every` or `per_decade`: not after this time; none: before the horizon."""
    drop: float | tuple[float, ...]
    """The fraction of the edges over each base edge that leaves, or one for each time."""
    anneal: str | None = None
    """"cosine": the fraction falls with t, from `drop` at 0 to 0 at `last_time` or the horizon, as
    drop (1 + cos(pi t / end)) / 2; none: it stays."""
    prune: str = "magnitude"
    """Which edges leave: those of least magnitude."""
    grow: str
    """Which enter: "gradient", those of largest |dL/dw| (RigL), or "random" (SET)."""
    edges: tuple[str, ...] | None = None
    """The base edges whose edges change; none: all that are sparse and flow."""

    def __post_init__(self):
        """Refuse schedules that are none, and rules that nobody knows.

        Raises:
            ValueError: in either case.
        """
        ways = [n for n in ("times", "every", "per_decade") if getattr(self, n) is not None]
        if len(ways) != 1:
            raise ValueError(
                "Argument `times`, or `every`, or `per_decade` must say when the graph changes, "
                f"but given are {', '.join(f'`{way}`' for way in ways) or 'none'}; give one."
            )
        for name in ("first_time", "last_time"):
            value = getattr(self, name)
            if value is not None and (self.times is not None or not 0 < value < math.inf):
                raise ValueError(
                    f"Argument `{name}` must be positive, and given with `every` or `per_decade` "
                    f"alone, but is {value!r}; correct it, or leave it out."
                )
        if self.every is not None and not 0 < self.every < math.inf:
            raise ValueError(
                f"Argument `every` must be a positive time, but is {self.every!r}; correct it."
            )
        if self.per_decade is not None and (self.per_decade < 1 or self.first_time is None):
            raise ValueError(
                "Argument `per_decade` must be at least 1, and given with `first_time`, but is "
                f"{self.per_decade!r} with {self.first_time!r}; give e.g. 2 from 0.1 on."
            )
        allowed = {"prune": ("magnitude",), "grow": GROWTHS, "anneal": (None, "cosine")}
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise ValueError(
                    f"Argument `{name}` must be one of {', '.join(w for w in words if w)}, but is "
                    f"{getattr(self, name)!r}; choose one."
                )
        if self.anneal is not None and not isinstance(self.drop, float | int):
            raise ValueError(
                f"Argument `anneal` must be left out with fractions for each time, but is "
                f"{self.anneal!r}; give one number as `drop`, or leave it out."
            )

    def times_within(
        self, horizon: float, saved: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " rewirings"]:
        """When the graph changes.

        Args:
            horizon: the end T of the flow.
            saved: times at which the flow is saved; one that differs by rounding is taken.

        Returns:
            Increasing times between 0 and the horizon.

        Raises:
            ValueError: if there are none, or the schedule does not fit the horizon.
        """
        if self.times is not None:
            found = np.array(self.times)
        else:
            found = self._scheduled(horizon)
            found = found[(found > 0) & (found < horizon * (1 - _SAME))]
            if not found.size:
                raise ValueError(
                    f"Argument `rewire` must give times between 0 and the horizon {horizon:g}, but "
                    "gives none; lower `every` or `first_time`, or raise `last_time`."
                )
        return snapped(found, saved)

    def _scheduled(self, horizon: float) -> np.ndarray:
        end = min(horizon, self.last_time or math.inf)
        if self.per_decade is not None:
            found = LogTimes(self.per_decade, self.first_time).times(horizon)
        else:
            assert self.every is not None
            if end / self.every > _MOST:
                raise ValueError(
                    f"Argument `every` must give at most {_MOST} times up to {end:g}, but is "
                    f"{self.every!r}; raise it."
                )
            found = self.every * np.arange(1, math.floor(end / self.every * (1 + _SAME)) + 1)
            found = found[found >= (self.first_time or 0) * (1 - _SAME)]
        # At its end a falling fraction is 0.
        return found[found < end * (1 - _SAME) if self.anneal else found <= end * (1 + _SAME)]

    def fractions(self, times: Float[np.ndarray, " rewirings"], horizon: float) -> list[float]:
        """The fraction that leaves at each time.

        Args:
            times: the times.
            horizon: the end T of the flow.

        Returns:
            The fractions.

        Raises:
            ValueError: for times or fractions that `solve_rewired` refuses.
        """
        shares = fractions(self.drop, times, horizon)
        if self.anneal is None:
            return shares
        falls = np.cos(np.pi * times / (self.last_time or horizon))
        return (np.array(shares) * (1 + falls) / 2).tolist()
