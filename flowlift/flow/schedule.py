"""At which flow times a solution is saved."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ..numbers import real, whole


@dataclasses.dataclass(frozen=True)
class LogTimes:
    """Save times evenly spaced in log t: start, ..., horizon; t = 0 is always saved too.

    Attributes:
        per_decade: save times per decade.
        start: the first save time after 0; None means 1e-6 of the horizon.
    """

    per_decade: int = 8
    start: float | None = None

    def __post_init__(self):
        count, start = whole(self.per_decade), real(self.start)
        if count is None or not 1 <= count <= _MOST_PER_DECADE:
            raise ValueError(
                "Argument `per_decade` of LogTimes must be an integer from 1 to "
                f"{_MOST_PER_DECADE}, but is {self.per_decade!r}; give e.g. 8."
            )
        if self.start is not None and (start is None or not 0 < start < math.inf):
            raise ValueError(
                "Argument `start` of LogTimes must be a positive finite flow time, but is "
                f"{self.start!r}; leave it out for 1e-6 of the horizon."
            )
        object.__setattr__(self, "per_decade", count)
        object.__setattr__(self, "start", start)

    def times(self, horizon: float) -> Float[np.ndarray, " times"]:
        """The save times in (0, horizon], the last one the horizon.

        They are the powers 10^(j / per_decade), so that two horizons share their grid.

        Args:
            horizon: the end T.

        Returns:
            Increasing times.

        Raises:
            ValueError: if `start` is not inside (0, horizon), or the times are too many.
        """
        start = 1e-6 * horizon if self.start is None else self.start
        if not 0 < start < horizon:
            raise ValueError(
                f"Argument `start` of LogTimes must lie between 0 and the horizon {horizon:g}, "
                f"but is {start:g}; lower it."
            )
        first = math.ceil(self.per_decade * math.log10(start) - 1e-9)
        last = math.ceil(self.per_decade * math.log10(horizon) - 1e-9)
        grid = 10.0 ** (np.arange(first, last) / self.per_decade)
        return np.append(grid[grid < horizon * (1 - 1e-9)], horizon)


# Each is a record on the host: at this many, a leg's work is no longer what takes the time.
_MOST_PER_DECADE = 100_000
# A number such as 3 * 0.1 is meant to be 0.3.
_UNITS_IN_THE_LAST_PLACE = 4


def resolve_times(
    save: LogTimes | Sequence[float], after: float, horizon: float
) -> Float[np.ndarray, " times"]:
    """The save times in (after, horizon]; the horizon is always one.

    Args:
        save: a schedule, or explicit times.
        after: where the integration starts.
        horizon: where it ends.

    Returns:
        Increasing times.

    Raises:
        ValueError: if explicit times are not finite, increasing and within [0, horizon].
    """
    if isinstance(save, LogTimes):
        times = save.times(horizon)
    else:
        times = explicit_times("save", save, horizon)
        times = np.append(times[times < horizon], horizon)
    return times[times > after]


def resolve_snapshots(
    snapshots: Sequence[float],
    after: float,
    horizon: float,
    times: Float[np.ndarray, " times"],
    past: Collection[float],
) -> tuple[tuple[float, float], ...]:
    """At which times of the flow the snapshots are that were asked for.

    Args:
        snapshots: the times asked for, from `after` on.
        after: where the integration starts.
        horizon: where it ends.
        times: the save times; a snapshot that equals one but for rounding is there.
        past: earlier snapshots, which may be asked for again.

    Returns:
        (number asked for, time of the flow) pairs.

    Raises:
        ValueError: as for explicit save times, or if a time is past.
    """
    pairs = []
    for asked, time in zip(snapshots, explicit_times("snapshots", snapshots, horizon), strict=True):
        nearest = times[np.argmin(np.abs(times - time))]
        time = float(nearest if abs(nearest - time) <= _rounding(time) else time)
        if time >= after:
            pairs.append((float(asked), time))
        elif float(asked) not in past:
            raise ValueError(
                f"Argument `snapshots` must hold times from {after:g} on, where the flow stands, "
                f"but holds {asked!r}; ask `solve` for it."
            )
    return tuple(pairs)


def snapped(
    times: Float[np.ndarray, " n"], asked: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Times of which those that differ by rounding from times that were asked for are these.

    Args:
        times: the times.
        asked: increasing times, at least one.

    Returns:
        As many times.
    """
    right = np.clip(np.searchsorted(asked, times), 1, max(1, len(asked) - 1))
    below, above = asked[right - 1], asked[np.minimum(right, len(asked) - 1)]
    nearest = np.where(times - below < above - times, below, above)
    return np.where(np.abs(nearest - times) <= _rounding(nearest), nearest, times)


def check_apart(times: Float[np.ndarray, " times"], after: float, precision: str) -> None:
    """Refuse times that are one to the precision of the integration, which counts from each.

    Args:
        times: save times and snapshots after `after`.
        after: where the integration starts.
        precision: "float64" or "float32".

    Raises:
        ValueError: if two of them are that close.
    """
    least, steps = float(np.finfo(precision).tiny), np.diff(times, prepend=after)
    if not steps.min() >= least:
        raise ValueError(
            f"Argument `save` (or `snapshots`) must hold times at least {least:.2g} apart in "
            f"{precision}, but holds {float(times[np.argmin(steps)])!r}; leave it out."
        )


def explicit_times(name: str, times: Sequence[float], horizon: float) -> Float[np.ndarray, " n"]:
    """Times that a user gave; one that equals the horizon but for rounding is the horizon.

    Args:
        name: the argument, for the message.
        times: the times.
        horizon: the end.

    Returns:
        The times as an array.

    Raises:
        ValueError: if they are not finite, increasing and within [0, horizon].
    """
    numbers = [real(t) for t in times] if isinstance(times, Iterable) else [None]
    if None in numbers:
        raise ValueError(
            f"Argument `{name}` must hold increasing flow times, but is {times!r}; give numbers."
        )
    array = np.array(numbers, float)
    near = np.abs(array - horizon) <= _rounding(horizon)
    ordered = np.isfinite(array).all() and (np.diff(array) > 0).all()
    array = np.where(near, horizon, array)
    if not ordered or (array.size and not (array[0] >= 0 and array[-1] <= horizon)):
        raise ValueError(
            f"Argument `{name}` must hold increasing times from 0 to the horizon {horizon:g}, "
            f"but is {times!r}; sort them and drop those beyond."
        )
    return array


def _rounding(time: Any) -> Any:
    return _UNITS_IN_THE_LAST_PLACE * np.spacing(time)
