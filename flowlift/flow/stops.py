"""Stopping rules. None of them reads a clock: results do not depend on the machine."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from ..numbers import real


@dataclasses.dataclass(frozen=True)
class LossBelow:
    """Stop after the first accepted step with L <= threshold.

    Cost: one evaluation of the loss per accepted step, counted as an observation.

    Attributes:
        threshold: eps, any finite number: a loss need not be positive.
    """

    threshold: float

    def __post_init__(self):
        _check(self, "threshold", -np.inf, "finite", "the loss to stop at")


@dataclasses.dataclass(frozen=True)
class GradientNormBelow:
    """Stop after the first accepted step with |grad L| <= threshold.

    Cost: one gradient per accepted step, counted as an observation.

    Attributes:
        threshold: the norm, > 0.
    """

    threshold: float

    def __post_init__(self):
        _check(self, "threshold", 0.0, "positive finite", "the norm to stop at")


@dataclasses.dataclass(frozen=True)
class Stagnation:
    """Stop at a save time t with L(t / factor) - L(t) <= relative x (L(0) - L(t)).

    Of all that the loss has fallen, the last factor of t brought no more than this fraction. Only
    differences count: the rule says the same of L and of L + c, whatever the sign of the loss
    (where they are resolved: what rounding of L hides counts as no decrease). A loss that is
    followed down to eps needs `relative` well below eps / L(0), even if it falls all the way.

    Checked at save times, once t / factor is past the first of them. No cost.

    Attributes:
        relative: the fraction of the decrease that counts as none, > 0.
        factor: how far back one looks, > 1: plateaus of a flow last in proportion to t.
    """

    relative: float
    factor: float = 10.0

    def __post_init__(self):
        _check(self, "relative", 0.0, "positive finite", "e.g. 1e-3")
        _check(self, "factor", 1.0, "finite and more than 1", "e.g. 10")

    def holds(self, times: np.ndarray, losses: np.ndarray) -> bool:
        """Whether the rule holds at the last time.

        Args:
            times: save times so far, from 0.
            losses: losses there, in the precision of the flow.

        Returns:
            The verdict.
        """
        earlier = times[-1] / self.factor
        if len(times) < 3 or earlier < times[1]:
            return False
        before = np.interp(np.log(earlier), np.log(times[1:]), losses[1:])
        first, last = float(losses[0]), float(losses[-1])
        # Half a unit in the last place for each of the two values that are compared.
        rounding = float(np.finfo(losses.dtype).eps) * abs(last)
        return bool(before - last <= max(self.relative * (first - last), rounding))


Stop = LossBelow | GradientNormBelow | Stagnation
Kind = TypeVar("Kind", LossBelow, GradientNormBelow, Stagnation)


def find(stops: tuple[Stop, ...], kind: type[Kind]) -> Kind | None:
    """The rule of one kind, if any."""
    return next((stop for stop in stops if isinstance(stop, kind)), None)


def check_stops(stops: Sequence[Stop]) -> None:
    """Refuse what is no stopping rule, and two of a kind.

    Args:
        stops: the rules.

    Raises:
        ValueError: in either case.
    """
    for stop in stops if isinstance(stops, Iterable) else [stops]:
        if not (isinstance(stops, Iterable) and isinstance(stop, Stop)):
            raise ValueError(
                f"Argument `stops` must hold stopping rules, but holds {stop!r}; "
                "give a list of LossBelow, GradientNormBelow or Stagnation."
            )
    if len({type(stop) for stop in stops}) < len(stops):
        raise ValueError(
            f"Argument `stops` must hold one rule of a kind, but is {stops}; keep the stricter."
        )


def _check(stop: Stop, name: str, above: float, rule: str, remedy: str) -> None:
    """Refuse what is no finite number above a bound, and keep the number as Python's own."""
    value = getattr(stop, name)
    number = real(value)
    if number is None or not above < number < np.inf:
        raise ValueError(
            f"Argument `{name}` of {type(stop).__name__} must be {rule}, but is {value!r}; "
            f"give {remedy}."
        )
    object.__setattr__(stop, name, number)
