"""Stopping rules. None of them reads a clock: results do not depend on the machine."""

import dataclasses
from typing import TypeVar

import numpy as np


@dataclasses.dataclass(frozen=True)
class LossBelow:
    """Stop after the first accepted step with L <= threshold.

    Cost: one evaluation of the loss per accepted step, counted as an observation.

    Attributes:
        threshold: eps > 0.
    """

    threshold: float

    def __post_init__(self):
        _check_positive(self, "threshold")


@dataclasses.dataclass(frozen=True)
class GradientNormBelow:
    """Stop after the first accepted step with |grad L| <= threshold.

    Cost: one gradient per accepted step, counted as an observation.

    Attributes:
        threshold: the norm, > 0.
    """

    threshold: float

    def __post_init__(self):
        _check_positive(self, "threshold")


@dataclasses.dataclass(frozen=True)
class Stagnation:
    """Stop at a save time t with L(t / factor) - L(t) <= relative x L(t).

    Checked at save times, once t / factor is past the first of them.

    Attributes:
        relative: the relative decrease that counts as none, > 0.
        factor: how far back one looks, > 1: plateaus of a flow last in proportion to t.
    """

    relative: float
    factor: float = 10.0

    def __post_init__(self):
        _check_positive(self, "relative")
        if not 1 < self.factor < np.inf:
            raise ValueError(
                f"Argument `factor` of Stagnation must exceed 1, but is {self.factor!r}; "
                "give e.g. 10."
            )

    def holds(self, times: np.ndarray, losses: np.ndarray) -> bool:
        """Whether the rule holds at the last time.

        Args:
            times: save times so far, from 0.
            losses: losses there.

        Returns:
            The verdict.
        """
        earlier = times[-1] / self.factor
        if len(times) < 3 or earlier < times[1]:
            return False
        before = np.interp(np.log(earlier), np.log(times[1:]), losses[1:])
        return bool(before - losses[-1] <= self.relative * losses[-1])


Stop = LossBelow | GradientNormBelow | Stagnation
Kind = TypeVar("Kind", LossBelow, GradientNormBelow, Stagnation)


def find(stops: tuple[Stop, ...], kind: type[Kind]) -> Kind | None:
    """The rule of one kind, if any."""
    return next((stop for stop in stops if isinstance(stop, kind)), None)


def check_stops(stops: tuple[Stop, ...]) -> None:
    """Refuse what is no stopping rule, and two of a kind.

    Args:
        stops: the rules.

    Raises:
        ValueError: in either case.
    """
    for stop in stops:
        if not isinstance(stop, Stop):
            raise ValueError(
                f"Argument `stops` must hold stopping rules, but holds {stop!r}; "
                "use LossBelow, GradientNormBelow or Stagnation."
            )
    if len({type(stop) for stop in stops}) < len(stops):
        raise ValueError(
            f"Argument `stops` must hold one rule of a kind, but is {stops}; keep the stricter."
        )


def _check_positive(stop, name: str) -> None:
    value = getattr(stop, name)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and 0 < value < np.inf):
        raise ValueError(
            f"Argument `{name}` of {type(stop).__name__} must be a positive finite number, but is "
            f"{value!r}; give the threshold."
        )
