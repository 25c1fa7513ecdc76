"""At which flow times a solution is saved."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


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
        if isinstance(self.per_decade, bool) or not isinstance(self.per_decade, int):
            raise ValueError(
                f"Argument `per_decade` must be an integer, but is {self.per_decade!r}; give 8."
            )
        if self.per_decade < 1:
            raise ValueError(
                f"Argument `per_decade` must be at least 1, but is {self.per_decade}; give e.g. 8."
            )

    def times(self, horizon: float) -> Float[np.ndarray, " times"]:
        """The save times in (0, horizon], the last one the horizon.

        They are the powers 10^(j / per_decade), so that two horizons share their grid.

        Args:
            horizon: the end T.

        Returns:
            Increasing times.

        Raises:
            ValueError: if `start` is not inside (0, horizon).
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
        times = np.asarray(save, dtype=np.float64)
        _check_times(times, horizon)
        times = np.append(times[times < horizon], horizon)
    return times[times > after]


def _check_times(times: np.ndarray, horizon: float) -> None:
    ordered = times.ndim == 1 and np.isfinite(times).all() and (np.diff(times) > 0).all()
    if not ordered or (times.size and not (times[0] >= 0 and times[-1] <= horizon)):
        raise ValueError(
            f"Argument `save` must hold increasing times from 0 to the horizon {horizon:g}, "
            f"but is {times}; sort them and drop those beyond."
        )
